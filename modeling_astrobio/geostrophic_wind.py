"""Geostrophic wind of a planet: the one whose Coriolis force balances the slope of a pressure surface.

Shape suffixes: B batch, V variables on levels, T states read, L levels, Y latitudes, X longitudes, N parameters of a
planet.
"""

import math
from collections.abc import Sequence

import torch

from .sphere_grid import SphereGrid


__all__ = ["GEOSTROPHIC_PARAMETERS", "geostrophic_wind", "start_from_geostrophic_wind"]

GEOSTROPHIC_PARAMETERS = ("gravity_m_s2", "radius_m", "rotation_period_s")
"""What must be known of a planet."""

# Nearer to the equator winds do not follow the balance, and 1 / f has no bound.
_EQUATORIAL_DEG = 5.0


def geostrophic_wind(
    height: torch.Tensor,
    grid: SphereGrid,
    gravity_m_s2: torch.Tensor,
    radius_m: torch.Tensor,
    rotation_period_s: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the wind (u, v) = g / f (-dz/dy, dz/dx) on pressure surfaces (Holton and Hakim 2013, section 3.2.1).

    f = 2 Omega sin(latitude); 1 / f is replaced with f^3 / (f^4 + f_5^4), where f_5 is that at 5 degrees: within 0.5 %
    of it from 20 degrees on, and 0 on the equator. Slopes are differences of second order. On a pole they are those of
    the plane through the row next to it.

    Args:
        height: Geopotential height, shape (B, ..., Y, X), m; NaN where it is missing.
        grid: Of the height.
        gravity_m_s2: Shape (B,).
        radius_m: Shape (B,).
        rotation_period_s: Sidereal, shape (B,); below 0 where the planet turns westward. There is no such wind, and
            NaN is returned, of a planet that does not turn, or of which one of the three is not known.

    Returns:
        Eastward and northward wind, m s-1, each of the shape and dtype of `height`; NaN where the height there, or one
        that its slope needs, is missing.

    Raises:
        ValueError: If the height is not on the grid, the grid has fewer than 3 rows, or a planet's number is not one
            for each of the batch.
    """
    size = (len(grid.latitude_deg), len(grid.longitude_deg))
    if height.ndim < 3 or tuple(height.shape[-2:]) != size:
        raise ValueError(
            f"height must have the axes (batch, ..., latitude {size[0]}, longitude {size[1]}); got shape "
            f"{tuple(height.shape)}. Pass the grid of the height."
        )
    if size[0] < 3:
        raise ValueError(f"grid must have at least 3 latitudes to find slopes; got {size[0]}.")
    planet = {"gravity_m_s2": gravity_m_s2, "radius_m": radius_m, "rotation_period_s": rotation_period_s}
    for name, value in planet.items():
        if tuple(value.shape) != (len(height),):
            raise ValueError(f"{name} must have the axes (batch {len(height)}); got shape {tuple(value.shape)}.")
    gravity, radius, period = (
        value.to(height.device, torch.float64).view(-1, *(1,) * (height.ndim - 1)) for value in planet.values()
    )
    latitude = torch.deg2rad(grid.latitude_deg.to(height.device))[:, None]
    f = 4 * math.pi / period * latitude.sin()
    least = 4 * math.pi / period * math.sin(math.radians(_EQUATORIAL_DEG))
    east, north = _slopes(height.double(), grid)
    factor = gravity / radius * f**3 / (f**4 + least**4)
    is_known = height.isfinite()
    u, v = (torch.where(is_known, part, torch.nan).to(height.dtype) for part in (-factor * north, factor * east))
    return u, v


def _slopes(height: torch.Tensor, grid: SphereGrid) -> tuple[torch.Tensor, torch.Tensor]:
    """What height changes by eastward and northward, per radian of a great circle, each (..., Y, X)."""
    latitude, longitude = (torch.deg2rad(axis.to(height.device)) for axis in (grid.latitude_deg, grid.longitude_deg))
    columns = len(longitude)
    east = (height.roll(-1, dims=-1) - height.roll(1, dims=-1)) * (columns / (4 * math.pi))
    east = east / latitude.cos()[:, None].clamp(min=1e-9)
    (north,) = torch.gradient(height, spacing=(latitude,), dim=-2, edge_order=2)
    for has_pole, row, neighbour in ((grid.has_first_pole, 0, 1), (grid.has_last_pole, -1, -2)):
        if has_pole:
            # East at a pole leads along the meridian a quarter of the circle further on.
            ring, distance = height[..., neighbour, :], (latitude[row] - latitude[neighbour]).abs()
            cosine, sine = (2 / columns * (ring * wave).sum(-1, True) for wave in (longitude.cos(), longitude.sin()))
            outward = (cosine * longitude.cos() + sine * longitude.sin()) / distance
            east, north = east.clone(), north.clone()
            east[..., row, :] = (sine * longitude.cos() - cosine * longitude.sin()) / distance
            north[..., row, :] = -torch.sign(latitude[row]) * outward
    return east, north


def start_from_geostrophic_wind(
    fields: torch.Tensor,
    names: Sequence[str],
    grid: SphereGrid,
    planet: torch.Tensor,
    planet_parameters: Sequence[str],
) -> torch.Tensor:
    """Return where missing winds are started from: the geostrophic wind of the height on the same level.

    Args:
        fields: On levels of pressure, shape (B, V, ..., Y, X), in SI units, NaN where a value is missing.
        names: Of the variables; `zg`, `ua` and `va` are among them.
        grid: Of the fields.
        planet: Shape (B, N).
        planet_parameters: Names of its numbers; those of `GEOSTROPHIC_PARAMETERS` are among them.

    Returns:
        Shape and dtype of `fields`: NaN but for `ua` and `va` where they are missing and have a geostrophic wind.
    """
    places = [list(planet_parameters).index(name) for name in GEOSTROPHIC_PARAMETERS]
    winds = geostrophic_wind(fields[:, list(names).index("zg")], grid, *(planet[:, place] for place in places))
    start = torch.full_like(fields, torch.nan)
    for name, wind in zip(("ua", "va"), winds, strict=True):
        place = list(names).index(name)
        start[:, place] = wind.masked_fill(fields[:, place].isfinite(), torch.nan)
    return start
