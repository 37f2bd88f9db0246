"""How many units of the latents carry something of the input."""

from collections.abc import Sequence

import evaluate
import numpy as np
from datasets import Features, List, Value
from numpy.typing import ArrayLike

from modeling_astrobio.training.errors import DataError
from modeling_astrobio.training.graph_metrics.finite_numbers import finite_numbers


__all__ = ["ActiveUnits", "active_units"]

_LEAST_VARIANCE = 0.01


def active_units(posterior_means: ArrayLike) -> dict[str, float]:
    """Return how many units have a posterior mean that varies by more than 0.01 over the inputs.

    Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, ICLR 2016.

    Args:
        posterior_means: Shape (N, D): of each input, its latent tokens one after the other.

    Returns:
        `active_units`, their number, and `active_unit_share`, 0 to 1.

    Raises:
        DataError: If there are fewer than two inputs, or a number is not finite.
    """
    means = finite_numbers(posterior_means, "posterior_means", axes=2)
    if len(means) < 2:
        raise DataError("posterior_means must have at least 2 rows; got 1. Encode more molecules.")
    active = means.var(axis=0) > _LEAST_VARIANCE
    return {"active_units": int(np.count_nonzero(active)), "active_unit_share": float(active.mean())}


class ActiveUnits(evaluate.Metric):
    """Units of the latents whose posterior mean varies by more than 0.01 over the inputs."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "",
            citation="Burda, Grosse and Salakhutdinov, Importance Weighted Autoencoders, ICLR 2016",
            inputs_description=self._compute.__doc__ or "",
            features=Features({"predictions": List(Value("float64"))}),
        )

    def _compute(self, *, predictions: Sequence[Sequence[float]]) -> dict[str, float]:
        """Compute from `predictions`, the posterior means of each input, flat."""
        return active_units(predictions)
