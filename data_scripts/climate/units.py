"""Units as CF files write them."""

import numpy as np
import pint
from cf_xarray.units import units as registry

from data_scripts.climate.variables import Variable
from data_scripts.harness.errors import BuildError


__all__ = ["as_unit", "to_unit"]


# What models write for a number without unit, and pint does not know.
_DIMENSIONLESS = {"", "1", "-", "nondimen", "nondimensional", "dimensionless", "fraction", "0-1"}
_ANGLES = {"degree", "radian"}


def as_unit(text: str, where: str) -> pint.Unit:
    """Read a unit.

    Raises:
        BuildError: If it is none, or has an angle in it: `deg K` is read as one.
    """
    if text.strip().lower() in _DIMENSIONLESS:
        return registry.parse_units("dimensionless")
    try:
        unit = registry.parse_units(text)
    except (pint.UndefinedUnitError, pint.errors.DefinitionSyntaxError, TypeError, ValueError) as error:
        raise BuildError(
            f"units of {where} must be units as CF writes them; got {text!r}. Correct the file."
        ) from error
    if _ANGLES & set(map(str, unit._units)):
        raise BuildError(f"units of {where} must have no angle; got {text!r}. Correct the file: `K`, not `deg K`.")
    return unit


def to_unit(values: np.ndarray, text: str, variable: Variable, where: str) -> tuple[np.ndarray, list[str]]:
    """Convert values into the unit of their variable.

    Returns:
        The values, and what was done to them in words.

    Raises:
        BuildError: If they are of another dimension.
    """
    unit, wanted = as_unit(text, where), as_unit(variable.unit, variable.name)
    if unit == wanted:
        return values, []
    if variable.liquid_water_factor is not None and unit.is_compatible_with("m s-1"):
        factor = registry.Quantity(1.0, unit).to("m s-1").magnitude * variable.liquid_water_factor
        said = f"{variable.name}: {text} of liquid water x {variable.liquid_water_factor:g} kg m-3 to {variable.unit}"
        return values * factor, [said]
    if not unit.is_compatible_with(wanted):
        raise BuildError(
            f"{where} must be in a unit of the dimension of {variable.unit}; got {text!r}. Correct the file's units."
        )
    converted = registry.Quantity(values, unit).to(wanted).magnitude
    return converted, [f"{variable.name}: {text} to {variable.unit}"]
