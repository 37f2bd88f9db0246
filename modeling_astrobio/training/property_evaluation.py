"""How good predicted means and variances are: errors, calibration, and coverage of intervals, property by property."""

import statistics
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from .conformal import SplitConformal
from .errors import DataError
from .graph_metrics.gaussian_calibration import gaussian_calibration_error
from .graph_metrics.interval_coverage import interval_coverage


__all__ = ["evaluate_properties"]


def evaluate_properties(
    names: Sequence[str], means: ArrayLike, variances: ArrayLike, labels: ArrayLike, conformal: SplitConformal
) -> dict[str, dict[str, float]]:
    """Judge predictions where the label is known.

    Args:
        names: Of the properties, P.
        means: Shape (N, P), in the label's units.
        variances: Shape (N, P), above 0.
        labels: Shape (N, P); NaN is unknown.
        conformal: Calibrated on other examples.

    Returns:
        For each property: `count` of known labels; `mean_absolute_error` and `root_mean_square_error`, in its unit;
        `r2`, 1 - squared error / variance of the labels (NaN if they are all alike); `calibration_error` of
        `gaussian_calibration_error`; `conformal_coverage`, `conformal_standard_error`, `conformal_width`; and
        `gaussian_coverage`, `gaussian_width` of the intervals that trust the predicted variance.

    Raises:
        DataError: If shapes differ or a property has no known label.
    """
    mean, variance = np.asarray(means, dtype=np.float64), np.asarray(variances, dtype=np.float64)
    label = np.asarray(labels, dtype=np.float64)
    if not mean.shape == variance.shape == label.shape or mean.ndim != 2 or mean.shape[1] != len(names):
        raise DataError(
            f"means, variances and labels must have one shape (N, {len(names)}); got {mean.shape}, {variance.shape} "
            f"and {label.shape}."
        )
    deviation = np.sqrt(variance)
    lower, upper = conformal.intervals(mean, deviation)
    reach = statistics.NormalDist().inv_cdf(0.5 + conformal.coverage / 2)
    found = {}
    for place, name in enumerate(names):
        known = ~np.isnan(label[:, place])
        if not known.any():
            raise DataError(f"{name} must have at least one known label; got none. Leave it out.")
        truth, guess, spread = (table[known, place] for table in (label, mean, deviation))
        square_error = np.square(truth - guess).mean()
        held = interval_coverage(lower[known, place], upper[known, place], truth)
        trusted = interval_coverage(guess - reach * spread, guess + reach * spread, truth)
        found[name] = {
            "count": int(known.sum()),
            "mean_absolute_error": float(np.abs(truth - guess).mean()),
            "root_mean_square_error": float(np.sqrt(square_error)),
            "r2": float(1 - square_error / truth.var()) if truth.var() else float("nan"),
            "calibration_error": gaussian_calibration_error(guess, spread, truth),
            "conformal_coverage": held["coverage"],
            "conformal_standard_error": held["coverage_standard_error"],
            "conformal_width": held["mean_interval_width"],
            "gaussian_coverage": trusted["coverage"],
            "gaussian_width": trusted["mean_interval_width"],
        }
    return found
