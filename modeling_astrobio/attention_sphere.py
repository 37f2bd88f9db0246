"""Attention of places on a sphere: in windows, along columns of levels, or of all to all.

Shape suffixes: B batch, C levels, Y rows, X columns, T tokens, H heads, D width.
"""

from collections.abc import Callable

import torch
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .attention_eager import eager_attention_forward
from .configuration_astro_datacube import AstroDatacubeConfig
from .rotary_sphere import SphereRotations


__all__ = ["SphereAttention"]


class SphereAttention(nn.Module):
    """Softmax attention of each token of a sequence to all, by the kernel of `attn_implementation`.

    Args:
        width: Of the tokens.
        num_heads: Number of heads.
        config: Says which kernel.
        is_rotated: Whether the tokens have places on the sphere.
    """

    def __init__(self, width: int, num_heads: int, config: AstroDatacubeConfig, is_rotated: bool = True):
        super().__init__()
        self.config = config
        self.head_dim = width // num_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = False
        # Turned, a bias of the keys attends to places whatever they hold; not turned, it changes nothing.
        self.qkv_proj = nn.Linear(width, 3 * width, bias=is_rotated)
        self.output_proj = nn.Linear(width, width)

    def forward(
        self, states: torch.Tensor, rotations: SphereRotations | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend.

        Args:
            states: Shape (B, T, D).
            rotations: Of the places of the tokens; T is a multiple of their number.

        Returns:
            Shape (B, T, D), and the weights, shape (B, H, T, T), of a kernel that has them.
        """
        heads = self.qkv_proj(states).unflatten(-1, (3, -1, self.head_dim))
        query, key, value = (part.transpose(1, 2) for part in heads.unbind(2))
        if rotations is not None:
            query, key = rotations.turn(query), rotations.turn(key)
        implementation = self.config._attn_implementation or "sdpa"
        attend: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
        attended, weights = attend(self, query, key, value, None, dropout=0.0, scaling=self.scaling)
        return self.output_proj(attended.flatten(2)), weights
