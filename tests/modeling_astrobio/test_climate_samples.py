"""Output of general-circulation models is what it should be: masses, budgets and balance of real states."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from climate_states import ALL, naive_totals

from data_scripts.climate.planets import planet_from_exoplasim
from modeling_astrobio.climate_constraints import apply_climate_constraints, open_ledger
from modeling_astrobio.climate_levels import pressure_levels, sigma_levels
from modeling_astrobio.climate_planet import PlanetParameters
from modeling_astrobio.climate_residuals import advance_ledger
from modeling_astrobio.climate_state import ClimateSystem
from modeling_astrobio.constraint_hydrostatic import hydrostatic_geopotential
from modeling_astrobio.sphere_grid import area_mean, pad_sphere, sphere_grid


xarray = pytest.importorskip("xarray")

RUNS = ("earthlike_modern", "earthlike_modern_year0", "tl_lhs_30", "tl_m3300_f1000_p10_year0")
VARIABLES = ("ta", "ua", "va", "hus", "ps", "pr", "evap", "rst", "rlut", "rss", "rls", "hfss", "hfls")


def planet_of(batch, **values):
    return PlanetParameters(**{name: torch.full((batch,), value).double() for name, value in values.items()})


@pytest.fixture(scope="module", params=RUNS)
def run(request, shared_dir):
    """A run as (name, data, system, state) with 12 months as the batch."""
    path = shared_dir / "climate_samples" / "exoplasim" / f"{request.param}.nc"
    if not path.is_file():
        pytest.skip(f"real GCM output is absent: no file {path}")
    data = xarray.load_dataset(path, decode_times=False)
    settings = json.loads(data.attrs["settings"])
    planet = planet_from_exoplasim(settings, path.name)
    batch = data.sizes["time"]
    gas_constant = 8314.462618 / planet.dry_air_molar_mass_g_mol
    grid = sphere_grid(torch.from_numpy(data.lat.values), torch.from_numpy(data.lon.values))
    assert grid.kind == "gaussian"
    system = ClimateSystem(
        planet=planet_of(
            batch,
            gravity_m_s2=planet.gravity_m_s2,
            gas_constant_dry_j_kg_k=gas_constant,
            gas_constant_vapour_j_kg_k=461.5,
            heat_capacity_dry_j_kg_k=3.5 * gas_constant,
            heat_capacity_vapour_j_kg_k=1870.0,
            latent_heat_j_kg=2.5e6,
            surface_pressure_pa=planet.dry_surface_pressure_pa,
        ),
        cell_weights=grid.cell_weights,
        levels=sigma_levels(torch.from_numpy(data.lev.values)),
        step_s=float(np.diff(data.time.values)[0]) * settings["timestep"] * 60.0,
        surface_geopotential=torch.from_numpy(data.sg.values),
        liquid_density_kg_m3=1000.0,
    )
    state = {name: torch.from_numpy(data[name].values) for name in VARIABLES}
    state["ps"] = 100.0 * state["ps"]
    return request.param, data, system, state


def test_masses_and_budgets_of_a_run_are_what_its_provenance_says(run):
    name, data, system, state = run
    ledger = open_ledger(state, system, ("dry_mass", "water_budget", "energy_budget"))
    water = ledger["water"].numpy()
    assert system.step_s == pytest.approx(30 * 86400)
    # The column of vapour is the model's own, but for the product of monthly means and the spin-up's first month.
    model_water = area_mean(torch.from_numpy(data.prw.values), system.cell_weights).numpy()
    np.testing.assert_allclose(water[1:] / model_water[1:], 1.0, atol=0.04)
    np.testing.assert_allclose(water[2:] / model_water[2:], 1.0, atol=0.01)
    # The model holds its total mass, so that the dry mass swings by about what the water does; it is pinned to 1e-6
    # by no model that does so.
    dry = ledger["dry_mass"].numpy()
    assert 1e-4 < np.ptp(dry) / dry.mean() < 1.2e-3
    total = area_mean(state["ps"], system.cell_weights) / system.planet.gravity_m_s2
    np.testing.assert_allclose(ledger["dry_mass"] + ledger["water"], total, rtol=1e-12)
    surface = (total * system.planet.gravity_m_s2).mean().item()
    nominal = system.planet.surface_pressure_pa[0].item()
    assert (0.97 if name.startswith("earth") else 0.998) < surface / nominal < 1.002
    # Vapour changes by what the fluxes of the months say.
    zero = {"water": torch.zeros(12).double(), "energy": torch.zeros(12).double()}
    gains = {key: value.numpy() for key, value in advance_ledger(zero, state, system).items()}
    changes = np.diff(water)
    between = (gains["water"][1:] + gains["water"][:-1]) / 2
    if "year0" not in name:
        assert np.corrcoef(changes, between)[0, 1] > 0.85
        assert np.sqrt(((changes - between) ** 2).mean()) < 0.4
    if name == "earthlike_modern":
        assert np.ptp(water) / water.mean() == pytest.approx(0.14, abs=0.01)
        # Over a year near equilibrium evaporation and rain agree to a third of a per cent.
        rain = area_mean(state["pr"], system.cell_weights).sum().item() * 1000.0 * system.step_s
        assert abs(gains["water"].sum()) < 0.005 * rain
    energy = ledger["energy"].numpy()
    assert np.corrcoef(np.diff(energy), gains["energy"][1:] + gains["energy"][:-1])[0, 1] > 0.9
    # Fluxes at the top and the ground agree to some watts; the model leaves out what is dissipated, as does the sum.
    assert abs(gains["energy"].mean() / system.step_s) < 8.0


def test_real_states_are_corrected_and_stay(run):
    _, _, system, state = run
    system, state = first_months(2, system), {name: field[:2] for name, field in state.items()}
    phi = hydrostatic_geopotential(
        state["ta"], state["hus"], system.surface_geopotential, system.planet, system.levels
    )
    state = {**state, "zg": (phi / system.planet.gravity_m_s2.view(-1, 1, 1, 1)).float()}
    closed = dataclasses.replace(system, closed=True)
    ledger = open_ledger(state, closed, ALL)
    same = apply_climate_constraints(state, closed, ledger, ALL)
    assert all(torch.equal(same.state[name], state[name]) for name in state)
    assert same.residuals["hydrostatic"].max() < 2e-6
    # A prediction that is off by noise, and one constant too warm.
    generator = torch.Generator().manual_seed(0)
    predicted = dict(state)
    for name, size in (("ta", 1.0), ("zg", 10.0), ("hus", 1e-4), ("ps", 100.0)):
        predicted[name] = state[name] + size * torch.randn(state[name].shape, generator=generator)
    predicted["ta"] = predicted["ta"] + 0.3
    found = apply_climate_constraints(predicted, closed, ledger, ALL)
    one = first_months(1, closed)
    expected, stored = (
        naive_totals({name: field[:1] for name, field in each.items()}, one) for each in (state, found.state)
    )
    np.testing.assert_allclose(stored, expected, rtol=1e-9)
    assert found.residuals["hydrostatic"].max() < 1e-5
    again = apply_climate_constraints(found.state, closed, ledger, ALL)
    assert all(torch.equal(again.state[name], found.state[name]) for name in found.state)
    # Balance takes out a part of the noise: the corrected state is nearer to the truth than the predicted one.
    for name in ("ta", "zg"):
        before, after = ((one[name] - state[name]).square().mean() for one in (predicted, found.state))
        assert after < before


def first_months(number, system):
    planet = PlanetParameters(*(value[:number] for value in system.planet))
    ground = system.surface_geopotential[:number]
    return dataclasses.replace(system, planet=planet, surface_geopotential=ground)


@pytest.mark.filterwarnings("ignore:variable .* has non-conforming '_FillValue'")
def test_reanalysis_has_rows_on_the_poles_and_reasonable_thicknesses(shared_dir):
    path = shared_dir / "climate_samples" / "eraint_uvz.nc"
    if not path.is_file():
        pytest.skip(f"real reanalysis is absent: no file {path}")
    # Every third row, both poles among them.
    data = xarray.load_dataset(path, decode_times=False).isel(
        latitude=slice(None, None, 3), longitude=slice(None, None, 4)
    )
    longitude = torch.from_numpy(data.longitude.values)
    grid = sphere_grid(torch.from_numpy(data.latitude.values), longitude)
    assert (grid.kind, grid.has_first_pole, grid.has_last_pole) == ("bounds", True, True)
    phi = torch.from_numpy(data.z.values)
    # Across the poles: differences of rows are as small beyond the edge as within.
    padded = pad_sphere(phi, grid, 3, 3)
    steps = padded.diff(dim=-2).abs().mean((0, 1, 3))
    assert steps[:3].max() < 1.5 * steps[3:9].max()
    u = torch.from_numpy(data.u.values)
    winds = pad_sphere(u, grid, 2, 0, is_vector=True)
    within = (u[..., 1:4, :] - u[..., 2:5, :]).abs().mean()
    assert (winds[..., 1, :] - winds[..., 2, :]).abs().mean() < 3 * within
    # Hanging in the air, thicknesses alone give temperatures of the troposphere: a constant first guess is moved to
    # them by the projection when it may move.
    batch = len(phi)
    levels = pressure_levels(torch.from_numpy(100.0 * data.level.values.astype(np.float64)))
    system = ClimateSystem(
        planet=planet_of(
            batch,
            gravity_m_s2=9.80665,
            gas_constant_dry_j_kg_k=287.05,
            gas_constant_vapour_j_kg_k=461.5,
            heat_capacity_dry_j_kg_k=1004.7,
            heat_capacity_vapour_j_kg_k=1870.0,
            latent_heat_j_kg=2.5e6,
            surface_pressure_pa=1e5,
        ),
        cell_weights=grid.cell_weights,
        levels=levels,
        temperature_scale_k=1e3,
        geopotential_scale_m2_s2=1.0,
    )
    guess = torch.tensor([218.0, 255.0, 278.0]).view(1, 3, 1, 1).expand(phi.shape)
    state = {"ta": guess.contiguous(), "hus": torch.zeros_like(guess), "phi": phi.float()}
    found = apply_climate_constraints(state, system, {}, ["hydrostatic"])
    assert found.residuals["hydrostatic"].max() < 1e-5
    assert (found.state["phi"] - phi).abs().max() < 0.1
    means = area_mean(found.state["ta"], grid.cell_weights)
    torch.testing.assert_close(means, guess[..., 0, 0].double().expand(batch, 3), rtol=0, atol=8.0)
    # Warm at the equator and cold at the winter pole.
    lower = found.state["ta"][:, 1:].mean((1, 3))
    order = torch.from_numpy(data.latitude.values).argsort()
    assert lower[0, order[-1]] < lower[0, order[40]] - 20
    assert lower[1, order[0]] < lower[1, order[40]] - 20
