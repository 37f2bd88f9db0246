"""Correlation of predicted and true departures from a climatology."""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from modeling_astrobio.sphere_grid import area_mean
from modeling_astrobio.training.climate_metrics.field_metric import FieldMetric, checked_fields
from modeling_astrobio.training.errors import DataError


__all__ = ["AnomalyCorrelation", "anomaly_correlation"]


def anomaly_correlation(
    predictions: ArrayLike | torch.Tensor,
    references: ArrayLike | torch.Tensor,
    climatology: ArrayLike | torch.Tensor,
    cell_weights: torch.Tensor,
) -> torch.Tensor:
    """Return the uncentred anomaly correlation of each field, shape (...), float64.

    The sum over area of f' a' over the root of that of f'^2 times that of a'^2 (Wilks 2019, Statistical Methods in the
    Atmospheric Sciences, eq. 9.94).

    Args:
        predictions: Shape (..., Y, X).
        references: As `predictions`.
        climatology: As `predictions`, or of axes that broadcast with it.
        cell_weights: Shape (Y, X), sum 1.

    Raises:
        DataError: If shapes differ, a value is not finite, or a field is its climatology everywhere.
    """
    predicted, truth = checked_fields(predictions=predictions, references=references)
    mean = torch.as_tensor(np.asarray(climatology), dtype=torch.float64)
    forecast, actual = predicted - mean, truth - mean
    products = [
        area_mean(a * b, cell_weights) for a, b in ((forecast, actual), (forecast, forecast), (actual, actual))
    ]
    scale = (products[1] * products[2]).sqrt()
    if not bool((scale > 0).all()):
        raise DataError("predictions and references must differ from climatology somewhere; one is equal to it.")
    return products[0] / scale


class AnomalyCorrelation(FieldMetric):
    """Anomaly correlation coefficient over area, mean of the fields."""

    _cited = "Wilks, Statistical Methods in the Atmospheric Sciences (2019)"

    def _measure(
        self, predictions: np.ndarray, references: np.ndarray, cell_weights: torch.Tensor, **others: Any
    ) -> dict[str, float]:
        found = anomaly_correlation(predictions, references, np.asarray(others["climatology"]), cell_weights)
        return {"anomaly_correlation": found.mean().item()}
