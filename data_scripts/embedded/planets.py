"""The embedded table of planets as typed rows."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from functools import cache
from importlib import resources
from itertools import pairwise


__all__ = ["Planet", "load_planets", "read_planets"]


@dataclass(frozen=True)
class Planet:
    """One confirmed planet and its host star, a row of `planets.csv`.

    Numbers are `Decimal`, so that text and arithmetic keep the digits of the archive. `None` is an empty cell. The
    unit is the end of each name; `README.md` beside this file describes the columns.
    """

    planet_name: str
    host_star_name: str
    planets_in_system_count: int
    discovery_method: str
    discovery_year: int
    orbital_period_days: Decimal
    semi_major_axis_au: Decimal | None
    eccentricity_dimensionless: Decimal | None
    planet_radius_earth_radii: Decimal
    planet_radius_uncertainty_plus_earth_radii: Decimal
    planet_radius_uncertainty_minus_earth_radii: Decimal
    planet_mass_earth_masses: Decimal
    planet_mass_uncertainty_plus_earth_masses: Decimal
    planet_mass_uncertainty_minus_earth_masses: Decimal
    equilibrium_temperature_k: Decimal | None
    insolation_earth_flux: Decimal | None
    star_spectral_type: str | None
    star_effective_temperature_k: Decimal
    star_radius_solar_radii: Decimal
    star_mass_solar_masses: Decimal
    star_metallicity_fe_h_dex: Decimal | None
    distance_pc: Decimal


# Column -> closed range. Wide enough for every planet of the archive, tight enough to catch a wrong unit or column.
_RANGES: dict[str, tuple[str, str]] = {
    "planets_in_system_count": ("1", "20"),
    "discovery_year": ("1989", "2100"),
    "orbital_period_days": ("0.05", "1e9"),
    "semi_major_axis_au": ("0.001", "100000"),
    "eccentricity_dimensionless": ("0", "0.999"),
    "planet_radius_earth_radii": ("0.1", "40"),
    "planet_radius_uncertainty_plus_earth_radii": ("0", "40"),
    "planet_radius_uncertainty_minus_earth_radii": ("0", "40"),
    # 30 Jupiter masses is the archive's own limit for a planet.
    "planet_mass_earth_masses": ("0.01", "9600"),
    "planet_mass_uncertainty_plus_earth_masses": ("0", "9600"),
    "planet_mass_uncertainty_minus_earth_masses": ("0", "9600"),
    "equilibrium_temperature_k": ("20", "5000"),
    "insolation_earth_flux": ("0.00001", "100000"),
    "star_effective_temperature_k": ("2000", "50000"),
    "star_radius_solar_radii": ("0.05", "100"),
    "star_mass_solar_masses": ("0.05", "20"),
    "star_metallicity_fe_h_dex": ("-5", "2"),
    "distance_pc": ("1", "20000"),
}
_NULLABLE = frozenset(field.name for field in fields(Planet) if "None" in str(field.type))
_WHOLE_NUMBERS = frozenset({"planets_in_system_count", "discovery_year"})
_REMEDY = "Make the table again with python -m data_scripts.embedded.select_planets."


@cache
def load_planets() -> tuple[Planet, ...]:
    """Return every planet of the embedded table, sorted by `planet_name`."""
    table = resources.files("data_scripts.embedded").joinpath("planets.csv")
    return read_planets(table.read_text(encoding="utf-8"), table_name="planets.csv")


def read_planets(table_text: str, table_name: str) -> tuple[Planet, ...]:
    """Parse and validate a table of planets.

    Args:
        table_text: CSV with the columns of `Planet`, in that order.
        table_name: Name used in error messages.

    Raises:
        ValueError: If the columns differ, a required cell is empty, a number cannot be read or is out of range, a
            planet occurs twice, or the rows are not sorted by `planet_name`.
    """
    rows = csv.reader(io.StringIO(table_text))
    columns = [field.name for field in fields(Planet)]
    header = next(rows, [])
    if header != columns:
        raise ValueError(f"{table_name} must have the columns {columns}; got {header}. {_REMEDY}")
    planets = tuple(_planet(row, f"{table_name} line {line}") for line, row in enumerate(rows, start=2))
    names = [planet.planet_name for planet in planets]
    if names != sorted(set(names)):
        # Both faults show in the first pair that does not increase.
        first, second = next((a, b) for a, b in pairwise(names) if a >= b)
        raise ValueError(
            f"{table_name} must have every planet_name once, in ascending order; got {second!r} after {first!r}. "
            f"{_REMEDY}"
        )
    return planets


def _planet(cells: Sequence[str], place: str) -> Planet:
    columns = [field.name for field in fields(Planet)]
    if len(cells) != len(columns):
        raise ValueError(f"{place} must have {len(columns)} cells; got {len(cells)}. {_REMEDY}")
    # Values of three types: `Planet` states which column has which.
    values: dict[str, object] = {}
    for column, cell in zip(columns, cells, strict=True):
        if not cell:
            if column not in _NULLABLE:
                raise ValueError(f"{place}: {column} must not be empty; got no value. {_REMEDY}")
            values[column] = None
        elif column in _RANGES:
            values[column] = _number(column, cell, place)
        else:
            values[column] = cell
    return Planet(**values)  # type: ignore[arg-type]


def _number(column: str, cell: str, place: str) -> Decimal | int:
    low, high = (Decimal(bound) for bound in _RANGES[column])
    try:
        value = Decimal(cell)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise ValueError(f"{place}: {column} must be a decimal number; got {cell!r}. {_REMEDY}")
    if not low <= value <= high:
        raise ValueError(f"{place}: {column} must be between {low:f} and {high:f}; got {cell}. {_REMEDY}")
    if column in _WHOLE_NUMBERS:
        if value != int(value):
            raise ValueError(f"{place}: {column} must be a whole number; got {cell}. {_REMEDY}")
        return int(value)
    return value
