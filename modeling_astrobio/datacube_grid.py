"""The grids that a network works on, from the axes of a cube: rows and columns that every scale divides.

Inside, rows run from north to south and lie between the poles, none on one: then a row continued across a pole is the
mirror of one that is there, at every scale. Rows and columns are interpolated where the cube's are not so, across the
poles and round the circle; where they are, they are left alone. Both are undone at the end.

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


__all__ = ["WorkGrid", "has_values", "work_grid"]


@dataclass(frozen=True)
class WorkGrid:
    """A cube's grid, and what the network makes of it; made by `work_grid`.

    Attributes:
        grid: Of the cube.
        outer: Of the cube, from north to south.
        inner: Of the network's finest cells.
        is_flipped: Whether the cube's rows run from south to north.
        inward: Weights of the cube's rows, with one more beyond each pole, in each inner row; `None` if they are the
            same.
        outward: The other way round.
        scales: Of each scale after the first.
    """

    grid: SphereGrid
    outer: SphereGrid
    inner: SphereGrid
    is_flipped: bool
    inward: torch.Tensor | None
    outward: torch.Tensor | None
    scales: tuple[ScaleGeometry, ...]

    def extend(self, field: torch.Tensor, is_vector: torch.Tensor | bool = False) -> torch.Tensor:
        """Return a field, shape (..., Y, X), on the inner grid with one more row and column on each side."""
        if self.is_flipped:
            field = field.flip(-2)
        field = _resampled(field, self.outer, self.inner, self.inward, is_vector)
        return pad_sphere(field, self.inner, rows=1, columns=1, is_vector=is_vector)

    def restrict(self, field: torch.Tensor, is_vector: torch.Tensor | bool = False) -> torch.Tensor:
        """Return a field of the inner grid on the cube's, shape (..., Y, X)."""
        field = _resampled(field, self.inner, self.outer, self.outward, is_vector)
        return field.flip(-2) if self.is_flipped else field

    def scale(self, index: int, like: torch.Tensor) -> ScaleGeometry:
        """Return the geometry of a scale on the device, and in the dtype, of states, but at least float32."""
        windows, *rotations = self.scales[index - 1]
        place = {"device": like.device, "dtype": torch.promote_types(like.dtype, torch.float32)}
        return ScaleGeometry(windows, *(SphereRotations(*(part.to(**place) for part in each)) for each in rotations))


def has_values(tensor: torch.Tensor) -> bool:
    """Return whether values can be looked at: not where a planner traces shapes alone."""
    return torch.compiler.is_compiling() or not is_tracing(tensor)


def _resampled(
    field: torch.Tensor,
    source: SphereGrid,
    target: SphereGrid,
    weights: torch.Tensor | None,
    is_vector: torch.Tensor | bool,
) -> torch.Tensor:
    if weights is not None:
        # An odd ring has no opposite meridian; the next even one has.
        even = len(source.longitude_deg) + len(source.longitude_deg) % 2
        ring = _with_columns(source, even)
        padded = pad_sphere(resample_columns(field, even), ring, rows=1, columns=0, is_vector=is_vector)
        field = torch.einsum("rs,...sx->...rx", weights.to(padded.device, padded.dtype), padded)
    return resample_columns(field, len(target.longitude_deg))


def resample_columns(field: torch.Tensor, columns: int) -> torch.Tensor:
    """Return a field on another number of evenly spaced columns with the same first one, linearly round the circle."""
    width = field.shape[-1]
    if columns == width:
        return field
    places = torch.arange(columns, dtype=torch.float64, device=field.device) * (width / columns)
    before = places.floor().long()
    share = (places - before).to(field.dtype)
    return field[..., before] * (1 - share) + field[..., (before + 1) % width] * share


@torch.compiler.disable
def work_grid(latitude_deg: torch.Tensor, longitude_deg: torch.Tensor, config: AstroDatacubeConfig) -> WorkGrid:
    """Make the grids of a cube.

    Args:
        latitude_deg: Shape (Y,), see `sphere_grid.sphere_grid`.
        longitude_deg: Shape (X,), as there.
        config: Of the network.

    Raises:
        ValueError: If an axis is no global one, or a convolution reaches further than the grid; names the axis and
            the remedy.
    """
    shape = (
        config.total_stride,
        config.patch_size,
        tuple(config.window_size),
        tuple(width // heads for width, heads in zip(config.hidden_sizes, config.num_attention_heads, strict=True)),
        config.conv_kernel_size // 2,
    )
    if not has_values(latitude_deg):
        # What a step takes depends on how many rows and columns there are alone.
        rows, columns = (_even_axis(len(axis), axis.device) for axis in (latitude_deg, longitude_deg))
        grid = SphereGrid(90 - rows / 2, columns, "bounds", torch.ones_like(rows) / len(rows), False, False)
        return _made(grid, False, *shape)
    return _work_grid(tuple(latitude_deg.double().tolist()), tuple(longitude_deg.double().tolist()), *shape)


@functools.lru_cache(maxsize=16)
def _work_grid(latitude: tuple[float, ...], longitude: tuple[float, ...], *shape) -> WorkGrid:
    grid = sphere_grid(*(torch.tensor(axis, dtype=torch.float64) for axis in (latitude, longitude)))
    return _made(grid, latitude[0] < latitude[-1], *shape)


def _even_axis(number: int, device: torch.device) -> torch.Tensor:
    """Centres of cells that divide a circle, degrees from 0."""
    return (torch.arange(number, dtype=torch.float64, device=device) + 0.5) * (360.0 / number)


def _with_columns(grid: SphereGrid, columns: int) -> SphereGrid:
    longitude = torch.arange(columns, dtype=torch.float64) * (360.0 / columns)
    return SphereGrid(
        grid.latitude_deg, longitude, grid.kind, grid.row_weights, grid.has_first_pole, grid.has_last_pole
    )


def _made(
    grid: SphereGrid,
    is_flipped: bool,
    total_stride: int,
    patch_size: int,
    window_size: tuple[int, int],
    head_dims: tuple[int, ...],
    reach: int,
) -> WorkGrid:
    outer = grid
    if is_flipped:
        poles = (grid.has_last_pole, grid.has_first_pole)
        outer = SphereGrid(grid.latitude_deg.flip(0), grid.longitude_deg, grid.kind, grid.row_weights.flip(0), *poles)
    height, width = len(grid.latitude_deg), len(grid.longitude_deg)
    # Twice the coarsest cell, as each needs one opposite to it.
    columns = math.ceil(width / (2 * total_stride)) * 2 * total_stride
    rows = math.ceil(height / total_stride) * total_stride
    # The coarsest grid has no convolutions, the one before it has.
    cells = total_stride // 2
    if reach > min(rows, columns) // cells:
        raise ValueError(
            f"conv_kernel_size must reach at most {min(rows, columns) // cells} of the {rows // cells} rows and "
            f"{columns // cells} columns of the coarsest grid with convolutions, of {height} latitudes and {width} "
            f"longitudes; it reaches {reach}. Use a finer grid or a smaller kernel."
        )
    inner, inward, outward = _with_columns(outer, columns), None, None
    if rows != height or grid.has_first_pole or grid.has_last_pole:
        latitude = 90.0 - _even_axis(rows, grid.latitude_deg.device) / 2
        even = SphereGrid(latitude, outer.longitude_deg, "bounds", torch.ones_like(latitude) / rows, False, False)
        inner = _with_columns(even, columns)
        inward, outward = _row_weights(outer, inner.latitude_deg), _row_weights(inner, outer.latitude_deg)
    return WorkGrid(
        grid, outer, inner, is_flipped, inward, outward, _scales(inner, patch_size, window_size, head_dims)
    )


def _scales(
    inner: SphereGrid, patch_size: int, window_size: tuple[int, int], head_dims: tuple[int, ...]
) -> tuple[ScaleGeometry, ...]:
    rows_rad, columns = torch.deg2rad(inner.latitude_deg), len(inner.longitude_deg)
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
    return tuple(scales)


def _row_weights(source: SphereGrid, target: torch.Tensor) -> torch.Tensor:
    """Weights of linear interpolation from rows, with one more beyond each pole, to other rows, all from the north."""
    first, last = int(source.has_first_pole), len(source.latitude_deg) - 1 - int(source.has_last_pole)
    north, south = 180.0 - source.latitude_deg[first], -180.0 - source.latitude_deg[last]
    # Searching wants rising numbers: angles from the north pole.
    known = 90.0 - torch.cat((north[None], source.latitude_deg, south[None]))
    wanted = 90.0 - target
    above = torch.searchsorted(known, wanted).clamp(1, len(known) - 1)
    share = (wanted - known[above - 1]) / (known[above] - known[above - 1])
    weights = torch.zeros(len(wanted), len(known), dtype=torch.float64, device=target.device)
    weights.scatter_(1, (above - 1)[:, None], (1 - share)[:, None])
    return weights.scatter_add_(1, above[:, None], share[:, None])
