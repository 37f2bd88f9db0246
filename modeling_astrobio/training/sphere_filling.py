"""Filling hidden cells of a field on a globe from the known ones: by the nearest, and linearly along the grid's lines.

Shape suffixes: N fields, Y latitudes, X longitudes.
"""

import torch

from ..sphere_grid import SphereGrid


__all__ = ["filled_linearly", "filled_with_nearest"]


def filled_with_nearest(fields: torch.Tensor, grid: SphereGrid) -> torch.Tensor:
    """Return fields with the value of the nearest known cell, along a great circle, where there was none.

    Args:
        fields: Shape (N, Y, X), NaN where a value is hidden; a field without any value stays so.
        grid: Of the cells.
    """
    latitude, longitude = torch.deg2rad(grid.latitude_deg), torch.deg2rad(grid.longitude_deg)
    normal = torch.stack(
        (
            latitude.cos()[:, None] * longitude.cos(),
            latitude.cos()[:, None] * longitude.sin(),
            latitude.sin()[:, None].expand(-1, len(longitude)),
        ),
        dim=-1,
    ).flatten(0, 1)
    flat = fields.flatten(1).clone()
    for field in flat:
        known = field.isfinite()
        if known.any():
            nearest = (normal[~known] @ normal[known].mT).argmax(1)
            field[~known] = field[known][nearest]
    return flat.view_as(fields)


def filled_linearly(fields: torch.Tensor, grid: SphereGrid) -> torch.Tensor:
    """Return fields interpolated between the nearest known cells to west, east, north and south.

    Each has the inverse of its distance as its weight: along one line alone that is linear interpolation. Lines of
    latitude close round the globe, and meridians end at the poles. A cell with no known one on its lines has the value
    of the nearest.

    Args:
        fields: Shape (N, Y, X), NaN where a value is hidden; a field without any value stays so.
        grid: Of the cells.
    """
    rows, columns = fields.shape[-2:]
    latitude = torch.deg2rad(grid.latitude_deg)
    step = (2 * torch.pi / columns) * latitude.cos().clamp(min=1e-9)[:, None]
    values, weights = torch.zeros(2, *fields.shape, dtype=torch.float64)
    # Three turns of each circle, of which the middle one has known cells on both sides.
    ring = torch.cat((fields,) * 3, dim=-1)
    for is_back in (False, True):
        place = _last_known(ring, -1, is_back)[..., columns : 2 * columns]
        distance = (torch.arange(columns, 2 * columns) - place).abs() * step
        value = ring.gather(-1, place.clamp(0, 3 * columns - 1))
        values, weights = _added(values, weights, value, distance)
        place = _last_known(fields, -2, is_back)
        there = place.clamp(0, rows - 1)
        value = fields.gather(-2, there).where((place >= 0) & (place < rows), torch.nan)
        values, weights = _added(values, weights, value, (latitude[:, None] - latitude[there]).abs())
    filled = torch.where(fields.isfinite(), fields, (values / weights).to(fields.dtype))
    return torch.where(filled.isfinite(), filled, filled_with_nearest(fields, grid))


def _last_known(fields: torch.Tensor, dim: int, is_back: bool) -> torch.Tensor:
    """Place along an axis of the last known value at or before each, or with `is_back` of the first at or after it.

    Where there is none it is -1, or with `is_back` the length of the axis.
    """
    number = fields.shape[dim]
    places = torch.arange(number).view(-1, *(1,) * (-1 - dim)).expand(fields.shape)
    if is_back:
        found = torch.where(fields.isfinite(), places, number).flip(dim)
        return found.cummin(dim).values.flip(dim)
    return torch.where(fields.isfinite(), places, -1).cummax(dim).values


def _added(
    values: torch.Tensor, weights: torch.Tensor, value: torch.Tensor, distance: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    weight = torch.where(value.isfinite(), 1 / distance.clamp(min=1e-12), 0.0)
    return values + weight * value.nan_to_num(), weights + weight
