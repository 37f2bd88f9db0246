"""The part of a metabolic network around a reaction that may be missing from it, as a graph of its own.

The reaction asked about is the first node. Its compounds follow, then reactions of the network that make or use them.
Compounds that very many reactions have, such as water, bring none.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from itertools import chain

import numpy as np

from .configuration_astro_graph_vae import AstroGraphVAEConfig
from .graph_record import GraphRecord
from .metabolic_network import Compound, MetabolicNetwork
from .metabolic_tensors import bipartite_record, compound_features, drawn_stoichiometry, reaction_features


__all__ = ["NeighbourhoodIndex"]


class NeighbourhoodIndex:
    """Finds neighbourhoods in one network.

    Args:
        network: The network.
        config: Codes of the nodes.
        formulas: Compound to the record whose formula and charge stand for one that has none in the network.
        reactions_each_way: Most reactions that make a compound, and most that use it, in a graph.
        hub_degree: Compounds of more reactions bring none.
        max_compounds: Most compounds in a graph; those of the fewest reactions are kept.
        max_reactions: Most reactions beside the first; those of the rarest compounds are kept.
    """

    def __init__(
        self,
        network: MetabolicNetwork,
        config: AstroGraphVAEConfig,
        formulas: Mapping[str, Compound] | None = None,
        reactions_each_way: int = 3,
        hub_degree: int = 30,
        max_compounds: int = 8,
        max_reactions: int = 11,
    ):
        self.network, self.config, self.formulas = network, config, formulas or {}
        self.reactions_each_way, self.hub_degree = reactions_each_way, hub_degree
        self.max_compounds, self.max_reactions = max_compounds, max_reactions
        self.stoichiometry = {name: drawn_stoichiometry(each) for name, each in network.reactions.items()}
        self.reversible = {name: each.reversible for name, each in network.reactions.items()}
        self.reactions_of: dict[str, list[str]] = {name: [] for name in network.compounds}
        for name, numbers in self.stoichiometry.items():
            for compound in numbers:
                self.reactions_of[compound].append(name)
        for names in self.reactions_of.values():
            names.sort(key=lambda each: len(self.stoichiometry[each]))
        self._made, self._used = set[str](), set[str]()
        for name, numbers in self.stoichiometry.items():
            self._made.update(key for key, number in numbers.items() if number > 0 or self.reversible[name])
            self._used.update(key for key, number in numbers.items() if number < 0 or self.reversible[name])
        self.compartments = sorted({name[name.rindex("[") :] for name in network.compounds if "[" in name})
        exchanged = {name for one in network.reactions.values() if one.boundary for name in one.stoichiometry}
        self._compound_rows = {
            name: compound_features(self._with_formula(each), external=name in exchanged)
            for name, each in network.compounds.items()
        }
        self._new_rows: dict[str, np.ndarray] = {}
        self._reaction_rows = {flag: reaction_features(flag) for flag in (False, True)}
        self._asked_rows = {flag: reaction_features(flag, candidate=True) for flag in (False, True)}

    def _with_formula(self, compound: Compound) -> Compound:
        return compound if compound.elements is not None else self.formulas.get(compound.id, compound)

    def degree(self, compound: str) -> int:
        """Return the number of reactions of a compound, 0 for one that is not in the network."""
        return len(self.reactions_of.get(compound, ()))

    def mended_dead_ends(self, stoichiometry: Mapping[str, float], reversible: bool) -> int:
        """Return how many compounds of the network a reaction would make or use that no other one makes or uses."""
        return sum(
            self.degree(name) > 0
            and (
                ((number > 0 or reversible) and name not in self._made)
                or ((number < 0 or reversible) and name not in self._used)
            )
            for name, number in stoichiometry.items()
        )

    def features_of(self, compound: str) -> np.ndarray:
        """Return the features of a compound, shape (F,); one that is not in the network is marked as candidate."""
        if compound in self._compound_rows:
            return self._compound_rows[compound]
        if compound not in self._new_rows:
            record = self.formulas.get(compound, Compound(compound))
            self._new_rows[compound] = compound_features(record, candidate=True)
        return self._new_rows[compound]

    def record(
        self, stoichiometry: Mapping[str, float], reversible: bool = False, hidden: Collection[str] = ()
    ) -> GraphRecord:
        """Return the graph around a reaction.

        Args:
            stoichiometry: Of the reaction asked about, as drawn; its compounds need not be in the network.
            reversible: Whether it runs both ways, where that is known.
            hidden: Reactions of the network that must not be seen.
        """
        compounds = sorted(stoichiometry, key=self.degree)[: self.max_compounds]
        near = self._neighbours(compounds, hidden)
        first = 1 + len(compounds)
        place = {name: at for at, name in enumerate(compounds, start=1)}
        edges = [(place[name], 0, stoichiometry[name]) for name in compounds]
        for at, reaction in enumerate(near, start=first):
            numbers = self.stoichiometry[reaction]
            edges += [(place[name], at, number) for name, number in numbers.items() if name in place]
        features = [
            self._asked_rows[reversible],
            *(self.features_of(name) for name in compounds),
            *(self._reaction_rows[self.reversible[name]] for name in near),
        ]
        is_reaction = [True, *(False for _ in compounds), *(True for _ in near)]
        return bipartite_record(self.config.atom_types, features, is_reaction, edges)

    def _neighbours(self, compounds: list[str], hidden: Collection[str]) -> list[str]:
        """Return reactions that make or use the compounds, those first that share most of them."""
        plain = [name for name in compounds if self.degree(name) <= self.hub_degree]
        shared = Counter(chain.from_iterable(self.reactions_of.get(name, ()) for name in plain))
        for name in hidden:
            shared.pop(name, None)
        chosen: dict[str, None] = {}
        for compound in plain:
            open_makers = open_users = self.reactions_each_way
            of_compound = (name for name in self.reactions_of.get(compound, ()) if name in shared)
            for name in sorted(of_compound, key=shared.__getitem__, reverse=True):
                number, both = self.stoichiometry[name][compound], self.reversible[name]
                makes, uses = number > 0 or both, number < 0 or both
                if (makes and open_makers > 0) or (uses and open_users > 0):
                    open_makers -= makes
                    open_users -= uses
                    chosen[name] = None
                if open_makers <= 0 and open_users <= 0:
                    break
        return list(chosen)[: self.max_reactions]
