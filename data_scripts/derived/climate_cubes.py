"""The data set `climate_cubes`: output of general-circulation models, a row a cube."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from datasets import DatasetDict, Features, List, Value

from data_scripts.climate.cube_file import Block, ClimateCube, read_cube
from data_scripts.climate.planets import Planet
from data_scripts.derived.split_writer import SplitWriter
from data_scripts.harness.errors import BuildError
from data_scripts.harness.hub_folder import DatasetCard
from data_scripts.splits import SPLIT_NAMES, split_of


__all__ = ["CLIMATE_CUBES_CARD", "CLIMATE_CUBES_FEATURES", "build_climate_cubes", "global_mean"]

_SUFFIXES = {".nc", ".nc4", ".zarr"}
# W m-2: the mean flux into the planet that a run may keep and still be called in equilibrium.
_EQUILIBRIUM = 1.0

_PLANET_COLUMNS = {
    "stellar_flux_w_m2": "stellar flux at the top of the atmosphere, W m-2",
    "stellar_temperature_k": "effective temperature of the star's spectrum, K",
    "radius_m": "radius of the solid planet, m",
    "gravity_m_s2": "surface gravity, m s-2",
    "rotation_period_days": "rotation period, days of 86,400 s",
    "synchronous": "whether one side always faces the star",
    "obliquity_deg": "obliquity, degrees",
    "eccentricity": "orbital eccentricity, dimensionless",
    "dry_surface_pressure_pa": "sum of the partial pressures of the dry gases, Pa",
    "co2_partial_pressure_pa": "partial pressure of carbon dioxide, Pa",
    "dry_air_molar_mass_g_mol": "mean molar mass of the dry gases, g/mol",
    "ocean_planet": "whether there is no land; null where the file does not say",
}
_BOOLEANS = ("synchronous", "ocean_planet")
_ARRAYS = {"atmosphere": "(V, T, L, Y, X)", "surface": "(V, T, Y, X)"}

CLIMATE_CUBES_FEATURES = Features(
    {
        "name": Value("string"),
        "object_id": Value("string"),
        **{
            column: feature
            for block in _ARRAYS
            for column, feature in (
                (block, List(Value("float32"))),
                (f"{block}_shape", List(Value("int32"))),
                (f"{block}_variables", List(Value("string"))),
                (f"{block}_units", List(Value("string"))),
            )
        },
        "level_kind": Value("string"),
        "levels": List(Value("float64")),
        "latitude_deg": List(Value("float64")),
        "longitude_deg": List(Value("float64")),
        "time": List(Value("float64")),
        "time_unit": Value("string"),
        "calendar": Value("string"),
        **{column: Value("bool" if column in _BOOLEANS else "float64") for column in _PLANET_COLUMNS},
        "missing_share": Value("float64"),
        "top_of_atmosphere_imbalance_w_m2": Value("float64"),
        "in_equilibrium": Value("bool"),
        "conversions": List(Value("string")),
        "left_out": List(Value("string")),
        "attributes": Value("string"),
        "source": Value("string"),
        "source_sha256": Value("string"),
    }
)

CLIMATE_CUBES_CARD = DatasetCard(
    name="climate_cubes",
    pretty_name="Climates of planets as five-dimensional cubes",
    summary=(
        "Output of general-circulation models of planets: variables on levels and at the surface over time, latitude "
        "and longitude, with the parameters of the planet, each file on its own grid."
    ),
    columns={
        "name": "the run's name, or the file's",
        "object_id": "16 hex digits of the planet's parameters; runs and years of one planet share it",
        **{
            column: text
            for block, shape in _ARRAYS.items()
            for column, text in (
                (block, f"values, float32, flattened from {shape} in C order; NaN where the file has none"),
                (f"{block}_shape", f"the shape {shape}"),
                (
                    f"{block}_variables",
                    "short names of CMIP6, in the order of V; all fluxes, evaporation too, count downward",
                ),
                (f"{block}_units", "their units"),
            )
        },
        "level_kind": "`sigma` (pressure over surface pressure) or `pressure` (Pa)",
        "levels": "levels, in the order of the file",
        "latitude_deg": "latitudes, degrees north, in the order of the file",
        "longitude_deg": "longitudes, degrees east, in the order of the file",
        "time": "times, as the file counts them",
        "time_unit": "their unit, as the file has it",
        "calendar": "their calendar, as the file has it; empty where it has none",
        **_PLANET_COLUMNS,
        "missing_share": "share of values that are missing, 0 to 1",
        "top_of_atmosphere_imbalance_w_m2": "global mean of `rst` + `rlut`, W m-2, into the planet; null without both",
        "in_equilibrium": f"whether that is within {_EQUILIBRIUM:g} W m-2; null without both",
        "conversions": "what was done to units",
        "left_out": "variables of the file that are not here",
        "attributes": "the file's global attributes, the model's settings among them, JSON",
        "source": "the model, or the file's title",
        "source_sha256": "SHA-256 of the file",
    },
    source=(
        "Files given to the builder. Runs of ExoPlaSim: Paradise et al. 2022, MNRAS 511, 3272, "
        "doi:10.1093/mnras/stac172."
    ),
    method=(
        "Axes are found by their CF attributes, transposed to (time, level, latitude, longitude), and kept in the "
        "order and on the grid of the file: nothing is regridded, turned round, or filled. Variables are known by CF "
        "standard name; a unit of another dimension, and a level that is no pressure or sigma, end the build; a unit "
        "of the same dimension is converted, a flux that counts upward changes its sign, and both are said in "
        "`conversions`. A planet, with all its runs and years, is in one split."
    ),
    limits=(
        "A row with `in_equilibrium` false is of a spin-up year or a drifting run, not a climate. Grids and levels "
        "differ between rows."
    ),
    license="other",
    license_name="as-the-files",
    license_link="https://github.com/alphaparrot/ExoPlaSim",
    license_note="The terms of each model or reanalysis hold; output of ExoPlaSim carries no licence of the model.",
    citation=(
        "@article{paradise2022exoplasim,\n"
        "  author  = {Paradise, A. and Macdonald, E. and Menou, K. and Lee, C. and Fan, B. L.},\n"
        "  title   = {{ExoPlaSim}: Extending the {Planet Simulator} for exoplanets},\n"
        "  journal = {Monthly Notices of the Royal Astronomical Society},\n"
        "  volume  = {511}, pages = {3272}, year = {2022}, doi = {10.1093/mnras/stac172}\n"
        "}"
    ),
)


def build_climate_cubes(inputs: Mapping[str, Path], seed: int = 0) -> DatasetDict:
    """Build the data set from a folder of NetCDF files and Zarr stores.

    Args:
        inputs: `cubes`: the folder; read in the order of the names.
        seed: Not used: nothing is drawn.

    Raises:
        BuildError: If there is no file, or one cannot be used; the file is named.
    """
    folder = inputs["cubes"]
    paths = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES) if folder.is_dir() else []
    if not paths:
        raise BuildError(f"cubes must be a folder with {', '.join(sorted(_SUFFIXES))}; {folder} holds none.")
    names: dict[str, str] = {}
    with SplitWriter(CLIMATE_CUBES_FEATURES, SPLIT_NAMES) as writer:
        for path in paths:
            cube = read_cube(path)
            if cube.sha256 in names:
                raise BuildError(
                    f"{path.name} must be another cube than {names[cube.sha256]}; they hold the same bytes."
                )
            names[cube.sha256] = path.name
            row = _row(cube)
            writer.write(split_of(row["object_id"]), [row])
        return writer.finish()


def _row(cube: ClimateCube) -> dict[str, Any]:
    values = [cube.atmosphere.values, cube.surface.values]
    imbalance = _imbalance(cube)
    return {
        "name": cube.name,
        "object_id": _short_hash(cube.planet),
        **_block_cells("atmosphere", cube.atmosphere),
        **_block_cells("surface", cube.surface),
        "level_kind": cube.level_kind,
        "levels": cube.levels,
        "latitude_deg": cube.latitude_deg,
        "longitude_deg": cube.longitude_deg,
        "time": cube.time,
        "time_unit": cube.time_unit,
        "calendar": cube.calendar,
        **asdict(cube.planet),
        "missing_share": sum(int(np.isnan(part).sum()) for part in values) / sum(part.size for part in values),
        "top_of_atmosphere_imbalance_w_m2": imbalance,
        "in_equilibrium": None if imbalance is None else abs(imbalance) <= _EQUILIBRIUM,
        "conversions": cube.conversions,
        "left_out": cube.left_out,
        "attributes": json.dumps(cube.attributes, sort_keys=True, ensure_ascii=False),
        "source": str(cube.attributes.get("model") or cube.attributes.get("title") or "unknown"),
        "source_sha256": cube.sha256,
    }


def _block_cells(name: str, block: Block) -> dict[str, Any]:
    return {
        name: block.values.reshape(-1),
        f"{name}_shape": list(block.values.shape),
        f"{name}_variables": block.names,
        f"{name}_units": block.units,
    }


def global_mean(values: np.ndarray, latitude_deg: np.ndarray) -> float:
    """Return the mean over the globe, weighted by area.

    Latitudes of a Gaussian grid have its quadrature weights; those of any other grid the sine differences of the
    cells' edges, which lie half-way and at the poles.

    Args:
        values: Shape (..., Y, X).
        latitude_deg: Shape (Y,), degrees.
    """
    sines = np.sin(np.radians(latitude_deg))
    nodes, weights = np.polynomial.legendre.leggauss(len(sines))
    order = np.argsort(sines)
    if np.abs(sines[order] - nodes).max() < 1e-4:
        by_row = np.empty_like(weights)
        by_row[order] = weights
    else:
        middle = (latitude_deg[1:] + latitude_deg[:-1]) / 2
        falling = latitude_deg[0] > latitude_deg[-1]
        edges = np.concatenate([[90.0 if falling else -90.0], middle, [-90.0 if falling else 90.0]])
        by_row = np.abs(np.diff(np.sin(np.radians(edges))))
    return float(np.average(values.mean(axis=-1).reshape(-1, len(sines)).mean(axis=0), weights=by_row))


def _imbalance(cube: ClimateCube) -> float | None:
    fluxes = dict(zip(cube.surface.names, cube.surface.values, strict=True))
    if not {"rst", "rlut"} <= set(fluxes):
        return None
    return global_mean(fluxes["rst"].astype(np.float64) + fluxes["rlut"], cube.latitude_deg)


def _short_hash(planet: Planet) -> str:
    return hashlib.sha256(planet.key.encode()).hexdigest()[:16]
