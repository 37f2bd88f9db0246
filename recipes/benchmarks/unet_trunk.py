"""A convolutional U-Net in the place of AstroDatacube's trunk, for comparison: with its stem, head and loss."""

from typing import Any, TypeVar

import torch
from torch import nn
from transformers.utils import ModelOutput

from modeling_astrobio import AstroDatacubeConfig
from modeling_astrobio.datacube_conditioning import CubeConditioning
from modeling_astrobio.datacube_grid import work_grid
from modeling_astrobio.datacube_stem import CubeStem
from modeling_astrobio.modeling_astro_datacube_heads import CubePredictor
from modeling_astrobio.sphere_windows import continue_around


__all__ = ["unet_of_size"]

_SCALES = 3
Predictor = TypeVar("Predictor", bound=CubePredictor)


def convolve(convolution: nn.Conv2d, states: torch.Tensor) -> torch.Tensor:
    """A convolution of states (B, C, Y, X) that goes on round the globe and across the poles."""
    padded = continue_around(states.permute(0, 2, 3, 1)[:, None], 1)[:, 0]
    return convolution(padded.permute(0, 3, 1, 2))


class Residual(nn.Module):
    """Two convolutions, told of the planet between them (as Dhariwal and Nichol 2021, arXiv:2105.05233)."""

    def __init__(self, given: int, width: int, condition: int):
        super().__init__()
        self.first, self.second = nn.Conv2d(given, width, 3), nn.Conv2d(width, width, 3)
        self.norms = nn.ModuleList((nn.GroupNorm(4, given), nn.GroupNorm(4, width)))
        self.told = nn.Linear(condition, 2 * width)
        self.straight = nn.Conv2d(given, width, 1) if given != width else nn.Identity()

    def forward(self, states: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        hidden = convolve(self.first, nn.functional.gelu(self.norms[0](states)))
        scale, shift = self.told(condition)[..., None, None].chunk(2, dim=1)
        hidden = self.norms[1](hidden) * (1 + scale) + shift
        return self.straight(states) + convolve(self.second, nn.functional.gelu(hidden))


class UNet(nn.Module):
    """Three scales, two residual blocks at each on the way down and up (Ronneberger et al. 2015, arXiv:1505.04597).

    Levels and the surface are read side by side as channels, so that all convolutions mix them, and are parted at the
    end.
    """

    def __init__(self, config: AstroDatacubeConfig, num_levels: int):
        super().__init__()
        self.config = config
        width, told = config.hidden_size, config.conditioning_size
        self.stem, self.conditioning = CubeStem(config), CubeConditioning(config)
        widths = [width * 2**scale for scale in range(_SCALES)]
        given = [width * (num_levels + 1), *widths]
        self.down = nn.ModuleList(
            nn.ModuleList((Residual(given[scale], each, told), Residual(each, each, told)))
            for scale, each in enumerate(widths)
        )
        self.up = nn.ModuleList(
            nn.ModuleList((Residual(widths[scale + 1] + each, each, told), Residual(each, each, told)))
            for scale, each in reversed(list(enumerate(widths[:-1])))
        )
        self.norm = nn.GroupNorm(4, width)
        self.part = nn.Conv2d(width, given[0], 1) if num_levels else nn.Identity()

    def forward(self, **inputs: Any) -> ModelOutput:
        work = work_grid(inputs["latitude_deg"][0], inputs["longitude_deg"][0], self.config)
        planet, levels = inputs["planet"], inputs["levels"]
        levels = planet.new_zeros(len(planet), 0) if levels is None else levels
        fields = (inputs[f"{kind}_fields"] for kind in ("level", "surface", "forcing"))
        features = self.stem(*fields, levels, planet, work).states
        condition = self.conditioning(planet, {name: inputs[name] for name in self.config.conditioned_on})
        states, kept = features.permute(0, 1, 4, 2, 3).flatten(1, 2), []
        for scale, blocks in enumerate(self.down):
            states = nn.functional.avg_pool2d(states, 2) if scale else states
            for block in blocks:
                states = block(states, condition)
            kept.append(states)
        for blocks, skip in zip(self.up, reversed(kept[:-1]), strict=True):
            states = torch.cat((nn.functional.interpolate(states, scale_factor=2, mode="nearest"), skip), dim=1)
            for block in blocks:
                states = block(states, condition)
        states = self.part(self.norm(states)).unflatten(1, features.shape[1:2] + features.shape[4:])
        return ModelOutput(last_hidden_state=states.permute(0, 1, 3, 4, 2), hidden_states=None, attentions=None)


def _with_unet(head: type[Predictor], config: AstroDatacubeConfig, num_levels: int) -> Predictor:
    """Return a model with the other trunk."""
    model = head(config)
    model.model = UNet(model.config, num_levels)
    return model


def unet_of_size(
    head: type[Predictor], config: AstroDatacubeConfig, wanted: int, patch_size: int, num_levels: int = 0
) -> Predictor:
    """Return the model with a U-Net whose number of parameters is nearest to the one wanted.

    Args:
        head: What it predicts, and how.
        config: Of the model with AstroDatacube's trunk.
        wanted: Number of parameters.
        patch_size: Cells along each side of a patch.
        num_levels: That fields have; the surface is not one.
    """
    found: Predictor | None = None
    for width in range(8, 129, 4):
        narrow = AstroDatacubeConfig(**{**config.to_dict(), "patch_size": patch_size, "hidden_sizes": [width, 64, 96],
                                        "num_attention_heads": [1, 4, 6]})  # fmt: skip
        with torch.device("meta"):
            model = _with_unet(head, narrow, num_levels)
        if found is None or abs(_number(model) - wanted) < abs(_number(found) - wanted):
            found = model
    assert found is not None
    return _with_unet(head, found.config, num_levels)


def _number(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
