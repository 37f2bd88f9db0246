"""The grids that a network works on, from the axes of a cube: rows and columns that every scale divides.

Rows are continued across the poles until the coarsest cells fit; columns are interpolated round the circle where their
number does not fit, and left alone where it does. Both are undone at the end.

Shape suffixes: Y latitudes, X longitudes.
"""

import functools
import math
from dataclasses import dataclass

import torch
from transformers.utils import is_tracing

from .configuration_astro_datacube import AstroDatacubeConfig
from .datacube_blocks import ScaleGeometry
from .rotary_sphere import SphereRotations, sphere_rotations
from .sphere_grid import SphereGrid, pad_sphere, sphere_grid
from .sphere_windows import sphere_windows


__all__ = ["WorkGrid", "work_grid"]


@dataclass(frozen=True)
class WorkGrid:
    """A cube's grid, and what the network makes of it; made by `work_grid`.

    Attributes:
        grid: Of the cube.
        rows_before: Rows that are continued before the first.
        rows_after: Rows that are continued after the last.
        columns: Of the network's finest cells, at least those of the cube.
        scales: Of each scale after the first.
    """

    grid: SphereGrid
    rows_before: int
    rows_after: int
    columns: int
    scales: tuple[ScaleGeometry, ...]

    def extend(self, field: torch.Tensor, is_vector: torch.Tensor | bool = False) -> torch.Tensor:
        """Return a field, shape (..., Y, X), on the working grid with one more row and column on each side."""
        field = resample_columns(field, self.columns)
        wide = SphereGrid(
            self.grid.latitude_deg,
            torch.arange(self.columns, dtype=torch.float64) * (360.0 / self.columns),
            self.grid.kind,
            self.grid.row_weights,
            self.grid.has_first_pole,
            self.grid.has_last_pole,
        )
        most = 1 + max(self.rows_before, self.rows_after)
        padded = pad_sphere(field, wide, rows=most, columns=1, is_vector=is_vector)
        first = most - 1 - self.rows_before
        last = padded.shape[-2] - (most - 1 - self.rows_after)
        return padded[..., first:last, :]

    def restrict(self, field: torch.Tensor) -> torch.Tensor:
        """Return a field of the working grid on the cube's, shape (..., Y, X)."""
        height = len(self.grid.latitude_deg)
        return resample_columns(
            field[..., self.rows_before : self.rows_before + height, :], len(self.grid.longitude_deg)
        )

    def scale(self, index: int, device: torch.device) -> ScaleGeometry:
        """Return the geometry of a scale on a device."""
        windows, *rotations = self.scales[index - 1]
        return ScaleGeometry(windows, *(SphereRotations(*(part.to(device) for part in each)) for each in rotations))


def resample_columns(field: torch.Tensor, columns: int) -> torch.Tensor:
    """Return a field on another number of evenly spaced columns with the same first one, linearly round the circle."""
    width = field.shape[-1]
    if columns == width:
        return field
    places = torch.arange(columns, dtype=torch.float64, device=field.device) * (width / columns)
    before = places.floor().long()
    share = (places - before).to(field.dtype)
    return field[..., before] * (1 - share) + field[..., (before + 1) % width] * share


def work_grid(latitude_deg: torch.Tensor, longitude_deg: torch.Tensor, config: AstroDatacubeConfig) -> WorkGrid:
    """Make the grids of a cube.

    Args:
        latitude_deg: Shape (Y,), see `sphere_grid.sphere_grid`.
        longitude_deg: Shape (X,), as there.
        config: Of the network.

    Raises:
        ValueError: If an axis is no global one; names the axis and the remedy.
    """
    shape = (
        config.total_stride,
        config.patch_size,
        tuple(config.window_size),
        tuple(width // heads for width, heads in zip(config.hidden_sizes, config.num_attention_heads, strict=True)),
    )
    if is_tracing(latitude_deg):
        # There are no values to check; what a step takes depends on how many there are alone.
        rows = latitude_deg.double()
        return _made(SphereGrid(rows, longitude_deg.double(), "bounds", rows.cos(), False, False), *shape)
    return _work_grid(tuple(latitude_deg.double().tolist()), tuple(longitude_deg.double().tolist()), *shape)


@functools.lru_cache(maxsize=16)
def _work_grid(latitude: tuple[float, ...], longitude: tuple[float, ...], *shape) -> WorkGrid:
    axes = (torch.tensor(axis, dtype=torch.float64) for axis in (latitude, longitude))
    return _made(sphere_grid(*axes), *shape)


def _made(
    grid: SphereGrid,
    total_stride: int,
    patch_size: int,
    window_size: tuple[int, int],
    head_dims: tuple[int, ...],
) -> WorkGrid:
    height, longitudes = len(grid.latitude_deg), len(grid.longitude_deg)
    extra = -height % total_stride
    # Twice the coarsest cell, as each needs one opposite to it.
    columns = math.ceil(longitudes / (2 * total_stride)) * 2 * total_stride
    before, after = extra // 2, extra - extra // 2
    rows_rad = torch.deg2rad(_continued_latitudes(grid, before, after))
    scales = []
    for index, head_dim in enumerate(head_dims[1:], start=1):
        stride = patch_size * 2**index
        centres = rows_rad.view(-1, stride).mean(1)
        width = columns // stride
        meridians = torch.arange(width, dtype=torch.float64, device=centres.device) * (2 * math.pi / width)
        plain, shifted = (sphere_windows(len(centres), width, window_size, is_shifted) for is_shifted in (False, True))
        spacing = (centres[-1] - centres[0]) / max(len(centres) - 1, 1)
        rows_of_window = torch.arange(plain.rows, dtype=torch.float64, device=centres.device) * spacing
        in_window = sphere_rotations(rows_of_window, meridians[: plain.columns], head_dim, width)
        in_grid = sphere_rotations(centres, meridians, head_dim, width)
        scales.append(ScaleGeometry((plain, shifted), in_window, in_grid))
    return WorkGrid(grid, before, after, columns, tuple(scales))


def _continued_latitudes(grid: SphereGrid, before: int, after: int) -> torch.Tensor:
    """Latitudes of the rows, those beyond a pole counted on past 90 degrees, shape (Y + before + after,)."""
    latitude = grid.latitude_deg
    sign = torch.where(latitude[0] > latitude[-1], 1.0, -1.0)
    first, last = int(grid.has_first_pole), len(latitude) - int(grid.has_last_pole)
    head = (sign * 180.0 - latitude[first : first + before]).flip(0)
    tail = (-sign * 180.0 - latitude[last - after : last]).flip(0)
    return torch.cat((head, latitude, tail))
