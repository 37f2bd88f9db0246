"""Split-conformal intervals: prediction intervals that hold the truth as often as they say, whatever the model.

Of calibration examples that the model was not trained on, and that are exchangeable with those to come, the scores
|y - mean| / standard deviation say how far intervals must reach (Lei et al. 2018, arXiv:1604.04173).

Shape suffixes: N examples, P properties.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from .errors import DataError


__all__ = ["SplitConformal", "conformal_quantile"]


def conformal_quantile(scores: ArrayLike, coverage: float) -> float:
    """Return the ceil((n + 1) coverage)-th smallest of n scores.

    The score of a further example is not above it with a probability of at least `coverage`, and of at most
    `coverage` + 1 / (n + 1) where no scores are equal (Vovk, Gammerman and Shafer 2005).

    Args:
        scores: Shape (n,), finite.
        coverage: Above 0, below 1; taken as the decimal that it is printed as, so that 0.9 of 10 is 9 exactly.

    Raises:
        DataError: If the scores are not finite or too few, or the coverage is no share.
    """
    share = _share(coverage)
    score = np.asarray(scores, dtype=np.float64)
    if score.ndim != 1 or not np.isfinite(score).all():
        raise DataError(f"scores must be finite, with one axis; got shape {score.shape}. Leave unknown labels out.")
    rank = math.ceil((len(score) + 1) * share)
    if rank > len(score):
        raise DataError(
            f"a coverage of {coverage} needs at least {math.ceil(share / (1 - share))} calibration examples; got "
            f"{len(score)}. Give more, or ask for less."
        )
    return float(np.partition(score, rank - 1)[rank - 1])


def _share(coverage: float) -> Fraction:
    if not 0 < coverage < 1:
        raise DataError(f"coverage must be above 0 and below 1; got {coverage}.")
    return Fraction(repr(float(coverage)))


@dataclass(frozen=True)
class SplitConformal:
    """Intervals mean ± quantile * standard deviation, one quantile a property.

    Attributes:
        coverage: Share of the truths that the intervals hold.
        quantiles: Of the calibration scores, shape (P,).
        counts: Calibration examples of each property, those with a known label, shape (P,).
    """

    coverage: float
    quantiles: np.ndarray
    counts: np.ndarray

    @classmethod
    def fit(
        cls, means: ArrayLike, standard_deviations: ArrayLike, labels: ArrayLike, coverage: float = 0.9
    ) -> "SplitConformal":
        """Read the quantiles off calibration examples.

        Args:
            means: Shape (N, P).
            standard_deviations: Shape (N, P), above 0.
            labels: Shape (N, P); NaN is unknown, and counts for nothing.
            coverage: Above 0, below 1.

        Raises:
            DataError: If shapes differ, a prediction is not finite, a standard deviation is not above 0, or a
                property has too few known labels.
        """
        mean_NP, deviation_NP = _predictions(means, standard_deviations)
        label_NP = np.asarray(labels, dtype=np.float64)
        if label_NP.shape != mean_NP.shape:
            raise DataError(f"labels must have the shape of means, {mean_NP.shape}; got {label_NP.shape}.")
        if np.isinf(label_NP).any():
            raise DataError("labels must be finite, or NaN where unknown; got an infinite one. Mark it as NaN.")
        score_NP = np.abs(label_NP - mean_NP) / deviation_NP
        known = [column[~np.isnan(column)] for column in score_NP.T]
        quantiles = []
        for place, scores in enumerate(known):
            try:
                quantiles.append(conformal_quantile(scores, coverage))
            except DataError as error:
                raise DataError(f"property {place}: {error}") from error
        return cls(coverage, np.array(quantiles), np.array([len(scores) for scores in known]))

    def intervals(self, means: ArrayLike, standard_deviations: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Return lower and upper ends, each (N, P), in the label's units; arguments as of `fit`.

        Raises:
            DataError: If the number of properties is another, a prediction is not finite, or a standard deviation is
                not above 0.
        """
        mean_NP, deviation_NP = _predictions(means, standard_deviations)
        if mean_NP.shape[1] != len(self.quantiles):
            raise DataError(
                f"means must have {len(self.quantiles)} properties, those of the calibration; got {mean_NP.shape[1]}."
            )
        reach_NP = self.quantiles * deviation_NP
        return mean_NP - reach_NP, mean_NP + reach_NP


def _predictions(means: ArrayLike, standard_deviations: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    mean_NP = np.asarray(means, dtype=np.float64)
    deviation_NP = np.asarray(standard_deviations, dtype=np.float64)
    if mean_NP.ndim != 2 or mean_NP.shape != deviation_NP.shape:
        raise DataError(
            "means and standard_deviations must have one shape of two axes; got "
            f"{mean_NP.shape} and {deviation_NP.shape}."
        )
    if not (np.isfinite(mean_NP).all() and np.isfinite(deviation_NP).all()):
        raise DataError("means and standard_deviations must be finite; got NaN or infinity. Check the model.")
    if (deviation_NP <= 0).any():
        raise DataError(f"standard_deviations must be above 0; got {deviation_NP.min()}. Pass roots of variances.")
    return mean_NP, deviation_NP
