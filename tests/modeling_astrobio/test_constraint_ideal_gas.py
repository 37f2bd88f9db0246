"""Density is derived, so the gas law is an identity."""

import pytest
import torch
from climate_states import SIGMA, SIGMA_INTERFACES, climate_state, climate_system

from modeling_astrobio.climate_levels import pressure_levels, sigma_levels
from modeling_astrobio.constraint_ideal_gas import gas_density, ideal_gas_residual


@pytest.mark.parametrize("kind", ["sigma", "pressure"])
def test_density_equals_the_formula_and_the_residual_is_rounding(kind):
    system = climate_system()
    state = climate_state(system)
    levels = system.levels if kind == "sigma" else pressure_levels(SIGMA * 1e5)
    rho = gas_density(state["ta"], state["hus"], state["ps"], system.planet, levels)
    assert rho.dtype == torch.float32
    item, level, row, column = 1, 3, 5, 11
    planet = {name: value[item].item() for name, value in system.planet._asdict().items()}
    hus = state["hus"][item, level, row, column].item()
    constant = planet["gas_constant_dry_j_kg_k"] * (1 - hus) + planet["gas_constant_vapour_j_kg_k"] * hus
    pressure = SIGMA[level].item() * (state["ps"][item, row, column].item() if kind == "sigma" else 1e5)
    expected = pressure / (constant * state["ta"][item, level, row, column].item())
    assert rho[item, level, row, column].item() == pytest.approx(expected, rel=6e-8)
    residual = ideal_gas_residual(rho, state["ta"], state["hus"], state["ps"], system.planet, levels)
    # Half a digit of float32.
    assert residual.abs().max() <= 2**-24
    wide = {name: field.double() for name, field in state.items()}
    rho = gas_density(wide["ta"], wide["hus"], wide["ps"], system.planet, levels)
    assert ideal_gas_residual(rho, wide["ta"], wide["hus"], wide["ps"], system.planet, levels).abs().max() == 0
    doubled = ideal_gas_residual(2 * rho, wide["ta"], wide["hus"], wide["ps"], system.planet, levels)
    torch.testing.assert_close(doubled, torch.ones_like(doubled), rtol=1e-14, atol=0)


def test_missing_levels_have_no_residual():
    system = climate_system()
    state = climate_state(system)
    mask = torch.tensor([True, False, True, True, True])
    levels = sigma_levels(SIGMA, SIGMA_INTERFACES, mask)
    ta = state["ta"].clone()
    ta[:, 1] = torch.nan
    rho = gas_density(ta, state["hus"], state["ps"], system.planet, levels)
    assert ideal_gas_residual(rho, ta, state["hus"], state["ps"], system.planet, levels).isfinite().all()


def test_gradients():
    system = climate_system(rows=2, columns=3)
    state = climate_state(system, torch.float64)
    ta, hus, ps = (state["ta"] / 100).requires_grad_(), state["hus"].requires_grad_(), (state["ps"] / 1e5)
    ps.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda ta, hus, ps: gas_density(ta, hus, ps, system.planet, system.levels), (ta, hus, ps)
    )
