"""Units as CF files write them."""

from typing import Any

from .cube_errors import CubeError


try:
    import pint
    from cf_xarray.units import units as registry
except ImportError:
    pint = registry = None

__all__ = ["as_unit", "convert_units", "registry"]


# What models write for a number without unit, and pint does not know.
_DIMENSIONLESS = {"", "1", "-", "nondimen", "nondimensional", "dimensionless", "fraction", "0-1"}
_ANGLES = {"degree", "radian"}


def as_unit(text: str, where: str) -> Any:
    """Read a unit.

    Raises:
        CubeError: If it is none, or has an angle in it: `deg K` is read as one.
    """
    if text.strip().lower() in _DIMENSIONLESS:
        return registry.parse_units("dimensionless")
    try:
        unit = registry.parse_units(text)
    except (pint.UndefinedUnitError, pint.errors.DefinitionSyntaxError, TypeError, ValueError) as error:
        raise CubeError(
            f"units of {where} must be units as CF writes them; got {text!r}. Correct the file."
        ) from error
    if _ANGLES & set(map(str, unit._units)):
        raise CubeError(f"units of {where} must have no angle; got {text!r}. Correct the file: `K`, not `deg K`.")
    return unit


def convert_units(values: Any, stated: str, wanted: str, where: str) -> Any:
    """Return values in another unit; as they are, where the units are the same.

    Raises:
        CubeError: If a unit cannot be read, is of another dimension, or differs and there is nothing to convert with.
    """
    if stated.strip() == wanted.strip():
        return values
    if registry is None:
        raise CubeError(
            f"{where} must be in {wanted!r}; got {stated!r}. Convert it, or install cf-xarray and pint, which do: pip "
            "install 'modeling_astrobio[climate]'."
        )
    unit, target = as_unit(stated, where), as_unit(wanted, where)
    if unit == target:
        return values
    if not unit.is_compatible_with(target):
        raise CubeError(
            f"{where} must be in a unit of the dimension of {wanted!r}; got {stated!r}. Correct the file's units."
        )
    return registry.Quantity(values, unit).to(target).magnitude
