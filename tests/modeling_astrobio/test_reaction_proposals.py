"""Reactions made of compounds are balanced exactly, in the order of their scores, and the right one is among them."""

import random

import pytest
from metabolic_models import FORMULAS, REACTIONS, compound, stoichiometry

from modeling_astrobio.constraint_balance import BalanceError
from modeling_astrobio.metabolic_network import Compound, MetabolicNetwork, NetworkReaction, check_balance
from modeling_astrobio.reaction_proposals import propose_reactions


COMPOUNDS = {f"{name}_c": compound(name) for name in FORMULAS}


@pytest.mark.parametrize("name", ["HEX", "PGI", "PFK", "FBP", "FBA", "PGK", "ENO", "PYK", "LDH"])
def test_the_reaction_is_proposed_when_its_compounds_are_likely(name):
    expected = {key: int(number) for key, number in stoichiometry(*REACTIONS[name][:2]).items()}
    seed = next(iter(expected))
    logits = {key: 2.0 if key in expected else -2.0 - len(key) / 10 for key in COMPOUNDS}
    found = propose_reactions(seed, COMPOUNDS, logits)
    assert expected in [dict(each.stoichiometry) for each in found]
    assert found == sorted(found, key=lambda each: -each.score)


def test_the_side_of_the_seed_is_as_asked():
    logits = dict.fromkeys(COMPOUNDS, 0.0)
    assert all(each.stoichiometry["pep_c"] < 0 for each in propose_reactions("pep_c", COMPOUNDS, logits))
    assert all(
        each.stoichiometry["pep_c"] > 0 for each in propose_reactions("pep_c", COMPOUNDS, logits, consumed=False)
    )


def test_random_proposals_all_balance():
    generator = random.Random(0)
    reactions = {}
    for round_ in range(60):
        logits = {name: generator.gauss(0, 2) for name in COMPOUNDS}
        seed = generator.choice(sorted(COMPOUNDS))
        for place, proposal in enumerate(propose_reactions(seed, COMPOUNDS, logits, count=200)):
            assert proposal.residual == {}
            reactions[f"{round_}_{place}"] = NetworkReaction(f"{round_}_{place}", dict(proposal.stoichiometry))
    assert len(reactions) > 1000
    network = MetabolicNetwork("made", COMPOUNDS, reactions)
    for reaction in reactions.values():
        check_balance(network, reaction)


def test_unknown_compounds_are_never_proposed():
    unknown = {"x_c": Compound.of("x_c", "", 0), "y_c": Compound.of("y_c", "C3H3O3")}
    logits = {**dict.fromkeys(COMPOUNDS, 0.0), "x_c": 9.0, "y_c": 9.0}
    found = propose_reactions("pyr_c", {**COMPOUNDS, **unknown}, logits)
    assert found
    assert not any({"x_c", "y_c"} & set(each.stoichiometry) for each in found)
    with pytest.raises(BalanceError, match="compound x_c must have a formula"):
        propose_reactions("x_c", {**COMPOUNDS, **unknown}, logits)


def test_without_charges_elements_alone_are_balanced():
    bare = {name: Compound.of(name, each.formula) for name, each in COMPOUNDS.items()}
    found = propose_reactions("g6p_c", bare, dict.fromkeys(bare, -1.0), with_charge=False)
    assert {"g6p_c": -1, "f6p_c": 1} in [dict(each.stoichiometry) for each in found]
    with pytest.raises(BalanceError, match="g6p_c must have a charge"):
        propose_reactions("g6p_c", bare, dict.fromkeys(bare, 0.0))
