"""Biochemical constraints as terms of a training loss, and their residuals as numbers of a result."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from ..biochemical_constraints import CONSTRAINTS
from .errors import RecipeError
from .loss_terms import LossTerm


__all__ = ["constraint_loss_terms", "constraint_residuals"]


def constraint_loss_terms(weights: Mapping[str, float]) -> list[LossTerm]:
    """Return the terms that a recipe names, with their weights; those of weight 0 are switched off.

    Raises:
        RecipeError: If a name is unknown, or its constraint has no gradient.
    """
    terms = []
    for name, weight in weights.items():
        _check_name(name)
        loss = CONSTRAINTS[name].loss
        if loss is None:
            able = ", ".join(key for key, each in CONSTRAINTS.items() if each.loss is not None)
            raise RecipeError(f"constraints must have a gradient, as {able} do; got {name}. Use its residual instead.")
        if weight:
            terms.append(LossTerm(name, loss, weight))
    return terms


def constraint_residuals(
    names: Iterable[str], model: nn.Module, inputs: Mapping[str, Any], outputs: Mapping[str, Any]
) -> dict[str, dict[str, float]]:
    """Return, for each constraint, mean and greatest residual and the share of items that keep it.

    Raises:
        RecipeError: If a name is unknown.
    """
    found = {}
    for name in names:
        _check_name(name)
        residual = CONSTRAINTS[name].residual(model, inputs, outputs)
        found[name] = {
            "mean": residual.mean().item(),
            "greatest": residual.max().item(),
            "share_kept": (residual <= CONSTRAINTS[name].tolerance).double().mean().item(),
        }
    return found


def _check_name(name: str) -> None:
    if name not in CONSTRAINTS:
        raise RecipeError(f"constraints must be of {', '.join(CONSTRAINTS)}; got {name!r}.")
