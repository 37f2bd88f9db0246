"""Constants, decimal text, classes and quotas."""

from decimal import Decimal

import pytest

from data_scripts.derived import astronomical_constants as constants
from data_scripts.derived.balanced_quotas import balanced_quotas
from data_scripts.derived.decimal_text import plain_text, round_significant, round_whole
from data_scripts.derived.planet_classes import size_class, spectral_class


def test_constants_against_published_values():
    # Rounded values as printed in textbooks, to half of their last digit.
    assert float(constants.LIGHT_YEARS_PER_PARSEC) == pytest.approx(3.26156378, abs=5e-9)
    assert float(constants.PARSEC_KM) == pytest.approx(3.0856775814914e13, rel=1e-13)
    assert float(constants.JUPITER_MASS_EARTH_MASSES) == pytest.approx(317.83, abs=5e-3)
    assert float(constants.JUPITER_RADIUS_EARTH_RADII) == pytest.approx(11.209, abs=5e-4)


@pytest.mark.parametrize(
    ("value", "text"),
    [("1.20E+3", "1200"), ("0.0470", "0.047"), ("-0.0", "0"), ("3.50", "3.5"), ("1E-7", "0.0000001")],
)
def test_plain_text(value, text):
    assert plain_text(Decimal(value)) == text


@pytest.mark.parametrize(
    ("value", "digits", "rounded"),
    [("0.047479", 4, "0.04748"), ("12345", 3, "12300"), ("9.996", 3, "10.0"), ("2.5", 1, "2"), ("0", 3, "0")],
)
def test_round_significant(value, digits, rounded):
    assert round_significant(Decimal(value), digits) == Decimal(rounded)


@pytest.mark.parametrize(
    ("value", "text"), [("0.99991", "1.00"), ("48", "48.0"), ("1.2", "1.20"), ("99960", "1.00E+5")]
)
def test_round_significant_keeps_exactly_the_digits_asked_for(value, text):
    assert str(round_significant(Decimal(value), 3)) == text


def test_round_whole_takes_ties_to_even():
    assert [round_whole(Decimal(value)) for value in ("0.5", "1.5", "-0.5", "1175.85")] == [0, 2, 0, 1176]


def test_rounding_to_no_digits_is_refused():
    with pytest.raises(ValueError, match="digits must be at least 1; got 0"):
        round_significant(Decimal(1), 0)


@pytest.mark.parametrize(
    ("radius", "expected"),
    [
        ("0.3", "Earth-sized"),
        ("1.249", "Earth-sized"),
        ("1.25", "super-Earth"),
        ("1.8", "sub-Neptune"),
        ("3.999", "sub-Neptune"),
        ("4", "Neptune-sized"),
        ("6", "giant planet"),
        ("22", "giant planet"),
    ],
)
def test_size_class(radius, expected):
    assert size_class(Decimal(radius)) == expected


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        ("2566", "M"),
        ("3700", "K"),
        ("5199", "K"),
        ("5772", "G"),
        ("6000", "F"),
        ("7500", "A"),
        ("10000", "B"),
        ("4e4", "O"),
    ],
)
def test_spectral_class(temperature, expected):
    assert spectral_class(Decimal(temperature)) == expected


def test_quotas_are_even_where_capacities_allow():
    assert balanced_quotas({"a": 50, "b": 90}, 40, 2) == {"a": 20, "b": 20}


def test_a_scarce_label_limits_the_others():
    quotas = balanced_quotas({"rare": 7, "common": 900}, 500, 2)
    assert quotas == {"rare": 7, "common": 21}


def test_a_single_one_of_two_answers_is_not_asked():
    assert balanced_quotas({"larger": 80}, 37, 2) == {"larger": 0}


def test_a_topic_without_labels_takes_what_is_wanted():
    assert balanced_quotas({"": 80}, 37, 1) == {"": 37}
    assert balanced_quotas({}, 37, 1) == {}


@pytest.mark.parametrize(("capacities", "total"), [({"a": -1}, 3), ({"a": 1}, -3), ({"a": 1, "b": 1, "c": 1}, 3)])
def test_impossible_quotas_are_refused(capacities, total):
    with pytest.raises(ValueError, match="total and capacities must not be negative"):
        balanced_quotas(capacities, total, 2)
