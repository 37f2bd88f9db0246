"""Organisms in one naming, gaps without traces of what was removed, ranks with ties, questions with right answers."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from metabolic_models import compound, small_network, stoichiometry

from modeling_astrobio.metabolic_network import Compound, MetabolicNetwork, NetworkReaction
from modeling_astrobio.modeling_astro_graph_vae_gap_filling import DIRECTIONS
from modeling_astrobio.reaction_neighbourhood import NeighbourhoodIndex
from modeling_astrobio.training.errors import DataError
from modeling_astrobio.training.metabolic_batches import (
    GapQuestions,
    direction_batch,
    direction_label,
    direction_prior,
    placed_stoichiometry,
)
from modeling_astrobio.training.metabolic_completion import completion_config
from modeling_astrobio.training.metabolic_data import (
    GappedNetwork,
    Organism,
    ReactionPool,
    align_network,
    reaction_key,
)
from modeling_astrobio.training.metabolic_ranking import (
    RECALL_AT,
    baseline_scores,
    filtered_recall,
    mean_with_interval,
)


CONFIG = completion_config()


def organisms():
    return Organism.group(
        [
            ("A", small_network("a")),
            ("B", small_network("b", leave_out=("ADK", "FBP"))),
            ("C", small_network("c", leave_out=("LDH", "PPS", "HEX"))),
            ("A", small_network("a_core", leave_out=("TPI",))),
        ]
    )


def key_of(left, right):
    return reaction_key({name.replace("_c", "[c]"): number for name, number in stoichiometry(left, right).items()})


def test_models_of_a_species_are_one_organism():
    found = organisms()
    assert [(each.species, each.network.id, len(each.others)) for each in found] == [
        ("A", "a", 1),
        ("B", "b", 0),
        ("C", "c", 0),
    ]


@pytest.mark.parametrize(
    ("name", "compartment", "aligned"),
    [
        ("ala__L_c", "c", "ala_l[c]"),
        ("ala_DASH_L_c", "Cytosol", "ala_l[c]"),
        ("ala-L[e]", "Extra_organism", "ala_l[e]"),
        ("h2o_p", "p", "h2o[p]"),
    ],
)
def test_names_are_alike(name, compartment, aligned):
    network = MetabolicNetwork(
        "n", {name: Compound.of(name, "C", 0, compartment)}, {"EX": NetworkReaction("EX", {name: Fraction(-1)})}
    )
    assert list(align_network(network).compounds) == [aligned]


def test_keys_do_not_tell_how_a_reaction_is_written():
    numbers = {"b[c]": Fraction(-2), "a[c]": Fraction(4), "d[c]": Fraction(-1)}
    key = reaction_key(numbers)
    assert key == "1 a + -1/2 b + -1/4 d"
    assert reaction_key({name: -number for name, number in numbers.items()}) == key
    assert reaction_key({name.replace("[c]", "[p]"): 3 * number for name, number in numbers.items()}) == key
    assert reaction_key({"a[c]": Fraction(-1), "a[e]": Fraction(1)}) == "1 a[c] + -1 a[e]"
    assert reaction_key({"a[e]": Fraction(-1)}) is None
    assert reaction_key({f"x{place}[c]": Fraction(1) for place in range(21)}) is None


def test_a_gap_leaves_no_trace():
    organism = organisms()[0]
    gapped = GappedNetwork.draw(organism, 0.4, np.random.default_rng(0))
    assert len(gapped.removed) == round(0.4 * len(organism.reactions)) == 7
    assert set(gapped.removed) | gapped.remaining == set(organism.reactions)
    left = {reaction_key(each.stoichiometry) for each in gapped.network.reactions.values()} - {None}
    assert left == gapped.remaining
    used = {name for each in gapped.network.reactions.values() for name in each.stoichiometry}
    assert set(gapped.network.compounds) == used
    again = GappedNetwork.draw(organism, 0.4, np.random.default_rng(0))
    assert again.removed == gapped.removed
    with pytest.raises(DataError, match=r"remove a reaction; got 1\.5 of 17"):
        GappedNetwork.draw(organism, 1.5, np.random.default_rng(0))


def test_the_pool_is_what_the_known_organisms_have():
    a, b, c = organisms()
    pool = ReactionPool([b, c])
    assert pool.reactions[key_of("fdp h2o", "f6p pi")].species == {"C"}
    assert pool.reactions[key_of("g6p", "f6p")].species == {"B", "C"}
    assert set(pool.reactions) == set(b.reactions) | set(c.reactions)
    expected = len(set(a.reactions) & set(b.reactions)) / len(set(a.reactions) | set(b.reactions))
    assert pool.similarities(a.reactions)["B"] == pytest.approx(expected)
    with pytest.raises(DataError, match="at least one organism"):
        ReactionPool([])


def test_recall_of_ties_is_the_mean_over_their_orders():
    generator = np.random.default_rng(0)
    keys = [f"key{place}" for place in range(30)]
    scores = generator.integers(4, size=30).astype(float)
    candidates = [type("Candidate", (), {"key": key})() for key in keys]
    removed = [*generator.choice(keys, 5, replace=False), "absent"]
    found = filtered_recall(scores, candidates, removed)
    in_order = [key for key in keys if key in removed]
    for k in RECALL_AT:
        hits = np.zeros(5)
        for _ in range(4000):
            order = np.lexsort((generator.random(30), -scores))
            for place, key in enumerate(in_order):
                others = [keys[at] for at in order if keys[at] not in removed or keys[at] == key]
                hits[place] += others.index(key) < k
        np.testing.assert_allclose(found[k], hits / 4000, atol=0.04)


def test_baselines_are_what_their_names_say():
    a, b, c = organisms()
    pool = ReactionPool([b, c])
    keys = [key_of("fdp h2o", "f6p pi"), key_of("adp adp", "amp atp"), key_of("g6p", "f6p")]
    gapped = GappedNetwork(a, a.network, tuple(keys), frozenset(a.reactions) - set(keys))
    candidates = [pool.reactions[key] for key in sorted(keys)]
    found = baseline_scores(candidates, [1, 0, 0], gapped, pool)
    order = [sorted(keys).index(key) for key in keys]
    assert found["frequency"][order].tolist() == [1, 1, 2]
    similarity = pool.similarities(gapped.remaining)
    nearest = max(similarity, key=similarity.get)
    near = [float(nearest == "C"), float(nearest == "C"), 1.0]
    assert found["nearest_organism"][order].tolist() == near
    assert found["nearest_then_frequency"][order].tolist() == [3 * near[0] + 1, 3 * near[1] + 1, 3 * near[2] + 2]
    both = similarity["B"] + similarity["C"]
    np.testing.assert_allclose(found["similar_organisms"][order], [similarity["C"], similarity["C"], both])
    assert found["compounds_present"].argmin() == 0


def test_intervals_hold_the_mean_and_shrink_with_items():
    few = mean_with_interval({"a": [0.0, 1.0], "b": [1.0, 0.0], "c": []})
    many = mean_with_interval({"a": [0.0, 1.0] * 200, "b": [1.0, 0.0] * 200})
    assert few["mean"] == many["mean"] == 0.5
    assert few["low"] <= 0.5 <= few["high"]
    assert many["high"] - many["low"] < few["high"] - few["low"]


def test_questions_have_the_removed_reaction_first_and_never_another():
    _, b, c = organisms()
    # ADK, FBP and two more are in the pool and never were in this network.
    (a,) = Organism.group([("A", small_network("a", leave_out=("ADK", "FBP", "TPI", "PGM")))])
    gapped = GappedNetwork.draw(a, 0.4, np.random.default_rng(1))
    questions = GapQuestions(gapped, ReactionPool([b, c]), CONFIG)
    with pytest.raises(DataError, match=r"network a must lack reactions of other organisms.*; got [0-9]+ and 0"):
        GapQuestions(gapped, ReactionPool([a]), CONFIG).training_batch(3, 5, np.random.default_rng(0))
    assert {each.key for each in questions.candidates} == set(questions.pool.reactions) - gapped.remaining
    batch = questions.training_batch(3, 5, np.random.default_rng(0))
    assert batch["node_types"].shape[0] == 3 * 6
    assert batch["candidate_labels"].tolist() == [0, 0, 0]
    assert batch["candidate_offsets"].view(3, 6)[:, 0].tolist() == [0, 0, 0]
    priors = batch["prior_features"].view(3, 6, 4)
    removed = questions.priors[questions.is_removed]
    assert all((removed == row.numpy()).all(1).any() for row in priors[:, 0])
    pointed = questions.pointer_batch(gapped.removed, np.random.default_rng(0))
    names = list(gapped.network.compounds)
    stated = [{names[at]: row[at].item() for at in row.nonzero()[:, 0]} for row in pointed["pointer_labels"]]
    wanted = [questions.removed_reaction(key).stoichiometry for key in gapped.removed]
    assert stated
    for row in stated:
        assert any(row.items() <= {name: float(number) for name, number in each.items()}.items() for each in wanted)


def test_candidates_are_put_where_their_compounds_are():
    a, b, _ = organisms()
    candidate = ReactionPool([b]).reactions[key_of("g6p", "f6p")]
    index = NeighbourhoodIndex(a.network, CONFIG)
    assert placed_stoichiometry(candidate, index) == {"g6p[c]": -1.0, "f6p[c]": 1.0}
    inside_out = {name.replace("[c]", "[p]"): each for name, each in a.network.compounds.items()}
    moved = MetabolicNetwork(
        "moved",
        {name: Compound(name, each.formula, each.elements, each.charge, "p") for name, each in inside_out.items()},
        {
            each.id: NetworkReaction(each.id, {n.replace("[c]", "[p]"): v for n, v in each.stoichiometry.items()})
            for each in a.network.reactions.values()
        },
    )
    assert placed_stoichiometry(candidate, NeighbourhoodIndex(moved, CONFIG)) == {"g6p[p]": -1.0, "f6p[p]": 1.0}


def test_directions_follow_the_way_a_reaction_is_written():
    a, b, c = organisms()
    pool, index = ReactionPool([b, c]), NeighbourhoodIndex(a.network, CONFIG)
    reactions = [a.network.reactions[name] for name in ("PYK", "PGI", "PPS")]
    straight = direction_batch(index, reactions, pool, [False] * 3)
    turned = direction_batch(index, reactions, pool, [True] * 3)
    assert [DIRECTIONS[label] for label in straight.inputs["direction_labels"]] == ["forward", "reversible", "forward"]
    assert [DIRECTIONS[label] for label in turned.inputs["direction_labels"]] == ["backward", "reversible", "backward"]
    torch.testing.assert_close(straight.inputs["edge_features"][:, :2], -turned.inputs["edge_features"][:, :2])
    torch.testing.assert_close(straight.inputs["direction_prior"], turned.inputs["direction_prior"].flip(-1))
    assert straight.inputs["direction_prior"].argmax(-1).tolist() == [2, 1, 2]
    assert straight.known.tolist() == [True, True, True]
    prior, known = direction_prior("1 x + -1 y", 1.0, pool)
    assert not known
    np.testing.assert_allclose(np.exp(prior), pool.base_rates, rtol=1e-5)
    assert prior[0] == prior[2]


def test_bounds_that_allow_nothing_have_no_direction():
    numbers = {"x[c]": Fraction(-1), "y[c]": Fraction(1)}
    assert direction_label(NetworkReaction("R", numbers, 0.0, 0.0)) == -100
    assert DIRECTIONS[direction_label(NetworkReaction("R", numbers, -5.0, 0.0))] == "backward"


def test_formulas_come_from_organisms_that_have_them():
    bare = small_network("bare")
    bare = MetabolicNetwork("bare", {name: Compound(name) for name in bare.compounds}, bare.reactions)
    _, b, c = organisms()
    pool = ReactionPool([*Organism.group([("X", bare)]), b])
    assert pool.formulas["g6p[c]"].elements == compound("g6p").elements
    assert c.species == "C"
