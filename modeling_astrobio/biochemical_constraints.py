"""Biochemical constraints: of each, a residual that is 0 where it is kept, and a loss where it has a gradient.

`CONSTRAINTS` maps names to them; a recipe switches each on by its name. Residuals read a batch and what a model said
of it; in float32 a balance that is exactly 0 in whole numbers (`constraint_balance`) comes out below the tolerance.

Shape suffixes: B graphs, N nodes, E edges, K conserved quantities, C compounds.
"""

import torch
from torch import nn

from .constraint_flux import flux_report
from .constraint_record import Constraint, needed
from .graph_features import EDGE_TYPES, FORMULA_ELEMENTS, NODE_FEATURES


__all__ = ["CONSTRAINTS", "Constraint"]

_CHARGE = NODE_FEATURES.index("signed_log_charge")
_NUM_ELEMENTS = len(FORMULA_ELEMENTS)
_SUBSTRATE = EDGE_TYPES.index("substrate")


def _element_residual(model, inputs, outputs) -> torch.Tensor:
    return _imbalance(model, inputs, slice(0, _NUM_ELEMENTS))


def _charge_residual(model, inputs, outputs) -> torch.Tensor:
    return _imbalance(model, inputs, slice(_CHARGE, _CHARGE + 1))


def _imbalance(model, inputs, kinds: slice) -> torch.Tensor:
    """Return the greatest absolute gain of a reaction of each graph, in float64, shape (B,).

    Reactions with one edge exchange with what is not modelled and are not judged, nor are those with a compound
    without formula.
    """
    compound_BE, reaction_BE = inputs["edge_index"].unbind(1)
    is_edge_BE = inputs["edge_types"] >= _SUBSTRATE
    logs_BE = inputs["edge_features"][..., 0].double()
    numbers_BE = logs_BE.sign() * logs_BE.abs().expm1() * is_edge_BE
    amounts_BNK = _amounts(inputs["node_features"], kinds)
    width = amounts_BNK.shape[-1]
    gains_BEK = numbers_BE[..., None] * amounts_BNK.gather(1, compound_BE[..., None].expand(-1, -1, width))
    zeros_BNK = torch.zeros_like(amounts_BNK)
    total_BNK = zeros_BNK.scatter_add(1, reaction_BE[..., None].expand(-1, -1, width), gains_BEK)
    has_no_formula_BN = inputs["node_features"][..., :_NUM_ELEMENTS].sum(-1) == 0
    unknown_BE = (has_no_formula_BN.gather(1, compound_BE) & is_edge_BE).double()
    zeros_BN = zeros_BNK[..., 0]
    edges_BN = zeros_BN.scatter_add(1, reaction_BE, is_edge_BE.double())
    unknown_BN = zeros_BN.scatter_add(1, reaction_BE, unknown_BE)
    is_judged = (inputs["node_types"] == model.config.reaction_type) & (edges_BN > 1) & (unknown_BN == 0)
    return (total_BNK.abs().amax(-1) * is_judged).amax(-1)


def _amounts(features: torch.Tensor, kinds: slice) -> torch.Tensor:
    """Return counts or charges, float64, of the logarithms in node features (..., F)."""
    logs = features[..., kinds].double()
    return logs.sign() * logs.abs().expm1()


def _element_loss(model, inputs, outputs) -> torch.Tensor:
    return _expected_imbalance(inputs, outputs, slice(0, _NUM_ELEMENTS))


def _charge_loss(model, inputs, outputs) -> torch.Tensor:
    return _expected_imbalance(inputs, outputs, slice(_CHARGE, _CHARGE + 1))


def _expected_imbalance(inputs, outputs, kinds: slice) -> torch.Tensor:
    """Return what the expected stoichiometry gains, as a share of what it turns over, mean of graphs and quantities.

    The compound that is known of a reaction, the substrate or product of the first node, is part of it.
    """
    expected_BC = needed(outputs, "expected_stoichiometry", "AstroGraphVAEForReactionCompletion with compounds")
    amounts_CK = _amounts(inputs["compound_features"], kinds).to(expected_BC.dtype)
    gains_BK, turnover_BK = expected_BC @ amounts_CK, expected_BC.abs() @ amounts_CK.abs()
    compound_BE, reaction_BE = inputs["edge_index"].unbind(1)
    is_known_BE = (reaction_BE == 0) & (inputs["edge_types"] >= _SUBSTRATE)
    logs_BE = inputs["edge_features"][..., 0].to(expected_BC.dtype)
    numbers_BE = logs_BE.sign() * logs_BE.abs().expm1() * is_known_BE
    amounts_BNK = _amounts(inputs["node_features"], kinds).to(expected_BC.dtype)
    known_BEK = amounts_BNK.gather(1, compound_BE[..., None].expand(-1, -1, amounts_BNK.shape[-1]))
    gains_BK = gains_BK + (numbers_BE[..., None] * known_BEK).sum(1)
    turnover_BK = turnover_BK + (numbers_BE[..., None] * known_BEK).abs().sum(1)
    return (gains_BK.abs() / (turnover_BK + 1.0)).mean()


def _valence_residual(model, inputs, outputs) -> torch.Tensor:
    """Return the bond orders of a molecule's atoms beyond their valences, summed, shape (B,)."""
    table = [0, *(kind[3] for kind in model.config.atom_types), 0, 0]
    valences = torch.tensor(table, dtype=torch.float32, device=inputs["node_types"].device)
    orders_BE = (inputs["edge_types"] * (inputs["edge_types"] < _SUBSTRATE)).to(valences.dtype)
    used_BN = valences.new_zeros(inputs["node_types"].shape)
    for ends_BE in inputs["edge_index"].unbind(1):
        used_BN = used_BN.scatter_add(1, ends_BE, orders_BE)
    is_atom = (inputs["node_types"] > 0) & (inputs["node_types"] <= len(model.config.atom_types))
    return ((used_BN - valences[inputs["node_types"]]).clamp(min=0) * is_atom).sum(-1)


def _connectedness_residual(model, inputs, outputs) -> torch.Tensor:
    """Return the pieces of a graph beyond the first, shape (B,)."""
    is_node_BN = inputs["node_types"] > 0
    nodes = is_node_BN.shape[1]
    joined_BNN = torch.eye(nodes, device=is_node_BN.device).repeat(len(is_node_BN), 1, 1)
    rows = torch.arange(len(is_node_BN), device=is_node_BN.device)[:, None].expand(inputs["edge_types"].shape)
    is_edge = inputs["edge_types"] > 0
    first, second = (ends[is_edge] for ends in inputs["edge_index"].unbind(1))
    joined_BNN[rows[is_edge], first, second] = 1.0
    joined_BNN[rows[is_edge], second, first] = 1.0
    # Squared, it reaches twice as far.
    for _ in range(max(1, nodes - 1).bit_length()):
        joined_BNN = (joined_BNN @ joined_BNN > 0).float()
    # A piece is counted at its first node.
    is_first_BN = joined_BNN.argmax(-1) == torch.arange(nodes, device=is_node_BN.device)
    return ((is_first_BN & is_node_BN).sum(-1) - 1).clamp(min=0).float()


def _violation_loss(model, inputs, outputs) -> torch.Tensor:
    return needed(outputs, "violation", "AstroGraphVAEModel with an autoregressive decoder").mean()


def _direction_residual(model, inputs, outputs) -> torch.Tensor:
    """Return the probability of directions that the bounds do not state, shape (B,); 0 where they state none."""
    labels = inputs["direction_labels"]
    shares = needed(outputs, "direction_logits", "AstroGraphVAEForReactionCompletion").softmax(-1)
    stated = shares.gather(1, labels.clamp(min=0)[:, None])[:, 0]
    return torch.where(labels >= 0, 1.0 - stated, torch.zeros_like(stated))


def _direction_loss(model, inputs, outputs) -> torch.Tensor:
    logits = needed(outputs, "direction_logits", "AstroGraphVAEForReactionCompletion")
    return nn.functional.cross_entropy(logits, inputs["direction_labels"], ignore_index=-100)


def _flux_residual(model, inputs, outputs) -> torch.Tensor:
    """Return the share of a network's added reactions that can carry no flux, shape (B,)."""
    shares = []
    for network, added in zip(inputs["networks"], inputs["added_reactions"], strict=True):
        report = flux_report(network, added)
        shares.append(sum(not report.carries(name) for name in added) / max(len(added), 1))
    return torch.tensor(shares, dtype=torch.float64)


CONSTRAINTS: dict[str, Constraint] = {
    "element_balance": Constraint(
        "Reactions gain no atoms; the greatest gain of an element, atoms. Loss: the gain that the expected "
        "stoichiometry of a new reaction has, as a share of its turnover.",
        _element_residual,
        _element_loss,
        tolerance=1e-3,
    ),
    "charge_balance": Constraint(
        "Reactions gain no charge; the greatest gain, elementary charges. Loss: as of the elements.",
        _charge_residual,
        _charge_loss,
        tolerance=1e-3,
    ),
    "valence": Constraint(
        "Bonds of an atom stay within its valence; bond orders beyond it, summed. Loss: nats of the decoder's "
        "unmasked probability that goes to actions that break valence or connectedness.",
        _valence_residual,
        _violation_loss,
    ),
    "connectedness": Constraint("A molecule is in one piece; further pieces.", _connectedness_residual),
    "direction": Constraint(
        "A reaction runs as the learned direction says; probability of the directions that the bounds do not state. "
        "Loss: its cross-entropy, nats.",
        _direction_residual,
        _direction_loss,
    ),
    "flux_feasibility": Constraint(
        "Reactions that are added to a network can carry flux; share of those that cannot.", _flux_residual
    ),
}
