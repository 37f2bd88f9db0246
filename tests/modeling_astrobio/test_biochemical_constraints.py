"""Each constraint: its residual is 0 where it is kept and right where it is not; its loss has the right gradient."""

from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch
from metabolic_models import FORMULAS, compound, small_network, stoichiometry

from modeling_astrobio.biochemical_constraints import CONSTRAINTS
from modeling_astrobio.configuration_astro_graph_vae import AstroGraphVAEConfig
from modeling_astrobio.constraint_balance import parse_formula
from modeling_astrobio.graph_record import collate_graphs
from modeling_astrobio.metabolic_network import Compound, MetabolicNetwork, NetworkReaction
from modeling_astrobio.metabolic_tensors import compound_features, network_record
from modeling_astrobio.training.constraint_terms import constraint_loss_terms, constraint_residuals
from modeling_astrobio.training.errors import RecipeError


CONFIG = AstroGraphVAEConfig.from_preset("tiny")
MODEL = SimpleNamespace(config=CONFIG)
CARBON = [list(kind) for kind in CONFIG.atom_types].index([6, 0, 0, 4]) + 1
OXYGEN = [list(kind) for kind in CONFIG.atom_types].index([8, 0, 0, 2]) + 1


def network_batch(*networks):
    return collate_graphs([network_record(each, CONFIG.atom_types) for each in networks])


def network_with(**numbers):
    """The small network and one more reaction, balanced or not."""
    network = small_network()
    compounds = {**network.compounds, "x_c": Compound.of("x_c", "", 0)}
    stated = {name: Fraction(number) for name, number in numbers.items()}
    return MetabolicNetwork("odd", compounds, {**network.reactions, "ODD": NetworkReaction("ODD", stated)})


def residual(name, inputs, outputs=None):
    return CONSTRAINTS[name].residual(MODEL, inputs, outputs or {})


def test_balances_of_networks():
    # ATP -> ADP loses 3 O, 1 P and one negative charge; a proton too many is one H and one charge.
    batch = network_batch(
        small_network(),
        network_with(atp_c=-2, adp_c=2),
        network_with(g6p_c=-1, f6p_c=1, h_c=1),
        network_with(g6p_c=-1, x_c=1),
    )
    torch.testing.assert_close(
        residual("element_balance", batch), torch.tensor([0.0, 6, 1, 0]).double(), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        residual("charge_balance", batch), torch.tensor([0.0, 2, 1, 0]).double(), atol=1e-4, rtol=0
    )
    kept = constraint_residuals(["element_balance"], MODEL, batch, {})["element_balance"]
    assert kept["share_kept"] == 0.5
    assert kept["greatest"] == pytest.approx(6, abs=1e-4)


@pytest.mark.parametrize("name", ["element_balance", "charge_balance"])
def test_soft_balance_equals_the_sum_written_out(name):
    numbers = {"atp_c": -1.0, "h2o_c": -1.0, "adp_c": 1.0, "pi_c": 1.0, "h_c": 1.0}
    graph = network_batch(
        MetabolicNetwork("one", {"atp_c": compound("atp")}, {"R": NetworkReaction("R", {"atp_c": -1})})
    )
    # The reaction asked about is the first node of such graphs.
    order = torch.tensor([1, 0])
    batch = {**graph, "node_types": graph["node_types"][:, order], "node_features": graph["node_features"][:, order]}
    batch["edge_index"] = 1 - graph["edge_index"]
    others = [each for each in numbers if each != "atp_c"]
    batch["compound_features"] = torch.stack(
        [torch.from_numpy(compound_features(compound(each[:-2]))) for each in others]
    )
    right = torch.tensor([[numbers[each] for each in others]], requires_grad=True)
    assert CONSTRAINTS[name].loss(MODEL, batch, {"expected_stoichiometry": right}).item() == pytest.approx(0, abs=1e-5)
    wrong = torch.tensor([[0.5, 0.25, -0.5, 2.0]], dtype=torch.float64, requires_grad=True)
    found = CONSTRAINTS[name].loss(MODEL, batch, {"expected_stoichiometry": wrong})
    kinds = {"element_balance": ("H", "C", "N", "O", "P"), "charge_balance": ("charge",)}[name]
    shares = []
    for kind in kinds:
        gain = turnover = torch.zeros((), dtype=torch.float64)
        for each, value in [("atp_c", torch.tensor(-1.0)), *zip(others, wrong[0], strict=True)]:
            formula, charge = FORMULAS[each[:-2]]
            amount = float(charge if kind == "charge" else parse_formula(formula).get(kind, 0))
            gain, turnover = gain + value * amount, turnover + (value * amount).abs()
        shares.append(gain.abs() / (turnover + 1))
    expected = torch.stack(shares).sum() / (26 if name == "element_balance" else 1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    ours, theirs = torch.autograd.grad(found, wrong)[0], torch.autograd.grad(expected, wrong)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
    assert ours.abs().sum() > 0


def molecules():
    """CO2, CO with a triple bond, two atoms without a bond, C O in three pieces of three."""
    return {
        "node_types": torch.tensor([[CARBON, OXYGEN, OXYGEN], [CARBON, OXYGEN, 0], [CARBON, CARBON, 0], [CARBON] * 3]),
        "edge_index": torch.tensor([[[0, 0], [1, 2]], [[0, 0], [1, 0]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]]),
        "edge_types": torch.tensor([[2, 2], [3, 0], [0, 0], [0, 0]]),
    }


def test_valences_of_molecules():
    assert residual("valence", molecules()).tolist() == [0, 1, 0, 0]


def test_pieces_of_molecules():
    assert residual("connectedness", molecules()).tolist() == [0, 0, 1, 2]
    chain = {
        "node_types": torch.full((1, 7), CARBON),
        "edge_index": torch.tensor([[[0, 1, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6]]]),
        "edge_types": torch.ones(1, 6, dtype=torch.long),
    }
    assert residual("connectedness", chain).tolist() == [0]
    chain["edge_types"][0, 3] = 0
    assert residual("connectedness", chain).tolist() == [1]


def test_directions():
    logits = torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0], [0.0, 0.0, 9.0]], requires_grad=True)
    inputs = {"direction_labels": torch.tensor([1, 2, -100])}
    found = residual("direction", inputs, {"direction_logits": logits})
    assert found.tolist() == pytest.approx([2 / 3, 1.0, 0.0], abs=1e-3)
    loss = CONSTRAINTS["direction"].loss(MODEL, inputs, {"direction_logits": logits})
    gradient = torch.autograd.grad(loss, logits)[0]
    expected = logits.detach()[:2].softmax(-1) - torch.eye(3)[[1, 2]]
    torch.testing.assert_close(gradient[:2], expected / 2)
    assert gradient[2].abs().sum() == 0


def test_flux_feasibility():
    pytest.importorskip("cobra", reason="the extra chem is not installed")
    exchanges = ("glc", "lac", "h", "h2o", "pi")
    gapped = small_network(leave_out=("ENO", "LDH"), exchanges=exchanges)
    added = {
        "ENO": NetworkReaction("ENO", stoichiometry("2pg", "h2o pep")),
        "LDH": NetworkReaction("LDH", stoichiometry("h nadh pyr", "lac nad")),
    }
    half = gapped.with_reactions([added["ENO"]])
    whole = gapped.with_reactions(added.values())
    inputs = {"networks": [half, whole], "added_reactions": [["ENO"], ["ENO", "LDH"]]}
    assert residual("flux_feasibility", inputs).tolist() == [1.0, 0.0]


def test_terms_are_switched_by_name():
    assert constraint_loss_terms({}) == []
    assert constraint_loss_terms({"direction": 0.0}) == []
    (term,) = constraint_loss_terms({"valence": 0.5})
    assert (term.name, term.weight_at(3)) == ("valence", 0.5)
    assert term.compute(MODEL, {}, {"violation": torch.tensor([1.0, 3.0])}).item() == 2.0
    with pytest.raises(RecipeError, match=r"constraints must be of element_balance, .*; got 'no_such'"):
        constraint_loss_terms({"no_such": 1.0})
    with pytest.raises(RecipeError, match=r"must have a gradient.*; got flux_feasibility"):
        constraint_loss_terms({"flux_feasibility": 1.0})
    with pytest.raises(ValueError, match="outputs must hold violation"):
        term.compute(MODEL, {}, {})
