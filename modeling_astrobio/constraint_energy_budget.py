"""Energy of the atmosphere as a budget: its change is the net flux at the top less that into the ground.

All fluxes count downward, as ExoPlaSim writes them: `rlut` and `hfls` are negative where energy goes up.

Shape suffixes: B batch, L levels, Y latitudes, X longitudes.
"""

from collections.abc import Mapping

import torch

from .climate_levels import VerticalLevels
from .climate_planet import PlanetParameters
from .constraint_totals import per_item, store_dtype, store_with_total, total_resolution, weighted_total
from .sphere_grid import area_mean


__all__ = ["SURFACE_FLUXES", "TOP_FLUXES", "correct_energy", "energy_inflow", "energy_multiplier", "energy_parts"]

TOP_FLUXES = ("rst", "rlut")
SURFACE_FLUXES = ("rss", "rls", "hfss", "hfls")


def energy_parts(
    hus: torch.Tensor,
    ua: torch.Tensor,
    va: torch.Tensor,
    mass: torch.Tensor,
    surface_geopotential: torch.Tensor,
    planet: PlanetParameters,
    levels: VerticalLevels,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Split the energy of a hydrostatic atmosphere into what is linear in temperature, and the rest.

    The mean above a square metre is the sum over layers of mass (cp T + L q + (u^2 + v^2) / 2) plus the column's mass
    times the surface geopotential: internal and potential energy together are cp T (Trenberth 1991,
    doi:10.1175/1520-0442(1991)004<0707:CDFGAO>2.0.CO;2; Lorenz 1955). cp is that of moist air.

    Args:
        hus: Specific humidity, shape (B, L, Y, X), kg/kg.
        ua: Eastward wind, same shape, m/s.
        va: Northward wind, same shape, m/s.
        mass: Of air, same shape, kg m-2, see `climate_levels.layer_mass`.
        surface_geopotential: Shape (B, Y, X) or (1, Y, X), m2 s-2.
        planet: Of shape (B,).
        levels: Sigma levels.

    Returns:
        J m-2 K-1 that a kelvin at each place adds, shape (B, L, Y, X); and J m-2 that are there at 0 K, shape (B,);
        float64.
    """
    moist, east, north = (levels.present(field).double() for field in (hus, ua, va))
    latent = per_item(planet.latent_heat_j_kg, hus)
    specific = latent * moist + (east.square() + north.square()) / 2
    rest = (mass * specific).flatten(1).sum(1) + (mass.sum(1) * surface_geopotential.double()).flatten(1).sum(1)
    return mass * planet.heat_capacity(moist), rest


def energy_inflow(fluxes: Mapping[str, torch.Tensor], step_s: float, cell_weights: torch.Tensor) -> torch.Tensor:
    """Return the mean energy that the atmosphere gains in a step, J m-2, shape (B,), float64.

    Net radiation at the top less radiation, sensible and latent heat at the ground, all downward (Trenberth 1991). The
    enthalpy of falling rain and snow is left out.

    Args:
        fluxes: `rst`, `rlut`, `rss`, `rls`, `hfss`, `hfls`, mean over the step, shape (B, Y, X), W m-2, downward.
        step_s: Length of the step, s.
        cell_weights: Shape (Y, X), sum 1.
    """
    top = sum((area_mean(fluxes[name], cell_weights) for name in TOP_FLUXES), start=torch.zeros(()))
    ground = sum((area_mean(fluxes[name], cell_weights) for name in SURFACE_FLUXES), start=torch.zeros(()))
    return step_s * (top - ground)


def correct_energy(
    ta: torch.Tensor, weight: torch.Tensor, target: torch.Tensor, direction: torch.Tensor, *, exact_store: bool = True
) -> torch.Tensor:
    """Add to temperature a multiple of a direction so that the energy is the target.

    With the direction cp of `PlanetParameters.heat_capacity` it is the smallest change in the mean square over mass:
    nearly the same everywhere, as cp is.

    Args:
        ta: Temperature, shape (B, L, Y, X), K, finite where the weight is not 0.
        weight: Of `energy_parts`, same shape, J m-2 K-1.
        target: Energy less its part at 0 K, shape (B,), float64, J m-2.
        direction: Shape (B, L, Y, X), float64.
        exact_store: See `constraint_totals.store_with_total`.

    Returns:
        Shape (B, L, Y, X), of at least float32; bit for bit the same where an item's energy is as good as pinned.
    """
    dtype = store_dtype(ta)
    amount = energy_multiplier(ta, weight, target, direction, dtype)
    wide = ta.double() + per_item(amount, ta) * direction
    return store_with_total(wide, dtype, weight, target) if exact_store else wide.to(dtype)


def energy_multiplier(
    ta: torch.Tensor, weight: torch.Tensor, target: torch.Tensor, direction: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    """Return by how much to go in a direction to reach the energy, shape (B,), float64; 0 where it is there.

    Args:
        ta: As in `correct_energy`, or in float64 before it is stored.
        weight: As in `correct_energy`.
        target: As in `correct_energy`.
        direction: As in `correct_energy`.
        dtype: That temperature is stored in; its last digit sets what is as good as there.
    """
    missing = target.to(ta.device) - weighted_total(ta, weight)
    gain = weighted_total(direction, weight)
    is_pinned = missing.abs().detach() <= total_resolution(ta.to(dtype), weight)
    return torch.where(is_pinned, 0.0, missing / torch.where(gain > 0, gain, 1.0)) * (gain > 0)
