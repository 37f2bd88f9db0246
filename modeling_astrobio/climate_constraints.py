"""Physics of climate states: of each constraint a residual and a loss, and all hard corrections in one function.

`CLIMATE_CONSTRAINTS` maps names to them, as `biochemical_constraints` does; `apply_climate_constraints` corrects a
state. What is conserved is kept in a ledger, so that rounding of one step is made good in the next and never adds up.

The order keeps every constraint true at the end. Water is made positive; then surface pressure and humidity are scaled
to the masses of dry air and water, as sum and part, so that neither undoes the other; the geopotential and temperature
balance of a column depends on humidity, on sigma levels not on pressure, and energy on all of them, so temperature and
geopotential come next, moved to the nearest state that has both hydrostatic balance and the energy; density follows.

Shape suffixes: B batch, L levels, K relations between levels, Y latitudes, X longitudes.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch

from .climate_levels import layer_mass
from .climate_residuals import (
    FLUXES_READ,
    LEDGER_KEYS,
    RESIDUALS,
    Ledger,
    advance_ledger,
    air_of,
    checked_names,
    climate_residuals,
    energy_weight,
    geopotential_of,
    hydrostatic_excess,
    ideal_gas_excess,
    open_ledger,
    present_in,
    relations_of,
    variables_read,
)
from .climate_state import ClimateSystem, State, check_climate_state, needed_in
from .constraint_dry_mass import correct_dry_mass
from .constraint_energy_budget import energy_multiplier
from .constraint_ideal_gas import gas_density
from .constraint_positive_water import positive_water
from .constraint_record import Constraint, needed
from .constraint_shallow_water import correct_shallow_water
from .constraint_totals import per_item, scale_to_total, store_dtype, store_with_total
from .constraint_water_budget import correct_water


__all__ = [
    "CLIMATE_CONSTRAINTS",
    "ClimateCorrection",
    "Ledger",
    "advance_ledger",
    "apply_climate_constraints",
    "climate_residuals",
    "open_ledger",
]

# A column whose thicknesses are off by no more, relative, or by the last digit of a geopotential, is left as it is.
_HYDROSTATIC_REST = 1e-5


class ClimateCorrection(NamedTuple):
    """What `apply_climate_constraints` returns.

    Attributes:
        state: Corrected; what was not touched is the same tensor.
        residuals: Of each constraint, of the state as stored, shape (B,), float64, relative, 0 or more.
        ledger: What the state was corrected to, of the constraints that are on; pass it to the next step.
        added_water_kg_m2: Mean mass that making water positive added, before any was taken off; shape (B,).
    """

    state: dict[str, torch.Tensor]
    residuals: dict[str, torch.Tensor]
    ledger: Ledger
    added_water_kg_m2: torch.Tensor


def apply_climate_constraints(
    state: State,
    system: ClimateSystem,
    ledger: Ledger,
    switched_on: Iterable[str],
    *,
    training: bool = False,
    validate: bool = True,
) -> ClimateCorrection:
    """Correct a state so that every constraint that is switched on holds, on the state as stored.

    All sums are float64; corrected variables are stored in their own dtype, at least float32. A state that is balanced
    already, to within the last digit of one value, is returned bit for bit.

    Args:
        state: Predicted, with its fluxes.
        system: What it lies on.
        ledger: Of the step before, see `open_ledger`.
        switched_on: Names of constraints, see `CLIMATE_CONSTRAINTS`.
        training: Clamps water smoothly, and leaves rounding as it falls: totals then hold to rounding, about 1e-8.
            Gradients flow through everything but rounding.
        validate: Whether to check shapes, missing values and units first; of data rather than of each prediction of
            an untrained model, which may be out of any range.

    Raises:
        ValueError: If a constraint is unknown, or a variable is missing or does not fit.
    """
    names = checked_names(switched_on)
    if validate:
        fluxes = () if system.closed else tuple(flux for name in names for flux in FLUXES_READ.get(name, ()))
        check_climate_state(state, system, {*variables_read(names), *fluxes})
    missing = sorted({key for name in names for key in LEDGER_KEYS.get(name, ())} - set(ledger))
    if missing:
        raise ValueError(f"ledger must hold {', '.join(missing)}; it is missing. Open it with the same constraints.")
    device = next(iter(state.values())).device
    ledger = {key: ledger[key].to(device) for name in names for key in LEDGER_KEYS.get(name, ())}
    ledger = advance_ledger(ledger, state, system)
    corrected = dict(state)
    added = torch.zeros(len(system.planet.gravity_m_s2), dtype=torch.float64, device=device)
    if "shallow_water" in names:
        corrected["h"], corrected["u"], corrected["v"] = correct_shallow_water(
            needed_in(state, "h"),
            needed_in(state, "u"),
            needed_in(state, "v"),
            ledger["layer_mass"],
            ledger["layer_energy"],
            system.planet.gravity_m_s2,
            system.cell_weights,
            exact_store=not training,
        )
    if "positive_water" in names:
        added = _make_positive(corrected, system, training, conserve="water_budget" not in names)
    if {"dry_mass", "water_budget"} & set(names):
        _correct_masses(corrected, system, ledger, names, exact_store=not training)
    if {"energy_budget", "hydrostatic"} & set(names):
        _correct_temperature(corrected, system, ledger, names, exact_store=not training)
    if "ideal_gas" in names:
        levels = system.needed_levels()
        rho = gas_density(
            needed_in(corrected, "ta"),
            needed_in(corrected, "hus"),
            needed_in(corrected, "ps"),
            system.planet,
            levels,
        )
        corrected["rho"] = rho if levels.mask is None else torch.where(levels.mask.to(rho.device), rho, torch.nan)
    return ClimateCorrection(corrected, climate_residuals(corrected, system, ledger, names), ledger, added)


def _restored(new: torch.Tensor, old: torch.Tensor, system: ClimateSystem) -> torch.Tensor:
    """Put back what missing levels held."""
    mask = system.needed_levels().mask
    return new if mask is None else torch.where(mask.to(new.device), new, old.to(new.dtype))


def _make_positive(state: dict[str, torch.Tensor], system: ClimateSystem, training: bool, conserve: bool):
    scale = system.smooth_water_scale if training else None
    hus, added = positive_water(
        present_in(state, system, "hus"), air_of(state, system), smooth_scale=scale, conserve=conserve
    )
    state["hus"] = _restored(hus, state["hus"], system)
    return added


def _correct_masses(
    state: dict[str, torch.Tensor], system: ClimateSystem, ledger: Ledger, names: list[str], exact_store: bool
) -> None:
    ps, hus, levels = needed_in(state, "ps"), present_in(state, system, "hus"), system.needed_levels()
    if "water_budget" not in names:
        state["ps"] = correct_dry_mass(
            ps, hus, ledger["dry_mass"], system.planet, levels, system.cell_weights, exact_store=exact_store
        )
        return
    if "dry_mass" in names:
        # All air is dry air and water; which water there is follows below.
        weight = layer_mass(torch.ones_like(ps), system.planet.gravity_m_s2, levels, system.cell_weights).sum(1)
        total = ledger["dry_mass"] + ledger["water"].clamp(min=0.0)
        state["ps"] = scale_to_total(ps, weight, total, exact_store=exact_store)
    corrected = correct_water(hus, air_of(state, system), ledger["water"], exact_store=exact_store)
    state["hus"] = _restored(corrected, state["hus"], system)


def _correct_temperature(
    state: dict[str, torch.Tensor], system: ClimateSystem, ledger: Ledger, names: list[str], exact_store: bool
) -> None:
    """Move temperature and geopotential to the nearest state with hydrostatic balance and the energy.

    The nearest balanced state comes first; from there, the direction that changes energy most for its length and
    leaves balance as it is leads to the energy. Both steps together are the projection on both constraints.
    """
    ta = present_in(state, system, "ta")
    dtype = store_dtype(ta)
    wide_t = ta.double()
    has_balance, has_energy = "hydrostatic" in names, "energy_budget" in names
    if has_balance:
        name, unit, wide_p = geopotential_of(state, system)
        relations = relations_of(state, system)
        packed_t, packed_p = relations.pack(wide_t), relations.pack(wide_p)
        excess = relations.residual(packed_t, packed_p)
        digit = relations.pack(_digit(state[name], system) * unit)
        allowed = _HYDROSTATIC_REST * relations.thickness(packed_t) + digit + relations.pair_BKYX * digit.roll(-1, 1)
        is_off = (excess.detach().abs() > allowed.detach()).any(1, keepdim=True)
        change_t, change_p = relations.correction(torch.where(is_off, -excess, 0.0))
        wide_t = wide_t + relations.unpack(change_t)
        wide_p = wide_p + relations.unpack(change_p)
        moved = is_off
    if has_energy:
        weight, target = energy_weight(state, system, ledger["energy"])
        hus = present_in(state, system, "hus")
        # The smallest change in the mean square over mass.
        direction = (
            system.planet.heat_capacity(hus) * (weight > 0) / per_item(system.planet.heat_capacity_dry_j_kg_k, hus)
        )
        if has_balance:
            free_t, free_p = relations.without(relations.pack(direction), torch.zeros_like(wide_p))
            direction, direction_p = relations.unpack(free_t), relations.unpack(free_p)
        amount = per_item(energy_multiplier(wide_t, weight, target, direction, dtype), wide_t)
        wide_t = wide_t + amount * direction
        if has_balance:
            wide_p = wide_p + amount * direction_p
            moved = moved | (amount != 0)
        stored = store_with_total(wide_t, dtype, weight, target) if exact_store else wide_t.to(dtype)
    else:
        stored = wide_t.to(dtype)
    state["ta"] = _restored(stored, state["ta"], system)
    if has_balance:
        phi = (wide_p / unit).to(store_dtype(state[name]))
        state[name] = _restored(torch.where(moved, phi, state[name].to(phi.dtype)), state[name], system)


def _digit(field: torch.Tensor, system: ClimateSystem) -> torch.Tensor:
    """Return the last digit of a field as stored, float64; 0 where it is missing."""
    stored = system.needed_levels().present(field.detach()).to(store_dtype(field)).abs()
    return torch.nextafter(stored, torch.full_like(stored, torch.inf)).double() - stored.double()


_DESCRIPTIONS = {
    "positive_water": "Specific humidity is not negative; negative water as a share of all.",
    "dry_mass": "Dry air keeps the mass of the initial state; relative.",
    "water_budget": "Vapour changes by evaporation less precipitation; relative to all vapour.",
    "energy_budget": "Energy changes by the net fluxes at top and ground; relative to all energy.",
    "hydrostatic": "Thicknesses are those of the virtual temperature; greatest relative excess. Loss: mean square.",
    "ideal_gas": "Density is that of the ideal gas; greatest relative excess. Loss: mean square.",
    "shallow_water": "Mass and total energy of a closed layer stay; the greater relative change.",
}


def _computed(name: str, is_loss: bool) -> Callable[..., torch.Tensor]:
    def compute(model: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> torch.Tensor:
        state = needed(outputs, "state", "a model of climate states")
        system = needed(inputs, "climate_system", "the collator of climate states", "inputs")
        ledger = inputs.get("climate_ledger") or {}
        if is_loss and name == "hydrostatic":
            return hydrostatic_excess(state, system).square().mean()
        if is_loss and name == "ideal_gas":
            return ideal_gas_excess(state, system).square().mean()
        found = RESIDUALS[name](state, system, ledger)
        return found.mean() if is_loss else found

    return compute


CLIMATE_CONSTRAINTS: dict[str, Constraint] = {
    name: Constraint(
        description,
        _computed(name, is_loss=False),
        _computed(name, is_loss=True),
        tolerance={"positive_water": 0.0, "hydrostatic": 1e-4}.get(name, 1e-6),
    )
    for name, description in _DESCRIPTIONS.items()
}
"""Inputs hold `climate_system`, and `climate_ledger` as `advance_ledger` makes it; outputs hold `state`, in the units
of `climate_state`. Loss: the mean of the residual over the batch, where no other is stated."""
