"""Fit the prior of a trained graph VAE to the latents of molecules that it was trained on."""

import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from modeling_astrobio import AstroGraphVAEModel, AstroGraphVAEProcessor
from modeling_astrobio.graph_record import GraphRecord

from .errors import HardwareError


__all__ = ["fit_latent_prior", "load_mixture"]

_MOST_GRAPHS = 50_000
_ITERATIONS = 25
# Added to variances, so that a component of few latents has one in every direction.
_LEAST_VARIANCE = 1e-3


def load_mixture() -> tuple[type, type[Warning]]:
    """Return scikit-learn's mixture of Gaussians, and what it warns with where iterations were too few.

    A run calls it before it trains, so that what is missing shows then and not at its end.

    Raises:
        HardwareError: If scikit-learn is not installed.
    """
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
    except ImportError as error:
        raise HardwareError(
            "fitting the prior needs scikit-learn, which is not installed: pip install -c constraints.txt -e '.[chem]'"
        ) from error
    return GaussianMixture, ConvergenceWarning


@torch.no_grad()
def fit_latent_prior(
    model: AstroGraphVAEModel,
    processor: AstroGraphVAEProcessor,
    records: Sequence[GraphRecord],
    *,
    batch_size: int = 500,
    seed: int = 0,
) -> dict[str, Any]:
    """Fit the mixture by expectation-maximisation (scikit-learn) to one draw of the latents of each molecule.

    Args:
        model: In evaluation mode; its prior is changed in place.
        processor: Its processor.
        records: Training molecules; of more than 50,000, so many of them.
        batch_size: Molecules encoded at one time.
        seed: Of the choice, the draws and the start.

    Returns:
        `molecules`, `components` and `seconds`. There is at most a component for each `num_latent_tokens *
        latent_size` molecules, and with fewer than that the prior stays as it is, and `components` is 0.

    Raises:
        HardwareError: If scikit-learn is not installed.
    """
    mixture_class, unfinished = load_mixture()
    started = time.monotonic()
    prior = model.latent_prior
    assert prior is not None
    chosen = np.random.default_rng(seed).permutation(len(records))[:_MOST_GRAPHS]
    components = min(len(prior.means), len(chosen) // prior.means.shape[1])
    if components:
        # Graphs of like size share a batch.
        ordered = sorted((records[row] for row in chosen), key=lambda record: (record.size, len(record.edge_types)))
        noise = torch.randn(len(ordered), *prior.shape, generator=torch.Generator().manual_seed(seed))
        latents = []
        for start in range(0, len(ordered), batch_size):
            part = slice(start, start + batch_size)
            posterior = model.encode(**processor.pad(ordered[part]).to(model.device))
            latents.append(posterior.draw(noise[part].to(posterior.mean)).flatten(1).double().cpu())
        mixture = mixture_class(components, max_iter=_ITERATIONS, reg_covar=_LEAST_VARIANCE, random_state=seed)
        with warnings.catch_warnings():
            # More iterations change the samples little.
            warnings.simplefilter("ignore", unfinished)
            mixture.fit(torch.cat(latents).numpy())
        prior.set(*(torch.from_numpy(part) for part in (mixture.weights_, mixture.means_, mixture.covariances_)))
    return {"molecules": len(chosen), "components": components, "seconds": time.monotonic() - started}
