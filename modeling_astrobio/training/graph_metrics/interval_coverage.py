"""How often intervals hold the truth, and how wide they are."""

import math
from collections.abc import Sequence

import evaluate
import numpy as np
from datasets import Features, Value
from numpy.typing import ArrayLike

from modeling_astrobio.training.errors import DataError
from modeling_astrobio.training.graph_metrics.finite_numbers import finite_numbers


__all__ = ["IntervalCoverage", "interval_coverage"]


def interval_coverage(lower: ArrayLike, upper: ArrayLike, targets: ArrayLike) -> dict[str, float]:
    """Return how many targets lie within their intervals, ends included.

    Args:
        lower: Shape (N,).
        upper: Shape (N,), none below `lower`.
        targets: Shape (N,).

    Returns:
        `coverage`, 0 to 1, `coverage_standard_error`, of a binomial share, and `mean_interval_width`, in the unit of
        the targets.

    Raises:
        DataError: If lengths differ, a number is not finite, or an interval ends before it begins.
    """
    low, high = finite_numbers(lower, "lower"), finite_numbers(upper, "upper")
    target = finite_numbers(targets, "targets")
    if not len(low) == len(high) == len(target):
        raise DataError(
            f"lower, upper and targets must have one length; got {len(low)}, {len(high)} and {len(target)}."
        )
    if (high < low).any():
        place = int(np.argmax(high < low))
        raise DataError(f"upper must not be below lower; got {low[place]} to {high[place]} at {place}. Swap them.")
    coverage = float(((low <= target) & (target <= high)).mean())
    return {
        "coverage": coverage,
        "coverage_standard_error": math.sqrt(coverage * (1 - coverage) / len(target)),
        "mean_interval_width": float((high - low).mean()),
    }


class IntervalCoverage(evaluate.Metric):
    """Share of targets within their intervals, and the intervals' mean width."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "",
            citation="",
            inputs_description=self._compute.__doc__ or "",
            features=Features({column: Value("float64") for column in ("lower", "upper", "references")}),
        )

    def _compute(
        self, *, lower: Sequence[float], upper: Sequence[float], references: Sequence[float]
    ) -> dict[str, float]:
        """Compute from the ends `lower` and `upper` of intervals, and `references`."""
        return interval_coverage(lower, upper, references)
