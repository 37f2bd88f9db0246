"""Dry mass, water and energy equal loops in numpy; corrections reach the target, with the right gradients."""

import numpy as np
import pytest
import torch
from climate_states import (
    BATCH,
    LEVELS,
    climate_state,
    climate_system,
    disturbed,
    naive_inflows,
    naive_totals,
)

from modeling_astrobio.climate_levels import layer_mass
from modeling_astrobio.climate_residuals import advance_ledger, open_ledger
from modeling_astrobio.constraint_dry_mass import correct_dry_mass, dry_mass, relative_residual
from modeling_astrobio.constraint_energy_budget import correct_energy, energy_inflow, energy_parts
from modeling_astrobio.constraint_water_budget import correct_water, water_inflow, water_mass


def air(state, system):
    return layer_mass(state["ps"], system.planet.gravity_m_s2, system.levels, system.cell_weights)


def parts(state, system):
    return energy_parts(
        state["hus"],
        state["ua"],
        state["va"],
        air(state, system),
        system.surface_geopotential,
        system.planet,
        system.levels,
    )


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_totals_equal_loops(masked, dtype):
    mask = torch.rand(BATCH, LEVELS, 7, 13, generator=torch.Generator().manual_seed(3)) > 0.2 if masked else None
    system = climate_system(mask)
    state = {name: field.to(dtype) for name, field in climate_state(system).items()}
    if masked:
        for name in ("ta", "ua", "va", "hus"):
            state[name] = torch.where(mask, state[name], torch.nan)
    ledger = open_ledger(state, system, ("dry_mass", "water_budget", "energy_budget"))
    expected = naive_totals(state, system)
    for column, name in enumerate(("dry_mass", "water", "energy")):
        assert ledger[name].dtype == torch.float64
        np.testing.assert_allclose(ledger[name], expected[:, column], rtol=1e-12)


def test_inflows_equal_numpy_and_signs_are_downward():
    system = climate_system()
    state = climate_state(system)
    expected = naive_inflows(state, system)
    weights = system.cell_weights
    water = water_inflow(state["evap"], state["pr"], system.step_s, weights)
    np.testing.assert_allclose(water, expected[:, 0], rtol=1e-9)
    in_metres = water_inflow(state["evap"] / 1000, state["pr"] / 1000, system.step_s, weights, 1000.0)
    np.testing.assert_allclose(in_metres, expected[:, 0], rtol=1e-5)
    np.testing.assert_allclose(energy_inflow(state, system.step_s, weights), expected[:, 1], rtol=1e-9)
    # 1 kg m-2 s-1 leaves the ground and none falls; 100 W m-2 come in and 30 go on into the ground.
    one = torch.ones(1, 7, 13)
    assert water_inflow(-one, 0 * one, 10.0, weights).item() == pytest.approx(10.0)
    fluxes = {**dict.fromkeys(("rlut", "rls", "hfss", "hfls"), 0 * one), "rst": 100 * one, "rss": 30 * one}
    assert energy_inflow(fluxes, 10.0, weights).item() == pytest.approx(700.0)
    advanced = advance_ledger({"water": torch.ones(2).double(), "energy": torch.ones(2).double()}, state, system)
    np.testing.assert_allclose(advanced["water"] - 1, expected[:, 0], rtol=1e-9)
    np.testing.assert_allclose(advanced["energy"] - 1, expected[:, 1], rtol=1e-9)


def test_corrections_reach_their_targets_and_leave_the_rest():
    system = climate_system()
    target, state = climate_state(system), disturbed(climate_state(system))
    state["hus"] = state["hus"].abs()
    wanted = naive_totals(target, system)
    ps = correct_dry_mass(
        state["ps"],
        state["hus"],
        torch.from_numpy(wanted[:, 0]),
        system.planet,
        system.levels,
        system.cell_weights,
    )
    assert ps.dtype == torch.float32
    np.testing.assert_allclose(naive_totals({**state, "ps": ps}, system)[:, 0], wanted[:, 0], rtol=1e-8)
    # One factor for each planet, so that the gradient of ln(ps) stays.
    ratios = ps.double() / state["ps"].double()
    assert (ratios.flatten(1).std(1) < 2e-7).all()
    hus = correct_water(state["hus"], air(state, system), torch.from_numpy(wanted[:, 1]))
    np.testing.assert_allclose(naive_totals({**state, "hus": hus}, system)[:, 1], wanted[:, 1], rtol=1e-8)
    weight, rest = parts(state, system)
    direction = system.planet.heat_capacity(state["hus"])
    ta = correct_energy(state["ta"], weight, torch.from_numpy(wanted[:, 2]) - rest, direction)
    np.testing.assert_allclose(naive_totals({**state, "ta": ta}, system)[:, 2], wanted[:, 2], rtol=1e-8)
    # Nearly the same shift everywhere: it goes with the heat capacity of moist air, within 1.5%.
    shift = (ta - state["ta"]).double().flatten(1)
    assert (shift.std(1) < 0.02 * shift.mean(1).abs() + 2e-5).all()


def test_the_energy_correction_is_the_smallest_in_the_mean_square_over_mass():
    system = climate_system()
    state = climate_state(system, torch.float64)
    weight, _ = parts(state, system)
    target = (weight * state["ta"]).sum((1, 2, 3)) * 1.001
    change = correct_energy(state["ta"], weight, target, system.planet.heat_capacity(state["hus"])) - state["ta"]
    mass = air(state, system)
    other = torch.randn(change.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    other = other - weight * (weight * other).sum((1, 2, 3), keepdim=True) / weight.square().sum(
        (1, 2, 3), keepdim=True
    )
    # Orthogonal to every change that leaves the energy as it is.
    inner = (mass * change * other).sum((1, 2, 3))
    length = ((mass * change**2).sum((1, 2, 3)) * (mass * other**2).sum((1, 2, 3))).sqrt()
    assert (inner.abs() < 1e-12 * length).all()


def test_residuals_are_relative_and_signed():
    residual = relative_residual(torch.tensor([1.5, -1.0, 0.25]), torch.tensor([1.0, -2.0, 0.0]).double())
    assert residual.tolist() == [0.5, 0.5, 0.25]


def test_gradients():
    system = climate_system(rows=2, columns=3)
    state = climate_state(system, torch.float64)
    ps = (state["ps"] / 1e5).requires_grad_()
    hus = (100 * state["hus"]).requires_grad_()
    ta = (state["ta"] / 100).requires_grad_()
    wind = (state["ua"] / 10).requires_grad_()
    fixed = system.planet, system.levels, system.cell_weights
    goal = torch.tensor([1.1, 0.8], dtype=torch.float64)

    def masses(ps, hus):
        scaled = correct_dry_mass(ps, hus / 100, goal, *fixed)
        mass = layer_mass(scaled, system.planet.gravity_m_s2, *fixed[1:])
        moist = correct_water(hus, mass, goal)
        return scaled, moist, dry_mass(scaled, moist, *fixed), water_mass(hus, mass)

    def energy(ps, hus, ta, wind):
        mass = layer_mass(ps, system.planet.gravity_m_s2, *fixed[1:])
        ground = system.surface_geopotential / 1e3
        weight, rest = energy_parts(hus / 100, wind, wind, mass, ground, system.planet, system.levels)
        direction = system.planet.heat_capacity(hus / 100)
        return correct_energy(ta, weight, 1e3 * goal - 1e-3 * rest, direction)

    assert torch.autograd.gradcheck(masses, (ps, hus))
    assert torch.autograd.gradcheck(energy, (ps, hus, ta, wind))
