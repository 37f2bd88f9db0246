"""Blocks of the trunk: convolutions, windows with columns, all to all; and steps between grids.

All take states of shape (B, C, Y, X, D) and the condition (B, E).

Shape suffixes: B batch, C latent levels, Y rows, X columns, D width, E width of the condition.
"""

from typing import NamedTuple

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention_sphere import SphereAttention
from .configuration_astro_datacube import AstroDatacubeConfig
from .datacube_conditioning import AdaptiveNorm
from .rotary_sphere import SphereRotations
from .sphere_windows import SphereWindows, continue_around


__all__ = ["ConvolutionBlock", "GlobalBlock", "GridMerging", "GridSplitting", "ScaleGeometry", "WindowBlock"]


class ScaleGeometry(NamedTuple):
    """The grid of a scale.

    Attributes:
        windows: How it is cut by blocks of even number, and by those of odd number.
        in_window: Rotations of the places of a window.
        in_grid: Rotations of the places of the whole grid.
    """

    windows: tuple[SphereWindows, SphereWindows]
    in_window: SphereRotations
    in_grid: SphereRotations


class CubeMLP(nn.Module):
    """Feed-forward block with a GELU (Hendrycks and Gimpel 2016, arXiv:1606.08415)."""

    def __init__(self, width: int, config: AstroDatacubeConfig):
        super().__init__()
        inner = round(width * config.mlp_ratio)
        self.up_proj = nn.Linear(width, inner)
        self.down_proj = nn.Linear(inner, width)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.down_proj(nn.functional.gelu(self.up_proj(states)))


class CubeConvolution(nn.Module):
    """Feed-forward block whose first half sees the neighbours too, round the globe and across the poles.

    A dense convolution, a GELU and a linear map, after Tan and Le 2021 (arXiv:2104.00298).
    """

    def __init__(self, width: int, config: AstroDatacubeConfig):
        super().__init__()
        inner = round(width * config.conv_ratio)
        self.reach = config.conv_kernel_size // 2
        self.up_conv = nn.Conv2d(width, inner, config.conv_kernel_size)
        self.down_proj = nn.Linear(inner, width)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        padded = continue_around(states, self.reach)
        # Channels last already, as a convolution of depth one likes them best.
        hidden = self.up_conv(padded.flatten(0, 1).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.down_proj(nn.functional.gelu(hidden)).view(states.shape)


class ConvolutionBlock(GradientCheckpointingLayer):
    """A convolution over each level."""

    def __init__(self, width: int, config: AstroDatacubeConfig):
        super().__init__()
        self.conv_norm = AdaptiveNorm(width, config, is_of_field=True)
        self.conv = CubeConvolution(width, config)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, states: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        normed, gate = self.conv_norm(states, condition)
        return states + self.dropout(gate * self.conv(normed))


class WindowBlock(GradientCheckpointingLayer):
    """Attention in windows of each level, attention along each column of levels, and a convolution."""

    def __init__(self, width: int, num_heads: int, config: AstroDatacubeConfig, is_shifted: bool):
        super().__init__()
        self.is_shifted = is_shifted
        self.window_norm = AdaptiveNorm(width, config)
        self.window_attn = SphereAttention(width, num_heads, config)
        self.has_columns = config.num_latent_levels > 1
        if self.has_columns:
            self.column_norm = AdaptiveNorm(width, config)
            self.column_attn = SphereAttention(width, num_heads, config, is_rotated=False)
        self.conv_norm = AdaptiveNorm(width, config, is_of_field=True)
        self.conv = CubeConvolution(width, config)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, states: torch.Tensor, condition: torch.Tensor, geometry: ScaleGeometry) -> torch.Tensor:
        windows = geometry.windows[self.is_shifted]
        normed, gate = self.window_norm(states, condition)
        attended, _ = self.window_attn(windows.split(normed), geometry.in_window)
        states = states + self.dropout(gate * windows.merge(attended, states.shape))

        if self.has_columns:
            normed, gate = self.column_norm(states, condition)
            batch, levels, rows, columns, width = states.shape
            attended, _ = self.column_attn(normed.permute(0, 2, 3, 1, 4).reshape(-1, levels, width))
            attended = attended.view(batch, rows, columns, levels, width).permute(0, 3, 1, 2, 4)
            states = states + self.dropout(gate * attended)

        normed, gate = self.conv_norm(states, condition)
        return states + self.dropout(gate * self.conv(normed))


class GlobalBlock(GradientCheckpointingLayer):
    """Transformer block over all places of all latent levels (Dosovitskiy et al. 2021, arXiv:2010.11929)."""

    def __init__(self, width: int, num_heads: int, config: AstroDatacubeConfig):
        super().__init__()
        self.attention_norm = AdaptiveNorm(width, config)
        self.self_attn = SphereAttention(width, num_heads, config)
        self.mlp_norm = AdaptiveNorm(width, config)
        self.mlp = CubeMLP(width, config)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, states: torch.Tensor, condition: torch.Tensor, geometry: ScaleGeometry) -> torch.Tensor:
        normed, gate = self.attention_norm(states, condition)
        attended, _ = self.self_attn(normed.flatten(1, 3), geometry.in_grid)
        states = states + self.dropout(gate * attended.view(states.shape))
        normed, gate = self.mlp_norm(states, condition)
        return states + self.dropout(gate * self.mlp(normed))


class GridMerging(nn.Module):
    """Two by two places become one (Liu et al. 2021, arXiv:2103.14030)."""

    def __init__(self, width: int, coarse_width: int, config: AstroDatacubeConfig):
        super().__init__()
        self.proj = nn.Linear(4 * width, coarse_width)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return shape (B, C, Y / 2, X / 2, D')."""
        batch, levels, rows, columns, width = states.shape
        cut = states.view(batch, levels, rows // 2, 2, columns // 2, 2, width).transpose(3, 4)
        return self.proj(cut.reshape(batch, levels, rows // 2, columns // 2, 4 * width))


class GridSplitting(nn.Module):
    """One place becomes two by two, joined to what the finer grid held on the way down (Ronneberger et al. 2015)."""

    def __init__(self, coarse_width: int, width: int, config: AstroDatacubeConfig):
        super().__init__()
        self.proj = nn.Linear(coarse_width, 4 * width)
        self.fuse_proj = nn.Linear(2 * width, width)

    def forward(self, states: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Return the shape of `skip`, (B, C, 2 Y, 2 X, D'), of states (B, C, Y, X, D)."""
        batch, levels, rows, columns, _ = states.shape
        cut = self.proj(states).view(batch, levels, rows, columns, 2, 2, -1).transpose(3, 4)
        joined = torch.cat((cut.reshape(skip.shape), skip), dim=-1)
        return skip + self.fuse_proj(joined)
