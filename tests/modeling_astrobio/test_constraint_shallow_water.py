"""Mass and energy of a closed shallow-water layer are pinned together, whatever energy is asked for."""

import numpy as np
import pytest
import torch
from climate_states import grid

from modeling_astrobio.constraint_shallow_water import (
    correct_shallow_water,
    shallow_water_energy,
    shallow_water_mass,
)


GRAVITY = torch.tensor([9.1, 3.7], dtype=torch.float64)
WEIGHTS = grid(7, 13).cell_weights


def layer(dtype=torch.float32, seed=0, rows=7, columns=13):
    generator = torch.Generator().manual_seed(seed)
    h, u, v = torch.randn(3, 2, rows, columns, generator=generator, dtype=torch.float64)
    return (3000.0 + 90.0 * h).to(dtype), (12.0 * u).to(dtype), (7.0 * v).to(dtype)


def naive(h, u, v, weights=WEIGHTS):
    h, u, v = (part.detach().double().numpy() for part in (h, u, v))
    mass, energy = np.zeros(2), np.zeros(2)
    for item, row, column in np.ndindex(h.shape):
        depth, weight = h[item, row, column], weights[row, column].item()
        mass[item] += weight * depth
        speed = u[item, row, column] ** 2 + v[item, row, column] ** 2
        energy[item] += weight * (GRAVITY[item].item() * depth**2 / 2 + depth * speed / 2)
    return mass, energy


def test_totals_equal_loops():
    state = layer()
    mass, energy = naive(*state)
    np.testing.assert_allclose(shallow_water_mass(state[0], WEIGHTS), mass, rtol=1e-13)
    np.testing.assert_allclose(shallow_water_energy(*state, GRAVITY, WEIGHTS), energy, rtol=1e-13)


@pytest.mark.parametrize("mass_factor", [1.0, 1.02])
@pytest.mark.parametrize("available_factor", [0.0, 0.3, 1.000001, 2.5])
def test_any_energy_above_rest_is_reached_with_the_mass(mass_factor, available_factor):
    state = layer()
    mass, energy = (torch.from_numpy(part) for part in naive(*state))
    at_rest = GRAVITY * mass**2 / 2
    mass = mass * mass_factor
    goal = GRAVITY * mass**2 / 2 + (energy - at_rest) * available_factor
    found = correct_shallow_water(*state, mass, goal, GRAVITY, WEIGHTS)
    assert all(part.dtype == torch.float32 for part in found)
    got_mass, got_energy = naive(*found)
    np.testing.assert_allclose(got_mass, mass, rtol=5e-9)
    np.testing.assert_allclose(got_energy, goal, rtol=2e-8)
    assert found[0].min() > 0


def test_a_balanced_layer_is_left_bit_for_bit_and_does_not_drift():
    start = layer()
    mass, energy = (torch.from_numpy(part) for part in naive(*start))
    same = correct_shallow_water(*start, mass, energy, GRAVITY, WEIGHTS)
    assert all(torch.equal(one, other) for one, other in zip(same, start, strict=True))
    state = correct_shallow_water(*layer(seed=1), mass, energy, GRAVITY, WEIGHTS)
    for _ in range(5):
        again = correct_shallow_water(*state, mass, energy, GRAVITY, WEIGHTS)
        assert all(torch.equal(one, other) for one, other in zip(again, state, strict=True))
        state = again


def test_a_thousand_steps_of_a_drifting_model_do_not_drift():
    generator = torch.Generator().manual_seed(3)
    state = layer()
    mass, energy = (torch.from_numpy(part) for part in naive(*state))
    for _ in range(1000):
        noise = torch.randn(3, *state[0].shape, generator=generator)
        state = tuple(part * (1.001 + 1e-3 * each) for part, each in zip(state, noise, strict=True))
        state = correct_shallow_water(*state, mass, energy, GRAVITY, WEIGHTS)
    got_mass, got_energy = naive(*state)
    np.testing.assert_allclose(got_mass, mass, rtol=5e-9)
    np.testing.assert_allclose(got_energy, energy, rtol=2e-8)


def test_less_energy_than_rest_leaves_rest_and_rest_stays():
    state = layer()
    mass, energy = (torch.from_numpy(part) for part in naive(*state))
    h, u, v = correct_shallow_water(*state, mass, energy / 2, GRAVITY, WEIGHTS)
    assert (h.double() - mass[:, None, None]).abs().max() < 1e-3
    assert u.abs().max() < 1e-3
    assert v.abs().max() < 1e-3
    flat = (torch.full((2, 7, 13), 3000.0), *torch.zeros(2, 2, 7, 13))
    found = correct_shallow_water(*flat, torch.full((2,), 3000.0).double(), energy, GRAVITY, WEIGHTS)
    assert all(torch.equal(one, other) for one, other in zip(found, flat, strict=True))
    # Without velocities the depths take all of the energy.
    still = (state[0], *torch.zeros(2, 2, 7, 13))
    found = correct_shallow_water(*still, mass, energy, GRAVITY, WEIGHTS)
    np.testing.assert_allclose(naive(*found)[1], energy, rtol=2e-7)


def test_gradients():
    h, u, v = (part.double() for part in layer(torch.float64, rows=2, columns=3))
    weights = grid(2, 3).cell_weights
    mass, energy = torch.tensor([2.9, 3.1]).double(), torch.tensor([90.0, 95.0]).double()
    energy = GRAVITY * mass**2 / 2 + energy / 10
    inputs = [(part / scale).detach().requires_grad_() for part, scale in ((h, 1e3), (u, 10.0), (v, 10.0))]
    inputs += [mass.requires_grad_(), energy.detach().requires_grad_()]
    assert torch.autograd.gradcheck(
        lambda h, u, v, mass, energy: correct_shallow_water(h, u, v, mass, energy, GRAVITY, weights), inputs
    )
