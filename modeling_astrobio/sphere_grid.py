"""Latitude-longitude grids: exact area weights, means in float64, and padding that continues across the poles.

Shape suffixes: Y latitudes, X longitudes; any axes before them are the caller's.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch


__all__ = ["SphereGrid", "area_mean", "pad_sphere", "sphere_grid"]

_GAUSS_TOLERANCE_DEG = 1e-3
# Between the outermost row and the pole, in steps: half of one where cells fill the sphere.
_MOST_POLAR_GAP = 1.5
# Axes kept in float32 miss the pole by some 1e-5 degrees.
_POLE_TOLERANCE_DEG = 1e-3


@dataclass(frozen=True)
class SphereGrid:
    """A global grid, made and checked by `sphere_grid`.

    Attributes:
        latitude_deg: Shape (Y,), float64, degrees north, rising or falling.
        longitude_deg: Shape (X,), float64, degrees east, rising, evenly spaced round the whole circle.
        kind: `gaussian` or `bounds`: where the weights come from.
        row_weights: Shape (Y,), float64: the share of the sphere's area that each row of cells has; they sum to 1.
        has_first_pole: Whether the first row lies on a pole.
        has_last_pole: Whether the last row does.
    """

    latitude_deg: torch.Tensor
    longitude_deg: torch.Tensor
    kind: str
    row_weights: torch.Tensor
    has_first_pole: bool
    has_last_pole: bool

    @property
    def cell_weights(self) -> torch.Tensor:
        """Share of the sphere's area that each cell has, shape (Y, X), float64; they sum to 1."""
        columns = len(self.longitude_deg)
        return (self.row_weights[:, None] / columns).expand(-1, columns)


def sphere_grid(latitude_deg: torch.Tensor, longitude_deg: torch.Tensor) -> SphereGrid:
    """Check the axes of a global grid and find its area weights.

    Rows on the roots of the Legendre polynomial of degree Y, to 1e-3 degrees, have the weights of Gauss-Legendre
    quadrature (Hildebrand 1987, Introduction to Numerical Analysis, section 8.5), which integrate polynomials of sin
    latitude exactly. Rows of any other grid have the area between their bounds, half-way between rows and at the
    poles: (sin upper - sin lower) / 2. A row on a pole has the cap up to the half-way bound.

    Args:
        latitude_deg: Shape (Y,), degrees, rising or falling, within +-90.
        longitude_deg: Shape (X,), degrees, rising, evenly spaced; of any origin (0 to 360, -180 to 180).

    Raises:
        ValueError: If an axis is not that; names the axis and the remedy.
    """
    latitude, longitude = _axis(latitude_deg, "latitude"), _axis(longitude_deg, "longitude")
    steps = latitude.diff()
    if latitude.abs().max() > 90.0 + _POLE_TOLERANCE_DEG or not ((steps > 0).all() or (steps < 0).all()):
        raise ValueError(
            f"latitude_deg must rise or fall within -90 to 90 degrees; got {_span(latitude)}. Sort the latitude axis, "
            "and convert radians to degrees."
        )
    latitude = latitude.clamp(-90.0, 90.0)
    columns = len(longitude)
    expected = longitude[0] + torch.arange(columns, dtype=torch.float64) * (360.0 / columns)
    # Axes are often kept in float32.
    if (longitude - expected).abs().max() > 1e-3 * 360.0 / columns:
        raise ValueError(
            f"longitude_deg must rise in even steps of 360 / X = {360.0 / columns:g} degrees, without a meridian "
            f"twice; got {_span(longitude)}. Roll the longitude axis so that it rises, drop a repeated meridian, or "
            "regrid a region to the globe."
        )
    if len(latitude) > 1:
        gaps = torch.stack((90.0 - latitude.max(), latitude.min() + 90.0))
        if gaps.max() > _MOST_POLAR_GAP * steps.abs().max():
            raise ValueError(
                f"latitude_deg must reach from pole to pole; got {_span(latitude)}, {gaps.max():g} degrees from a "
                f"pole in steps of {steps.abs().max():g}. A region must be regridded to the globe."
            )
    sines, quadrature = (torch.from_numpy(part.copy()) for part in _gauss_legendre(len(latitude)))
    nodes = torch.rad2deg(torch.arcsin(sines))
    falls = len(latitude) > 1 and bool(steps[0] < 0)
    if falls:
        nodes, quadrature = nodes.flip(0), quadrature.flip(0)
    if (latitude - nodes).abs().max() < _GAUSS_TOLERANCE_DEG:
        kind, weights = "gaussian", quadrature
    else:
        kind = "bounds"
        ends = (90.0, -90.0) if falls else (-90.0, 90.0)
        middle = (latitude[1:] + latitude[:-1]) / 2
        edges = torch.cat([latitude.new_tensor(ends[:1]), middle, latitude.new_tensor(ends[1:])])
        weights = torch.sin(torch.deg2rad(edges)).diff().abs()
    poles = latitude.abs() > 90.0 - _POLE_TOLERANCE_DEG
    return SphereGrid(latitude, longitude, kind, weights / weights.sum(), bool(poles[0]), bool(poles[-1]))


@functools.lru_cache(maxsize=16)
def _gauss_legendre(number: int) -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(number)


def _axis(values: torch.Tensor, name: str) -> torch.Tensor:
    values = torch.as_tensor(values).detach().to("cpu", torch.float64)
    if values.ndim != 1 or not len(values) or not bool(values.isfinite().all()):
        raise ValueError(
            f"{name}_deg must be finite numbers of shape (n,), n at least 1; got shape {tuple(values.shape)}"
            f"{'' if bool(values.isfinite().all()) else ' with NaN or infinite values'}. Pass the {name} axis alone."
        )
    return values


def _span(values: torch.Tensor) -> str:
    return f"{len(values)} values from {values[0]:g} to {values[-1]:g}"


def area_mean(field: torch.Tensor, cell_weights: torch.Tensor) -> torch.Tensor:
    """Return the mean over the sphere in float64, shape (...).

    Args:
        field: Shape (..., Y, X), of any dtype.
        cell_weights: Shape (Y, X), sum 1, see `SphereGrid.cell_weights`.

    Raises:
        ValueError: If the axes do not agree.
    """
    if field.shape[-2:] != cell_weights.shape:
        raise ValueError(
            f"field must have last axes (latitude, longitude) = {tuple(cell_weights.shape)}; got "
            f"{tuple(field.shape[-2:])}. Transpose it, or pass the weights of its grid."
        )
    return (field.double() * cell_weights.to(field.device, torch.float64)).sum((-2, -1))


def pad_sphere(
    field: torch.Tensor, grid: SphereGrid, rows: int, columns: int, is_vector: bool | torch.Tensor = False
) -> torch.Tensor:
    """Continue a field beyond the edges of its grid, as convolutions want it.

    In longitude it is circular. Across a pole a meridian goes on along the opposite one: rows come back in reverse,
    rolled by half a circle, and components along east and north change their sign there, as both directions turn
    round. A row on the pole is the mirror and is not repeated. Even numbers of longitudes only: with an odd number
    the opposite meridian lies between two columns.

    Args:
        field: Shape (..., Y, X).
        grid: Of the field.
        rows: Rows to add on each side, at most Y, less one with a row on a pole.
        columns: Columns to add on each side, at most X.
        is_vector: Whether it holds an eastward or northward component; or a boolean tensor that broadcasts with the
            axes before (Y, X), for example shape (C,) for channels or (V, 1) before an axis of levels.

    Returns:
        Shape (..., Y + 2 rows, X + 2 columns), of the field's dtype.

    Raises:
        ValueError: If the field is not on the grid, the number of longitudes is odd where rows are added, or more is
            to be added than there is.
    """
    height, width = len(grid.latitude_deg), len(grid.longitude_deg)
    if field.shape[-2:] != (height, width):
        raise ValueError(
            f"field must have last axes (latitude, longitude) = {(height, width)}; got {tuple(field.shape[-2:])}. "
            "Transpose it, or pass its grid."
        )
    most = height - max(grid.has_first_pole, grid.has_last_pole)
    if not (0 <= rows <= most and 0 <= columns <= width):
        raise ValueError(
            f"rows must be from 0 to {most} and columns from 0 to {width} on this grid; got {rows} and {columns}. "
            "Use a smaller kernel or a finer grid."
        )
    if rows:
        if width % 2:
            raise ValueError(
                f"longitude must have an even number of columns to be continued across a pole; got {width}. Regrid "
                "the longitude axis to an even number."
            )
        opposite = field.roll(width // 2, dims=-1)
        if isinstance(is_vector, torch.Tensor):
            opposite = torch.where(is_vector.to(field.device)[..., None, None], -opposite, opposite)
        elif is_vector:
            opposite = -opposite
        first, last = int(grid.has_first_pole), height - int(grid.has_last_pole)
        before = opposite[..., first : first + rows, :].flip(-2)
        after = opposite[..., last - rows : last, :].flip(-2)
        field = torch.cat([before, field, after], dim=-2)
    if columns:
        field = torch.cat([field[..., width - columns :], field, field[..., :columns]], dim=-1)
    return field
