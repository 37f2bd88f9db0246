"""From fields of a climate to features of each level of each column, and from features back to fields.

Shape suffixes: B batch, V variables on levels, S at the surface, F forcing variables, T states read, L levels, Y
latitudes, X longitudes, P rows and columns of a patch, D width.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from .configuration_astro_datacube import AstroDatacubeConfig
from .datacube_grid import WorkGrid
from .datacube_levels import LevelEmbedding
from .datacube_statistics import level_statistic, surface_statistic
from .geostrophic_wind import start_from_geostrophic_wind
from .sphere_windows import continue_around


__all__ = ["CubeHead", "CubeStem", "StemFeatures"]


class StemFeatures(NamedTuple):
    """What the stem says of a batch.

    Attributes:
        states: Of each level, the surface last, shape (B, L + 1, Y / P, X / P, D).
        embedding: Of where the levels lie, shape (B, L + 1, D).
        is_present: Which levels hold any value, bool, shape (B, L + 1); the surface always.
    """

    states: torch.Tensor
    embedding: torch.Tensor
    is_present: torch.Tensor


def _with_mask(
    values: torch.Tensor, mean: torch.Tensor, scale: torch.Tensor, start: torch.Tensor | None = None
) -> torch.Tensor:
    """Return normalised values, and where they are known, stacked along a first axis.

    Where they are missing they are those of the start and, where that is missing too or there is none, 0.
    """
    known = values.isfinite()
    if start is not None:
        values = torch.where(known, values, start)
    normalised = torch.where(values.isfinite(), (values.float() - mean) / scale, 0.0)
    return torch.stack((normalised, known.float()))


class CubeStem(nn.Module):
    """Convolve the patches of each level, and of the surface, with their missing values marked."""

    def __init__(self, config: AstroDatacubeConfig):
        super().__init__()
        self.config = config
        width, patch = config.hidden_size, config.patch_size
        level_channels = len(config.level_variables) * config.num_read_steps
        surface_channels = len(config.surface_variables) * config.num_read_steps + len(config.forcing_variables)
        # One more cell on each side of a patch.
        self.level_conv = nn.Conv2d(2 * level_channels, width, patch + 2, stride=patch) if level_channels else None
        self.surface_conv = nn.Conv2d(2 * surface_channels + 4, width, patch + 2, stride=patch)
        self.embedding = LevelEmbedding(config)

    def forward(
        self,
        level_fields: torch.Tensor | None,
        surface_fields: torch.Tensor | None,
        forcing_fields: torch.Tensor | None,
        levels: torch.Tensor,
        planet: torch.Tensor,
        work: WorkGrid,
    ) -> StemFeatures:
        """Read fields, NaN where a value is missing.

        Args:
            level_fields: Shape (B, V, T, L, Y, X).
            surface_fields: Shape (B, S, T, Y, X).
            forcing_fields: Shape (B, F, Y, X).
            levels: Pressure over nominal surface pressure, shape (B, L).
            planet: Shape (B, N), of `config.planet_parameters`.
            work: The grid.
        """
        embedding = self.embedding(levels)
        surface = self._surface_states(surface_fields, forcing_fields, planet, work)
        states, is_present = surface[:, None], levels.new_ones(len(levels), 1, dtype=torch.bool)
        if self.level_conv is not None and level_fields is not None:
            states = torch.cat((self._level_states(level_fields, levels, planet, work), states), dim=1)
            has_values = level_fields.isfinite().flatten(4).any(-1).flatten(1, 2).any(1)
            is_present = torch.cat((has_values, is_present), dim=1)
        elif levels.shape[1]:
            states = torch.cat((torch.zeros_like(states).expand(-1, levels.shape[1], -1, -1, -1), states), dim=1)
            is_present = torch.cat((torch.ones_like(levels, dtype=torch.bool), is_present), dim=1)
        return StemFeatures(states + embedding[:, :, None, None], embedding, is_present)

    def _level_states(
        self, fields: torch.Tensor, levels: torch.Tensor, planet: torch.Tensor, work: WorkGrid
    ) -> torch.Tensor:
        names, statistics = self.config.level_variables, self.config.statistics
        mean, scale = (
            level_statistic(statistics, names, kind, levels)[:, :, None, :, None, None] for kind in ("mean", "scale")
        )
        start = None
        if self.config.geostrophic_start:
            start = start_from_geostrophic_wind(fields, names, work.grid, planet, self.config.planet_parameters)
        channels = _with_mask(fields, mean, scale, start)
        turns = self._turns(names, (2, 1, len(names), 1, 1))
        channels = work.extend(channels, turns)
        # (2, B, V, T, L, Y, X) to one image of each level.
        images = channels.permute(1, 4, 0, 2, 3, 5, 6).flatten(2, 4).flatten(0, 1)
        states = self.level_conv(images.to(self.level_conv.weight.dtype))
        return states.unflatten(0, levels.shape).permute(0, 1, 3, 4, 2)

    def _surface_states(self, surface_fields, forcing_fields, planet, work: WorkGrid) -> torch.Tensor:
        """Of surface and forcing fields and of where a cell lies, shape (B, Y / P, X / P, D)."""
        parts, device = [], planet.device
        for fields, names in (
            (surface_fields, self.config.surface_variables),
            (None if forcing_fields is None else forcing_fields[:, :, None], self.config.forcing_variables),
        ):
            if fields is None or not names:
                continue
            mean, scale = (
                surface_statistic(self.config.statistics, names, kind, device).view(1, -1, 1, 1, 1)
                for kind in ("mean", "scale")
            )
            turns = self._turns(names, (2, 1, len(names), 1))
            channels = work.extend(_with_mask(fields, mean, scale), turns)
            parts.append(channels.transpose(0, 1).flatten(1, 3))
        parts.append(self._places(planet, work))
        images = torch.cat(parts, dim=1).to(self.surface_conv.weight.dtype)
        return self.surface_conv(images).permute(0, 2, 3, 1)

    def _places(self, planet: torch.Tensor, work: WorkGrid) -> torch.Tensor:
        """Sine and cosine of the latitude and, where one side always faces the star, the direction to the star.

        The last two are the components of a cell's normal toward the substellar point and east of it, on the equator;
        on planets that turn under their star, or of which that is not known, they are 0, and no meridian is marked.
        """
        latitude, longitude = (
            torch.deg2rad(axis).to(planet.device) for axis in (work.grid.latitude_deg, work.grid.longitude_deg)
        )
        known = {
            name: planet[:, place].double().nan_to_num()
            for place, name in enumerate(self.config.planet_parameters)
            if name in ("synchronous", "substellar_longitude_deg")
        }
        faces_star = known.get("synchronous", planet.new_zeros(len(planet))).clamp(0, 1)[:, None, None]
        east = longitude - torch.deg2rad(known.get("substellar_longitude_deg", planet.new_zeros(len(planet))))[:, None]
        area = (len(planet), len(latitude), len(longitude))
        rows = [part[:, None].expand(area) for part in (latitude.sin(), latitude.cos())]
        star = [faces_star * latitude.cos()[:, None] * part[:, None] for part in (east.cos(), east.sin())]
        return work.extend(torch.stack([*rows, *star], dim=1).float())

    def _turns(self, names: list, shape: tuple[int, ...]) -> torch.Tensor:
        """Which channels change their sign across a pole: values of vectors, and no marks of what is missing."""
        vectors = torch.tensor([name in self.config.vector_variables for name in names])
        turns = vectors.view(1, 1, -1, *(1,) * (len(shape) - 3)).expand(shape).clone()
        turns[1] = False
        return turns


class FieldHead(nn.Module):
    """Fields from the features of columns: each patch is opened to its cells, and a convolution joins them.

    Without it patches would show at their borders.
    """

    def __init__(self, names: Sequence[str], config: AstroDatacubeConfig):
        super().__init__()
        self.patch = config.patch_size
        self.is_vector = [name in config.vector_variables for name in names]
        cell_width = max(config.hidden_size // config.patch_size, len(names))
        self.open_proj = nn.Linear(config.hidden_size, cell_width * config.patch_size**2)
        self.conv = nn.Conv2d(cell_width, len(names), 3)

    def forward(self, states: torch.Tensor, work: WorkGrid) -> torch.Tensor:
        """Return fields, shape (B, V, L, Y, X), float32, of states (B, L, Y / P, X / P, D)."""
        batch, levels, rows, columns, _ = states.shape
        cells = self.open_proj(states).view(batch, levels, rows, columns, self.patch, self.patch, -1).transpose(3, 4)
        cells = cells.reshape(batch, levels, rows * self.patch, columns * self.patch, -1)
        padded = continue_around(nn.functional.silu(cells), 1)
        found = self.conv(padded.flatten(0, 1).permute(0, 3, 1, 2))
        found = found.unflatten(0, (batch, levels)).transpose(1, 2).float()
        return work.restrict(found, torch.tensor(self.is_vector)[:, None])


class CubeHead(nn.Module):
    """Fields on levels and at the surface from features: normalised, on the cube's own grid."""

    def __init__(self, config: AstroDatacubeConfig):
        super().__init__()
        level, surface = config.level_variables, config.surface_variables
        self.level = FieldHead(level, config) if level else None
        self.surface = FieldHead(surface, config) if surface else None

    def forward(self, states: torch.Tensor, work: WorkGrid) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return fields on levels, shape (B, V, L, Y, X), and at the surface, (B, S, Y, X), float32.

        Args:
            states: Shape (B, L + 1, Y / P, X / P, D), the surface last.
            work: The grid.
        """
        level = None if self.level is None else self.level(states[:, :-1], work)
        surface = None if self.surface is None else self.surface(states[:, -1:], work)[:, :, 0]
        return level, surface
