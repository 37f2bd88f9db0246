"""Water vapour as a budget: what it changes by is evaporation less precipitation; pinned where nothing comes or goes.

All fluxes count downward, as ExoPlaSim writes them: evaporation is negative where water leaves the ground.

Shape suffixes: B batch, L levels, Y latitudes, X longitudes.
"""

import torch

from .constraint_totals import scale_to_total, weighted_total
from .sphere_grid import area_mean


__all__ = ["correct_water", "water_inflow", "water_mass"]


def water_mass(hus: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
    """Return the mean mass of vapour above a square metre, precipitable water, kg m-2, shape (B,), float64.

    Args:
        hus: Specific humidity, shape (B, L, Y, X), kg/kg.
        mass: Of air, same shape, see `climate_levels.layer_mass`.
    """
    return weighted_total(hus, mass)


def water_inflow(
    evaporation: torch.Tensor,
    precipitation: torch.Tensor,
    step_s: float,
    cell_weights: torch.Tensor,
    liquid_density_kg_m3: float | None = None,
) -> torch.Tensor:
    """Return the mean mass of water that the atmosphere gains in a step, kg m-2, shape (B,), float64.

    Integral of evaporation less precipitation (Peixoto and Oort 1992, Physics of Climate, eq. 12.9, over the globe).

    Args:
        evaporation: Mean over the step, shape (B, Y, X), downward: negative where water leaves the ground.
        precipitation: Mean over the step, same shape, downward: 0 or more.
        step_s: Length of the step, s.
        cell_weights: Shape (Y, X), sum 1.
        liquid_density_kg_m3: If given, rates are m s-1 of liquid of this density; else kg m-2 s-1.
    """
    factor = 1.0 if liquid_density_kg_m3 is None else liquid_density_kg_m3
    return -step_s * factor * (area_mean(evaporation, cell_weights) + area_mean(precipitation, cell_weights))


def correct_water(
    hus: torch.Tensor, mass: torch.Tensor, target: torch.Tensor, *, exact_store: bool = True
) -> torch.Tensor:
    """Scale specific humidity so that the mass of vapour is the target; 0 stays 0 and no sign changes.

    Args:
        hus: Specific humidity, shape (B, L, Y, X), kg/kg.
        mass: Of air, same shape, see `climate_levels.layer_mass`.
        target: Shape (B,), float64, kg m-2. Below 0, where more is said to rain out than there is, all vapour goes
            and the residual shows what was not there.
        exact_store: See `constraint_totals.scale_to_total`.

    Returns:
        Shape (B, L, Y, X), of at least float32.
    """
    return scale_to_total(hus, mass, target, exact_store=exact_store)
