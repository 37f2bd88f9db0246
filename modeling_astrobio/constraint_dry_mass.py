"""Dry air neither comes nor goes: its mass is pinned to that of the initial state by scaling surface pressure.

One factor for the whole planet leaves the gradient of ln(ps), which drives the wind, as it is.

Shape suffixes: B batch, L levels, Y latitudes, X longitudes.
"""

import torch

from .climate_levels import VerticalLevels, layer_mass
from .climate_planet import PlanetParameters
from .constraint_totals import scale_to_total


__all__ = ["correct_dry_mass", "dry_mass", "relative_residual"]


def dry_mass(
    ps: torch.Tensor, hus: torch.Tensor, planet: PlanetParameters, levels: VerticalLevels, cell_weights: torch.Tensor
) -> torch.Tensor:
    """Return the mean mass of dry air above a square metre: the mean of ps (1 - column mean of q) / g.

    Trenberth and Smith 2005 (doi:10.1175/JCLI-3299.1), eq. 1 and 2.

    Args:
        ps: Surface pressure, shape (B, Y, X), Pa.
        hus: Specific humidity, shape (B, L, Y, X), kg/kg.
        planet: Of shape (B,).
        levels: Sigma levels.
        cell_weights: Shape (Y, X), sum 1.

    Returns:
        Shape (B,), float64, kg m-2.
    """
    air = layer_mass(ps, planet.gravity_m_s2, levels, cell_weights)
    return (air * (1.0 - levels.present(hus).double())).flatten(1).sum(1)


def relative_residual(value: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return (value - target) / |target|, or / 1 where the target is 0; shape (B,), float64."""
    size = target.double().abs()
    return (value.double() - target) / torch.where(size > 0, size, 1.0)


def correct_dry_mass(
    ps: torch.Tensor,
    hus: torch.Tensor,
    target: torch.Tensor,
    planet: PlanetParameters,
    levels: VerticalLevels,
    cell_weights: torch.Tensor,
    *,
    exact_store: bool = True,
) -> torch.Tensor:
    """Scale surface pressure so that the dry mass is the target; humidity, and so the share of water, stays.

    Args:
        ps: Surface pressure, shape (B, Y, X), Pa.
        hus: Specific humidity, shape (B, L, Y, X), kg/kg.
        target: Shape (B,), float64, kg m-2.
        planet: Of shape (B,).
        levels: Sigma levels.
        cell_weights: Shape (Y, X), sum 1.
        exact_store: See `constraint_totals.scale_to_total`.

    Returns:
        Shape (B, Y, X), of at least float32.
    """
    weight = layer_mass(torch.ones_like(ps), planet.gravity_m_s2, levels, cell_weights)
    weight = (weight * (1.0 - levels.present(hus).double())).sum(1)
    return scale_to_total(ps, weight, target, exact_store=exact_store)
