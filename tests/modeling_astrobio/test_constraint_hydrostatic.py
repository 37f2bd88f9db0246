"""The projection is the nearest balanced state, against dense least squares; missing levels and both coordinates."""

import itertools

import numpy as np
import pytest
import torch
from climate_states import (
    BATCH,
    LEVELS,
    SIGMA,
    SIGMA_INTERFACES,
    climate_state,
    climate_system,
    disturbed,
    planets,
)

from modeling_astrobio.climate_levels import pressure_levels, sigma_levels
from modeling_astrobio.constraint_hydrostatic import (
    hydrostatic_geopotential,
    hydrostatic_offset,
    hydrostatic_relations,
    relative_hydrostatic_residual,
)


PRESSURES = torch.tensor([2e3, 1.1e4, 2.6e4, 4.1e4, 5.2e4], dtype=torch.float64)


def case(seed=1, dtype=torch.float64):
    system = climate_system()
    state = disturbed(climate_state(system, torch.float64), seed)
    phi = state["zg"] * system.planet.gravity_m_s2.view(-1, 1, 1, 1)
    return system, state, state["ta"].to(dtype), phi.to(dtype)


def naive_relations(column, planet, item, kind, mid, present, ground, log_ground, offset):
    """Rows over (T, phi) of the present levels of one column, and the right-hand sides."""
    ratio = planet.gas_constant_vapour_j_kg_k[item].item() / planet.gas_constant_dry_j_kg_k[item].item()
    constant = planet.gas_constant_dry_j_kg_k[item].item()
    levels = np.flatnonzero(present)
    rows, right, number = [], [], len(mid)
    factor = constant * (1 + (ratio - 1) * column)
    for upper, lower in itertools.pairwise(levels):
        row = np.zeros(2 * number)
        half = np.log(mid[lower] / mid[upper]) / 2
        row[number + upper], row[number + lower] = 1.0, -1.0
        row[upper], row[lower] = -half * factor[upper], -half * factor[lower]
        rows.append(row)
        right.append(offset[upper] - offset[lower])
    if ground is not None and len(levels):
        last = levels[-1]
        row = np.zeros(2 * number)
        row[number + last] = 1.0
        row[last] = -factor[last] * (log_ground - np.log(mid[last]))
        rows.append(row)
        right.append(ground + offset[last])
    return np.array(rows).reshape(-1, 2 * number), np.array(right)


@pytest.mark.parametrize("kind", ["sigma", "pressure"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("on_ground", [False, True])
def test_the_projection_is_the_weighted_least_squares_solution(kind, masked, on_ground):
    system, state, ta, phi = case()
    generator = torch.Generator().manual_seed(2)
    mask = torch.rand(ta.shape, generator=generator) > 0.3 if masked else None
    if masked:
        mask[0, :, 1, 1] = False
        mask[1, :, 2, 2] = torch.tensor([False, False, True, False, False])
    mid, levels = (
        (SIGMA, sigma_levels(SIGMA, SIGMA_INTERFACES, mask))
        if kind == "sigma"
        else (PRESSURES, pressure_levels(PRESSURES, mask=mask))
    )
    offset = 50.0 * torch.randn(LEVELS, 7, 13, generator=generator, dtype=torch.float64)
    ps = state["ps"].double().clamp(min=5.5e4)
    relations = hydrostatic_relations(
        state["hus"],
        system.planet,
        levels,
        ps=ps,
        surface_geopotential=system.surface_geopotential if on_ground else None,
        offset=offset,
        temperature_scale_k=0.8,
        geopotential_scale_m2_s2=70.0,
    )
    packed_t, packed_p = relations.pack(ta), relations.pack(phi)
    change_t, change_p = relations.correction(-relations.residual(packed_t, packed_p))
    change_t, change_p = relations.unpack(change_t), relations.unpack(change_p)
    weights = levels.weights(ta.device).expand(ta.shape).numpy()
    present = np.ones(ta.shape, bool) if mask is None else mask.numpy()
    for item, row, column in [(0, 0, 0), (1, 6, 12), (0, 1, 1), (1, 2, 2), (1, 3, 7), (0, 5, 4)]:
        at = (item, slice(None), row, column)
        matrix, right = naive_relations(
            state["hus"][at].numpy(),
            system.planet,
            item,
            kind,
            mid.numpy(),
            present[at],
            system.surface_geopotential[item, row, column].item() if on_ground else None,
            0.0 if kind == "sigma" else np.log(ps[item, row, column].item()),
            offset[:, row, column].numpy(),
        )
        now = np.concatenate([ta[at].numpy(), phi[at].numpy()])
        share = np.where(present[at], weights[at], 1.0)
        scale = np.concatenate([0.8 / np.sqrt(share), 70.0 / np.sqrt(share)])
        # The smallest change in units of its scale; lstsq gives the one of least norm.
        expected = np.zeros_like(now)
        if len(matrix):
            expected = scale * np.linalg.lstsq(matrix * scale, right - matrix @ now, rcond=None)[0]
        found = np.concatenate([change_t[at].numpy(), change_p[at].numpy()])
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(matrix @ (now + found), right, rtol=0, atol=1e-8)


def test_the_integral_upward_is_balanced_and_equals_a_loop():
    system, state, ta, _ = case()
    levels, planet = system.levels, system.planet
    phi = hydrostatic_geopotential(ta, state["hus"], system.surface_geopotential, planet, levels)
    relations = hydrostatic_relations(state["hus"], planet, levels, surface_geopotential=system.surface_geopotential)
    assert relative_hydrostatic_residual(relations, ta, phi).abs().max() < 1e-14
    item, row, column = 1, 4, 9
    virtual = (planet.virtual_factor(state["hus"]) * ta)[item, :, row, column].tolist()
    constant = planet.gas_constant_dry_j_kg_k[item].item()
    height = system.surface_geopotential[item, row, column].item() + constant * virtual[-1] * -np.log(SIGMA[-1].item())
    heights = [height]
    for level in range(LEVELS - 2, -1, -1):
        mean = (virtual[level] + virtual[level + 1]) / 2
        height += constant * mean * np.log(SIGMA[level + 1].item() / SIGMA[level].item())
        heights.append(height)
    np.testing.assert_allclose(phi[item, :, row, column], heights[::-1], rtol=1e-13)


@pytest.mark.parametrize("on_ground", [False, True])
def test_about_its_mean_deviation_a_climate_is_balanced_on_average(on_ground):
    system, state, ta, phi = case()
    ground = system.surface_geopotential[:1] if on_ground else None
    planet = type(system.planet)(*(value[:1].expand(BATCH) for value in system.planet))
    fixed = state["hus"], planet, system.levels
    offset = hydrostatic_offset(ta, phi, *fixed, surface_geopotential=ground)
    relations = hydrostatic_relations(*fixed, surface_geopotential=ground, offset=offset)
    assert relations.residual(ta, phi).mean(0).abs().max() < 1e-9
    assert (offset[-1].abs().max() > 0).item() == on_ground


def test_an_isothermal_dry_atmosphere_has_the_analytic_geopotential():
    planet = planets()
    levels = pressure_levels(PRESSURES)
    ta = torch.full((2, LEVELS, 3, 4), 251.0, dtype=torch.float64)
    ps = torch.full((2, 3, 4), 6e4, dtype=torch.float64)
    phi = hydrostatic_geopotential(ta, 0 * ta, torch.zeros(1, 3, 4), planet, levels, ps)
    exact = planet.gas_constant_dry_j_kg_k[:, None] * 251.0 * torch.log(6e4 / PRESSURES)
    torch.testing.assert_close(phi, exact[:, :, None, None].expand_as(phi), rtol=1e-13, atol=0)


def test_a_change_without_its_unbalanced_part_leaves_the_relations():
    system, state, ta, phi = case()
    mask = torch.rand(ta.shape, generator=torch.Generator().manual_seed(4)) > 0.2
    relations = hydrostatic_relations(
        state["hus"],
        system.planet,
        sigma_levels(SIGMA, SIGMA_INTERFACES, mask),
        surface_geopotential=system.surface_geopotential,
    )
    free = relations.without(relations.pack(torch.ones_like(ta)), torch.zeros_like(phi))
    assert free[0].abs().max() > 1e-3
    assert relations.apply(*free).abs().max() < 1e-10
    # What is free already stays.
    again = relations.without(*free)
    torch.testing.assert_close(again, free, rtol=0, atol=1e-10)


def test_weights_say_which_variable_gives_way():
    system, state, ta, phi = case()
    sizes = []
    for temperature_scale_k in (1e-4, 1e4):
        relations = hydrostatic_relations(
            state["hus"],
            system.planet,
            system.levels,
            surface_geopotential=system.surface_geopotential,
            temperature_scale_k=temperature_scale_k,
        )
        change_t, change_p = relations.correction(-relations.residual(ta, phi))
        sizes.append((change_t.abs().max().item(), change_p.abs().max().item()))
    assert sizes[0][0] < 1e-4
    assert sizes[1][1] < 1e-2


def test_gradients():
    system = climate_system(rows=2, columns=3)
    state = disturbed(climate_state(system, torch.float64))
    mask = torch.rand(state["ta"].shape, generator=torch.Generator().manual_seed(4)) > 0.2
    levels = sigma_levels(SIGMA, SIGMA_INTERFACES, mask)
    ta, hus = (state["ta"] / 100).requires_grad_(), (100 * state["hus"]).requires_grad_()
    phi = (state["zg"] / 1e4).requires_grad_()

    def project(ta, phi, hus):
        relations = hydrostatic_relations(
            hus / 100, system.planet, levels, surface_geopotential=system.surface_geopotential
        )
        packed = relations.pack(100 * ta), relations.pack(1e5 * phi)
        change_t, change_p = relations.correction(-relations.residual(*packed))
        relative = relative_hydrostatic_residual(relations, 100 * ta, 1e5 * phi)
        return relations.unpack(change_t), relations.unpack(change_p) / 1e3, relative

    assert torch.autograd.gradcheck(project, (ta, phi, hus))


def test_one_level_hangs_on_the_ground_or_is_free():
    planet = planets()
    hus = torch.zeros(BATCH, 1, 3, 4)
    levels = sigma_levels(torch.tensor([0.5]))
    assert not hydrostatic_relations(hus, planet, levels).is_relation_BKYX.any()
    relations = hydrostatic_relations(hus, planet, levels, surface_geopotential=torch.zeros(1, 3, 4))
    ta, phi = torch.full(hus.shape, 250.0).double(), torch.zeros(hus.shape).double()
    change = relations.correction(-relations.residual(ta, phi))
    assert relations.residual(ta + change[0], phi + change[1]).abs().max() < 1e-9


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"temperature_scale_k": 0.0}, r"temperature_scale_k must be above 0; got 0.0"),
        ({"geopotential_scale_m2_s2": -1.0}, r"geopotential_scale_m2_s2 must be above 0"),
        ({"ps": None}, r"ps must be given on pressure levels.*leave the ground out"),
        (
            {"ps": torch.full((BATCH, 7, 13), 4e4)},
            r"levels on axis L must lie above the ground.*Mask the levels below",
        ),
    ],
)
def test_what_cannot_be_balanced_is_refused(changes, said):
    system, state, *_ = case()
    values = {"ps": state["ps"], "surface_geopotential": system.surface_geopotential, **changes}
    with pytest.raises(ValueError, match=said):
        hydrostatic_relations(state["hus"], system.planet, pressure_levels(PRESSURES), **values)


def test_the_integral_refuses_missing_levels():
    system, state, ta, _ = case()
    levels = sigma_levels(SIGMA, SIGMA_INTERFACES, torch.ones(LEVELS, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"levels must have no mask.*Drop the missing levels"):
        hydrostatic_geopotential(ta, state["hus"], system.surface_geopotential, system.planet, levels)
    with pytest.raises(ValueError, match=r"levels must have no mask for the mean deviation"):
        hydrostatic_offset(ta, ta, state["hus"], system.planet, levels)
