"""Constraints as terms of a training loss, and their residuals as numbers of a result."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from ..biochemical_constraints import CONSTRAINTS
from ..constraint_record import Constraint
from .errors import RecipeError
from .loss_terms import LossTerm


__all__ = ["constraint_loss_terms", "constraint_residuals"]


def constraint_loss_terms(
    weights: Mapping[str, float], constraints: Mapping[str, Constraint] = CONSTRAINTS
) -> list[LossTerm]:
    """Return the terms that a recipe names, with their weights; those of weight 0 are switched off.

    Args:
        weights: By the name of the constraint.
        constraints: Those there are: biochemical ones, or `climate_constraints.CLIMATE_CONSTRAINTS`.

    Raises:
        RecipeError: If a name is unknown, or its constraint has no gradient.
    """
    terms = []
    for name, weight in weights.items():
        _check_name(name, constraints)
        loss = constraints[name].loss
        if loss is None:
            able = ", ".join(key for key, each in constraints.items() if each.loss is not None)
            raise RecipeError(f"constraints must have a gradient, as {able} do; got {name}. Use its residual instead.")
        if weight:
            terms.append(LossTerm(name, loss, weight))
    return terms


def constraint_residuals(
    names: Iterable[str],
    model: nn.Module,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    constraints: Mapping[str, Constraint] = CONSTRAINTS,
) -> dict[str, dict[str, float]]:
    """Return, for each constraint, mean and greatest residual and the share of items that keep it.

    Raises:
        RecipeError: If a name is unknown.
    """
    found = {}
    for name in names:
        _check_name(name, constraints)
        residual = constraints[name].residual(model, inputs, outputs)
        found[name] = {
            "mean": residual.mean().item(),
            "greatest": residual.max().item(),
            "share_kept": (residual <= constraints[name].tolerance).double().mean().item(),
        }
    return found


def _check_name(name: str, constraints: Mapping[str, Constraint]) -> None:
    if name not in constraints:
        raise RecipeError(f"constraints must be of {', '.join(constraints)}; got {name!r}.")
