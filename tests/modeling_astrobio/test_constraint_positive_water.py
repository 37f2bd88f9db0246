"""Humidity is not negative afterwards, and what the clamp adds is reported, and given back if wanted."""

import numpy as np
import pytest
import torch
from climate_states import LEVELS, climate_state, climate_system, disturbed

from modeling_astrobio.climate_levels import layer_mass
from modeling_astrobio.constraint_positive_water import negative_water, positive_water, smooth_clamp


def case(dtype=torch.float32):
    system = climate_system()
    state = disturbed(climate_state(system, dtype))
    return state["hus"], layer_mass(state["ps"], system.planet.gravity_m_s2, system.levels, system.cell_weights)


def water(hus, mass):
    return (hus.double() * mass).sum((1, 2, 3)).numpy()


@pytest.mark.parametrize("smooth", [None, 1e-5])
@pytest.mark.parametrize("conserve", [True, False])
def test_clamps_equal_numpy_and_report_what_they_add(smooth, conserve):
    hus, mass = case()
    x = hus.double().numpy()
    clamped = np.maximum(x, 0.0) if smooth is None else (x + np.sqrt(x**2 + smooth**2)) / 2
    added = ((clamped - x) * mass.numpy()).sum((1, 2, 3))
    assert (added > 0.01).all()
    if conserve:
        clamped *= (water(hus, mass) / (clamped * mass.numpy()).sum((1, 2, 3)))[:, None, None, None]
    found, said = positive_water(hus, mass, smooth_scale=smooth, conserve=conserve)
    assert found.dtype == torch.float32
    assert found.min() >= 0
    np.testing.assert_allclose(found, clamped, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(said, added, rtol=1e-6)
    gained = water(found, mass) - water(hus, mass)
    if conserve:
        assert (np.abs(gained) / water(hus, mass) < (1e-8 if smooth is None else 1e-7)).all()
    else:
        np.testing.assert_allclose(gained, added, rtol=1e-5)


def test_humidity_that_is_not_negative_is_left_bit_for_bit():
    hus, mass = case()
    hus = hus.abs()
    hus[0, 1, 2] = 0.0
    found, added = positive_water(hus, mass)
    assert torch.equal(found, hus)
    assert added.tolist() == [0.0, 0.0]


def test_more_negative_than_positive_water_leaves_none_and_says_so():
    hus, mass = case()
    found, added = positive_water(-hus.abs(), mass)
    assert found.abs().max() == 0
    np.testing.assert_allclose(added, water(hus.abs(), mass), rtol=1e-12)


def test_the_smooth_clamp_is_positive_and_accurate_far_below_zero():
    values = torch.tensor([-1e-2, -1e-6, 0.0, 1e-6, 1e-2], dtype=torch.float32)
    found = smooth_clamp(values, 1e-6)
    assert found.dtype == torch.float64
    # scale^2 / (4 |x|) far below 0, where the sum would cancel to nothing.
    expected = torch.tensor([1e-12 / 4e-2, 0.2071068e-6, 0.5e-6, 1.2071068e-6, 1e-2], dtype=torch.float64)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    inputs = torch.tensor([-3.0, -0.2, 0.0, 0.3, 5.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: smooth_clamp(x, 0.5), inputs)
    assert torch.autograd.gradgradcheck(lambda x: smooth_clamp(x, 0.5), inputs)


def test_gradients():
    hus, mass = case(torch.float64)
    part = (1e3 * hus[:, :, :2, :3]).detach().requires_grad_()
    weight = mass[:, :, :2, :3]
    assert torch.autograd.gradcheck(lambda x: positive_water(x, weight, smooth_scale=0.1), part)
    assert torch.autograd.gradcheck(lambda x: negative_water(x, weight), part)


def test_the_residual_is_the_share_of_negative_water():
    hus = torch.full((1, LEVELS, 1, 2), 3e-3)
    hus[0, 0, 0, 0] = -1e-3
    found = negative_water(hus, torch.ones(1, LEVELS, 1, 2, dtype=torch.float64))
    assert found.item() == pytest.approx(1 / (1 + 3 * (2 * LEVELS - 1)), rel=1e-6)
    assert negative_water(torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1).double()).item() == 0


def test_a_scale_of_zero_is_refused():
    hus, mass = case()
    with pytest.raises(ValueError, match=r"smooth_scale must be above 0 kg/kg; got 0.0. Pass None for a hard clamp"):
        positive_water(hus, mass, smooth_scale=0.0)
