"""Climates of planets, state after state, for models that forecast: worlds of shallow water, and files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_scripts.climate.shallow_water import integrate, random_planets, random_start, transform
from data_scripts.climate.variables import ATMOSPHERE, SURFACE
from data_scripts.embedded.climates import EMBEDDED_CLIMATES
from data_scripts.harness.errors import BuildError
from data_scripts.splits import splits_of_few
from modeling_astrobio import AstroDatacubeConfig
from modeling_astrobio.training.datacube_data import ClimateTrajectory
from modeling_astrobio.training.datacube_recipe import DatacubeDataSection
from modeling_astrobio.training.errors import DataError


try:
    from data_scripts.climate.cube_file import read_cube
except ImportError:
    # Worlds of shallow water need no library of files.
    read_cube = None  # type: ignore[assignment]


__all__ = ["cube_trajectory", "open_climates", "read_climates", "shallow_water_worlds"]

_SUFFIXES = {".nc", ".nc4", ".zarr"}
_MOLAR_GAS_CONSTANT = 8.31446261815324
_DAY_S = 86_400.0
# Where ExoPlaSim puts the star of a synchronous planet.
_SUBSTELLAR_DEG = 180.0
# Gas constant over heat capacity at constant pressure of the dry air, as in ExoPlaSim 3.4 (p_exo.f90); of ideal
# gases of two atoms it is 2 / 7.
_KAPPA = 0.286
# Of water, as there (plasimmod.f90): vapour, and the latent heat of its condensation at the melting point.
_WATER = {
    "gas_constant_vapour_j_kg_k": 461.51,
    "heat_capacity_vapour_j_kg_k": 1870.0,
    "latent_heat_j_kg": 2.5008e6,
}
# As `read_cube` gives them.
_UNITS = {variable.name: variable.unit for variable in (*ATMOSPHERE, *SURFACE)}
# Of ten, which worlds are held out.
_VALIDATION, _TEST = (8,), (4, 9)


def open_climates(data: DatacubeDataSection, config: AstroDatacubeConfig) -> dict[str, list[ClimateTrajectory]]:
    """Return the climates of every split that a recipe asks for.

    Raises:
        DataError: If its folder cannot be read.
    """
    if data.folder is None:
        return shallow_water_worlds(
            data.worlds, data.rows, data.states, data.step_s, data.seed, config.planet_parameters
        )
    folder = EMBEDDED_CLIMATES if data.folder == "embedded" else Path(data.folder)
    try:
        return read_climates(folder, config, data.step_s)
    except BuildError as error:
        raise DataError(f"data.folder={data.folder!r} cannot be read: {error}") from error


def shallow_water_worlds(
    number: int, rows: int, states: int, step_s: float, seed: int, planet_parameters: Sequence[str]
) -> dict[str, list[ClimateTrajectory]]:
    """Make worlds of shallow water, each with a planet of its own; see `data_scripts.climate.shallow_water`.

    Args:
        number: Of worlds.
        rows: Latitudes of the Gaussian grid; there are twice as many longitudes.
        states: Of each world, its balanced start not counted.
        step_s: Time between states, s.
        seed: Another seed, other worlds.
        planet_parameters: Those of the model's config; radius, gravity and rotation period are known.

    Returns:
        Of ten, seven for `train`, one for `validation` and two for `test`.
    """
    planets = random_planets(number, seed)
    fields = integrate(planets, random_start(planets, rows, seed), step_s, states)
    latitude = torch.from_numpy(np.degrees(np.arcsin(transform(rows).sines)))
    longitude = torch.arange(2 * rows, dtype=torch.float64) * (180.0 / rows)
    splits: dict[str, list[ClimateTrajectory]] = {"train": [], "validation": [], "test": []}
    for place in range(number):
        known = {
            "radius_m": planets.radius_m[place],
            "gravity_m_s2": planets.gravity_m_s2[place],
            "rotation_period_s": planets.rotation_period_s[place],
        }
        split = "validation" if place % 10 in _VALIDATION else "test" if place % 10 in _TEST else "train"
        splits[split].append(
            ClimateTrajectory(
                name=f"world-{seed}-{place:03}",
                surface_fields=torch.from_numpy(fields[place].astype(np.float32)).transpose(0, 1).contiguous(),
                level_fields=None,
                forcing_fields=None,
                levels=torch.zeros(0, dtype=torch.float64),
                latitude_deg=latitude,
                longitude_deg=longitude,
                planet=torch.tensor([known.get(name, np.nan) for name in planet_parameters], dtype=torch.float32),
                step_s=step_s,
                units={"h": "m", "u": "m s-1", "v": "m s-1"},
            )
        )
    return splits


def read_climates(folder: Path, config: AstroDatacubeConfig, step_s: float) -> dict[str, list[ClimateTrajectory]]:
    """Read a folder of NetCDF files or Zarr stores, split by planet.

    Args:
        folder: With a planet in each file, see `data_scripts.climate.cube_file`.
        config: Names of the variables and parameters; a variable that a file does not have is missing.
        step_s: Time between the states of the files, s.

    Raises:
        BuildError: If there is no such file, one cannot be read, or they are of fewer than 3 planets.
    """
    if read_cube is None:
        raise BuildError("climate files need xarray: pip install -c constraints.txt -e '.[climate]'.")
    paths = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES) if folder.is_dir() else []
    if not paths:
        raise BuildError(f"{folder.name} must be a folder with files of {', '.join(sorted(_SUFFIXES))}; got none.")
    climates = []
    for path in paths:
        cube = read_cube(path)
        climates.append((cube.planet.key, cube_trajectory(cube, config, step_s)))
    try:
        chosen = splits_of_few({planet for planet, _ in climates})
    except ValueError as error:
        raise BuildError(f"{folder.name} must hold 3 planets at least: {error}") from error
    splits: dict[str, list[ClimateTrajectory]] = {"train": [], "validation": [], "test": []}
    for planet, climate in climates:
        splits[chosen[planet]].append(climate)
    return splits


def cube_trajectory(cube: Any, config: AstroDatacubeConfig, step_s: float) -> ClimateTrajectory:
    """Return a cube as the climate that a model of this configuration reads, its states `step_s` apart, s.

    Water is what condenses. Files do not say which heat capacity the air has: it is that of ExoPlaSim, whose ratio of
    gas constant and heat capacity is the same for every mixture of gases.
    """
    planet = cube.planet
    gas_constant = _MOLAR_GAS_CONSTANT * 1e3 / planet.dry_air_molar_mass_g_mol
    known = {
        "stellar_flux_w_m2": planet.stellar_flux_w_m2,
        "stellar_temperature_k": planet.stellar_temperature_k,
        "radius_m": planet.radius_m,
        "gravity_m_s2": planet.gravity_m_s2,
        "rotation_period_s": planet.rotation_period_days * _DAY_S,
        "synchronous": float(planet.synchronous),
        "substellar_longitude_deg": _SUBSTELLAR_DEG if planet.synchronous else np.nan,
        "obliquity_deg": planet.obliquity_deg,
        "eccentricity": planet.eccentricity,
        "surface_pressure_pa": planet.dry_surface_pressure_pa,
        "co2_partial_pressure_pa": planet.co2_partial_pressure_pa,
        "gas_constant_dry_j_kg_k": gas_constant,
        "heat_capacity_dry_j_kg_k": gas_constant / _KAPPA,
        **_WATER,
    }
    order = np.argsort(cube.levels)
    levels = cube.levels[order] / (planet.dry_surface_pressure_pa if cube.level_kind == "pressure" else 1.0)
    columns = np.argsort(cube.longitude_deg)
    named = (*config.level_variables, *config.surface_variables, *config.forcing_variables)
    level = _fields(cube.atmosphere, config.level_variables, len(cube.time))[..., order, :, :][..., columns]
    surface = _fields(cube.surface, config.surface_variables, len(cube.time))[..., columns]
    forcing = _fields(cube.surface, config.forcing_variables, len(cube.time))[..., columns]
    return ClimateTrajectory(
        name=cube.name,
        surface_fields=torch.from_numpy(surface),
        level_fields=torch.from_numpy(level) if config.level_variables else None,
        forcing_fields=torch.from_numpy(forcing[:, -1].copy()) if config.forcing_variables else None,
        levels=torch.from_numpy(levels),
        latitude_deg=torch.from_numpy(cube.latitude_deg.copy()),
        longitude_deg=torch.from_numpy(cube.longitude_deg[columns]),
        planet=torch.tensor([known.get(name, np.nan) for name in config.planet_parameters], dtype=torch.float32),
        step_s=step_s,
        units={name: _UNITS[name] for name in named if name in _UNITS},
    )


def _fields(block: Any, names: Sequence[str], times: int) -> np.ndarray:
    """Fields of variables in this order, shape (V, T, ..., Y, X), NaN where there is none."""
    shape = (times, *block.values.shape[2:])
    rows = [
        block.values[block.names.index(name)] if name in block.names else np.full(shape, np.nan, np.float32)
        for name in names
    ]
    return np.stack(rows) if rows else np.empty((0, *shape), np.float32)
