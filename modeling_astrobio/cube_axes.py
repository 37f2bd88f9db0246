"""Axes of a climate cube, found by what CF says of them: longitude X, latitude Y, level Z, time T."""

from typing import Any

import numpy as np

from .cube_errors import CubeError
from .cube_units import as_unit, registry


__all__ = ["axis_degrees", "axis_levels", "axis_numbers", "find_axis"]

_SIGMA = ("atmosphere_sigma_coordinate", "sigma_coordinate")
# By CF axis attribute, standard name, unit, or name, in this order of trust.
_AXES = {
    "X": ({"longitude"}, {"lon", "longitude", "x"}),
    "Y": ({"latitude"}, {"lat", "latitude", "y"}),
    "Z": (
        {"air_pressure", *_SIGMA},
        {"lev", "level", "plev", "pressure_level", "isobaric", "sigma"},
    ),
    "T": ({"time"}, {"time", "month", "valid_time", "t"}),
}


def find_axis(data: Any, axis: str, where: str) -> str:
    """Return the name of an axis of an xarray Dataset.

    Args:
        data: An `xarray.Dataset`.
        axis: X, Y, Z or T.
        where: What the dataset is called in errors.

    Raises:
        CubeError: If it has none, or more than one.
    """
    standard_names, names = _AXES[axis]
    tests = (
        lambda c: c.attrs.get("axis") == axis,
        lambda c: c.attrs.get("standard_name") in standard_names,
        lambda c: c.name.lower() in names,
    )
    coordinates = [data[name] for name in data.dims if name in data.coords]
    for test in tests:
        found = [str(coordinate.name) for coordinate in coordinates if test(coordinate)]
        if len(found) == 1:
            return found[0]
        if found:
            raise CubeError(f"{where} must have one {axis} axis; got {', '.join(found)}. Split the file.")
    raise CubeError(
        f"{where} must have a coordinate for its {axis} axis ({', '.join(sorted(names))}, or the attribute axis); "
        f"it has {', '.join(map(str, data.dims))}."
    )


def axis_numbers(coordinate: Any, where: str) -> np.ndarray:
    """Return the values of an axis, float64.

    Raises:
        CubeError: If they are no numbers that rise or fall.
    """
    try:
        values = np.asarray(coordinate.values, dtype=np.float64)
    except ValueError as error:
        raise CubeError(f"{coordinate.name} of {where} must be numbers; {error}.") from error
    steps = np.diff(values)
    if not (values.size and np.isfinite(values).all() and ((steps > 0).all() or (steps < 0).all())):
        raise CubeError(
            f"{coordinate.name} of {where} must be finite numbers that rise or fall; got {values.size} of them: "
            f"{', '.join(f'{value:g}' for value in values[:9])}{' ...' if values.size > 9 else ''}."
        )
    return values


def axis_levels(coordinate: Any, where: str) -> tuple[str, np.ndarray]:
    """Return `sigma` or `pressure`, and the levels: pressure over surface pressure, or Pa.

    Raises:
        CubeError: If they are neither.
    """
    values = axis_numbers(coordinate, where)
    unit = as_unit(str(coordinate.attrs.get("units", "")), f"{coordinate.name} of {where}")
    if unit.is_compatible_with("Pa") and values.min() > 0:
        return "pressure", np.asarray(registry.Quantity(values, unit).to("Pa").magnitude)
    # Without a standard name a stated unit is enough: hybrid levels and level numbers have one.
    stated = coordinate.attrs.get("standard_name") or (coordinate.attrs.get("units") and _SIGMA[0])
    if stated in _SIGMA and unit.dimensionless and values.min() >= 0 and values.max() <= 1.0:
        return "sigma", values
    raise CubeError(
        f"{coordinate.name} of {where} must be a pressure, or sigma from 0 to 1 with the standard name "
        f"{_SIGMA[0]}; got {coordinate.attrs.get('standard_name', 'no standard name')}, {values.min():g} to "
        f"{values.max():g} in {coordinate.attrs.get('units', 'no unit')!r}. Interpolate other levels to pressures."
    )


def axis_degrees(coordinate: Any, most: float, where: str) -> np.ndarray:
    """Return a latitude or longitude, degrees within +-`most`.

    Raises:
        CubeError: If it is not that.
    """
    values = axis_numbers(coordinate, where)
    unit = str(coordinate.attrs.get("units", ""))
    # Without a unit, what is beyond a circle in radians is in degrees.
    in_degrees = unit.lower().startswith("deg") if unit else np.abs(values).max() > 2 * np.pi
    if not in_degrees or np.abs(values).max() > most or np.ptp(values) >= 360:
        raise CubeError(
            f"{coordinate.name} of {where} must be in degrees within +-{most:g}, and no meridian twice; got "
            f"{values.min():g} to {values.max():g} in {unit or 'no unit'!r}."
        )
    return values
