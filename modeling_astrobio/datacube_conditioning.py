"""What is known of a planet, the lead time and the noise, as a vector that shifts, scales and gates every block.

Shape suffixes: B batch, P parameters, E width of the condition, D width of the tokens.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import nn

from .configuration_astro_datacube import AstroDatacubeConfig
from .datacube_statistics import described_planet
from .norm_field import FieldNorm


__all__ = ["AdaptiveNorm", "CubeConditioning"]

_NUM_FREQUENCIES = 16
# To numbers of the order of one to ten.
_SCALES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "lead_time_s": torch.log1p,
    "noise_level": lambda level: 2 * math.pi * level,
}


def _waves(values: torch.Tensor) -> torch.Tensor:
    """Return sines and cosines of numbers of the order of one, shape (B, 2 * frequencies), float32."""
    frequencies = 2.0 ** torch.arange(_NUM_FREQUENCIES, device=values.device) / 8.0
    angles = values.float()[:, None] * frequencies
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


class CubeConditioning(nn.Module):
    """The condition of a batch: its planets, and the numbers of `config.conditioned_on`.

    They are `lead_time_s`, from the last state read to the one predicted, in s, and `noise_level`, from 0, none, to 1,
    nothing else.
    """

    def __init__(self, config: AstroDatacubeConfig):
        super().__init__()
        self.config = config
        width = config.conditioning_size
        self.planet_proj = nn.Linear(2 * len(config.planet_parameters), width)
        self.told_projs = nn.ModuleDict(
            {name: nn.Linear(2 * _NUM_FREQUENCIES, width) for name in config.conditioned_on}
        )
        self.hidden_proj = nn.Linear(width, width)
        self.output_proj = nn.Linear(width, width)

    def forward(self, planet: torch.Tensor, told: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the condition, shape (B, E).

        Args:
            planet: Shape (B, P), of `config.planet_parameters`; NaN where one is not known.
            told: The numbers by name, each of shape (B,).
        """
        dtype = self.planet_proj.weight.dtype
        values, known = described_planet(self.config.statistics, self.config.planet_parameters, planet)
        state = self.planet_proj(torch.cat((values, known), dim=-1).to(dtype))
        for name, projection in self.told_projs.items():
            state = state + projection(_waves(_SCALES[name](told[name].float())).to(dtype))
        state = self.hidden_proj(nn.functional.silu(state))
        return nn.functional.silu(self.output_proj(nn.functional.silu(state)))


class AdaptiveNorm(nn.Module):
    """A norm whose scale and shift, and the gate of what is made of it, follow the condition.

    After Peebles and Xie 2023 (arXiv:2212.09748), but the gate starts at 1, so that gradients reach all of it at once.

    Args:
        width: Of the tokens.
        config: Of the network.
        is_of_field: Whether a `FieldNorm` normalises, for what needs to know how strong a place is, or a LayerNorm,
            token by token, as attention likes it.
    """

    def __init__(self, width: int, config: AstroDatacubeConfig, is_of_field: bool = False):
        super().__init__()
        eps = config.layer_norm_eps
        self.norm = FieldNorm(eps) if is_of_field else nn.LayerNorm(width, eps=eps, elementwise_affine=False)
        self.modulation = nn.Linear(config.conditioning_size, 3 * width)

    def forward(self, states: torch.Tensor, condition: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the normalised states, shape (B, ..., D), and the gate, which broadcasts with them."""
        broadcast = (len(condition), *(1,) * (states.ndim - 2), -1)
        shift, scale, gate = (part.view(broadcast) for part in self.modulation(condition).chunk(3, dim=-1))
        return torch.addcmul(shift, self.norm(states), 1 + scale), 1 + gate
