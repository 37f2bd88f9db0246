"""The integrator of shallow water: transforms against known functions, a steady flow, and what is conserved."""

import numpy as np
import pytest

from data_scripts.climate.shallow_water import (
    ShallowWaterPlanets,
    integrate,
    random_planets,
    random_start,
    transform,
)


ROWS = 24
DAY = 86_400.0


def grid(rows=ROWS):
    spectral = transform(rows)
    return np.arcsin(spectral.sines)[:, None], np.arange(2 * rows) * np.pi / rows


def mean(field, rows=ROWS):
    return (transform(rows).weights[:, None] * field).sum(-2).mean(-1)


def test_harmonics_are_orthonormal_and_transforms_are_inverse():
    spectral = transform(ROWS)
    for order in range(spectral.truncation + 1):
        functions = spectral.legendre[order, order:]
        products = np.einsum("y,ny,ky->nk", spectral.weights, functions, functions)
        np.testing.assert_allclose(products, np.eye(len(functions)), atol=1e-12)
    rng = np.random.default_rng(0)
    size = spectral.truncation + 1
    coefficients = (rng.standard_normal((2, size, size)) + 1j * rng.standard_normal((2, size, size))) * np.triu(
        np.ones((size, size))
    )
    coefficients[:, 0] = coefficients[:, 0].real
    np.testing.assert_allclose(spectral.analyse(spectral.synthesise(coefficients)), coefficients, atol=1e-12)


def test_divergence_curl_and_winds_agree_with_calculus():
    spectral = transform(ROWS)
    latitude, longitude = grid()
    radius = np.array([2.0e6])
    # A stream function sin(latitude) cos(latitude) cos(longitude), and a potential cos(latitude)^2 sin(2 longitude).
    stream_north = -np.sin(latitude) * np.sin(longitude) / radius
    stream_east = -np.cos(2 * latitude) * np.cos(longitude) / radius
    potential_east = 2 * np.cos(latitude) * np.cos(2 * longitude) / radius
    potential_north = -np.sin(2 * latitude) * np.sin(2 * longitude) / radius
    east, north = (stream_east + potential_east)[None], (stream_north + potential_north)[None]
    divergence, curl = spectral.divergence_and_curl(east, north, radius)
    stream = np.sin(latitude) * np.cos(latitude) * np.cos(longitude)
    potential = np.cos(latitude) ** 2 * np.sin(2 * longitude)
    np.testing.assert_allclose(spectral.synthesise(curl)[0], -6 * stream / radius**2, atol=1e-18)
    np.testing.assert_allclose(spectral.synthesise(divergence)[0], -6 * potential / radius**2, atol=1e-18)
    found = spectral.winds(curl, divergence, radius)
    np.testing.assert_allclose(found[0], east, atol=1e-12)
    np.testing.assert_allclose(found[1], north, atol=1e-12)


def test_a_balanced_zonal_flow_stays_as_it_is():
    # Williamson et al. 1992 (doi:10.1016/S0021-9991(05)80016-6), case 2, on two planets.
    planets = ShallowWaterPlanets(
        np.array([6.4e6, 3e6]), np.array([9.8, 4.0]), np.array([DAY, 0.5 * DAY]), np.array([2998.0, 4000.0])
    )
    latitude, longitude = grid()
    speed = 2 * np.pi * planets.radius_m / (12 * DAY)
    rate = 2 * np.pi / planets.rotation_period_s
    east = speed[:, None, None] * np.cos(latitude) * np.ones_like(longitude)
    drop = (planets.radius_m * rate * speed + speed**2 / 2) / planets.gravity_m_s2
    height = -drop[:, None, None] * np.sin(latitude) ** 2 * np.ones_like(longitude)
    height += (planets.depth_m + drop / 3)[:, None, None]
    start = np.stack([height, east, np.zeros_like(east)], axis=1)
    found = integrate(planets, start, DAY, 5)
    # What the hyperdiffusion takes in five days.
    np.testing.assert_allclose(found[:, -1, 0], height, rtol=1e-5)
    np.testing.assert_allclose(found[:, -1, 1:], start[:, 1:], atol=1e-2)


def test_mass_stays_and_energy_nearly():
    planets = random_planets(3, seed=0)
    start = random_start(planets, ROWS, seed=0)
    states = np.concatenate([start[:, None], integrate(planets, start, 6 * 3600.0, 12)], axis=1)
    masses = mean(states[:, :, 0])
    np.testing.assert_allclose(masses, np.broadcast_to(planets.depth_m[:, None], masses.shape), rtol=1e-12)
    height, east, north = np.moveaxis(states, 2, 0)
    energy = mean(planets.gravity_m_s2[:, None, None, None] * height**2 / 2 + height * (east**2 + north**2) / 2)
    assert np.ptp(energy / energy[:, :1], axis=1).max() < 1e-4
    # The flow moves: half a day on it is not what it was.
    assert (np.abs(states[:, -1, 1] - start[:, 1]).mean((1, 2)) > 0.2 * np.abs(start[:, 1]).mean((1, 2))).all()
    # No gravity waves at the start: the depth changes slowly.
    assert (np.abs(states[:, 1, 0] - start[:, 0]).max((1, 2)) < 0.3 * np.ptp(start[:, 0], axis=(1, 2))).all()


def test_planets_do_not_know_of_one_another_and_are_the_same_each_time():
    planets = random_planets(3, seed=1)
    start = random_start(planets, 12, seed=1)
    alone = ShallowWaterPlanets(*(getattr(planets, name)[1:2] for name in planets.__dataclass_fields__))
    together = integrate(planets, start, 3600.0, 2)
    np.testing.assert_allclose(integrate(alone, start[1:2], 3600.0, 2)[0], together[1], rtol=1e-4, atol=1e-3)
    again = random_planets(3, seed=1)
    assert all(np.array_equal(getattr(planets, name), getattr(again, name)) for name in planets.__dataclass_fields__)
    assert not np.array_equal(random_planets(3, seed=2).radius_m, planets.radius_m)


def test_too_fast_winds_are_named():
    planets = random_planets(1, seed=0)
    start = random_start(planets, 12, seed=0)
    start[:, 1:] *= 1e4
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="winds outgrew the grid"):
        integrate(planets, start, DAY, 3)
