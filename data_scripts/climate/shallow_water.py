"""Shallow water on rotating planets, by spherical harmonics: closed worlds whose laws are known exactly.

A layer of depth h above a flat ground, in the form of vorticity and divergence (Bourke 1972; Hack and Jakob 1992,
NCAR/TN-343+STR, doi:10.5065/D64X55S7), truncated as a triangle, on the Gaussian grid that makes quadratic products
exact; classical Runge-Kutta steps of fourth order. Mass stays to rounding; energy but for the hyperdiffusion, which
damps the smallest waves.

Shape suffixes: B planets, Y latitudes, X longitudes, M zonal wavenumbers, N total wavenumbers.
"""

import functools
from dataclasses import dataclass

import numpy as np


__all__ = ["ShallowWaterPlanets", "integrate", "random_planets", "random_start"]

# In which hyperdiffusion, the eighth power of the gradient, takes the smallest waves to 1 / e.
_DAMPING_S = 6 * 3600.0
# Of the time step that is stable for gravity waves of the smallest scale.
_SAFETY = 0.5


@dataclass(frozen=True)
class ShallowWaterPlanets:
    """Planets, each attribute of shape (B,), float64.

    Attributes:
        radius_m: Of the planet.
        gravity_m_s2: At the surface.
        rotation_period_s: Sidereal.
        depth_m: Mean depth of the layer.
    """

    radius_m: np.ndarray
    gravity_m_s2: np.ndarray
    rotation_period_s: np.ndarray
    depth_m: np.ndarray


@dataclass(frozen=True)
class _Transform:
    """Spherical harmonics up to a triangular truncation, on a Gaussian grid."""

    truncation: int
    sines: np.ndarray
    weights: np.ndarray
    legendre: np.ndarray
    derivative: np.ndarray

    @property
    def columns(self) -> int:
        return 2 * len(self.sines)

    def waves(self, field: np.ndarray) -> np.ndarray:
        """Zonal wavenumbers of fields (..., Y, X): shape (..., Y, M), complex."""
        return np.fft.rfft(field)[..., : self.truncation + 1] / self.columns

    def fields(self, waves: np.ndarray) -> np.ndarray:
        """The inverse of `waves`."""
        padded = np.zeros((*waves.shape[:-1], self.columns // 2 + 1), complex)
        padded[..., : self.truncation + 1] = waves
        return np.fft.irfft(padded * self.columns, n=self.columns)

    def analyse(self, field: np.ndarray) -> np.ndarray:
        """Coefficients of fields (..., Y, X): shape (..., M, N)."""
        return np.einsum("y,mny,...ym->...mn", self.weights, self.legendre, self.waves(field))

    def synthesise(self, coefficients: np.ndarray) -> np.ndarray:
        """The inverse of `analyse`."""
        return self.fields(np.einsum("mny,...mn->...ym", self.legendre, coefficients))

    def divergence_and_curl(self, east: np.ndarray, north: np.ndarray, radius: np.ndarray):
        """Coefficients of divergence and curl of vector fields (B, Y, X), (B, M, N)."""
        cosine = np.sqrt(1 - self.sines**2)[:, None]
        east, north = (self.waves(part * cosine) for part in (east, north))
        share = self.weights / (1 - self.sines**2)
        numbers = 1j * np.arange(self.truncation + 1)
        along = np.einsum("y,mny,bym->bmn", share, self.legendre, east * numbers)
        across = np.einsum("y,mny,bym->bmn", share, self.derivative, north)
        along_north = np.einsum("y,mny,bym->bmn", share, self.legendre, north * numbers)
        across_east = np.einsum("y,mny,bym->bmn", share, self.derivative, east)
        radius = radius[:, None, None]
        return (along - across) / radius, (along_north + across_east) / radius

    def winds(self, vorticity: np.ndarray, divergence: np.ndarray, radius: np.ndarray):
        """Winds (B, Y, X) of coefficients (B, M, N) of vorticity and divergence."""
        eigenvalues = self.eigenvalues()
        inverse = np.divide(-1.0, eigenvalues, out=np.zeros_like(eigenvalues), where=eigenvalues > 0)
        stream, potential = (part * inverse * radius[:, None, None] for part in (vorticity, divergence))
        numbers = 1j * np.arange(self.truncation + 1)

        def along(coefficients):
            return np.einsum("mny,bmn->bym", self.legendre, coefficients) * numbers

        def across(coefficients):
            return np.einsum("mny,bmn->bym", self.derivative, coefficients)

        cosine = np.sqrt(1 - self.sines**2)[:, None]
        east = self.fields(along(potential) - across(stream)) / cosine
        north = self.fields(along(stream) + across(potential)) / cosine
        return east, north

    def eigenvalues(self) -> np.ndarray:
        """n (n + 1) of each coefficient, shape (M, N)."""
        degrees = np.arange(self.truncation + 1, dtype=float)
        return np.broadcast_to(degrees * (degrees + 1), (self.truncation + 1,) * 2)


@functools.lru_cache(maxsize=4)
def transform(rows: int) -> _Transform:
    """Make the transform of a Gaussian grid, with the truncation that quadratic products do not alias."""
    truncation = (2 * rows - 1) // 3
    sines, weights = np.polynomial.legendre.leggauss(rows)
    sines, weights = sines[::-1].copy(), weights[::-1] / 2
    legendre = np.zeros((truncation + 1, truncation + 2, rows))
    cosine = np.sqrt(1 - sines**2)
    # Normalised so that the mean square over the sphere of each is 1, times 1 / 2 of a cosine and sine.
    for order in range(truncation + 1):
        legendre[order, order] = (
            1.0 if order == 0 else legendre[order - 1, order - 1] * cosine * np.sqrt((2 * order + 1) / (2 * order))
        )
        for degree in range(order + 1, truncation + 2):
            before = legendre[order, degree - 2] if degree - 2 >= order else 0.0
            legendre[order, degree] = (
                sines * legendre[order, degree - 1] - _epsilon(order, degree - 1) * before
            ) / _epsilon(order, degree)
    derivative = np.zeros((truncation + 1, truncation + 1, rows))
    for order in range(truncation + 1):
        for degree in range(order, truncation + 1):
            below = legendre[order, degree - 1] if degree > order else 0.0
            derivative[order, degree] = (degree + 1) * _epsilon(order, degree) * below
            derivative[order, degree] -= degree * _epsilon(order, degree + 1) * legendre[order, degree + 1]
    return _Transform(truncation, sines, weights, legendre[:, :-1].copy(), derivative)


def _epsilon(order: int, degree: int) -> float:
    return float(np.sqrt((degree**2 - order**2) / (4 * degree**2 - 1))) if degree else 0.0


def random_planets(number: int, seed: int) -> ShallowWaterPlanets:
    """Draw planets.

    Radii are 3.2e6 to 9.6e6 m, gravities 4 to 20 m s-2, rotation periods 8 to 96 hours, and depths those at which
    gravity waves need 1 to 3 days of 86,400 s round the globe.
    """
    rng = np.random.default_rng((seed, number))

    def decades(low: float, high: float) -> np.ndarray:
        return np.exp(rng.uniform(np.log(low), np.log(high), number))

    radius, gravity = 6.4e6 * decades(0.5, 1.5), decades(4.0, 20.0)
    speed = 2 * np.pi * radius / (86_400.0 * decades(1.0, 3.0))
    return ShallowWaterPlanets(radius, gravity, 3600.0 * decades(8.0, 96.0), speed**2 / gravity)


def random_start(planets: ShallowWaterPlanets, rows: int, seed: int) -> np.ndarray:
    """Draw winds of waves of wavenumbers 1 to 6, with the depth that balances them to first order.

    Returns:
        Depth, eastward and northward wind, shape (B, 3, Y, X), m and m s-1.
    """
    spectral, number = transform(rows), len(planets.radius_m)
    rng = np.random.default_rng((seed, rows))
    size = spectral.truncation + 1
    coefficients = rng.standard_normal((number, size, size)) + 1j * rng.standard_normal((number, size, size))
    degrees = np.arange(size)
    coefficients *= np.where((degrees >= 1) & (degrees <= 6), 1.0, 0.0) * np.triu(np.ones((size, size)))
    coefficients[:, 0] = coefficients[:, 0].real
    vorticity = coefficients * np.sqrt(spectral.eigenvalues()) / planets.radius_m[:, None, None]
    none = np.zeros_like(vorticity)
    east, north = spectral.winds(vorticity, none, planets.radius_m)
    # Winds of 2 to 6 per cent of the speed of gravity waves.
    speed = np.sqrt(planets.gravity_m_s2 * planets.depth_m) * rng.uniform(0.02, 0.06, number)
    factor = speed / np.sqrt(np.mean(east**2 + north**2, axis=(1, 2)))
    vorticity = vorticity * factor[:, None, None]
    return _balanced(planets, spectral, vorticity)


def _balanced(planets: ShallowWaterPlanets, spectral: _Transform, vorticity: np.ndarray) -> np.ndarray:
    """The state of rotational winds and of the depth at which divergence does not change."""
    east, north = spectral.winds(vorticity, np.zeros_like(vorticity), planets.radius_m)
    absolute = spectral.synthesise(vorticity) + _coriolis(planets, spectral)
    _, curl = spectral.divergence_and_curl(absolute * east, absolute * north, planets.radius_m)
    eigenvalues = spectral.eigenvalues()
    inverse = np.divide(-1.0, eigenvalues, out=np.zeros_like(eigenvalues), where=eigenvalues > 0)
    bernoulli = curl * inverse * planets.radius_m[:, None, None] ** 2
    energy = spectral.analyse((east**2 + north**2) / 2)
    depth = (bernoulli - energy) / planets.gravity_m_s2[:, None, None]
    depth[:, 0, 0] = planets.depth_m
    return np.stack([spectral.synthesise(depth), east, north], axis=1)


def _coriolis(planets: ShallowWaterPlanets, spectral: _Transform) -> np.ndarray:
    rate = 4 * np.pi / planets.rotation_period_s
    return rate[:, None, None] * spectral.sines[:, None]


def integrate(planets: ShallowWaterPlanets, start: np.ndarray, interval_s: float, states: int) -> np.ndarray:
    """Integrate from a start.

    Args:
        planets: The planets.
        start: Depth, eastward and northward wind, shape (B, 3, Y, X) on a Gaussian grid from the north.
        interval_s: Time between the states that are returned, s.
        states: How many, the start not counted.

    Returns:
        Shape (B, states, 3, Y, X), float64.

    Raises:
        FloatingPointError: If winds outgrow the grid.
    """
    spectral = transform(start.shape[-2])
    divergence, vorticity = spectral.divergence_and_curl(start[:, 1], start[:, 2], planets.radius_m)
    state = np.stack([spectral.analyse(start[:, 0]), vorticity, divergence])
    fastest = np.sqrt(planets.gravity_m_s2 * planets.depth_m) * spectral.truncation / planets.radius_m
    steps = int(np.ceil(interval_s * fastest.max() / (2.8 * _SAFETY)))
    step = interval_s / steps
    scale = spectral.eigenvalues() / spectral.eigenvalues()[0, -1]
    damping = np.exp(-step / _DAMPING_S * scale**4)
    coriolis = _coriolis(planets, spectral)
    found = []
    for _ in range(states):
        for _ in range(steps):
            first = _tendency(state, planets, spectral, coriolis)
            second = _tendency(state + step / 2 * first, planets, spectral, coriolis)
            third = _tendency(state + step / 2 * second, planets, spectral, coriolis)
            fourth = _tendency(state + step * third, planets, spectral, coriolis)
            state = (state + step / 6 * (first + 2 * second + 2 * third + fourth)) * damping
        if not np.isfinite(state).all():
            raise FloatingPointError("winds outgrew the grid; start from slower ones, or on a finer grid.")
        east, north = spectral.winds(state[1], state[2], planets.radius_m)
        found.append(np.stack([spectral.synthesise(state[0]), east, north], axis=1))
    return np.stack(found, axis=1)


def _tendency(state, planets: ShallowWaterPlanets, spectral: _Transform, coriolis: np.ndarray) -> np.ndarray:
    """Rates of change of depth, vorticity and divergence, coefficients (3, B, M, N)."""
    depth, vorticity, divergence = state
    radius = planets.radius_m
    east, north = spectral.winds(vorticity, divergence, radius)
    height = spectral.synthesise(depth)
    absolute = spectral.synthesise(vorticity) + coriolis
    flux_divergence, flux_curl = spectral.divergence_and_curl(absolute * east, absolute * north, radius)
    outflow, _ = spectral.divergence_and_curl(height * east, height * north, radius)
    energy = spectral.analyse(planets.gravity_m_s2[:, None, None] * height + (east**2 + north**2) / 2)
    laplacian = -spectral.eigenvalues() / radius[:, None, None] ** 2
    return np.stack([-outflow, -flux_divergence, flux_curl - laplacian * energy])
