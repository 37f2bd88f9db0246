"""From any number of physical levels to a fixed number of latent ones, and back to any levels that are asked for.

A column's levels, and its surface, are pooled by learned queries (after Jaegle et al. 2021, arXiv:2103.03206); what a
level reads from the latent ones follows from where it lies. So that the network depends on no grid of levels.

Shape suffixes: B batch, L levels with the surface last, C latent levels, Y rows, X columns, D width, H heads.
"""

import math

import torch
from torch import nn

from .configuration_astro_datacube import AstroDatacubeConfig


__all__ = ["LevelEmbedding", "LevelPooling", "LevelReadout"]

_NUM_FREQUENCIES = 8


class LevelEmbedding(nn.Module):
    """Where levels lie: a vector from pressure over nominal surface pressure, and one for the surface."""

    def __init__(self, config: AstroDatacubeConfig):
        super().__init__()
        width = config.hidden_size
        self.surface = nn.Parameter(torch.zeros(width))
        self.has_levels = bool(config.level_variables)
        if self.has_levels:
            self.hidden_proj = nn.Linear(2 * _NUM_FREQUENCIES + 1, width)
            self.output_proj = nn.Linear(width, width)

    def forward(self, levels: torch.Tensor) -> torch.Tensor:
        """Return shape (B, L + 1, D), the surface last, of levels (B, L)."""
        surface = self.surface.expand(len(levels), 1, -1)
        if not self.has_levels:
            return surface
        dtype = self.hidden_proj.weight.dtype
        height = -levels.float().log()
        angles = (
            height[..., None] * (math.pi / 2) * 2.0 ** torch.arange(-2, _NUM_FREQUENCIES - 2, device=levels.device)
        )
        described = torch.cat((height[..., None], angles.sin(), angles.cos()), dim=-1).to(dtype)
        states = self.output_proj(nn.functional.silu(self.hidden_proj(described)))
        return torch.cat((states, surface), dim=1)


class LevelPooling(nn.Module):
    """Pool the levels of each column into latent levels."""

    def __init__(self, config: AstroDatacubeConfig):
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_attention_heads[0]
        # Of a query that is learned, the product with a key is a linear function of the key's level.
        # What is added to the scores of all levels alike changes nothing.
        has_choice, scores = bool(config.level_variables), self.num_heads * config.num_latent_levels
        self.score_proj = nn.Linear(width, scores, bias=False) if has_choice else None
        self.value_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)
        self.latent_levels = nn.Parameter(torch.zeros(config.num_latent_levels, width))

    def forward(self, states: torch.Tensor, is_present: torch.Tensor) -> torch.Tensor:
        """Return shape (B, C, Y, X, D).

        Args:
            states: Shape (B, L, Y, X, D).
            is_present: Which levels hold anything, bool, shape (B, L); the last one, the surface, always.
        """
        if self.score_proj is None:
            return self.output_proj(self.value_proj(states)) + self.latent_levels[:, None, None]
        scores = self.score_proj(states).unflatten(-1, (self.num_heads, -1))
        scores = scores.masked_fill(~is_present[:, :, None, None, None, None], torch.finfo(scores.dtype).min)
        values = self.value_proj(states).unflatten(-1, (self.num_heads, -1))
        pooled = torch.einsum("blyxhc,blyxhd->bcyxhd", scores.softmax(dim=1), values).flatten(-2)
        return self.output_proj(pooled) + self.latent_levels[:, None, None]


class LevelReadout(nn.Module):
    """Read the latent levels of each column at levels, and join what was read there to the input's own features."""

    def __init__(self, config: AstroDatacubeConfig):
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_attention_heads[0]
        self.value_proj = nn.Linear(width, width)
        self.has_choice = config.num_latent_levels > 1
        if self.has_choice:
            self.query_proj = nn.Linear(width, width)
            self.key_proj = nn.Linear(width, width, bias=False)
        self.fuse_proj = nn.Linear(2 * width, width)

    def forward(self, latents: torch.Tensor, embedding: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Return shape (B, L, Y, X, D).

        Args:
            latents: Shape (B, C, Y, X, D).
            embedding: Of the levels, shape (B, L, D).
            skip: Features of the input at the levels, shape (B, L, Y, X, D).
        """
        read = self.value_proj(latents)
        if self.has_choice:
            read = self._chosen(latents, read, embedding)
        else:
            read = read.expand(-1, embedding.shape[1], -1, -1, -1)
        return self.fuse_proj(torch.cat((read, skip), dim=-1)) + embedding[:, :, None, None]

    def _chosen(self, latents: torch.Tensor, values: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        heads = (self.num_heads, -1)
        query = self.query_proj(embedding).unflatten(-1, heads)
        key, value = (part.unflatten(-1, heads) for part in (self.key_proj(latents), values))
        scores = torch.einsum("blhd,bcyxhd->blyxhc", query, key) * key.shape[-1] ** -0.5
        return torch.einsum("blyxhc,bcyxhd->blyxhd", scores.softmax(dim=-1), value).flatten(-2)
