"""What can be asked about one planet, and how the answer follows from its context."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from data_scripts.derived import astronomical_constants as constants
from data_scripts.derived.decimal_text import plain_text, round_significant, round_whole
from data_scripts.derived.planet_classes import SIZE_CLASSES, size_class, spectral_class
from data_scripts.derived.planet_context import PlanetContext


__all__ = [
    "CONVERSION_DIGITS",
    "PAIR_TOPICS",
    "QUESTION_KINDS",
    "TOPICS",
    "TOO_CLOSE_TO_COMPARE",
    "UNRECORDED_QUESTIONS",
    "PairTopic",
    "QuestionKind",
    "Topic",
]

QuestionKind = Literal["value", "comparison", "class", "unit_conversion", "unanswerable"]
QUESTION_KINDS: tuple[QuestionKind, ...] = ("value", "comparison", "class", "unit_conversion", "unanswerable")

CONVERSION_DIGITS = 3
# Nearer than this, the rounding of the context and the uncertainty of the measurement could turn the answer round.
TOO_CLOSE_TO_COMPARE = Decimal("0.05")


@dataclass(frozen=True)
class Topic:
    """A question about one planet.

    Attributes:
        kind: Kind of question.
        name: Identifier, unique among topics.
        column: The one column that the answer needs.
        phrasings: Questions with `{planet}` in place of the name.
        answer: Computes the answer from the context, or returns None where the question should not be asked.
        answer_labels: The answers that exist, if they are few and have to be balanced; empty otherwise.
    """

    kind: QuestionKind
    name: str
    column: str
    phrasings: tuple[str, ...]
    answer: Callable[[PlanetContext], str | None]
    answer_labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class PairTopic:
    """A question that compares two planets; the answer is the name of one of them."""

    name: str
    column: str
    phrasings: tuple[str, ...]
    larger_wins: bool


def _value_topic(column: str, *phrasings: str) -> Topic:
    return Topic("value", f"value:{column}", column, phrasings, lambda context: context.value_text(column))


def _comparison_topic(
    name: str, column: str, reference: Decimal, more: str, less: str, phrasings: tuple[str, ...]
) -> Topic:
    def answer(context: PlanetContext) -> str | None:
        ratio = context.number(column) / reference
        if abs(ratio - 1) < TOO_CLOSE_TO_COMPARE:
            return None
        return more if ratio > 1 else less

    return Topic("comparison", f"comparison:{name}", column, phrasings, answer, (more, less))


def _radius_multiple_topic(multiple: int) -> Topic:
    phrasings = (
        f"Is the radius of {{planet}} more than {multiple} times that of Earth?",
        f"Is {{planet}} more than {multiple} times as large as Earth?",
    )
    reference = Decimal(multiple)
    return _comparison_topic(
        f"radius_earth_{multiple}", "planet_radius_earth_radii", reference, "yes", "no", phrasings
    )


def _mass_multiple_topic(multiple: int) -> Topic:
    phrasings = (
        f"Is the mass of {{planet}} more than {multiple} times that of Earth?",
        f"Is {{planet}} more than {multiple} times as heavy as Earth?",
    )
    return _comparison_topic(
        f"mass_earth_{multiple}", "planet_mass_earth_masses", Decimal(multiple), "yes", "no", phrasings
    )


def _insolation_multiple_topic(multiple: int) -> Topic:
    phrasings = (
        f"Is the insolation of {{planet}} more than {multiple} times that of Earth?",
        f"Does {{planet}} receive more than {multiple} times the starlight of Earth?",
    )
    return _comparison_topic(
        f"insolation_earth_{multiple}", "insolation_earth_flux", Decimal(multiple), "yes", "no", phrasings
    )


def _conversion_topic(
    name: str, column: str, unit: str, convert: Callable[[Decimal], Decimal], phrasings: tuple[str, ...]
) -> Topic:
    """Make a topic whose answer has `CONVERSION_DIGITS` significant digits, ties to even; degrees are whole."""

    def answer(context: PlanetContext) -> str:
        converted = convert(context.number(column))
        rounded = round_whole(converted) if unit == "°C" else round_significant(converted, CONVERSION_DIGITS)
        # Fixed precision: `1.20` states three digits, `1.2` would not.
        text = format(rounded, "f") if unit != "°C" else plain_text(rounded)
        return f"{text} {unit}"

    request = "Round to a whole number." if unit == "°C" else f"Give {CONVERSION_DIGITS} significant digits."
    asked = tuple(f"{phrasing} {request}" for phrasing in phrasings)
    return Topic("unit_conversion", f"unit_conversion:{name}", column, asked, answer)


def _insolation_answer(context: PlanetContext) -> str | None:
    ratio = context.number("insolation_earth_flux")
    if abs(ratio - 1) < TOO_CLOSE_TO_COMPARE:
        return None
    return "more than Earth" if ratio > 1 else "less than Earth"


# Hotter stars have too few known planets to learn the classes B and O from.
_ASKED_SPECTRAL_CLASSES = ("M", "K", "G", "F", "A")


def _spectral_answer(context: PlanetContext) -> str | None:
    answer = spectral_class(context.number("star_effective_temperature_k"))
    return answer if answer in _ASKED_SPECTRAL_CLASSES else None


_VALUE_TOPICS = (
    _value_topic(
        "host_star_name",
        "Which star does {planet} orbit?",
        "What is the host star of {planet}?",
        "Around which star does {planet} move?",
    ),
    _value_topic(
        "discovery_method",
        "How was {planet} discovered?",
        "By which method was {planet} found?",
        "What is the discovery method of {planet}?",
    ),
    _value_topic(
        "discovery_year",
        "When was {planet} discovered?",
        "In which year was {planet} found?",
        "What is the discovery year of {planet}?",
    ),
    _value_topic(
        "orbital_period_days",
        "What is the orbital period of {planet}?",
        "How long does {planet} take to orbit its star?",
        "How long is a year on {planet}?",
    ),
    _value_topic(
        "semi_major_axis_au",
        "What is the semi-major axis of {planet}?",
        "How far is {planet} from its star?",
        "At what distance does {planet} orbit its star?",
    ),
    _value_topic(
        "planet_radius_earth_radii",
        "What is the radius of {planet}?",
        "How large is {planet}?",
        "State the radius of {planet}.",
    ),
    _value_topic(
        "planet_mass_earth_masses",
        "What is the mass of {planet}?",
        "How massive is {planet}?",
        "State the mass of {planet}.",
    ),
    _value_topic(
        "equilibrium_temperature_k",
        "What is the equilibrium temperature of {planet}?",
        "How warm is {planet} in equilibrium?",
        "State the equilibrium temperature of {planet}.",
    ),
    _value_topic(
        "insolation_earth_flux",
        "What is the insolation of {planet}?",
        "How much starlight does {planet} receive?",
        "State the insolation of {planet}.",
    ),
    _value_topic(
        "star_effective_temperature_k",
        "What is the temperature of the star of {planet}?",
        "How hot is the star of {planet}?",
        "State the star temperature for {planet}.",
    ),
    _value_topic(
        "star_radius_solar_radii",
        "What is the radius of the star of {planet}?",
        "How large is the star of {planet}?",
        "State the star radius for {planet}.",
    ),
    _value_topic(
        "star_mass_solar_masses",
        "What is the mass of the star of {planet}?",
        "How massive is the star of {planet}?",
        "State the star mass for {planet}.",
    ),
    _value_topic(
        "distance_pc",
        "What is the distance to {planet}?",
        "How far away from us is {planet}?",
        "State the distance to {planet}.",
    ),
)

# Multiples of Earth that part the planets of the table; nearly all of them exceed Earth itself.
_EARTH_MULTIPLE_TOPICS = (
    *(_radius_multiple_topic(multiple) for multiple in (2, 4, 12)),
    *(_mass_multiple_topic(multiple) for multiple in (10, 100, 300)),
    *(_insolation_multiple_topic(multiple) for multiple in (100, 1000)),
)

_COMPARISON_TOPICS = (
    *_EARTH_MULTIPLE_TOPICS,
    _comparison_topic(
        "radius_jupiter",
        "planet_radius_earth_radii",
        constants.JUPITER_RADIUS_EARTH_RADII,
        "larger",
        "smaller",
        (
            "Is {planet} larger or smaller than Jupiter?",
            "Is {planet} smaller or larger than Jupiter?",
            "Compared with Jupiter, is {planet} larger or smaller?",
        ),
    ),
    _comparison_topic(
        "mass_jupiter",
        "planet_mass_earth_masses",
        constants.JUPITER_MASS_EARTH_MASSES,
        "heavier",
        "lighter",
        (
            "Is {planet} heavier or lighter than Jupiter?",
            "Is {planet} lighter or heavier than Jupiter?",
            "Compared with Jupiter, is {planet} heavier or lighter?",
        ),
    ),
    _comparison_topic(
        "period_earth",
        "orbital_period_days",
        constants.JULIAN_YEAR_DAYS,
        "longer",
        "shorter",
        (
            "Is a year on {planet} longer or shorter than on Earth?",
            "Is a year on {planet} shorter or longer than on Earth?",
        ),
    ),
    _comparison_topic(
        "star_temperature_sun",
        "star_effective_temperature_k",
        constants.SUN_EFFECTIVE_TEMPERATURE_K,
        "hotter",
        "cooler",
        (
            "Is the star of {planet} hotter or cooler than the Sun?",
            "Is the star of {planet} cooler or hotter than the Sun?",
            "Compared with the Sun, is the star of {planet} hotter or cooler?",
        ),
    ),
    _comparison_topic(
        "star_radius_sun",
        "star_radius_solar_radii",
        Decimal(1),
        "larger",
        "smaller",
        (
            "Is the star of {planet} larger or smaller than the Sun?",
            "Is the star of {planet} smaller or larger than the Sun?",
            "Compared with the Sun, is the star of {planet} larger or smaller?",
        ),
    ),
    _comparison_topic(
        "star_mass_sun",
        "star_mass_solar_masses",
        Decimal(1),
        "heavier",
        "lighter",
        (
            "Is the star of {planet} heavier or lighter than the Sun?",
            "Is the star of {planet} lighter or heavier than the Sun?",
            "Compared with the Sun, is the star of {planet} heavier or lighter?",
        ),
    ),
)

_CLASS_TOPICS = (
    Topic(
        "class",
        "class:size",
        "planet_radius_earth_radii",
        (
            "What is the size class of {planet}?",
            "Which size class does {planet} belong to?",
            "By its radius, what kind of planet is {planet}?",
        ),
        lambda context: size_class(context.number("planet_radius_earth_radii")),
        SIZE_CLASSES,
    ),
    Topic(
        "class",
        "class:spectral",
        "star_effective_temperature_k",
        (
            "What is the spectral class of the star of {planet}?",
            "Which spectral class does the star of {planet} have?",
            "By its temperature, what is the spectral class of the star of {planet}?",
        ),
        _spectral_answer,
        _ASKED_SPECTRAL_CLASSES,
    ),
    Topic(
        "class",
        "class:insolation",
        "insolation_earth_flux",
        (
            "Does {planet} receive more or less starlight than Earth?",
            "Does {planet} receive less or more starlight than Earth?",
        ),
        _insolation_answer,
        ("more than Earth", "less than Earth"),
    ),
)

_CONVERSION_TOPICS = (
    _conversion_topic(
        "period_hours",
        "orbital_period_days",
        "hours",
        lambda days: days * constants.HOURS_PER_DAY,
        ("What is the orbital period of {planet} in hours?", "How many hours does {planet} take to orbit its star?"),
    ),
    _conversion_topic(
        "distance_light_years",
        "distance_pc",
        "light-years",
        lambda parsecs: parsecs * constants.LIGHT_YEARS_PER_PARSEC,
        ("What is the distance to {planet} in light-years?", "How many light-years away is {planet}?"),
    ),
    _conversion_topic(
        "radius_km",
        "planet_radius_earth_radii",
        "km",
        lambda earth_radii: earth_radii * constants.EARTH_RADIUS_KM,
        ("What is the radius of {planet} in km?", "How many km is the radius of {planet}?"),
    ),
    _conversion_topic(
        "radius_jupiter_radii",
        "planet_radius_earth_radii",
        "Jupiter radii",
        lambda earth_radii: earth_radii / constants.JUPITER_RADIUS_EARTH_RADII,
        ("What is the radius of {planet} in Jupiter radii?", "How many Jupiter radii does {planet} have?"),
    ),
    _conversion_topic(
        "mass_jupiter_masses",
        "planet_mass_earth_masses",
        "Jupiter masses",
        lambda earth_masses: earth_masses / constants.JUPITER_MASS_EARTH_MASSES,
        ("What is the mass of {planet} in Jupiter masses?", "How many Jupiter masses does {planet} have?"),
    ),
    _conversion_topic(
        "semi_major_axis_million_km",
        "semi_major_axis_au",
        "million km",
        lambda au: au * constants.ASTRONOMICAL_UNIT_KM / 1_000_000,
        ("What is the semi-major axis of {planet} in million km?", "How many million km is {planet} from its star?"),
    ),
    _conversion_topic(
        "equilibrium_celsius",
        "equilibrium_temperature_k",
        "°C",
        lambda kelvin: kelvin - constants.ZERO_CELSIUS_K,
        ("What is the equilibrium temperature of {planet} in °C?", "How many °C has {planet} in equilibrium?"),
    ),
    _conversion_topic(
        "star_celsius",
        "star_effective_temperature_k",
        "°C",
        lambda kelvin: kelvin - constants.ZERO_CELSIUS_K,
        ("What is the temperature of the star of {planet} in °C?", "How many °C has the star of {planet}?"),
    ),
)

TOPICS: tuple[Topic, ...] = (*_VALUE_TOPICS, *_COMPARISON_TOPICS, *_CLASS_TOPICS, *_CONVERSION_TOPICS)

PAIR_TOPICS: tuple[PairTopic, ...] = (
    PairTopic(
        "pair:larger",
        "planet_radius_earth_radii",
        ("Which planet is larger, {first} or {second}?", "Which has the larger radius, {first} or {second}?"),
        larger_wins=True,
    ),
    PairTopic(
        "pair:heavier",
        "planet_mass_earth_masses",
        ("Which planet is heavier, {first} or {second}?", "Which has the larger mass, {first} or {second}?"),
        larger_wins=True,
    ),
    PairTopic(
        "pair:shorter_year",
        "orbital_period_days",
        (
            "Which planet has the shorter year, {first} or {second}?",
            "Which orbits its star faster, {first} or {second}?",
        ),
        larger_wins=False,
    ),
    PairTopic(
        "pair:warmer",
        "equilibrium_temperature_k",
        ("Which planet is warmer in equilibrium, {first} or {second}?", "Which is warmer, {first} or {second}?"),
        larger_wins=True,
    ),
    PairTopic(
        "pair:nearer",
        "distance_pc",
        ("Which planet is nearer to us, {first} or {second}?", "Which is closer to us, {first} or {second}?"),
        larger_wins=False,
    ),
)

# No column of the table answers these, whatever a context shows.
UNRECORDED_QUESTIONS: tuple[str, ...] = (
    "Is there life on {planet}?",
    "How many moons does {planet} have?",
    "What is the albedo of {planet}?",
    "Does {planet} have liquid water?",
    "What is the atmosphere of {planet} made of?",
    "How old is the star of {planet}?",
    "What is the rotation period of {planet}?",
    "Does {planet} have a magnetic field?",
)
