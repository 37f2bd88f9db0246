"""What the metrics of climate fields have in common as `evaluate` modules."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Features, List, Value
from numpy.typing import ArrayLike

from modeling_astrobio.sphere_grid import sphere_grid
from modeling_astrobio.training.errors import DataError


try:
    import evaluate
except ImportError as error:
    raise ImportError(
        "metrics of climates need the package evaluate: pip install 'modeling_astrobio[climate]'."
    ) from error


__all__ = ["FieldMetric", "checked_fields"]


def checked_fields(**fields: ArrayLike | torch.Tensor) -> list[torch.Tensor]:
    """Return fields as float64 tensors.

    Raises:
        DataError: If shapes differ, there is no cell, or a value of a prediction is not finite where one is wanted.
    """
    found = {name: torch.as_tensor(np.asarray(value), dtype=torch.float64) for name, value in fields.items()}
    first = next(iter(found.values()))
    for name, value in found.items():
        if value.shape != first.shape or value.ndim < 2 or not value.numel():
            shapes = ", ".join(f"{key} {tuple(each.shape)}" for key, each in found.items())
            raise DataError(f"{name} must have the axes of the others, (..., latitude, longitude); got {shapes}.")
        if not bool(value.isfinite().all()):
            raise DataError(f"{name} must be finite; it holds NaN or infinite values. Leave out what is missing.")
    return list(found.values())


# `evaluate.load` takes the first class of a file that is not abstract.
class FieldMetric(evaluate.Metric, ABC):
    """A metric of fields on a grid, each a list of rows from one pole to the other."""

    _cited = ""
    _is_ensemble = False

    def _info(self) -> evaluate.MetricInfo:
        field = List(List(Value("float64")))
        prediction = List(field) if self._is_ensemble else field
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "",
            citation=self._cited,
            inputs_description=self._compute.__doc__ or "",
            features=Features({"predictions": prediction, "references": field}),
        )

    @abstractmethod
    def _measure(
        self, predictions: np.ndarray, references: np.ndarray, cell_weights: torch.Tensor, **others: Any
    ) -> dict[str, float]:
        """Return the values by name."""

    def _compute(
        self,
        *,
        predictions: Sequence[Any],
        references: Sequence[Any],
        latitude_deg: Sequence[float],
        longitude_deg: Sequence[float],
        **others: Any,
    ) -> dict[str, float]:
        """Compute from `predictions` and `references`, fields (Y, X), on `latitude_deg` (Y,), `longitude_deg` (X,)."""
        grid = sphere_grid(torch.tensor(latitude_deg), torch.tensor(longitude_deg))
        return self._measure(np.asarray(predictions), np.asarray(references), grid.cell_weights, **others)
