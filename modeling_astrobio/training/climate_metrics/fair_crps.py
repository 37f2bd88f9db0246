"""Continuous ranked probability score of an ensemble, without a bias by its size; and its spread beside its error."""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from modeling_astrobio.sphere_grid import area_mean
from modeling_astrobio.training.climate_metrics.field_metric import FieldMetric, checked_fields
from modeling_astrobio.training.errors import DataError


__all__ = ["FairCRPS", "fair_crps", "spread_skill_ratio"]


def _members(ensemble: ArrayLike | torch.Tensor, references: ArrayLike | torch.Tensor, least: int):
    members = torch.as_tensor(np.asarray(ensemble), dtype=torch.float64)
    if members.ndim < 3 or members.shape[0] < least:
        raise DataError(
            f"predictions must be an ensemble of at least {least} members, the first axis; got {tuple(members.shape)}."
        )
    truth = torch.as_tensor(np.asarray(references), dtype=torch.float64)
    checked_fields(predictions=members[0], references=truth)
    checked_fields(predictions=members)
    return members, truth


def fair_crps(
    ensemble: ArrayLike | torch.Tensor, references: ArrayLike | torch.Tensor, cell_weights: torch.Tensor
) -> torch.Tensor:
    """Return the area mean of the fair score of each field, shape (...), float64, in the fields' unit.

    Mean of |x_i - y| less half the mean of |x_i - x_j| over pairs of different members (Ferro 2014,
    doi:10.1002/qj.2270): its mean does not depend on the number of members M.

    Args:
        ensemble: Shape (M, ..., Y, X), M at least 2.
        references: Shape (..., Y, X).
        cell_weights: Shape (Y, X), sum 1.

    Raises:
        DataError: If shapes do not fit, there are fewer than two members, or a value is not finite.
    """
    members, truth = _members(ensemble, references, 2)
    number = len(members)
    # Of sorted members, the sum of all differences is a weighted sum.
    ordered = members.sort(0).values
    ranks = torch.arange(1, number + 1, dtype=torch.float64).view(-1, *(1,) * truth.ndim)
    differences = (ordered * (2 * ranks - number - 1)).sum(0) * 2 / (number * (number - 1))
    return area_mean((members - truth).abs().mean(0) - differences / 2, cell_weights)


def spread_skill_ratio(
    ensemble: ArrayLike | torch.Tensor, references: ArrayLike | torch.Tensor, cell_weights: torch.Tensor
) -> float:
    """Return spread over error of the ensemble mean, over area and all fields; 1 is right.

    Root of the mean variance of the members, times the root of (M + 1) / M, over the root mean square error of their
    mean (Fortin et al. 2014, doi:10.1175/JHM-D-14-0008.1).

    Args:
        ensemble: Shape (M, ..., Y, X), M at least 2.
        references: Shape (..., Y, X).
        cell_weights: Shape (Y, X), sum 1.

    Raises:
        DataError: As `fair_crps`.
    """
    members, truth = _members(ensemble, references, 2)
    number = len(members)
    variance = area_mean(members.var(0), cell_weights).mean()
    error = area_mean((members.mean(0) - truth).square(), cell_weights).mean()
    return float(((number + 1) / number * variance / error).sqrt())


class FairCRPS(FieldMetric):
    """Fair continuous ranked probability score over area, mean of the fields, and the ratio of spread to error."""

    _cited = "Ferro, Fair scores for ensemble forecasts, Q. J. R. Meteorol. Soc. 140 (2014)"
    _is_ensemble = True

    def _measure(
        self, predictions: np.ndarray, references: np.ndarray, cell_weights: torch.Tensor, **others: Any
    ) -> dict[str, float]:
        # A prediction is the members of one field.
        members = np.moveaxis(predictions, 1, 0)
        return {
            "fair_crps": fair_crps(members, references, cell_weights).mean().item(),
            "spread_skill_ratio": spread_skill_ratio(members, references, cell_weights),
        }
