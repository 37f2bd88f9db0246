"""Every constraint that is on holds on the state as stored, all together, for as long as one likes."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from climate_states import (
    ALL,
    BATCH,
    COLUMNS,
    LEVELS,
    ROWS,
    climate_state,
    climate_system,
    disturbed,
    naive_inflows,
    naive_totals,
)

from modeling_astrobio.climate_constraints import (
    CLIMATE_CONSTRAINTS,
    advance_ledger,
    apply_climate_constraints,
    climate_residuals,
    open_ledger,
)
from modeling_astrobio.climate_levels import pressure_levels
from modeling_astrobio.climate_residuals import relations_of
from modeling_astrobio.constraint_hydrostatic import hydrostatic_relations, relative_hydrostatic_residual
from modeling_astrobio.sphere_grid import area_mean
from modeling_astrobio.training.constraint_terms import constraint_loss_terms, constraint_residuals


TOUCHED = {
    "positive_water": {"hus"},
    "dry_mass": {"ps"},
    "water_budget": {"hus"},
    "energy_budget": {"ta"},
    "hydrostatic": {"ta", "zg"},
    "ideal_gas": {"rho"},
}


def closed(system):
    return dataclasses.replace(system, closed=True)


def check_by_loops(state, system, totals, names=ALL):
    """Assert what is stored, by loops and not by what is tested: relative 1e-8, where 1e-6 is asked for."""
    found = naive_totals(state, system)
    for column, name in enumerate(("dry_mass", "water_budget", "energy_budget")):
        if name in names:
            np.testing.assert_allclose(found[:, column], totals[:, column], rtol=1e-8, err_msg=name)
    if "positive_water" in names:
        assert torch.where(state["hus"].isnan(), 0.0, state["hus"]).min() >= 0
    if "hydrostatic" in names:
        phi = state["zg"].double() * system.planet.gravity_m_s2.view(-1, 1, 1, 1)
        rows = relative_hydrostatic_residual(
            relations_of(state, system), system.levels.present(state["ta"]), system.levels.present(phi)
        )
        assert rows.abs().max() < 1.5e-5


SUBSETS = [ALL, *((name,) for name in ALL), *itertools.combinations(ALL, 2), ALL[1:4], ("dry_mass", *ALL[3:])]


@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_what_is_on_holds_and_what_is_not_touched_is_bit_equal(names):
    system = climate_system()
    start = climate_state(system)
    totals = naive_totals(start, system)
    totals[:, 1:] += naive_inflows(start, system)
    ledger = open_ledger(start, system, names)
    predicted = disturbed(start)
    before = {name: field.clone() for name, field in predicted.items()}
    found = apply_climate_constraints(predicted, system, ledger, names)
    check_by_loops(found.state, system, totals, names)
    touched = set().union(*(TOUCHED[name] for name in names))
    for name, field in before.items():
        assert torch.equal(predicted[name], field), f"{name} was changed in place"
        if name not in touched:
            assert found.state[name] is predicted[name]
        assert found.state[name].dtype == torch.float32
    assert set(found.state) == set(before) | ({"rho"} & touched)
    assert set(found.residuals) == set(names)
    for name, residual in found.residuals.items():
        assert residual.max() <= CLIMATE_CONSTRAINTS[name].tolerance
    assert (found.added_water_kg_m2 > 0).all().item() == ("positive_water" in names)


@pytest.mark.parametrize("names", [ALL, *((name,) for name in ALL)], ids="+".join)
def test_a_balanced_state_is_a_fixed_point_bit_for_bit(names):
    system = closed(climate_system())
    start = climate_state(system)
    ledger = open_ledger(start, system, names)
    same = apply_climate_constraints(start, system, ledger, names)
    assert all(torch.equal(same.state[name], start[name]) for name in start)
    state = apply_climate_constraints(disturbed(start), system, ledger, names).state
    for _ in range(20):
        again = apply_climate_constraints(state, system, ledger, names).state
        assert all(torch.equal(again[name], state[name]) for name in state)
        state = again


def test_an_item_that_is_balanced_is_left_beside_one_that_is_not():
    system = closed(climate_system())
    start = climate_state(system)
    ledger = open_ledger(start, system, ALL)
    other = disturbed(start)
    mixed = {name: torch.stack([start[name][0], other[name][1]]) for name in start}
    found = apply_climate_constraints(mixed, system, ledger, ALL).state
    assert all(torch.equal(found[name][0], start[name][0]) for name in start)
    assert not torch.equal(found["ta"][1], other["ta"][1])


def test_a_thousand_steps_keep_the_budgets():
    # As a roll-out: each step starts of what the last one stored; fluxes change, and the model drifts one way.
    system = climate_system(rows=5, columns=8)
    start = state = climate_state(system)
    totals = naive_totals(state, system)
    dry = totals[:, 0].copy()
    ledger = open_ledger(state, system, ALL)
    generator = torch.Generator().manual_seed(0)
    for step in range(1, 1001):
        changed = {**state, **fluxes_of_a_step(start, system.cell_weights, generator, step)}
        changed["ps"] = state["ps"] * 1.0004
        changed["hus"] = state["hus"] * 0.9997 + 1e-6 * torch.randn(state["hus"].shape, generator=generator)
        changed["ta"] = state["ta"] + 0.05 + 0.2 * torch.randn(state["ta"].shape, generator=generator)
        changed["zg"] = state["zg"] + 9.0 * torch.randn(state["zg"].shape, generator=generator)
        totals[:, 1:] += naive_inflows(changed, system)
        found = apply_climate_constraints(changed, system, ledger, ALL, validate=step == 1)
        state, ledger = found.state, found.ledger
        if step in (1, 100, 1000):
            check_by_loops(state, system, totals)
            np.testing.assert_allclose(naive_totals(state, system)[:, 0], dry, rtol=1e-8)


def fluxes_of_a_step(start, weights, generator, step):
    """Fluxes with noise; evaporation and rain, and what comes in and goes out, swing about balance."""
    names = ("evap", "pr", "rst", "rlut", "rss", "rls", "hfss", "hfls")
    fluxes = {name: start[name] * (1 + 0.1 * torch.randn(start[name].shape, generator=generator)) for name in names}
    swing = 1 + 0.05 * np.sin(step / 30)
    rain, evaporation = (area_mean(fluxes[name], weights).float()[:, None, None] for name in ("pr", "evap"))
    fluxes["pr"] = -fluxes["pr"] * swing * evaporation / rain
    out = fluxes["rst"] + fluxes["rlut"] - fluxes["rls"] - fluxes["hfss"] - fluxes["hfls"]
    fluxes["rss"] = out * swing
    return fluxes


@pytest.mark.parametrize("per_cell", [False, True])
def test_missing_levels_keep_what_they_hold_and_count_for_nothing(per_cell):
    mask = torch.tensor([True, True, False, True, True])
    if per_cell:
        mask = torch.rand(BATCH, LEVELS, ROWS, COLUMNS, generator=torch.Generator().manual_seed(3)) > 0.2
        mask[0, :, 2, 2] = False
    system = climate_system(mask)
    whole = climate_state(climate_system())
    present = system.levels.mask.expand(BATCH, LEVELS, ROWS, COLUMNS)
    start = {
        name: torch.where(present, field, torch.nan) if field.ndim == 4 else field for name, field in whole.items()
    }
    totals = naive_totals(start, system)
    totals[:, 1:] += naive_inflows(start, system)
    ledger = open_ledger(start, system, ALL)
    found = apply_climate_constraints(disturbed(start), system, ledger, ALL)
    check_by_loops(found.state, system, totals)
    for name in ("ta", "hus", "zg", "rho"):
        assert torch.equal(found.state[name].isnan(), ~present)
    again = apply_climate_constraints(found.state, closed(system), found.ledger, ALL)
    for name in ("ta", "hus", "zg", "ps"):
        assert torch.equal(again.state[name].nan_to_num(0.0), found.state[name].nan_to_num(0.0))


def test_temperature_and_geopotential_go_to_the_nearest_state_with_balance_and_energy():
    # Against dense least squares over all columns of a planet at once.
    system = climate_system(rows=2, columns=3, batch=1, closed=True, temperature_scale_k=0.7)
    start = climate_state(system, torch.float64)
    names = ("energy_budget", "hydrostatic")
    ledger = open_ledger(start, system, names)
    ledger = {"energy": ledger["energy"] * 1.004}
    predicted = disturbed(start)
    found = apply_climate_constraints(predicted, system, ledger, names).state
    gravity = system.planet.gravity_m_s2.item()
    relations = hydrostatic_relations(
        predicted["hus"],
        system.planet,
        system.levels,
        surface_geopotential=system.surface_geopotential,
        temperature_scale_k=0.7,
    )
    shape = predicted["ta"].shape
    size = predicted["ta"].numel()

    def constraints(vector):
        ta, phi = vector.view(2, *shape)
        return relations.residual(ta, phi).flatten()

    now = torch.cat([predicted["ta"].flatten(), gravity * predicted["zg"].flatten()])
    matrix = torch.autograd.functional.jacobian(constraints, now)
    capacity = system.planet.heat_capacity(predicted["hus"])
    mass = system.cell_weights * predicted["ps"][:, None] / gravity
    mass = mass * system.levels.interfaces.diff().view(1, -1, 1, 1)
    energy = torch.cat([(capacity * mass).flatten(), torch.zeros(size)])
    missing = ledger["energy"] - torch.from_numpy(naive_totals(predicted, system)[:, 2])
    matrix = torch.cat([matrix, energy[None]]).numpy()
    right = torch.cat([-constraints(now), missing]).numpy()
    scale = torch.cat([0.7 / mass.sqrt().flatten(), 100.0 / mass.sqrt().flatten()]).numpy()
    balance = np.abs(matrix * scale).max(1)
    expected = scale * np.linalg.lstsq(matrix * scale / balance[:, None], right / balance, rcond=None)[0]
    change = torch.cat([found["ta"].flatten(), gravity * found["zg"].flatten()]) - now
    np.testing.assert_allclose(change, expected, rtol=1e-6, atol=1e-6)


def test_a_climatological_offset_is_what_the_balance_is_about():
    system = climate_system()
    start = climate_state(system)
    gravity = system.planet.gravity_m_s2.view(-1, 1, 1, 1)
    offset = 300.0 * torch.randn(LEVELS, ROWS, COLUMNS, generator=torch.Generator().manual_seed(4)).double()
    shifted = {**start, "zg": (start["zg"].double() + offset / gravity).float()}
    with_offset = dataclasses.replace(system, geopotential_offset=offset)
    found = apply_climate_constraints(shifted, with_offset, {}, ["hydrostatic"])
    assert torch.equal(found.state["zg"], shifted["zg"])
    assert found.residuals["hydrostatic"].max() < 1e-5
    without = apply_climate_constraints(shifted, system, {}, ["hydrostatic"])
    assert (without.state["zg"] - shifted["zg"]).abs().max() > 1.0


def test_geopotential_has_two_names_and_height_one():
    system = climate_system()
    predicted = disturbed(climate_state(system, torch.float64))
    height = apply_climate_constraints(predicted, system, {}, ["hydrostatic"]).state
    gravity = system.planet.gravity_m_s2.view(-1, 1, 1, 1)
    for name in ("z", "phi"):
        other = {key: field for key, field in predicted.items() if key != "zg"}
        other[name] = predicted["zg"] * gravity
        found = apply_climate_constraints(other, system, {}, ["hydrostatic"]).state
        torch.testing.assert_close(found[name], height["zg"] * gravity, rtol=1e-12, atol=1e-9)
        torch.testing.assert_close(found["ta"], height["ta"], rtol=1e-12, atol=0)


def test_pressure_levels_are_balanced_but_have_no_budgets():
    levels = pressure_levels(torch.tensor([1e3, 5e3, 1e4, 2e4, 3e4]))
    system = climate_system(levels=levels, surface_geopotential=None)
    predicted = disturbed(climate_state(climate_system()))
    found = apply_climate_constraints(predicted, system, {}, ["hydrostatic", "ideal_gas"])
    assert found.residuals["hydrostatic"].max() < 1e-5
    assert torch.equal(found.state["ps"], predicted["ps"])
    with pytest.raises(ValueError, match=r"need sigma levels.*Interpolate axis L to sigma, or switch"):
        open_ledger(predicted, system, ["dry_mass"])


def test_narrow_states_are_stored_in_float32():
    system = climate_system()
    start = climate_state(system)
    ledger = open_ledger(start, system, ALL)
    narrow = {name: field.bfloat16() for name, field in disturbed(start).items()}
    found = apply_climate_constraints(narrow, closed(system), ledger, ALL)
    for name in ("ta", "hus", "ps", "zg", "rho"):
        assert found.state[name].dtype == torch.float32
    assert found.state["ua"] is narrow["ua"]
    check_by_loops(found.state, system, np.stack([ledger[key] for key in ("dry_mass", "water", "energy")], 1))


def test_more_rain_than_there_is_water_leaves_none_and_the_residual_says_so():
    system = climate_system()
    start = climate_state(system)
    ledger = open_ledger(start, system, ALL)
    found = apply_climate_constraints({**start, "pr": start["pr"] + 1.0}, system, ledger, ALL)
    assert found.state["hus"].abs().max() == 0
    assert (found.residuals["water_budget"] > 0.5).all()
    assert found.residuals["hydrostatic"].max() < 1e-4


def test_training_has_the_right_gradients():
    system = climate_system(rows=2, columns=2, batch=1, smooth_water_scale=1e-3)
    start = climate_state(system, torch.float64)
    ledger = open_ledger(start, system, ALL)
    scales = {"ta": 100.0, "hus": 0.01, "ps": 1e5, "zg": 1e4, "pr": 1e-4, "rst": 100.0, "ua": 10.0}
    predicted = disturbed(start)
    inputs = [(predicted[name] / scale).requires_grad_() for name, scale in scales.items()]

    def correct(*values):
        state = {**predicted, **{name: scales[name] * value for name, value in zip(scales, values, strict=True)}}
        found = apply_climate_constraints(state, system, ledger, ALL, training=True).state
        return tuple(found[name] / scales.get(name, 1.0) for name in ("ta", "hus", "ps", "zg", "rho"))

    assert torch.autograd.gradcheck(correct, inputs, atol=1e-6)


def test_training_holds_to_rounding():
    system = climate_system()
    start = climate_state(system)
    totals = naive_totals(start, system)
    predicted = {name: field.requires_grad_() for name, field in disturbed(start).items()}
    found = apply_climate_constraints(predicted, closed(system), open_ledger(start, system, ALL), ALL, training=True)
    stored = {name: field.detach() for name, field in found.state.items()}
    np.testing.assert_allclose(naive_totals(stored, system), totals, rtol=1e-7)
    assert stored["hus"].min() > 0
    sum(found.state[name].square().mean() for name in ("ta", "hus", "ps", "zg", "rho")).backward()
    for name in ("ta", "hus", "ps", "zg", "ua", "va"):
        assert predicted[name].grad.isfinite().all()
        assert predicted[name].grad.abs().max() > 0


def shallow_case():
    system = dataclasses.replace(climate_system(closed=True), levels=None, surface_geopotential=None)
    h, u, v = torch.randn(3, BATCH, ROWS, COLUMNS, generator=torch.Generator().manual_seed(0))
    return system, {"h": 3000.0 + 50.0 * h, "u": 10.0 * u, "v": 7.0 * v, "ts": h}


def test_shallow_water_is_one_of_them():
    system, start = shallow_case()
    ledger = open_ledger(start, system, ["shallow_water"])
    changed = {name: 1.01 * field for name, field in start.items()}
    found = apply_climate_constraints(changed, system, ledger, ["shallow_water"])
    assert found.residuals["shallow_water"].max() < 2e-8
    assert found.state["ts"] is changed["ts"]
    assert found.added_water_kg_m2.tolist() == [0.0, 0.0]


def test_the_registry_has_residuals_and_losses_for_the_training_library():
    system = climate_system()
    start = climate_state(system, torch.float64)
    ledger = advance_ledger(open_ledger(start, system, ALL), start, system)
    right = apply_climate_constraints(start, system, open_ledger(start, system, ALL), ALL)
    inputs = {"climate_system": system, "climate_ledger": ledger}
    kept = constraint_residuals(ALL, None, inputs, {"state": right.state}, CLIMATE_CONSTRAINTS)
    assert all(numbers["share_kept"] == 1.0 for numbers in kept.values())
    state = {**disturbed(start), "rho": right.state["rho"]}
    state = {name: field.clone().requires_grad_() for name, field in state.items()}
    expected = climate_residuals(state, system, ledger, ALL)
    totals = np.stack([ledger[key] for key in ("dry_mass", "water", "energy")], 1)
    off = np.abs(naive_totals(state, system) / totals - 1)
    for column, name in enumerate(("dry_mass", "water_budget", "energy_budget")):
        np.testing.assert_allclose(expected[name].detach(), off[:, column], rtol=1e-6)
    for term in constraint_loss_terms(dict.fromkeys(ALL, 1.0), CLIMATE_CONSTRAINTS):
        found = constraint_residuals([term.name], None, inputs, {"state": state}, CLIMATE_CONSTRAINTS)[term.name]
        assert found["share_kept"] == 0.0
        assert found["greatest"] == pytest.approx(expected[term.name].max().item())
        loss = CLIMATE_CONSTRAINTS[term.name].loss(None, inputs, {"state": state})
        gradients = torch.autograd.grad(loss, list(state.values()), allow_unused=True)
        assert any(each is not None and each.abs().max() > 0 for each in gradients)
    with pytest.raises(ValueError, match=r"inputs must hold climate_system, as the collator"):
        CLIMATE_CONSTRAINTS["dry_mass"].residual(None, {}, {"state": state})


def without(state, *names):
    return {name: field for name, field in state.items() if name not in names}


def with_nan(field):
    field = field.clone()
    field[1, 2, 3] = torch.nan
    return field


FAULTS = {
    "hPa": (lambda s: {**s, "ps": s["ps"] / 100}, r"ps must be in Pa.*times it. Multiply hPa by 100"),
    "one planet in bar": (
        lambda s: {**s, "ps": s["ps"] * torch.tensor([1.0, 1e-5])[:, None, None]},
        r"ps must be in Pa, above 0 and near the planet's surface_pressure_pa",
    ),
    "negative pressure": (lambda s: {**s, "ps": s["ps"] - 1e5}, r"ps must be in Pa, above 0"),
    "Celsius": (lambda s: {**s, "ta": s["ta"] - 273.15}, r"ta must be in K, above 0.*Add 273.15"),
    "g/kg": (lambda s: {**s, "hus": s["hus"] * 1000}, r"hus must be in kg/kg.*Divide g/kg by 1000"),
    "NaN": (lambda s: {**s, "ta": with_nan(s["ta"])}, r"ta must be finite; it is nan.*Mask missing levels"),
    "NaN flux": (lambda s: {**s, "rst": with_nan(s["rst"])}, r"rst must be finite.*\(batch, latitude, longitude\)"),
    "m s-1": (
        lambda s: {**s, "evap": s["evap"] / 1000},
        r"evap must carry about the latent heat.*liquid_density_kg_m3",
    ),
    "J m-2": (lambda s: {**s, "hfls": s["hfls"] * 86400}, r"evap must carry about .* of hfls, W m-2.*hfls in W m-2"),
    "geopotential as height": (
        lambda s: {**s, "zg": s["zg"] * 9.8},
        r"zg must rise .*zg is in m, z and phi are in m2 s-2",
    ),
    "height as geopotential": (
        lambda s: {**without(s, "zg"), "phi": s["zg"]},
        r"phi must rise from the ground to the top.*z and phi are in m2 s-2",
    ),
    "upside down": (
        lambda s: {**s, **{name: s[name].flip(1) for name in ("ta", "ua", "va", "hus", "zg")}},
        r"zg must rise .*if it falls, flip the level axis",
    ),
    "swapped axes": (
        lambda s: {**s, "hus": s["hus"].transpose(-1, -2)},
        r"hus must have axes \(batch, level, latitude, longitude\) = \(2, 5, 7, 13\); got shape \(2, 5, 13, 7\)",
    ),
    "levels last": (lambda s: {**s, "ta": s["ta"].movedim(1, -1)}, r"ta must have axes .*Transpose it"),
    "no rain": (lambda s: without(s, "pr"), r"state must hold pr; got.*switch the constraint off"),
    "no evaporation": (lambda s: without(s, "evap"), r"state must hold one of evap, evspsbl; got none"),
    "twice": (lambda s: {**s, "z": 10.0 * s["zg"]}, r"state must hold one of z, phi, zg; got z, zg"),
    "no flux": (lambda s: without(s, "rls"), r"state must hold rls"),
    "no wind": (lambda s: without(s, "va"), r"state must hold va"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_states_that_cannot_be_are_refused_by_name(fault):
    system = climate_system()
    start = climate_state(system)
    spoil, said = FAULTS[fault]
    with pytest.raises(ValueError, match=said):
        apply_climate_constraints(spoil(start), system, open_ledger(start, system, ALL), ALL)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"step_s": None}, r"step_s must be given in an open system.*in seconds"),
        ({"surface_geopotential": None}, r"surface_geopotential must be given for the energy budget.*zeros"),
        ({"levels": None}, r"levels must be given for constraints of an atmosphere"),
    ],
)
def test_systems_that_lack_something_are_refused(changes, said):
    system = climate_system()
    start = climate_state(system)
    ledger = open_ledger(start, system, ALL)
    with pytest.raises(ValueError, match=said):
        apply_climate_constraints(start, dataclasses.replace(system, **changes), ledger, ALL)


def test_unknown_names_and_ledgers_of_other_constraints_are_refused():
    system = climate_system()
    start = climate_state(system)
    with pytest.raises(ValueError, match=r"constraints must be of positive_water, .*; got momentum"):
        open_ledger(start, system, ["momentum"])
    with pytest.raises(ValueError, match=r"ledger must hold energy; it is missing. Open it with the same"):
        apply_climate_constraints(start, system, open_ledger(start, system, ALL[:3]), ALL)
    system, start = shallow_case()
    with pytest.raises(ValueError, match=r"h must be in m, above 0.*Add the mean depth"):
        open_ledger({**start, "h": start["h"] - 3000.0}, system, ["shallow_water"])
