"""The ideal gas law holds as an identity: density is derived of pressure, temperature and humidity.

Shape suffixes: B batch, L levels, Y latitudes, X longitudes.
"""

import torch

from .climate_levels import VerticalLevels
from .climate_planet import PlanetParameters
from .constraint_totals import store_dtype


__all__ = ["gas_density", "ideal_gas_residual"]


def gas_density(
    ta: torch.Tensor, hus: torch.Tensor, ps: torch.Tensor, planet: PlanetParameters, levels: VerticalLevels
) -> torch.Tensor:
    """Return p / (Rd Tv) at mid-levels (Wallace and Hobbs 2006, Atmospheric Science, eq. 3.15).

    Args:
        ta: Temperature, shape (B, L, Y, X), K.
        hus: Specific humidity, same shape, kg/kg.
        ps: Surface pressure, shape (B, Y, X), Pa.
        planet: Of shape (B,).
        levels: Sigma or pressure levels.

    Returns:
        Shape (B, L, Y, X), kg m-3, computed in float64 and rounded once, to at least float32.
    """
    return _density(ta, hus, ps, planet, levels).to(store_dtype(ta))


def ideal_gas_residual(
    rho: torch.Tensor,
    ta: torch.Tensor,
    hus: torch.Tensor,
    ps: torch.Tensor,
    planet: PlanetParameters,
    levels: VerticalLevels,
) -> torch.Tensor:
    """Return rho Rd Tv / p - 1, shape (B, L, Y, X), float64; 0 where a level is missing.

    Args:
        rho: Density, shape (B, L, Y, X), kg m-3.
        ta: As in `gas_density`.
        hus: As in `gas_density`.
        ps: As in `gas_density`.
        planet: As in `gas_density`.
        levels: As in `gas_density`.
    """
    return levels.present(rho.double() / _density(ta, hus, ps, planet, levels) - 1.0)


def _density(ta, hus, ps, planet: PlanetParameters, levels: VerticalLevels) -> torch.Tensor:
    constant = planet.gas_constant_dry_j_kg_k.to(ta.device, torch.float64).view(-1, 1, 1, 1)
    return levels.pressure(ps) / (constant * ta.double() * planet.virtual_factor(hus))
