"""The compact form of a planet: one field per line, the context of every question."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from data_scripts.derived.decimal_text import plain_text, round_significant
from data_scripts.embedded.planets import Planet


__all__ = [
    "COMPACT_FIELDS",
    "SIGNIFICANT_DIGITS",
    "CompactField",
    "PlanetContext",
    "available_fields",
    "planet_context",
]

# A period with ten digits would cost a third of the tokens of a context and no question needs it.
SIGNIFICANT_DIGITS = 4


@dataclass(frozen=True)
class CompactField:
    """How a column of the table is written in a context: `label: value unit`."""

    label: str
    unit: str


COMPACT_FIELDS: dict[str, CompactField] = {
    "host_star_name": CompactField("Host star", ""),
    "discovery_method": CompactField("Discovery method", ""),
    "discovery_year": CompactField("Discovery year", ""),
    "orbital_period_days": CompactField("Orbital period", "days"),
    "semi_major_axis_au": CompactField("Semi-major axis", "au"),
    "planet_radius_earth_radii": CompactField("Radius", "R⊕"),
    "planet_mass_earth_masses": CompactField("Mass", "M⊕"),
    "equilibrium_temperature_k": CompactField("Equilibrium temperature", "K"),
    "insolation_earth_flux": CompactField("Insolation", "S⊕"),
    "star_effective_temperature_k": CompactField("Star temperature", "K"),
    "star_radius_solar_radii": CompactField("Star radius", "R☉"),
    "star_mass_solar_masses": CompactField("Star mass", "M☉"),
    "distance_pc": CompactField("Distance", "pc"),
}


@dataclass(frozen=True)
class PlanetContext:
    """What a reader of the context knows: the name and the values as they are shown.

    Attributes:
        planet_name: Name on the first line.
        shown: Column name to value, in line order. Numbers are rounded to `SIGNIFICANT_DIGITS`, years are whole.
    """

    planet_name: str
    shown: Mapping[str, Decimal | int | str]

    def number(self, column: str) -> Decimal:
        """Return a shown quantity.

        Raises:
            KeyError: If the context does not show the column.
            TypeError: If the column holds text.
        """
        value = self.shown[column]
        if isinstance(value, str):
            raise TypeError(f"{column} must hold a number; got the text {value!r}. Ask for a physical column.")
        return Decimal(value)

    def value_text(self, column: str) -> str:
        """Return a shown value with its unit, as it stands on its line."""
        value, unit = self.shown[column], COMPACT_FIELDS[column].unit
        text = value if isinstance(value, str) else plain_text(value)
        return f"{text} {unit}" if unit else text

    @property
    def text(self) -> str:
        """The context: `Planet: name`, then one line per field."""
        lines = [f"Planet: {self.planet_name}"]
        lines += [f"{COMPACT_FIELDS[column].label}: {self.value_text(column)}" for column in self.shown]
        return "\n".join(lines)


def available_fields(planet: Planet) -> tuple[str, ...]:
    """Return the compact fields that are not null for this planet, in the order of `COMPACT_FIELDS`."""
    return tuple(column for column in COMPACT_FIELDS if getattr(planet, column) is not None)


def planet_context(planet: Planet, columns: Sequence[str] | None = None) -> PlanetContext:
    """Return the compact form of a planet.

    Args:
        planet: A row of the table.
        columns: Columns to show, in this order; all that are not null if omitted.

    Raises:
        ValueError: If a column is unknown, named twice, or null for this planet.
    """
    available = available_fields(planet)
    chosen = available if columns is None else tuple(columns)
    wrong = sorted(set(chosen) - set(available))
    if wrong or len(set(chosen)) != len(chosen):
        raise ValueError(
            f"columns must be different ones of {', '.join(available)} for {planet.planet_name}; got "
            f"{', '.join(chosen)}. Choose from available_fields(planet)."
        )
    return PlanetContext(planet.planet_name, {column: _shown(getattr(planet, column)) for column in chosen})


def _shown(value: Decimal | int | str) -> Decimal | int | str:
    if not isinstance(value, Decimal) or len(value.normalize().as_tuple().digits) <= SIGNIFICANT_DIGITS:
        return value
    return round_significant(value, SIGNIFICANT_DIGITS)
