"""What climate states hold of what is conserved, and how far they are from each constraint.

Shape suffixes: B batch, L levels, K relations between levels, Y latitudes, X longitudes.
"""

from collections.abc import Callable, Iterable

import torch

from .climate_levels import layer_mass
from .climate_planet import PlanetParameters
from .climate_state import EVAPORATION, GEOPOTENTIAL, ClimateSystem, State, check_climate_state, name_in, needed_in
from .constraint_dry_mass import dry_mass, relative_residual
from .constraint_energy_budget import SURFACE_FLUXES, TOP_FLUXES, energy_inflow, energy_parts
from .constraint_hydrostatic import HydrostaticRelations, hydrostatic_relations, relative_hydrostatic_residual
from .constraint_ideal_gas import ideal_gas_residual
from .constraint_positive_water import negative_water
from .constraint_record import needed
from .constraint_shallow_water import shallow_water_energy, shallow_water_mass
from .constraint_totals import per_item, weighted_total
from .constraint_water_budget import water_inflow, water_mass


__all__ = [
    "FLUXES_READ",
    "LEDGER_KEYS",
    "PLANET_READ",
    "RESIDUALS",
    "Ledger",
    "advance_ledger",
    "air_of",
    "checked_names",
    "climate_residuals",
    "energy_weight",
    "geopotential_of",
    "hydrostatic_excess",
    "ideal_gas_excess",
    "open_ledger",
    "present_in",
    "relations_of",
    "variables_read",
]

Ledger = dict[str, torch.Tensor]
"""What a state must hold, float64, shape (B,): `dry_mass` and `water`, kg m-2, `energy`, J m-2; of shallow water
`layer_mass`, m, and `layer_energy`, m3 s-2; those that the constraints need."""

_READS = {
    "positive_water": ("ps", "hus"),
    "dry_mass": ("ps", "hus"),
    "water_budget": ("ps", "hus"),
    "energy_budget": ("ps", "hus", "ta", "ua", "va"),
    "hydrostatic": ("hus", "ta", *GEOPOTENTIAL),
    "ideal_gas": ("ps", "hus", "ta"),
    "shallow_water": ("h", "u", "v"),
}
_AIR = ("gas_constant_dry_j_kg_k", "gas_constant_vapour_j_kg_k")
_MASS = ("gravity_m_s2", "surface_pressure_pa")
PLANET_READ = {
    "positive_water": _MASS,
    "dry_mass": _MASS,
    "water_budget": _MASS,
    "energy_budget": PlanetParameters._fields,
    "hydrostatic": ("gravity_m_s2", *_AIR),
    "ideal_gas": ("surface_pressure_pa", *_AIR),
    "shallow_water": ("gravity_m_s2",),
}
"""Parameters of the planet that each constraint, and the check of what it reads, needs."""

FLUXES_READ = {"water_budget": ("pr", *EVAPORATION), "energy_budget": (*TOP_FLUXES, *SURFACE_FLUXES)}


def open_ledger(state: State, system: ClimateSystem, switched_on: Iterable[str]) -> Ledger:
    """Return what an initial state holds of what the constraints conserve.

    Args:
        state: Initial.
        system: What it lies on.
        switched_on: Names of constraints.

    Raises:
        ValueError: If a constraint is unknown, or a variable is missing or does not fit.
    """
    names = checked_names(switched_on)
    check_climate_state(state, system, variables_read(names))
    ledger: Ledger = {}
    if "shallow_water" in names:
        ledger["layer_mass"], ledger["layer_energy"] = _layer_totals(state, system)
    if "dry_mass" in names:
        ledger["dry_mass"] = _dry_mass(state, system)
    if "water_budget" in names:
        ledger["water"] = _water(state, system)
    if "energy_budget" in names:
        ledger["energy"] = _energy(state, system)
    return ledger


def advance_ledger(ledger: Ledger, state: State, system: ClimateSystem) -> Ledger:
    """Add what the fluxes of a state bring in its step; of a closed system nothing.

    Args:
        ledger: Of the step before.
        state: With the fluxes.
        system: With the length of the step.

    Raises:
        ValueError: If the length of the step or a flux is missing.
    """
    advanced = dict(ledger)
    if system.closed or not {"water", "energy"} & set(ledger):
        return advanced
    if system.step_s is None:
        raise ValueError("step_s must be given in an open system; it is missing. Pass the step's length in seconds.")
    if "water" in ledger:
        evaporation = state[name_in(state, EVAPORATION)]
        rain = needed_in(state, "pr")
        gain = water_inflow(evaporation, rain, system.step_s, system.cell_weights, system.liquid_density_kg_m3)
        advanced["water"] = ledger["water"].to(gain.device) + gain
    if "energy" in ledger:
        fluxes = {name: needed_in(state, name) for name in (*TOP_FLUXES, *SURFACE_FLUXES)}
        gain = energy_inflow(fluxes, system.step_s, system.cell_weights)
        advanced["energy"] = ledger["energy"].to(gain.device) + gain
    return advanced


def climate_residuals(
    state: State, system: ClimateSystem, ledger: Ledger, names: Iterable[str]
) -> dict[str, torch.Tensor]:
    """Return how far a state is from each constraint, relative, 0 or more, float64, shape (B,).

    Args:
        state: To judge.
        system: What it lies on.
        ledger: What the state must hold: that of its own step, see `advance_ledger`.
        names: Of constraints.
    """
    return {name: RESIDUALS[name](state, system, ledger) for name in checked_names(names)}


def checked_names(names: Iterable[str]) -> list[str]:
    names = list(names)
    unknown = [name for name in names if name not in RESIDUALS]
    if unknown:
        raise ValueError(f"constraints must be of {', '.join(RESIDUALS)}; got {', '.join(unknown)}.")
    return names


def variables_read(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(variable for name in names for variable in _READS[name])


def air_of(state: State, system: ClimateSystem) -> torch.Tensor:
    return layer_mass(needed_in(state, "ps"), system.planet.gravity_m_s2, system.needed_levels(), system.cell_weights)


def present_in(state: State, system: ClimateSystem, name: str) -> torch.Tensor:
    return system.needed_levels().present(needed_in(state, name))


def relations_of(state: State, system: ClimateSystem) -> HydrostaticRelations:
    return hydrostatic_relations(
        present_in(state, system, "hus"),
        system.planet,
        system.needed_levels(),
        ps=state.get("ps"),
        surface_geopotential=system.surface_geopotential,
        offset=system.geopotential_offset,
        temperature_scale_k=system.temperature_scale_k,
        geopotential_scale_m2_s2=system.geopotential_scale_m2_s2,
    )


def geopotential_of(state: State, system: ClimateSystem) -> tuple[str, torch.Tensor, torch.Tensor]:
    """Return its name, its unit in m2 s-2, and itself in m2 s-2, float64."""
    name = name_in(state, GEOPOTENTIAL)
    field = present_in(state, system, name)
    unit = per_item(system.planet.gravity_m_s2, field)
    unit = unit if name == "zg" else torch.ones_like(unit)
    return name, unit, field.double() * unit


def energy_weight(state: State, system: ClimateSystem, energy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return energy for each kelvin, (B, L, Y, X), and what of the energy is left for temperature, (B,)."""
    hus = needed_in(state, "hus")
    weight, rest = energy_parts(
        hus,
        needed_in(state, "ua"),
        needed_in(state, "va"),
        air_of(state, system),
        system.ground(hus),
        system.planet,
        system.needed_levels(),
    )
    return weight, energy.to(rest.device) - rest


def _dry_mass(state: State, system: ClimateSystem) -> torch.Tensor:
    ps, hus = needed_in(state, "ps"), needed_in(state, "hus")
    return dry_mass(ps, hus, system.planet, system.needed_levels(), system.cell_weights)


def _water(state: State, system: ClimateSystem) -> torch.Tensor:
    return water_mass(present_in(state, system, "hus"), air_of(state, system))


def _energy(state: State, system: ClimateSystem) -> torch.Tensor:
    weight, negative_rest = energy_weight(state, system, torch.zeros(()))
    return weighted_total(present_in(state, system, "ta"), weight) - negative_rest


def _layer_totals(state: State, system: ClimateSystem) -> tuple[torch.Tensor, torch.Tensor]:
    h, u, v = (needed_in(state, name) for name in ("h", "u", "v"))
    energy = shallow_water_energy(h, u, v, system.planet.gravity_m_s2, system.cell_weights)
    return shallow_water_mass(h, system.cell_weights), energy


def hydrostatic_excess(state: State, system: ClimateSystem) -> torch.Tensor:
    *_, phi = geopotential_of(state, system)
    return relative_hydrostatic_residual(relations_of(state, system), present_in(state, system, "ta"), phi)


def ideal_gas_excess(state: State, system: ClimateSystem) -> torch.Tensor:
    return ideal_gas_residual(
        needed_in(state, "rho"),
        needed_in(state, "ta"),
        needed_in(state, "hus"),
        needed_in(state, "ps"),
        system.planet,
        system.needed_levels(),
    )


def _positive_water_residual(state: State, system: ClimateSystem, ledger: Ledger) -> torch.Tensor:
    return negative_water(present_in(state, system, "hus"), air_of(state, system))


def _dry_mass_residual(state: State, system: ClimateSystem, ledger: Ledger) -> torch.Tensor:
    return relative_residual(_dry_mass(state, system), needed(ledger, "dry_mass", "open_ledger", "ledger")).abs()


def _water_residual(state: State, system: ClimateSystem, ledger: Ledger) -> torch.Tensor:
    return relative_residual(_water(state, system), needed(ledger, "water", "open_ledger", "ledger")).abs()


def _energy_residual(state: State, system: ClimateSystem, ledger: Ledger) -> torch.Tensor:
    return relative_residual(_energy(state, system), needed(ledger, "energy", "open_ledger", "ledger")).abs()


def _hydrostatic_residual(state: State, system: ClimateSystem, ledger: Ledger) -> torch.Tensor:
    return hydrostatic_excess(state, system).abs().flatten(1).amax(1)


def _ideal_gas_residual(state: State, system: ClimateSystem, ledger: Ledger) -> torch.Tensor:
    return ideal_gas_excess(state, system).abs().flatten(1).amax(1)


def _shallow_water_residual(state: State, system: ClimateSystem, ledger: Ledger) -> torch.Tensor:
    mass, energy = _layer_totals(state, system)
    off = (
        relative_residual(mass, needed(ledger, "layer_mass", "open_ledger", "ledger")),
        relative_residual(energy, needed(ledger, "layer_energy", "open_ledger", "ledger")),
    )
    return torch.stack(off).abs().amax(0)


RESIDUALS: dict[str, Callable[[State, ClimateSystem, Ledger], torch.Tensor]] = {
    "positive_water": _positive_water_residual,
    "dry_mass": _dry_mass_residual,
    "water_budget": _water_residual,
    "energy_budget": _energy_residual,
    "hydrostatic": _hydrostatic_residual,
    "ideal_gas": _ideal_gas_residual,
    "shallow_water": _shallow_water_residual,
}
LEDGER_KEYS = {
    "dry_mass": ("dry_mass",),
    "water_budget": ("water",),
    "energy_budget": ("energy",),
    "shallow_water": ("layer_mass", "layer_energy"),
}
