"""The graph around a reaction has what the network says and nothing that was removed from it."""

import numpy as np
import pytest
from metabolic_models import REACTIONS, compound, small_network, stoichiometry

from modeling_astrobio.configuration_astro_graph_vae import AstroGraphVAEConfig
from modeling_astrobio.graph_features import NODE_FEATURES
from modeling_astrobio.metabolic_tensors import stoichiometries_of
from modeling_astrobio.reaction_neighbourhood import NeighbourhoodIndex


CONFIG = AstroGraphVAEConfig.from_preset("tiny")
FEATURE = {name: place for place, name in enumerate(NODE_FEATURES)}


def floats(numbers):
    return {name: float(number) for name, number in numbers.items()}


def neighbours(graph, numbers, index):
    """Stoichiometry of the first reaction and of the others, over the compounds of the graph."""
    names = sorted(numbers, key=index.degree)[: index.max_compounds]
    first, *others = stoichiometries_of(graph, names, CONFIG.atom_types)
    return floats(first), [floats(each) for each in others]


def test_the_reaction_is_first_and_others_are_those_of_its_rare_compounds():
    network = small_network(leave_out=("PGI",))
    index = NeighbourhoodIndex(network, CONFIG, hub_degree=4)
    asked = floats(stoichiometry("g6p", "f6p"))
    graph = index.record(asked)
    first, others = neighbours(graph, asked, index)
    assert first == asked
    # HEX makes g6p, PFK uses f6p and FBP makes it.
    assert sorted(map(sorted, (each.items() for each in others))) == [
        [("f6p_c", -1.0)],
        [("f6p_c", 1.0)],
        [("g6p_c", 1.0)],
    ]
    assert graph.node_types[0] == CONFIG.reaction_type
    assert graph.node_features[:, FEATURE["candidate"]].tolist() == [1.0, 0, 0, 0, 0, 0]


def test_compounds_that_are_new_to_the_network_are_marked():
    network = small_network(leave_out=("LDH",), exchanges=())
    index = NeighbourhoodIndex(network, CONFIG, {"lac_c": compound("lac")})
    asked = floats(stoichiometry("pyr nadh h", "lac nad"))
    graph = index.record(asked)
    names = sorted(asked, key=index.degree)
    marked = {names[place - 1] for place in np.flatnonzero(graph.node_features[:, FEATURE["candidate"]]) if place}
    assert marked == {"lac_c"}
    # Its formula is that of the record which was given.
    place = 1 + names.index("lac_c")
    assert graph.node_features[place, FEATURE["log_count_C"]] == pytest.approx(np.log1p(3))


def test_what_is_hidden_is_not_seen():
    network = small_network()
    index = NeighbourhoodIndex(network, CONFIG)
    asked = floats(network.reactions["PGI"].stoichiometry)
    seen = neighbours(index.record(asked), asked, index)[1]
    unseen = neighbours(index.record(asked, hidden=("PGI",)), asked, index)[1]
    assert asked in seen
    assert asked not in unseen
    assert len(unseen) == len(seen) - 1


def test_hubs_bring_no_reactions():
    network = small_network()
    index = NeighbourhoodIndex(network, CONFIG, hub_degree=2)
    asked = floats(stoichiometry("atp h2o", "adp h pi"))
    assert index.record(asked, hidden=("ATPM",)).size == 1 + len(asked)


@pytest.mark.parametrize("name", sorted(REACTIONS))
def test_sizes_are_bounded(name):
    network = small_network()
    index = NeighbourhoodIndex(network, CONFIG, max_compounds=3, max_reactions=2)
    graph = index.record(floats(network.reactions[name].stoichiometry))
    assert graph.size <= 1 + 3 + 2
    assert (graph.node_types == CONFIG.reaction_type).sum() <= 3


def test_reversible_reactions_are_marked_and_backward_ones_turned():
    network = small_network()
    index = NeighbourhoodIndex(network, CONFIG)
    asked = floats(stoichiometry("g6p", "f6p"))
    assert index.record(asked, reversible=True).node_features[0, FEATURE["reaction_reversible"]] == 1
    assert index.record(asked).node_features[0, FEATURE["reaction_reversible"]] == 0


def test_dead_ends_that_a_reaction_would_mend():
    index = NeighbourhoodIndex(small_network(leave_out=("LDH", "PYK"), exchanges=()), CONFIG)
    # Nothing uses pep (ENO makes it, reversibly: it also uses it); nothing makes pyr, which PPS uses.
    assert index.mended_dead_ends(floats(stoichiometry("adp h pep", "atp pyr")), reversible=False) == 1
    assert index.mended_dead_ends(floats(stoichiometry("atp pyr", "adp h pep")), reversible=False) == 0
    assert index.mended_dead_ends(floats(stoichiometry("atp pyr", "adp h pep")), reversible=True) == 1
    # A compound that is not in the network is new, not a dead end.
    assert index.mended_dead_ends(floats(stoichiometry("lac", "pyr")), reversible=False) == 1
