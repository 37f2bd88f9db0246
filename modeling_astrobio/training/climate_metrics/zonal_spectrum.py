"""How much of a field's variance each zonal wavenumber holds."""

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from modeling_astrobio.training.climate_metrics.field_metric import FieldMetric, checked_fields


__all__ = ["ZonalSpectrum", "zonal_spectrum"]


def zonal_spectrum(fields: ArrayLike | torch.Tensor, row_weights: torch.Tensor) -> torch.Tensor:
    """Return the variance of each zonal wavenumber from 0, mean over latitudes by area, shape (..., X // 2 + 1).

    They add up to the area mean of the square (Parseval).

    Args:
        fields: Shape (..., Y, X).
        row_weights: Share of the area that each row has, shape (Y,), sum 1.

    Raises:
        DataError: If a value is not finite.
    """
    (values,) = checked_fields(fields=fields)
    columns = values.shape[-1]
    power = (torch.fft.rfft(values) / columns).abs().square()
    factor = torch.full((power.shape[-1],), 2.0, dtype=torch.float64)
    factor[0] = 1.0
    if columns % 2 == 0:
        factor[-1] = 1.0
    return (power * factor * row_weights.double()[:, None]).sum(-2)


class ZonalSpectrum(FieldMetric):
    """Mean absolute logarithm of the ratio of predicted to true variance, over zonal wavenumbers from 1."""

    def _measure(
        self, predictions: np.ndarray, references: np.ndarray, cell_weights: torch.Tensor, **others: Any
    ) -> dict[str, float]:
        rows = cell_weights.sum(1)
        predicted, truth = (zonal_spectrum(each, rows).mean(0)[1:] for each in (predictions, references))
        return {"log_spectral_distance": (predicted / truth).log().abs().mean().item()}
