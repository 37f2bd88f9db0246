"""Units of a cube's variables."""

import numpy as np

from data_scripts.climate.variables import Variable
from data_scripts.harness.errors import BuildError
from modeling_astrobio.cube_units import as_unit, registry


__all__ = ["to_unit"]


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
