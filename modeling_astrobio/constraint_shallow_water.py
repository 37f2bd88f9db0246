"""A closed shallow-water layer: mass and total energy pinned together.

Shape suffixes: B batch, Y latitudes, X longitudes.
"""

import torch

from .constraint_totals import (
    per_item,
    scale_to_total,
    store_dtype,
    store_with_total,
    total_resolution,
    weighted_total,
)
from .sphere_grid import area_mean


__all__ = ["correct_shallow_water", "shallow_water_energy", "shallow_water_mass"]


def shallow_water_mass(h: torch.Tensor, cell_weights: torch.Tensor) -> torch.Tensor:
    """Return the mean depth, m, shape (B,), float64.

    Args:
        h: Depth, shape (B, Y, X), m, above 0.
        cell_weights: Shape (Y, X), sum 1.
    """
    return area_mean(h, cell_weights)


def shallow_water_energy(
    h: torch.Tensor, u: torch.Tensor, v: torch.Tensor, gravity_m_s2: torch.Tensor, cell_weights: torch.Tensor
) -> torch.Tensor:
    """Return the mean of g h^2 / 2 + h (u^2 + v^2) / 2, m3 s-2, shape (B,), float64.

    Energy over density above a flat bottom (Vallis 2017, Atmospheric and Oceanic Fluid Dynamics, eq. 3.91).

    Args:
        h: Depth, shape (B, Y, X), m.
        u: Eastward velocity, same shape, m/s.
        v: Northward velocity, same shape, m/s.
        gravity_m_s2: Shape (B,).
        cell_weights: Shape (Y, X), sum 1.
    """
    gravity = per_item(gravity_m_s2, h)
    depth = h.double()
    return area_mean(
        (gravity * depth.square() + depth * (u.double().square() + v.double().square())) / 2, cell_weights
    )


def correct_shallow_water(
    h: torch.Tensor,
    u: torch.Tensor,
    v: torch.Tensor,
    mass: torch.Tensor,
    energy: torch.Tensor,
    gravity_m_s2: torch.Tensor,
    cell_weights: torch.Tensor,
    *,
    exact_store: bool = True,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Bring mass and total energy to their targets.

    Depth is scaled to the mass. Of the energy, g mass^2 / 2 is that of the layer at rest, which no motion can take;
    the rest, available potential and kinetic energy (Lorenz 1955, doi:10.1111/j.2153-3490.1955.tb01148.x), is scaled
    as a whole by one factor k: anomalies of depth by sqrt(k), then velocities by what the depths as stored leave for
    them. So any energy above that of the layer at rest can be reached. A layer at rest that should move stays as it
    is: nothing says where to; its residual shows.

    Args:
        h: Depth, shape (B, Y, X), m.
        u: Eastward velocity, same shape, m/s.
        v: Northward velocity, same shape, m/s.
        mass: Mean depth, shape (B,), float64, m.
        energy: Mean energy, shape (B,), float64, m3 s-2.
        gravity_m_s2: Shape (B,).
        cell_weights: Shape (Y, X), sum 1.
        exact_store: See `constraint_totals.scale_to_total`.

    Returns:
        h, u, v, of at least float32; bit for bit the same where both are as good as pinned.
    """
    weight = cell_weights.to(h.device, torch.float64).expand(h.shape)
    gravity = per_item(gravity_m_s2, h)
    dtype = store_dtype(h)

    def motion(depth: torch.Tensor) -> torch.Tensor:
        return depth.double() * weight * (u.double().square() + v.double().square()) / 2

    scaled = scale_to_total(h, weight, mass, exact_store=exact_store)
    missing = energy.to(h.device) - shallow_water_energy(scaled, u, v, gravity_m_s2, cell_weights)
    is_pinned = missing.abs().detach() <= _energy_resolution(scaled, u, v, gravity, weight)
    # Mass may be a digit off, so the anomaly is taken from the mean that is there.
    mean = weighted_total(scaled, weight)
    anomaly = scaled.double() - per_item(mean, h)
    kinetic = motion(scaled).flatten(1).sum(1)
    available = weighted_total(gravity * anomaly.square() / 2, weight) + kinetic
    at_rest = gravity_m_s2.to(h.device, torch.float64) * mean.square() / 2
    is_still = available <= 0
    share = (energy.to(h.device) - at_rest).clamp(min=0.0) / torch.where(is_still, 1.0, available)
    keep = is_pinned | is_still
    factor = torch.where(keep, 1.0, share)
    wide = per_item(mean, h) + per_item(factor.clamp(min=1e-300).sqrt(), h) * anomaly
    wide = torch.where(per_item(keep, h).bool(), scaled.double(), wide)
    depth = store_with_total(wide, dtype, weight, mass.to(h.device)) if exact_store else wide.to(dtype)
    # What the depths as stored leave for the velocities.
    left = energy.to(h.device) - weighted_total(gravity * depth.double().square() / 2, weight)
    has = motion(depth).flatten(1).sum(1)
    speed = torch.where(keep | (has <= 0), 1.0, (left.clamp(min=0.0) + 1e-300) / torch.where(has > 0, has, 1.0)).sqrt()
    fast_u, fast_v = (part.double() * per_item(speed, h) for part in (u, v))
    east = fast_u.to(dtype)
    if not exact_store:
        return depth, east, fast_v.to(dtype)
    # Rounding of both is made up for in v, then in u, whose steps are then the ones that count.
    north = _store_velocity(fast_v, dtype, depth, weight, left - _kinetic(east, depth, weight))
    east = _store_velocity(fast_u, dtype, depth, weight, left - _kinetic(north, depth, weight))
    is_kept = per_item(keep, h).bool()
    return depth, torch.where(is_kept, u.to(dtype), east), torch.where(is_kept, v.to(dtype), north)


def _kinetic(velocity: torch.Tensor, depth: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return weighted_total(velocity.double().square(), depth.double() * weight / 2)


def _store_velocity(wide, dtype, depth, weight, target) -> torch.Tensor:
    """Round a velocity so that its kinetic energy is the target, to first order in the rounding."""
    slope = depth.detach().double() * weight * wide.detach()
    stored = wide.detach().to(dtype)
    missing = target.detach() - _kinetic(stored, depth.detach(), weight)
    return store_with_total(wide, dtype, slope, weighted_total(stored, slope) + missing)


def _energy_resolution(h, u, v, gravity, weight) -> torch.Tensor:
    """Return what the last digit of one depth or velocity changes in the energy, at most, shape (B,)."""
    with torch.no_grad():
        depth = h.double() * weight
        by_part = [
            total_resolution(h, gravity * depth),
            total_resolution(u, depth * u.double()),
            total_resolution(v, depth * v.double()),
        ]
        return torch.stack(by_part).amax(0)
