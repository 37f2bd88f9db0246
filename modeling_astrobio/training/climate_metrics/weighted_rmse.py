"""Root mean square error over the area of a sphere."""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from modeling_astrobio.sphere_grid import area_mean
from modeling_astrobio.training.climate_metrics.field_metric import FieldMetric, checked_fields


__all__ = ["WeightedRMSE", "weighted_rmse"]


def weighted_rmse(
    predictions: ArrayLike | torch.Tensor, references: ArrayLike | torch.Tensor, cell_weights: torch.Tensor
) -> torch.Tensor:
    """Return the root of the area mean of the squared error of each field, shape (...), float64.

    WeatherBench (Rasp et al. 2020, doi:10.1029/2020MS002203) takes this root of each forecast, and then the mean.

    Args:
        predictions: Shape (..., Y, X).
        references: As `predictions`.
        cell_weights: Shape (Y, X), sum 1.

    Raises:
        DataError: If shapes differ or a value is not finite.
    """
    predicted, truth = checked_fields(predictions=predictions, references=references)
    return area_mean((predicted - truth).square(), cell_weights).sqrt()


class WeightedRMSE(FieldMetric):
    """Root mean square error over area, mean of the fields."""

    _cited = "Rasp et al., WeatherBench, J. Adv. Model. Earth Syst. 12 (2020)"

    def _measure(
        self, predictions: np.ndarray, references: np.ndarray, cell_weights: torch.Tensor, **others: Any
    ) -> dict[str, float]:
        return {"rmse": weighted_rmse(predictions, references, cell_weights).mean().item()}
