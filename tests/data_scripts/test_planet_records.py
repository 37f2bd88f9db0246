"""Records and contexts show the table's values and nothing else."""

import dataclasses
import re
from decimal import Decimal

import pytest

from data_scripts.derived.planet_context import COMPACT_FIELDS, available_fields, planet_context
from data_scripts.derived.planet_records import RECORD_LAYOUTS, planet_record
from data_scripts.embedded.planets import load_planets


PLANETS = load_planets()
NULLABLE = (
    "semi_major_axis_au",
    "eccentricity_dimensionless",
    "equilibrium_temperature_k",
    "insolation_earth_flux",
    "star_spectral_type",
    "star_metallicity_fe_h_dex",
)


def numbers_of(planet):
    return {str(value) for value in dataclasses.astuple(planet) if isinstance(value, int | Decimal)}


@pytest.mark.parametrize("layout", RECORD_LAYOUTS)
def test_every_number_of_a_record_stands_in_the_table(layout):
    for planet in PLANETS:
        text = planet_record(planet, layout)
        for name in (planet.host_star_name, planet.star_spectral_type or ""):
            text = text.replace(planet.planet_name, "").replace(name, "") if name else text
        for sign in "±−+()":
            text = text.replace(sign, " ")
        for number in re.findall(r"-?\d[\d.]*\d|-?\d", text):
            # Numbers of the table carry no padding zeros, those of the text neither.
            assert number in numbers_of(planet), (planet.planet_name, number, text)


@pytest.mark.parametrize("layout", RECORD_LAYOUTS)
def test_mass_radius_and_period_are_in_every_record(layout):
    for planet in PLANETS[::7]:
        text = planet_record(planet, layout)
        assert planet.planet_name in text
        for value, unit in (
            (planet.planet_mass_earth_masses, "M⊕"),
            (planet.planet_radius_earth_radii, "R⊕"),
            (planet.orbital_period_days, "days"),
        ):
            assert re.search(rf"(?<![\d.]){re.escape(str(value))} (.*?)?{unit}", text)


@pytest.mark.parametrize("layout", RECORD_LAYOUTS)
def test_nulls_are_left_out(layout):
    bare = dataclasses.replace(PLANETS[3], **dict.fromkeys(NULLABLE))
    for seed in range(5):
        text = planet_record(bare, layout, seed)
        assert "None" not in text
        for word in ("semi-major", "au", "ccentricity", "quilibrium", "nsolation", "starlight", "spectral", "[Fe/H]"):
            assert not re.search(rf"(?<!\w){re.escape(word)}\b", text), text


def test_layouts_differ_and_repeat():
    for planet in PLANETS[:37]:
        texts = [planet_record(planet, layout, seed=5) for layout in RECORD_LAYOUTS]
        assert len(set(texts)) == len(RECORD_LAYOUTS)
        assert texts == [planet_record(planet, layout, seed=5) for layout in RECORD_LAYOUTS]
    assert len({planet_record(PLANETS[0], "paragraph", seed) for seed in range(20)}) > 5


def test_unknown_layout_is_refused():
    with pytest.raises(ValueError, match=r"layout must be one of paragraph, .*; got 'poem'"):
        planet_record(PLANETS[0], "poem")


def test_context_has_one_field_per_line():
    planet = next(planet for planet in PLANETS if planet.planet_name == "HD 209458 b")
    context = planet_context(planet, ["distance_pc", "orbital_period_days", "host_star_name"])
    assert context.text == "Planet: HD 209458 b\nDistance: 48.3 pc\nOrbital period: 3.525 days\nHost star: HD 209458"


def test_context_values_are_the_tables_to_four_digits():
    for planet in PLANETS:
        context = planet_context(planet)
        for column in context.shown:
            value = getattr(planet, column)
            if isinstance(value, Decimal):
                assert float(context.number(column)) == pytest.approx(float(value), rel=5.001e-4)
                assert len(context.number(column).normalize().as_tuple().digits) <= 4
            else:
                assert context.shown[column] == value


def test_context_leaves_out_nulls():
    bare = dataclasses.replace(PLANETS[3], **dict.fromkeys(NULLABLE))
    assert set(COMPACT_FIELDS) - set(available_fields(bare)) == set(NULLABLE) & set(COMPACT_FIELDS)
    with pytest.raises(ValueError, match=r"columns must be different ones of .* got insolation_earth_flux"):
        planet_context(bare, ["insolation_earth_flux"])


def test_context_refuses_a_column_twice_or_unknown():
    for columns in (["distance_pc", "distance_pc"], ["colour"]):
        with pytest.raises(ValueError, match="columns must be different ones of"):
            planet_context(PLANETS[0], columns)


def test_text_is_not_a_number():
    with pytest.raises(TypeError, match="host_star_name must hold a number"):
        planet_context(PLANETS[0]).number("host_star_name")
