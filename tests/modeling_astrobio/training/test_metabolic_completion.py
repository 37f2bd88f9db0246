"""Training, ranking and completing on small networks: it learns, it balances exactly, it restores flux."""

import numpy as np
import pytest
import torch


pytest.importorskip("cobra", reason="the extra chem is not installed")
from metabolic_models import REACTIONS, small_network, stoichiometry

from modeling_astrobio.constraint_balance import BalanceError
from modeling_astrobio.metabolic_network import Compound, MetabolicNetwork, NetworkReaction, check_balance
from modeling_astrobio.training.errors import DataError
from modeling_astrobio.training.metabolic_batches import GapQuestions
from modeling_astrobio.training.metabolic_completion import (
    CompletionSettings,
    completion_config,
    fit_prior_weights,
    train_completion,
)
from modeling_astrobio.training.metabolic_data import GappedNetwork, Organism, ReactionPool
from modeling_astrobio.training.metabolic_evaluation import candidate_scores, score_directions, score_ranking
from modeling_astrobio.training.metabolic_generation import (
    balanced_candidate,
    complete_network,
    score_proposals,
    with_formulas,
)


SETTINGS = CompletionSettings(
    config={"hidden_size": 12, "intermediate_size": 20, "num_attention_heads": 3},
    steps=25,
    draws=2,
    shares=[0.2, 0.4],
    questions=4,
    wrong_candidates=3,
    directions=6,
    pointers=4,
    constraints={"element_balance": 0.1, "charge_balance": 0.1},
)
EXCHANGES = ("glc", "lac", "h", "h2o", "pi")


@pytest.fixture(scope="module")
def organisms():
    left_out = {"A": ("ADK", "FBP"), "B": ("PPS", "FBP"), "C": ("ADK",), "D": ("PPS", "LDH", "TPI")}
    return Organism.group([(name, small_network(name, out, EXCHANGES)) for name, out in left_out.items()])


@pytest.fixture(scope="module")
def trained(organisms):
    seen = []
    model, report = train_completion(organisms[1:], SETTINGS, report=lambda step, losses: seen.append(step))
    assert not seen  # fewer than fifty steps
    return model, report


def test_training_is_repeatable_and_reports_every_part(organisms, trained):
    model, report = trained
    assert {name for name in report if name.startswith("loss_")} == {
        *("loss_candidate", "loss_direction", "loss_pointer", "loss_element_balance", "loss_charge_balance")
    }
    again, _ = train_completion(organisms[1:], SETTINGS)
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], weight, rtol=0, atol=0)
    with pytest.raises(DataError, match="organisms must be at least two, one of them asked about; got 1"):
        train_completion(organisms[:1], SETTINGS)


def test_factors_to_start_from_are_taken(organisms):
    start = np.array([0.25, 2.0, -3.0, 1.5])
    model, _ = train_completion(
        organisms[1:], CompletionSettings(**{**vars(SETTINGS), "steps": 1, "learning_rate": 0.0}), start
    )
    assert model.prior_weight.tolist() == start.tolist()
    fitted = fit_prior_weights(organisms, SETTINGS)
    assert fitted.shape == (4,)
    assert np.isfinite(fitted).all()


def test_rankings_of_an_organism_that_was_held_out(organisms, trained):
    model, _ = trained
    pool = ReactionPool(organisms[1:])
    found = score_ranking(model, organisms[0], pool, 0.3, 2, np.array([1.0, 1.0, -1.0, 1.0]))
    assert set(found.recall) == {
        *("frequency", "nearest_organism", "nearest_then_frequency", "similar_organisms", "compounds_present"),
        *("priors_alone", "model"),
    }
    assert found.removed == 2 * round(0.3 * len(organisms[0].reactions))
    for recall in found.recall.values():
        assert all(len(values) == found.in_pool for values in recall.values())
        assert np.mean(recall[1]) <= np.mean(recall[5]) <= np.mean(recall[10])
    again = score_ranking(model, organisms[0], pool, 0.3, 2, np.array([1.0, 1.0, -1.0, 1.0]))
    assert again == found


def test_scores_do_not_depend_on_the_batch(organisms, trained):
    model, _ = trained
    gapped = GappedNetwork.draw(organisms[0], 0.3, np.random.default_rng(0))
    questions = GapQuestions(gapped, ReactionPool(organisms[1:]), model.config)
    scores = candidate_scores(model, questions)
    with torch.no_grad():
        alone = [model(**questions.candidate_batch([place])).candidate_logits.item() for place in range(len(scores))]
    np.testing.assert_allclose(scores, alone, atol=1e-5)


def test_directions_have_a_loss_each(organisms, trained):
    model, _ = trained
    found = score_directions(model, organisms[0], ReactionPool(organisms[1:]))
    assert len(found.model) == len(found.base_rates) == len(found.is_known)
    assert found.is_known.all()
    # The same reactions run alike in the other organisms, which is a better guess than the base rates.
    assert found.known_reaction.mean() < found.base_rates.mean()


@pytest.mark.parametrize("seed", range(5))
def test_completed_networks_balance_exactly_and_carry_flux(organisms, seed):
    config = completion_config()
    organism, known = organisms[0], organisms[1:]
    keys = [key for key, names in organism.reactions.items() if {"PGM", "PGK"} & set(names)]
    left = organism.network.without([name for key in keys for name in organism.reactions[key]])
    gapped = GappedNetwork(organism, left, tuple(keys), frozenset(organism.reactions) - set(keys))
    questions = GapQuestions(gapped, ReactionPool(known), config)
    scores = np.where(questions.is_removed, 5.0, np.random.default_rng(seed).random(len(questions.candidates)))
    found = complete_network(questions, scores, count=2)
    assert found["added"] == 2
    assert found["optimum_with_gaps"] == pytest.approx(0.0, abs=1e-6)
    assert found["optimum_completed"] == pytest.approx(found["optimum_whole"], abs=1e-6)
    assert found["optimum_whole"] > 1
    assert found["share_that_can_carry_flux"] == 1.0


def test_a_candidate_of_another_protonation_is_balanced_anew():
    network = small_network(leave_out=("HEX",))
    bare = NetworkReaction("HEX", stoichiometry("atp glc", "adp g6p"))
    whole = MetabolicNetwork("n", {**small_network().compounds}, network.reactions)
    found = balanced_candidate(whole, bare, "h_c")
    assert dict(found.stoichiometry) == stoichiometry(*REACTIONS["HEX"][:2])
    check_balance(whole, found)
    kept = NetworkReaction("PGI", stoichiometry("g6p", "f6p"))
    assert balanced_candidate(whole, kept, "h_c") is kept
    with pytest.raises(BalanceError, match="reaction BAD of network n must conserve"):
        balanced_candidate(whole, NetworkReaction("BAD", stoichiometry("glc", "pyr")), "h_c")


def test_proposals_of_removed_reactions_all_balance(organisms, trained):
    model, _ = trained
    gapped = GappedNetwork.draw(organisms[0], 0.4, np.random.default_rng(3))
    found = score_proposals(model, GapQuestions(gapped, ReactionPool(organisms[1:]), model.config), most=5)
    assert found.asked > 0
    assert found.proposed > 10
    assert found.unbalanced == 0
    assert all(len(values) == found.asked for recall in found.recall.values() for values in recall.values())


def test_formulas_are_filled_from_others():
    network = small_network()
    bare = MetabolicNetwork("bare", {name: Compound(name) for name in network.compounds}, network.reactions)
    filled = with_formulas(bare, network.compounds)
    assert {name: each.elements for name, each in filled.compounds.items()} == {
        name: each.elements for name, each in network.compounds.items()
    }
    for reaction in filled.reactions.values():
        if not reaction.boundary:
            check_balance(filled, reaction)
    assert with_formulas(bare, {}).compounds == bare.compounds
