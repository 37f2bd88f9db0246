"""Whether the quantiles of Gaussian predictions hold as often as they say."""

from collections.abc import Sequence

import evaluate
import numpy as np
import torch
from datasets import Features, Value
from numpy.typing import ArrayLike

from modeling_astrobio.training.errors import DataError
from modeling_astrobio.training.graph_metrics.finite_numbers import finite_numbers


__all__ = ["GaussianCalibration", "gaussian_calibration_error"]

_LEVELS = np.arange(1, 20) / 20


def gaussian_calibration_error(means: ArrayLike, standard_deviations: ArrayLike, targets: ArrayLike) -> float:
    """Return |share of targets below a predicted quantile - its level|, mean over the levels 0.05 to 0.95.

    Quantile calibration after Kuleshov, Fenner and Ermon, ICML 2018, with the absolute difference in place of the
    squared one. 0 is best; a point mass far from the targets has about 0.5.

    Args:
        means: Shape (N,).
        standard_deviations: Shape (N,), above 0.
        targets: Shape (N,).

    Raises:
        DataError: If lengths differ, a number is not finite, or a standard deviation is not above 0.
    """
    mean = finite_numbers(means, "means")
    deviation = finite_numbers(standard_deviations, "standard_deviations")
    target = finite_numbers(targets, "targets")
    if not len(mean) == len(deviation) == len(target):
        raise DataError(
            "means, standard_deviations and targets must have one length; got "
            f"{len(mean)}, {len(deviation)} and {len(target)}."
        )
    if (deviation <= 0).any():
        place = int(np.argmax(deviation <= 0))
        raise DataError(f"standard_deviations must be above 0; got {deviation[place]} at {place}.")
    levels = torch.special.ndtr(torch.from_numpy((target - mean) / deviation)).numpy()
    observed = (levels[:, None] <= _LEVELS).mean(axis=0)
    return float(np.abs(observed - _LEVELS).mean())


class GaussianCalibration(evaluate.Metric):
    """Mean difference between the level of a predicted quantile and how often targets lie below it."""

    def _info(self) -> evaluate.MetricInfo:
        columns = ("predictions", "standard_deviations", "references")
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "",
            citation="Kuleshov, Fenner and Ermon, Accurate Uncertainties for Deep Learning Using Calibrated "
            "Regression, ICML 2018",
            inputs_description=self._compute.__doc__ or "",
            features=Features({column: Value("float64") for column in columns}),
        )

    def _compute(
        self, *, predictions: Sequence[float], standard_deviations: Sequence[float], references: Sequence[float]
    ) -> dict[str, float]:
        """Compute from `predictions`, the means, their `standard_deviations`, and `references`."""
        return {"calibration_error": gaussian_calibration_error(predictions, standard_deviations, references)}
