"""Normalisation of whole fields, which keeps what one place has more of than another."""

import torch
from torch import nn


__all__ = ["FieldNorm"]


class FieldNorm(nn.Module):
    """Subtract the mean, and divide by the standard deviation, of all channels at all places of a sample.

    A group norm of one group (Wu and He 2018, arXiv:1803.08494) with no weights. A layer norm would scale each place
    by itself, and how strong a wave is there would be lost.

    Args:
        eps: Added to the variance before the root.
    """

    def __init__(self, eps: float = 1e-5):
        super().__init__()
        self.eps = eps

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return states of the shape given, (B, ...), in their dtype; statistics are at least float32."""
        wide = states.to(torch.promote_types(states.dtype, torch.float32))
        variance, mean = torch.var_mean(wide, dim=tuple(range(1, states.ndim)), keepdim=True, correction=0)
        return ((wide - mean) * torch.rsqrt(variance + self.eps)).to(states.dtype)
