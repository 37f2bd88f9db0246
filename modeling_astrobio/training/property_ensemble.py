"""One prediction of several models, with the variance between them."""

import numpy as np
from numpy.typing import ArrayLike

from .errors import DataError


__all__ = ["combine_gaussians"]


def combine_gaussians(means: ArrayLike, variances: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variance of an even mixture of Gaussians (Lakshminarayanan et al. 2017, arXiv:1612.01474).

    By the law of total variance, Var[y] = E[Var[y | m]] + Var[E[y | m]] over the members m.

    Args:
        means: Of each member, shape (members, N, P), in the label's units.
        variances: As `means`, squared units.

    Returns:
        Mean and variance, each (N, P).

    Raises:
        DataError: If shapes differ, there is no member, or a number is not finite.
    """
    mean, variance = np.asarray(means, dtype=np.float64), np.asarray(variances, dtype=np.float64)
    if mean.ndim != 3 or mean.shape != variance.shape or not len(mean):
        raise DataError(
            "means and variances must have one shape (members, N, P) with at least one member; got "
            f"{mean.shape} and {variance.shape}."
        )
    if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
        raise DataError("means and variances must be finite; got NaN or infinity. Leave the broken member out.")
    return mean.mean(axis=0), variance.mean(axis=0) + mean.var(axis=0)
