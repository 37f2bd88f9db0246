"""Families of columns in the tables of the NASA Exoplanet Science Institute."""

import pyarrow as pa

from data_scripts.harness.archive import Column


__all__ = ["flag", "measured", "number", "text"]


def text(name: str, description: str, required: bool = False) -> tuple[Column, ...]:
    """A column of words."""
    return (Column(name, pa.string(), description, required=required),)


def number(
    name: str,
    description: str,
    required: bool = False,
    minimum: float | None = 0,
    maximum: float | None = None,
) -> tuple[Column, ...]:
    """A column of whole numbers."""
    return (Column(name, pa.int64(), description, None, required, minimum, maximum),)


def flag(name: str, description: str, required: bool = False) -> tuple[Column, ...]:
    """A column that is 1 or 0."""
    return number(name, f"{description} (1: yes, 0: no)", required, 0, 1)


def measured(
    name: str,
    description: str,
    unit: str | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    *,
    required: bool = False,
    infix: str = "",
    errors: bool = True,
    limit: bool = False,
) -> tuple[Column, ...]:
    """A measured value, the uncertainties above and below it, and whether it is a limit.

    Args:
        name: Name of the value's column; those of the uncertainties are `<name><infix>err1` and `<name><infix>err2`.
        description: What was measured.
        unit: Unit of the value and its uncertainties.
        minimum: Least possible value.
        maximum: Greatest possible value.
        required: Whether every row must have the value.
        infix: `_` in the Kepler tables.
        errors: Whether the table has uncertainties.
        limit: Whether the table has a limit flag.
    """
    columns = [Column(name, pa.float64(), description, unit, required, minimum, maximum)]
    if errors:
        columns += [
            Column(f"{name}{infix}err1", pa.float64(), f"{description}: upper uncertainty", unit),
            Column(f"{name}{infix}err2", pa.float64(), f"{description}: lower uncertainty", unit),
        ]
    if limit:
        columns += [
            Column(
                f"{name}lim",
                pa.int64(),
                f"{description}: 0 a value, 1 an upper and -1 a lower limit, by the archive's convention",
                minimum=-1,
                maximum=1,
            )
        ]
    return tuple(columns)
