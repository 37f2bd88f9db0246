"""Softmax attention written out; the oracle of the other kernels."""

import torch
from torch import nn


__all__ = ["eager_attention_forward"]


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attend.

    Args:
        module: Whose training mode says whether weights are dropped.
        query: Shape (B, H, T, D).
        key: As `query`.
        value: As `query`.
        attention_mask: Added to the scores, shape (B, H, T, T).
        scaling: Multiplies the scores.
        dropout: Probability of dropping an attention weight.

    Returns:
        Output, shape (B, T, H, D), and attention weights, shape (B, H, T, T).
    """
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    wide = torch.promote_types(query.dtype, torch.float32)
    weights = nn.functional.softmax(scores, dim=-1, dtype=wide).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights
