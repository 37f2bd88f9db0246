"""Metabolic networks as the arrays of a graph, and their reactions back from it.

A graph is bipartite: compounds, then reactions, an edge where a reaction has a compound. A reaction whose bounds allow
backward flux alone is drawn the way it runs.
"""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from .graph_features import EDGE_TYPES, FORMULA_ELEMENTS, MOTIF_TYPES, NODE_FEATURES
from .graph_record import GraphError, GraphRecord
from .metabolic_network import Compound, MetabolicNetwork, NetworkReaction


__all__ = [
    "bipartite_record",
    "compound_features",
    "drawn_stoichiometry",
    "network_record",
    "reaction_features",
    "stoichiometries_of",
]

_FEATURE = {name: place for place, name in enumerate(NODE_FEATURES)}
_SUBSTRATE, _PRODUCT = EDGE_TYPES.index("substrate"), EDGE_TYPES.index("product")
_PATHWAY = MOTIF_TYPES.index("pathway")
# Coefficients of biomass reactions have up to ten decimals; the logarithm in float32 keeps seven digits.
_MOST_DENOMINATOR = 1000


def compound_features(compound: Compound, external: bool = False, candidate: bool = False) -> np.ndarray:
    """Return the features of a compound, shape (F,), float32; elements that have no place are counted as other."""
    row = np.zeros(len(NODE_FEATURES), dtype=np.float32)
    counts: dict[str, Fraction] = {}
    for element, count in (compound.elements or {}).items():
        name = element if element in FORMULA_ELEMENTS else "other"
        counts[name] = counts.get(name, Fraction()) + count
    for name, count in counts.items():
        row[_FEATURE[f"log_count_{name}"]] = math.log1p(count)
    charge = compound.charge or 0
    row[_FEATURE["signed_log_charge"]] = math.copysign(math.log1p(abs(charge)), charge)
    row[_FEATURE["compound_external"]] = external
    row[_FEATURE["candidate"]] = candidate
    return row


def reaction_features(reversible: bool, candidate: bool = False) -> np.ndarray:
    """Return the features of a reaction, shape (F,), float32."""
    row = np.zeros(len(NODE_FEATURES), dtype=np.float32)
    row[_FEATURE["reaction_reversible"]] = reversible
    row[_FEATURE["candidate"]] = candidate
    return row


def drawn_stoichiometry(reaction: NetworkReaction) -> dict[str, float]:
    """Return compound to coefficient, negated if the bounds allow backward flux alone."""
    sign = -1 if reaction.direction < 0 else 1
    return {name: sign * float(number) for name, number in reaction.stoichiometry.items()}


def bipartite_record(
    atom_types: Sequence[Sequence[int]],
    features: Sequence[np.ndarray],
    is_reaction: Sequence[bool],
    edges: Sequence[tuple[int, int, float]],
    pathways: Sequence[Sequence[int]] = (),
) -> GraphRecord:
    """Return the graph of compounds and reactions.

    Args:
        atom_types: Those of the model's config; the codes of compounds and reactions follow them.
        features: Of each node, shape (F,).
        is_reaction: Whether a node is a reaction, in the same order.
        edges: Places of compound and reaction, and the coefficient, negative where it is consumed.
        pathways: Places of the members of each pathway.
    """
    ends = np.array([edge[:2] for edge in edges], dtype=np.int64).reshape(-1, 2).T
    numbers = np.array([edge[2] for edge in edges], dtype=np.float64)
    members = np.zeros((len(pathways), len(features)), dtype=bool)
    for row, inside in enumerate(pathways):
        members[row, list(inside)] = True
    return GraphRecord(
        node_types=np.where(is_reaction, len(atom_types) + 2, len(atom_types) + 1).astype(np.int64),
        node_features=np.stack(features) if len(features) else np.zeros((0, len(NODE_FEATURES)), dtype=np.float32),
        edge_index=ends,
        edge_types=np.where(numbers < 0, _SUBSTRATE, _PRODUCT).astype(np.int64),
        edge_features=(np.sign(numbers) * np.log1p(np.abs(numbers))).astype(np.float32)[:, None],
        motif_types=np.full(len(pathways), _PATHWAY, dtype=np.int64),
        motif_nodes=members,
    )


def network_record(network: MetabolicNetwork, atom_types: Sequence[Sequence[int]]) -> GraphRecord:
    """Return the graph of a network: its compounds, then its reactions, in the order of the network.

    A pathway is a motif of its reactions, where the model names it.

    Args:
        network: The network.
        atom_types: Those of the model's config.
    """
    place = {name: at for at, name in enumerate(network.compounds)}
    exchanged = {name for one in network.reactions.values() if one.boundary for name in one.stoichiometry}
    features = [compound_features(each, external=each.id in exchanged) for each in network.compounds.values()]
    edges: list[tuple[int, int, float]] = []
    pathways: dict[str, list[int]] = {}
    for at, reaction in enumerate(network.reactions.values(), start=len(place)):
        features.append(reaction_features(reaction.reversible))
        edges += [(place[name], at, number) for name, number in drawn_stoichiometry(reaction).items()]
        if reaction.subsystem:
            pathways.setdefault(reaction.subsystem, []).append(at)
    is_reaction = [at >= len(place) for at in range(len(features))]
    return bipartite_record(atom_types, features, is_reaction, edges, list(pathways.values()))


def stoichiometries_of(
    graph: GraphRecord, names: Sequence[str], atom_types: Sequence[Sequence[int]]
) -> list[dict[str, Fraction]]:
    """Return the stoichiometry of each reaction of a graph, in the order of its nodes.

    Coefficients are the nearest fractions with a denominator of at most 1,000.

    Args:
        graph: Of a network.
        names: Of the compounds, in the order of their nodes.
        atom_types: Those of the model's config.

    Raises:
        GraphError: If there are not as many names as compounds, or an edge joins no compound to a reaction.
    """
    compounds = np.flatnonzero(graph.node_types == len(atom_types) + 1)
    reactions = np.flatnonzero(graph.node_types == len(atom_types) + 2)
    if len(compounds) != len(names):
        raise GraphError(f"names must be {len(compounds)}, one a compound; got {len(names)}")
    name_of: Mapping[int, str] = dict(zip(compounds.tolist(), names, strict=True))
    found: dict[int, dict[str, Fraction]] = {at: {} for at in reactions.tolist()}
    for first, second, logarithm in zip(*graph.edge_index.tolist(), graph.edge_features[:, 0].tolist(), strict=True):
        if first not in name_of or second not in found:
            raise GraphError(f"an edge must go from a compound to a reaction; got one from node {first} to {second}")
        size = Fraction(math.expm1(abs(logarithm))).limit_denominator(_MOST_DENOMINATOR)
        found[second][name_of[first]] = size if logarithm > 0 else -size
    return list(found.values())
