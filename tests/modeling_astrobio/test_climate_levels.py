"""Levels are checked once, masses fill the column, and missing levels leave their share to the others."""

import pytest
import torch
from climate_states import BATCH, COLUMNS, LEVELS, ROWS, SIGMA, SIGMA_INTERFACES, climate_system, planets

from modeling_astrobio.climate_levels import layer_mass, pressure_levels, sigma_interfaces, sigma_levels


def test_interfaces_are_found_from_mid_levels():
    torch.testing.assert_close(sigma_interfaces(SIGMA), SIGMA_INTERFACES, rtol=0, atol=1e-15)
    torch.testing.assert_close(sigma_interfaces(SIGMA.float()), SIGMA_INTERFACES, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"axis L must lie half-way between bounds.*Pass the interfaces"):
        sigma_interfaces(torch.tensor([0.1, 0.2, 0.95]))


def test_layers_have_the_mass_written_out():
    system = climate_system()
    ps = 1e5 * (1 + torch.rand(BATCH, ROWS, COLUMNS, generator=torch.Generator().manual_seed(0)))
    mass = layer_mass(ps, system.planet.gravity_m_s2, system.levels, system.cell_weights)
    assert mass.dtype == torch.float64
    assert mass.shape == (BATCH, LEVELS, ROWS, COLUMNS)
    written_out = (
        ps[1, 2, 3].double() * 0.22 * system.cell_weights[2, 3] / system.planet.gravity_m_s2[1]
    )  # The third layer goes from 0.3 to 0.52.
    torch.testing.assert_close(mass[1, 2, 2, 3], written_out, rtol=1e-13, atol=0)
    column = (ps.double() * system.cell_weights).sum((1, 2)) / system.planet.gravity_m_s2
    torch.testing.assert_close(mass.sum((1, 2, 3)), column, rtol=1e-13, atol=0)


def test_missing_levels_leave_their_share_to_the_others():
    mask = torch.ones(BATCH, LEVELS, ROWS, COLUMNS, dtype=torch.bool)
    mask[1, 3:, 2, 5] = False
    mask[0, :, 0, 0] = False
    weights = sigma_levels(SIGMA, SIGMA_INTERFACES, mask).weights(torch.device("cpu"))
    torch.testing.assert_close(weights[1, :, 2, 5], torch.tensor([0.11, 0.19, 0.22, 0, 0]).double() / 0.52)
    torch.testing.assert_close(weights[0, :, 3, 3], SIGMA_INTERFACES.diff(), rtol=1e-14, atol=0)
    assert weights[0, :, 0, 0].tolist() == [0.0] * LEVELS
    field = torch.full(mask.shape, float("nan"))
    filled = sigma_levels(SIGMA, SIGMA_INTERFACES, mask).present(field)
    assert torch.equal(filled == 0, ~mask)


def test_pressure_levels_have_no_mass_but_bounds():
    levels = pressure_levels(torch.tensor([2e4, 5e4, 8.5e4]))
    assert levels.interfaces.tolist() == [5e3, 3.5e4, 6.75e4, 1.025e5]
    assert pressure_levels(torch.tensor([5e4])).interfaces.tolist() == [0.0, 1e5]
    with pytest.raises(ValueError, match=r"need sigma levels.*got pressure levels. Interpolate axis L to sigma"):
        layer_mass(torch.ones(1, 2, 3), torch.ones(1), levels, torch.full((2, 3), 1 / 6))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: sigma_levels(SIGMA.flip(0)), "axis L must rise from the top to the ground.*Flip the level axis"),
        (lambda: pressure_levels(torch.tensor([8.5e4, 5e4])), "pressure levels on axis L must rise.*Flip"),
        (lambda: sigma_levels(torch.tensor([2e4, 5e4])), "at most 1.*Use pressure_levels"),
        (lambda: sigma_levels(torch.tensor([0.1, float("nan")])), "sigma mid-levels on axis L must be finite"),
        (lambda: sigma_levels(SIGMA, SIGMA_INTERFACES * 0.9), "to 1 at the ground.*Pass the bounds of all layers"),
        (lambda: sigma_levels(SIGMA, SIGMA_INTERFACES[1:]), "interfaces must be 6 bounds"),
        (lambda: sigma_levels(SIGMA, None, torch.ones(3, dtype=torch.bool)), r"mask must be boolean.*with L = 5"),
        (lambda: sigma_levels(SIGMA, None, torch.ones(5)), "mask must be boolean.*got torch.float32"),
        (lambda: pressure_levels(torch.tensor([0.0, 5e4])), "axis L must be above 0 Pa.*Drop that level"),
    ],
)
def test_levels_that_are_none_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_gas_constants_of_molar_masses_and_moist_air():
    planet = planets()
    others = planet._asdict()
    for name in ("gas_constant_dry_j_kg_k", "gas_constant_vapour_j_kg_k"):
        del others[name]
    dry, vapour = torch.tensor([28.9655, 44.009]).double(), torch.tensor([18.0153, 18.0153]).double()
    made = type(planet).from_molar_masses(dry_air_molar_mass_g_mol=dry, vapour_molar_mass_g_mol=vapour, **others)
    assert made.gas_constant_dry_j_kg_k.tolist() == pytest.approx([287.047, 188.926], rel=1e-5)
    hus = torch.full((2, 1, 1, 1), 0.02)
    # Moist air is a mixture: its gas constant is the mean by mass.
    mixed = (0.98 * made.gas_constant_dry_j_kg_k + 0.02 * made.gas_constant_vapour_j_kg_k) / (
        made.gas_constant_dry_j_kg_k
    )
    torch.testing.assert_close(made.virtual_factor(hus).flatten(), mixed, rtol=1e-8, atol=0)
    assert made.heat_capacity(hus).flatten()[0].item() == pytest.approx(0.98 * 840 + 0.02 * 1870, rel=1e-7)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("gravity_m_s2", torch.tensor([9.0, -1.0]), "gravity_m_s2 must be finite, above 0"),
        ("latent_heat_j_kg", torch.tensor([float("nan"), 1.0]), "latent_heat_j_kg must be finite, at least 0"),
        ("surface_pressure_pa", torch.ones(3), r"surface_pressure_pa must be .* shape \(B,\) = \(2,\)"),
    ],
)
def test_planets_that_cannot_be_are_refused(name, value, said):
    with pytest.raises(ValueError, match=said):
        planets()._replace(**{name: value}).checked()
