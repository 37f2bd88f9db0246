"""What a constraint of a model's outputs is: a residual, and a loss where it has a gradient."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


__all__ = ["Compute", "Constraint", "needed"]

Compute = Callable[[nn.Module, Mapping[str, Any], Mapping[str, Any]], torch.Tensor]


@dataclass(frozen=True)
class Constraint:
    """A constraint.

    Attributes:
        description: What it demands, and the unit of its residual.
        residual: Takes model, inputs and outputs; returns how far each item is from it, shape (B,), 0 or more.
        loss: Takes the same; returns a scalar with a gradient, the mean of the batch. `None` if there is none.
        tolerance: Residuals up to here are rounding.
    """

    description: str
    residual: Compute
    loss: Compute | None = None
    tolerance: float = 0.0


def needed(values: Mapping[str, Any], name: str, source: str, where: str = "outputs") -> Any:
    """Return a value of a mapping.

    Raises:
        ValueError: If it is missing; names where it comes from.
    """
    value = values.get(name)
    if value is None:
        raise ValueError(f"{where} must hold {name}, as {source} gives it; it is missing. Switch the constraint off.")
    return value
