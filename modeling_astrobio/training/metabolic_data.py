"""Metabolic networks of several organisms in one naming, the pool of their reactions, and networks with gaps."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

import numpy as np

from ..metabolic_network import Compound, MetabolicNetwork, NetworkReaction
from .errors import DataError


__all__ = [
    "GappedNetwork",
    "Organism",
    "PoolReaction",
    "ReactionKey",
    "ReactionPool",
    "align_network",
    "reaction_key",
    "split_organisms",
]

ReactionKey = str
# A reaction of more compounds sums up growth, and is of one organism.
_MOST_COMPOUNDS = 20


def align_network(network: MetabolicNetwork) -> MetabolicNetwork:
    """Return a network whose compounds are named alike in all organisms, as `pyr[c]`.

    Models spell `ala__L_c`, `ala_DASH_L_c` and `ala-L[c]`. Compounds that fall together are one; a reaction that only
    exchanged them is dropped.
    """
    names = {each.id: _aligned_name(each) for each in network.compounds.values()}
    compounds: dict[str, Compound] = {}
    for each in network.compounds.values():
        name = names[each.id]
        if name not in compounds or compounds[name].elements is None:
            compounds[name] = replace(each, id=name)
    reactions = {}
    for reaction in network.reactions.values():
        numbers: dict[str, Fraction] = {}
        for compound, number in reaction.stoichiometry.items():
            numbers[names[compound]] = numbers.get(names[compound], Fraction()) + number
        numbers = {name: number for name, number in numbers.items() if number}
        if numbers:
            reactions[reaction.id] = replace(reaction, stoichiometry=numbers)
    return replace(network, compounds=compounds, reactions=reactions)


def _aligned_name(compound: Compound) -> str:
    place = compound.compartment[:1].lower()
    plain = re.sub(r"(\[\w+\]|_[a-z])$", "", compound.id)
    return f"{re.sub('_DASH_|_LPAREN_|_RPAREN_|__|[-().]', '_', plain).lower()}[{place}]"


def reaction_key(stoichiometry: Mapping[str, Fraction]) -> ReactionKey | None:
    """Return what is the same of a reaction in all organisms, however it is written.

    It does not tell the compartment of a reaction within one, the direction it is written in, or its scale.

    Returns:
        Coefficients and compounds, sorted by compound, the first one 1, such as `1 adp + -1 atp`; `None` if the
        reaction exchanges with what is not modelled, or sums up growth.
    """
    if not 1 < len(stoichiometry) <= _MOST_COMPOUNDS:
        return None
    places = {name[name.rindex("[") :] for name in stoichiometry}
    cut = len(next(iter(places))) if len(places) == 1 else 0
    named = sorted((name[: len(name) - cut], number) for name, number in stoichiometry.items())
    return " + ".join(f"{number / named[0][1]} {name}" for name, number in named)


@dataclass(frozen=True)
class Organism:
    """One organism: its network, and what its other models know.

    Attributes:
        species: Its name; all its models belong to it.
        network: The largest of its models, aligned.
        others: Its other models, aligned.
    """

    species: str
    network: MetabolicNetwork
    others: tuple[MetabolicNetwork, ...] = ()

    @cached_property
    def reactions(self) -> dict[ReactionKey, list[str]]:
        """Key to the reactions of `network` that have it."""
        found: dict[ReactionKey, list[str]] = {}
        for reaction in self.network.reactions.values():
            key = reaction_key(reaction.stoichiometry)
            if key is not None:
                found.setdefault(key, []).append(reaction.id)
        return found

    @cached_property
    def examples(self) -> dict[ReactionKey, NetworkReaction]:
        """Key to a reaction of any of its models that has it."""
        found: dict[ReactionKey, NetworkReaction] = {}
        for network in (self.network, *self.others):
            for reaction in network.reactions.values():
                key = reaction_key(reaction.stoichiometry)
                if key is not None:
                    found.setdefault(key, reaction)
        return found

    @classmethod
    def group(cls, networks: Sequence[tuple[str, MetabolicNetwork]]) -> list["Organism"]:
        """Return an organism for each species, sorted by name, of pairs of species and network as it was read."""
        by_species: dict[str, list[MetabolicNetwork]] = {}
        for species, network in networks:
            by_species.setdefault(species, []).append(align_network(network))
        ordered = {name: sorted(found, key=lambda each: -len(each.reactions)) for name, found in by_species.items()}
        return [cls(name, ordered[name][0], tuple(ordered[name][1:])) for name in sorted(ordered)]


def split_organisms(
    organisms: Sequence[Organism], held_out: Sequence[str] | None
) -> tuple[list[Organism], list[Organism]]:
    """Return the organisms to train on and those that are held out, in the order given.

    Args:
        organisms: All of them.
        held_out: Species; `None` is the last by name where at least two others are left, and else none.

    Raises:
        DataError: If a species is unknown, or fewer than two organisms are left to train on.
    """
    species = sorted(each.species for each in organisms)
    if held_out is None:
        held_out = species[-1:] if len(species) > 2 else []
    unknown = sorted(set(held_out) - set(species))
    if unknown:
        raise DataError(f"data.held_out must be of the species {species}; got {unknown}. Name one of these.")
    known = [each for each in organisms if each.species not in held_out]
    if len(known) < 2:
        raise DataError(
            f"at least two species must be left to train on, since each is asked about with the others as the known "
            f"ones; got {[each.species for each in known]}, held out {sorted(held_out)}. Put models of other species "
            "into data.folder, or name fewer in data.held_out."
        )
    return known, [each for each in organisms if each.species in held_out]


@dataclass(frozen=True)
class PoolReaction:
    """A reaction that some known organism has.

    Attributes:
        key: See `reaction_key`.
        reaction: As the first of these organisms has it.
        species: All of these organisms.
    """

    key: ReactionKey
    reaction: NetworkReaction
    species: frozenset[str]


class ReactionPool:
    """The reactions of known organisms, and the formulas of their compounds.

    Args:
        organisms: The known organisms.

    Raises:
        DataError: If there is none.
    """

    def __init__(self, organisms: Sequence[Organism]):
        if not organisms:
            raise DataError("the pool must be of at least one organism; got none. Name models to learn from.")
        self.organisms = tuple(organisms)
        examples: dict[ReactionKey, NetworkReaction] = {}
        species: dict[ReactionKey, set[str]] = {}
        self.formulas: dict[str, Compound] = {}
        for organism in organisms:
            for key, reaction in organism.examples.items():
                examples.setdefault(key, reaction)
                species.setdefault(key, set()).add(organism.species)
            for network in (organism.network, *organism.others):
                for name, compound in network.compounds.items():
                    if name not in self.formulas or self.formulas[name].elements is None:
                        self.formulas[name] = compound
        self.reactions = {key: PoolReaction(key, examples[key], frozenset(species[key])) for key in sorted(examples)}

    @cached_property
    def base_rates(self) -> np.ndarray:
        """Return the shares of reactions that run backward, both ways and forward, shape (3,).

        Backward and forward are alike, since either way of writing a reaction is.
        """
        bounded = [one for organism in self.organisms for one in organism.examples.values()]
        both = sum(one.reversible for one in bounded)
        one_way = sum(not one.reversible and one.direction != 0 for one in bounded)
        return np.array([one_way / 2, both, one_way / 2]) / max(both + one_way, 1)

    def similarities(self, keys: Collection[ReactionKey]) -> dict[str, float]:
        """Return species to the Jaccard index of its reactions and these."""
        wanted = set(keys)
        found = {}
        for organism in self.organisms:
            theirs = organism.examples.keys()
            found[organism.species] = len(wanted & theirs) / max(len(wanted | theirs), 1)
        return found


@dataclass(frozen=True)
class GappedNetwork:
    """A network from which reactions were removed.

    Attributes:
        organism: What it was.
        network: What is left: neither the reactions, nor compounds that only they had.
        removed: Keys of what was removed.
        remaining: Keys of what is left.
    """

    organism: Organism
    network: MetabolicNetwork
    removed: tuple[ReactionKey, ...]
    remaining: frozenset[ReactionKey]

    @classmethod
    def draw(cls, organism: Organism, share: float, generator: np.random.Generator) -> "GappedNetwork":
        """Remove a share of an organism's reactions, all that have the same key together.

        Raises:
            DataError: If the share is not between 0 and 1, or would remove nothing.
        """
        keys = sorted(organism.reactions)
        count = round(share * len(keys)) if 0 < share < 1 else 0
        if not count:
            raise DataError(f"share must be between 0 and 1 and remove a reaction; got {share} of {len(keys)}.")
        removed = [keys[place] for place in sorted(generator.choice(len(keys), count, replace=False))]
        names = [name for key in removed for name in organism.reactions[key]]
        left = organism.network.without(names)
        return cls(organism, left, tuple(removed), frozenset(keys) - set(removed))
