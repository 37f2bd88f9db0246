"""What a climate state is, and what must be known of its planet to judge it; checked once, at the boundary.

A state maps short names, as CMIP6 and ExoPlaSim have them, to tensors: (B, L, Y, X) on levels, (B, Y, X) at the
surface. Fluxes count downward, evaporation too, and are means over the step that leads to the state.

Shape suffixes: B batch, L levels, Y latitudes, X longitudes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from .climate_levels import VerticalLevels
from .climate_planet import PlanetParameters


__all__ = ["EVAPORATION", "GEOPOTENTIAL", "ClimateSystem", "State", "check_climate_state", "name_in", "needed_in"]

State = Mapping[str, torch.Tensor]

EVAPORATION = ("evap", "evspsbl")
"""ExoPlaSim's name and CMIP6's."""
GEOPOTENTIAL = ("z", "phi", "zg")
"""Geopotential, m2 s-2, by two names, or geopotential height, m."""

_ON_LEVELS = frozenset(("ta", "ua", "va", "hus", "rho", *GEOPOTENTIAL))
_AT_SURFACE = frozenset(("ps", "pr", "rst", "rlut", "rss", "rls", "hfss", "hfls", "h", "u", "v", *EVAPORATION))
# A mean over what it should be about, and its inverse, beyond which the unit must be another.
_MOST_RATIO = 20.0
# Likewise of the height of the whole column over that of its mean temperature.
_MOST_HEIGHT_RATIO = 4.0


@dataclass(frozen=True)
class ClimateSystem:
    """What a batch of states lies on.

    Attributes:
        planet: Of shape (B,).
        cell_weights: Shape (Y, X), sum 1, see `sphere_grid`.
        levels: Sigma or pressure levels; None for a layer of shallow water.
        step_s: Length of the step between states, s; of an open system.
        surface_geopotential: Shape (B, Y, X) or (1, Y, X), m2 s-2; zeros where all is flat.
        closed: Whether nothing comes or goes: water and energy stay, and fluxes do not count.
        liquid_density_kg_m3: If given, `pr` and evaporation are m s-1 of liquid of this density, else kg m-2 s-1.
        geopotential_offset: See `constraint_hydrostatic.hydrostatic_relations`.
        temperature_scale_k: As there.
        geopotential_scale_m2_s2: As there.
        smooth_water_scale: kg/kg; see `constraint_positive_water.smooth_clamp`.
    """

    planet: PlanetParameters
    cell_weights: torch.Tensor
    levels: VerticalLevels | None = None
    step_s: float | None = None
    surface_geopotential: torch.Tensor | None = None
    closed: bool = False
    liquid_density_kg_m3: float | None = None
    geopotential_offset: torch.Tensor | None = None
    temperature_scale_k: float = 1.0
    geopotential_scale_m2_s2: float = 100.0
    smooth_water_scale: float = 1e-6

    def needed_levels(self) -> VerticalLevels:
        """Return the levels.

        Raises:
            ValueError: If there are none.
        """
        if self.levels is None:
            raise ValueError(
                "levels must be given for constraints of an atmosphere; got None. Pass sigma_levels(...)."
            )
        return self.levels

    def ground(self, like: torch.Tensor) -> torch.Tensor:
        """Return the surface geopotential on a tensor's device, float64.

        Raises:
            ValueError: If it is not given.
        """
        if self.surface_geopotential is None:
            raise ValueError(
                "surface_geopotential must be given for the energy budget; it is missing. Pass the variable sg, or "
                "zeros of shape (1, Y, X) for a flat ground."
            )
        return self.surface_geopotential.to(like.device, torch.float64)


def name_in(state: State, names: tuple[str, ...]) -> str:
    """Return which of several names a state has.

    Raises:
        ValueError: If it has none, or more than one.
    """
    found = [name for name in names if name in state]
    if len(found) != 1:
        raise ValueError(
            f"state must hold one of {', '.join(names)}; got {', '.join(found) or 'none'}. Add it or leave the others "
            "out, or switch the constraint off."
        )
    return found[0]


def needed_in(state: State, name: str) -> torch.Tensor:
    """Return a variable of a state.

    Raises:
        ValueError: If it is missing.
    """
    if name not in state:
        raise ValueError(
            f"state must hold {name}; got {', '.join(sorted(state))}. Add it, or switch the constraint off."
        )
    return state[name]


def check_climate_state(state: State, system: ClimateSystem, names: Iterable[str] | None = None) -> None:
    """Check shapes, missing values and units of the variables that constraints read.

    Args:
        state: Predicted.
        system: What it lies on.
        names: Variables to check; all that constraints know by default.

    Raises:
        ValueError: If a variable does not fit; names it, the axis and the remedy.
    """
    system.planet.checked()
    batch = len(system.planet.gravity_m_s2)
    surface = (batch, *system.cell_weights.shape)
    checked = sorted(state) if names is None else list(names)
    for name in checked:
        if name not in _ON_LEVELS | _AT_SURFACE or name not in state:
            continue
        field = state[name]
        axes = "(batch, latitude, longitude)"
        expected: tuple[int, ...] = surface
        if name in _ON_LEVELS:
            axes = "(batch, level, latitude, longitude)"
            expected = (batch, len(system.needed_levels().mid), *surface[1:])
        if tuple(field.shape) != expected:
            raise ValueError(
                f"{name} must have axes {axes} = {expected}; got shape {tuple(field.shape)}. Transpose it, or pass "
                "the planet, levels and grid that it lies on."
            )
        if name in _ON_LEVELS:
            field = system.needed_levels().present(field)
        is_finite = field.isfinite()
        if not bool(is_finite.all()):
            place = is_finite.logical_not().nonzero()[0].tolist()
            raise ValueError(
                f"{name} must be finite; it is {field[tuple(place)]} at {axes} = {tuple(place)}. Mask missing levels "
                "with the mask of the levels, and fill or drop other missing values."
            )
        _check_unit(name, field, system)
    _check_evaporation(state, system, checked)
    _check_geopotential(state, system, checked)


def _check_evaporation(state: State, system: ClimateSystem, names: list[str]) -> None:
    """Compare evaporation with the latent heat that it carries."""
    evaporation = next((name for name in EVAPORATION if name in state and name in names), None)
    if evaporation is None or "hfls" not in state or "hfls" not in names:
        return
    density = 1.0 if system.liquid_density_kg_m3 is None else system.liquid_density_kg_m3
    latent = system.planet.latent_heat_j_kg.to(state["hfls"].device, torch.float64)
    carried = state[evaporation].double().abs().mean((1, 2)) * density * latent
    stated = state["hfls"].double().abs().mean((1, 2))
    both = (carried > 0) & (stated > 0)
    ratio = torch.where(both, carried / torch.where(both, stated, 1.0), 1.0)
    worst = ratio[ratio.log().abs().argmax()].item()
    if not 1 / _MOST_RATIO < worst < _MOST_RATIO:
        raise ValueError(
            f"{evaporation} must carry about the latent heat of hfls, W m-2; it carries {worst:g} times it. Give "
            "evaporation and pr in kg m-2 s-1, or in m s-1 with liquid_density_kg_m3, and hfls in W m-2."
        )


def _check_geopotential(state: State, system: ClimateSystem, names: list[str]) -> None:
    """Compare the height of the column with its mean temperature, where no level is missing in some cells alone."""
    name = next((name for name in GEOPOTENTIAL if name in state and name in names), None)
    if name is None or "ta" not in state or "ta" not in names:
        return
    levels = system.needed_levels()
    keep = torch.ones(len(levels.mid), dtype=torch.bool) if levels.mask is None else levels.mask.cpu().flatten()
    places = keep.nonzero().flatten()
    if len(keep) != len(levels.mid) or len(places) < 2:
        return
    field, first, last = state[name], int(places[0]), int(places[-1])
    unit = system.planet.gravity_m_s2 if name == "zg" else torch.ones(())
    height = unit.to(field.device) * (field[:, first].double() - field[:, last].double()).mean((1, 2))
    mean = state["ta"][:, places.to(field.device)].double().mean((1, 2, 3))
    depth = (levels.mid[last] / levels.mid[first]).log().item()
    ratio = height / (system.planet.gas_constant_dry_j_kg_k.to(field.device) * mean * depth)
    wrong = (ratio < 1 / _MOST_HEIGHT_RATIO) | (ratio > _MOST_HEIGHT_RATIO)
    if bool(wrong.any()):
        raise ValueError(
            f"{name} must rise from the ground to the top by about Rd * mean ta * ln(p); it rises "
            f"{ratio[wrong][0].item():g} times that. zg is in m, z and phi are in m2 s-2; if it falls, flip the level "
            "axis of the variables, which must go from the top to the ground as the levels do."
        )


def _check_unit(name: str, field: torch.Tensor, system: ClimateSystem) -> None:
    least, most = (value.item() for value in field.aminmax())
    if name == "ps":
        ratios = field.double().mean((1, 2)) / system.planet.surface_pressure_pa.to(field.device, torch.float64)
        ratio = ratios[(ratios.log().abs() if least > 0 else ratios).argmax()].item()
        if least <= 0 or not 1 / _MOST_RATIO < ratio < _MOST_RATIO:
            raise ValueError(
                f"ps must be in Pa, above 0 and near the planet's surface_pressure_pa; got {least:g} to {most:g}, "
                f"{ratio:g} times it. Multiply hPa by 100 and bar by 100000."
            )
    elif name in ("ta", "rho", "h"):
        if name == "ta":
            # A missing level is 0 here.
            mask = system.needed_levels().mask
            least = least if mask is None else torch.where(mask.to(field.device), field, most).min().item()
        if name != "rho" and least <= 0:
            unit, remedy = ("K", "Add 273.15 to degrees Celsius") if name == "ta" else ("m", "Add the mean depth")
            raise ValueError(f"{name} must be in {unit}, above 0; got {least:g} to {most:g}. {remedy}.")
    elif name == "hus" and (most > 1.0 or least < -1.0):
        raise ValueError(f"hus must be in kg/kg, at most 1; got {least:g} to {most:g}. Divide g/kg by 1000.")
