"""One file of a general-circulation model as a cube, on its own grid and with its units checked."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data_scripts.climate.planets import Planet, planet_from_exoplasim
from data_scripts.climate.units import to_unit
from data_scripts.climate.variables import ATMOSPHERE, SURFACE, variable_named
from data_scripts.harness.errors import BuildError
from modeling_astrobio.cube_axes import axis_degrees, axis_levels, axis_numbers, find_axis
from modeling_astrobio.cube_errors import CubeError


__all__ = ["PLANET_FILE", "Block", "ClimateCube", "read_cube"]


PLANET_FILE = "planet.json"
# What ExoPlaSim writes, where that is not the unit that its files state.
_EXOPLASIM_UNITS = {"relative_humidity": "%"}


@dataclass(frozen=True)
class Block:
    """Variables on the same axes.

    Attributes:
        names: Short names of CMIP6.
        units: Unit of each.
        values: Shape (V, T, L, Y, X) or, at the surface, (V, T, Y, X), float32; NaN where the file has no value.
    """

    names: list[str]
    units: list[str]
    values: np.ndarray


@dataclass(frozen=True)
class ClimateCube:
    """A file's content.

    Attributes:
        name: The run's name, or the file's.
        atmosphere: Variables on levels.
        surface: Variables at the surface.
        level_kind: `sigma` (pressure over surface pressure) or `pressure` (Pa).
        levels: Shape (L,), in the order of the file.
        latitude_deg: Shape (Y,), in the order of the file.
        longitude_deg: Shape (X,), in the order of the file.
        time: Shape (T,), as the file counts it.
        time_unit: Its unit, or empty.
        calendar: Its calendar, or empty.
        planet: Of the file's `settings`, or of `NAME.planet.json` or `planet.json` beside it.
        conversions: What was done to units, in words.
        left_out: Variables of the file that are not in the cube.
        attributes: The file's global attributes.
        sha256: Of the file; of a Zarr store, of its files in the order of their names.
    """

    name: str
    atmosphere: Block
    surface: Block
    level_kind: str
    levels: np.ndarray
    latitude_deg: np.ndarray
    longitude_deg: np.ndarray
    time: np.ndarray
    time_unit: str
    calendar: str
    planet: Planet
    conversions: list[str]
    left_out: list[str]
    attributes: dict[str, Any]
    sha256: str


def read_cube(path: Path) -> ClimateCube:
    """Read a NetCDF file or a Zarr store. Nothing is regridded, turned round or filled.

    Raises:
        BuildError: If an axis, a unit or the planet is missing or cannot be understood; names the file and the axis.
    """
    try:
        data = xr.open_dataset(path, decode_times=False, engine="zarr" if path.is_dir() else None)
    except (OSError, ValueError, KeyError) as error:
        raise BuildError(f"{path.name} must be a NetCDF file or a Zarr store; {error}") from error
    try:
        return _read(data, path)
    except CubeError as error:
        raise BuildError(str(error)) from error


def _read(data: xr.Dataset, path: Path) -> ClimateCube:
    with data:
        axes = {axis: find_axis(data, axis, path.name) for axis in "XYZT"}
        conversions: list[str] = []
        blocks, used = {}, set()
        for kind, order in (("atmosphere", "TZYX"), ("surface", "TYX")):
            dims = tuple(axes[axis] for axis in order)
            blocks[kind], names = _read_block(data, dims, kind == "atmosphere", conversions, path.name)
            used |= names
        if not blocks["atmosphere"].names:
            expected = ", ".join(variable.name for variable in ATMOSPHERE)
            raise BuildError(
                f"{path.name} must hold a variable on levels, on the axes {', '.join(axes[axis] for axis in 'TZYX')} "
                f"and no other, with a standard name of {expected}; has none."
            )
        level_kind, levels = axis_levels(data[axes["Z"]], path.name)
        return ClimateCube(
            name=str(data.attrs.get("run_name", path.stem)),
            atmosphere=blocks["atmosphere"],
            surface=blocks["surface"],
            level_kind=level_kind,
            levels=levels,
            latitude_deg=axis_degrees(data[axes["Y"]], 90.0, path.name),
            longitude_deg=axis_degrees(data[axes["X"]], 360.0, path.name),
            time=axis_numbers(data[axes["T"]], path.name),
            time_unit=str(data[axes["T"]].attrs.get("units", "")),
            calendar=str(data[axes["T"]].attrs.get("calendar", "")),
            planet=_planet(data, path),
            conversions=conversions,
            left_out=sorted(str(name) for name in set(data.data_vars) - used),
            attributes={str(name): _plain(value) for name, value in data.attrs.items()},
            sha256=_sha256(path),
        )


def _read_block(
    data: xr.Dataset, dims: tuple[str, ...], has_levels: bool, conversions: list[str], where: str
) -> tuple[Block, set[str]]:
    """Read every known variable on these axes, in the order of the table of variables."""
    found: dict[str, tuple[np.ndarray, str]] = {}
    of_exoplasim = "settings" in data.attrs
    used: set[str] = set()
    for name, values in data.data_vars.items():
        standard = str(values.attrs.get("standard_name", ""))
        variable = variable_named(standard, has_levels=has_levels)
        if variable is None or set(values.dims) != set(dims):
            continue
        if variable.name in found:
            raise BuildError(f"{where} must hold {variable.name} ({standard}) once; {name} is the second.")
        array = np.asarray(values.transpose(*dims).values, dtype=np.float64)
        stated = str(values.attrs.get("units", ""))
        unit = _EXOPLASIM_UNITS.get(standard, stated) if of_exoplasim else stated
        converted, said = to_unit(array, unit, variable, f"{name} of {where}")
        if unit != stated:
            said = [*said, f"{variable.name}: ExoPlaSim states {stated} and writes {unit}"]
        if standard in variable.upward and not of_exoplasim:
            converted, said = -converted, [*said, f"{variable.name}: sign of {standard} turned, positive downward"]
        conversions.extend(said)
        if (np.abs(converted) > np.finfo(np.float32).max).any():
            raise BuildError(
                f"{name} of {where} must be finite or missing; it holds infinite values, or too large ones."
            )
        found[variable.name] = converted.astype(np.float32), variable.unit
        used.add(str(name))
    names = [variable.name for variable in (ATMOSPHERE if has_levels else SURFACE) if variable.name in found]
    shape = tuple(data.sizes[dim] for dim in dims)
    stacked = np.stack([found[name][0] for name in names]) if names else np.empty((0, *shape), np.float32)
    return Block(names, [found[name][1] for name in names], stacked), used


def _planet(data: xr.Dataset, path: Path) -> Planet:
    if "settings" in data.attrs:
        return planet_from_exoplasim(_json_object(str(data.attrs["settings"]), f"settings of {path.name}"), path.name)
    for beside in (path.with_name(f"{path.stem}.{PLANET_FILE}"), path.with_name(PLANET_FILE)):
        if beside.is_file():
            return Planet.from_mapping(_json_object(beside.read_text(encoding="utf-8"), beside.name), beside.name)
    raise BuildError(
        f"{path.name} must say which planet it is of: an attribute `settings` (ExoPlaSim), or beside it "
        f"{path.stem}.{PLANET_FILE}, or {PLANET_FILE} for all files of the folder, with "
        f"{', '.join(Planet.__dataclass_fields__)}."
    )


def _json_object(text: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise BuildError(f"{where} must be a JSON object; {error}.") from error
    if not isinstance(found, dict):
        raise BuildError(f"{where} must be a JSON object; got {text[:40]}.")
    return found


def _plain(value: Any) -> Any:
    return (
        value.item() if isinstance(value, np.generic) else value.tolist() if isinstance(value, np.ndarray) else value
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest() if path.is_dir() else stream.read())
    return digest.hexdigest()
