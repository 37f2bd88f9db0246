"""Small climate states of odd sizes, and constraints written out with numpy loops; no Earth in them."""

import numpy as np
import torch

from modeling_astrobio.climate_levels import sigma_levels
from modeling_astrobio.climate_planet import PlanetParameters
from modeling_astrobio.climate_state import ClimateSystem
from modeling_astrobio.constraint_hydrostatic import hydrostatic_geopotential
from modeling_astrobio.sphere_grid import sphere_grid


BATCH, LEVELS, ROWS, COLUMNS = 2, 5, 7, 13
SIGMA_INTERFACES = torch.tensor([0.0, 0.11, 0.3, 0.52, 0.8, 1.0], dtype=torch.float64)
SIGMA = (SIGMA_INTERFACES[1:] + SIGMA_INTERFACES[:-1]) / 2
ALL = ("positive_water", "dry_mass", "water_budget", "energy_budget", "hydrostatic", "ideal_gas")


def planets(batch=BATCH):
    """Unlike one another and unlike Earth."""

    def spread(low, high):
        return torch.linspace(low, high, batch, dtype=torch.float64)

    return PlanetParameters(
        gravity_m_s2=spread(7.3, 12.9),
        gas_constant_dry_j_kg_k=spread(191.0, 297.0),
        gas_constant_vapour_j_kg_k=spread(461.5, 461.5),
        heat_capacity_dry_j_kg_k=spread(840.0, 1039.0),
        heat_capacity_vapour_j_kg_k=spread(1870.0, 1870.0),
        latent_heat_j_kg=spread(2.5e6, 2.6e6),
        surface_pressure_pa=spread(6e4, 3.1e5),
    )


def grid(rows=ROWS, columns=COLUMNS):
    """With rows on the poles."""
    return sphere_grid(
        torch.linspace(90, -90, rows, dtype=torch.float64),
        torch.arange(columns, dtype=torch.float64) * 360.0 / columns - 180.0,
    )


def climate_system(mask=None, rows=ROWS, columns=COLUMNS, batch=BATCH, **changes):
    height = 3000.0 * torch.rand(batch, rows, columns, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    values = {
        "planet": planets(batch),
        "cell_weights": grid(rows, columns).cell_weights,
        "levels": sigma_levels(SIGMA, SIGMA_INTERFACES, mask),
        "step_s": 21600.0,
        "surface_geopotential": height,
        **changes,
    }
    return ClimateSystem(**values)


def climate_state(system, dtype=torch.float32, seed=0):
    """A balanced state with fluxes; hydrostatic as far as its dtype allows."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = system.cell_weights.shape
    batch, levels = len(system.planet.gravity_m_s2), len(system.levels.mid)

    def noise(*shape):
        return torch.randn(batch, *shape, rows, columns, generator=generator, dtype=torch.float64)

    profile = torch.linspace(190, 280, levels, dtype=torch.float64).view(1, -1, 1, 1)
    humidity = torch.logspace(-5, -2, levels, dtype=torch.float64).view(1, -1, 1, 1)
    state = {
        "ta": profile + 4.0 * noise(levels),
        "ua": 20.0 * noise(levels),
        "va": 9.0 * noise(levels),
        "hus": humidity * (0.3 * noise(levels)).exp(),
        "ps": system.planet.surface_pressure_pa.view(-1, 1, 1) * (1 + 0.02 * noise()),
        "evap": -4e-5 * noise().abs(),
        "pr": 4e-5 * noise().abs(),
        "rst": 240.0 + 30.0 * noise(),
        "rlut": -235.0 + 20.0 * noise(),
        "rss": 160.0 + 30.0 * noise(),
        "rls": -60.0 + 9.0 * noise(),
        "hfss": -18.0 + 5.0 * noise(),
        "hfls": -80.0 + 20.0 * noise(),
        "ts": 280.0 + noise(),
    }
    state["hus"] = state["hus"].to(dtype).double()
    phi = hydrostatic_geopotential(
        state["ta"].to(dtype).double(),
        state["hus"],
        system.surface_geopotential,
        system.planet,
        sigma_levels(system.levels.mid, system.levels.interfaces),
    )
    state["zg"] = phi / system.planet.gravity_m_s2.view(-1, 1, 1, 1)
    return {name: field.to(dtype) for name, field in state.items()}


def disturbed(state, seed=1, size=0.01):
    """As a model would predict the next state: a little off everywhere, negative water included."""
    generator = torch.Generator().manual_seed(seed)

    def noise(field):
        return torch.randn(field.shape, generator=generator, dtype=torch.float64)

    changed = dict(state)
    for name in ("ta", "ua", "va", "ps", "zg"):
        changed[name] = (state[name].double() * (1 + size * noise(state[name]))).to(state[name].dtype)
    moist = state["hus"].double()
    changed["hus"] = (moist * (1 + 0.7 * noise(moist)) + 1e-6 * noise(moist)).to(state["hus"].dtype)
    return changed


def naive_totals(state, system):
    """Dry mass and water, kg m-2, and energy, J m-2, of each planet, in loops over numpy float64."""
    fields = {name: field.detach().double().numpy() for name, field in state.items()}
    planet = {name: value.numpy() for name, value in system.planet._asdict().items()}
    weights = system.cell_weights.numpy()
    ground = system.surface_geopotential.expand(len(planet["gravity_m_s2"]), -1, -1).numpy()
    bounds = system.levels.interfaces.numpy()
    mask = system.levels.mask
    mask = np.broadcast_to(True if mask is None else mask.numpy(), fields["hus"].shape)
    found = np.zeros((len(ground), 3))
    for item, row, column in np.ndindex(ground.shape):
        shares = np.diff(bounds) * mask[item, :, row, column]
        column_mass = weights[row, column] * fields["ps"][item, row, column] / planet["gravity_m_s2"][item]
        for level, share in enumerate(shares):
            if not share:
                continue
            ta, ua, va, hus = (fields[name][item, level, row, column] for name in ("ta", "ua", "va", "hus"))
            mass = column_mass * share / shares.sum()
            capacity = planet["heat_capacity_dry_j_kg_k"][item] * (1 - hus) + (
                planet["heat_capacity_vapour_j_kg_k"][item] * hus
            )
            found[item, 0] += mass * (1 - hus)
            found[item, 1] += mass * hus
            found[item, 2] += mass * (
                capacity * ta
                + planet["latent_heat_j_kg"][item] * hus
                + (ua**2 + va**2) / 2
                + ground[item, row, column]
            )
    return found


def naive_inflows(state, system):
    """Water, kg m-2, and energy, J m-2, that each planet gains in a step."""
    weights = system.cell_weights.numpy()

    def mean(name):
        return (state[name].detach().double().numpy() * weights).sum((1, 2))

    water = -(mean("evap") + mean("pr"))
    energy = mean("rst") + mean("rlut") - mean("rss") - mean("rls") - mean("hfss") - mean("hfls")
    return system.step_s * np.stack([water, energy], axis=1)
