"""Negative log-likelihood of Gaussians where the label is known."""

import math

import torch


__all__ = ["gaussian_loss"]


def gaussian_loss(mean: torch.Tensor, variance: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return (log(2 pi variance) + (label - mean)^2 / variance) / 2, the mean over known labels, in nats.

    Computed in at least float32. Without a known label it is zero, and so are its gradients (Nix and Weigend 1994).

    Args:
        mean: Shape (B, P).
        variance: Shape (B, P), above 0.
        labels: Shape (B, P); NaN is unknown.
    """
    wide = torch.promote_types(torch.promote_types(mean.dtype, labels.dtype), torch.float32)
    mean, variance, labels = mean.to(wide), variance.to(wide), labels.to(wide)
    known = ~labels.isnan()
    # A NaN in the branch that is not taken would still reach the gradients.
    error = torch.where(known, labels, 0.0) - mean
    nats = 0.5 * (math.log(2 * math.pi) + variance.log() + error.square() / variance)
    return torch.where(known, nats, 0.0).sum() / known.sum().clamp(min=1)
