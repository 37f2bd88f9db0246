"""How far a total wanders along a roll-out."""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from modeling_astrobio.sphere_grid import area_mean
from modeling_astrobio.training.climate_metrics.field_metric import FieldMetric, checked_fields


__all__ = ["ConservationDrift", "conservation_drift"]


def conservation_drift(
    fields: ArrayLike | torch.Tensor, starts: ArrayLike | torch.Tensor, cell_weights: torch.Tensor
) -> torch.Tensor:
    """Return |area mean of a field / area mean of its start - 1|, shape (...), float64.

    Args:
        fields: Shape (..., Y, X).
        starts: As `fields`.
        cell_weights: Shape (Y, X), sum 1.

    Raises:
        DataError: If shapes differ or a value is not finite.
    """
    found, start = checked_fields(predictions=fields, references=starts)
    return (area_mean(found, cell_weights) / area_mean(start, cell_weights) - 1).abs()


class ConservationDrift(FieldMetric):
    """Greatest relative drift of an area mean; `references` are the initial fields."""

    def _measure(
        self, predictions: np.ndarray, references: np.ndarray, cell_weights: torch.Tensor, **others: Any
    ) -> dict[str, float]:
        return {"drift": conservation_drift(predictions, references, cell_weights).max().item()}
