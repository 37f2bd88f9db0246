"""The split of an object depends on its name alone."""

import hashlib

import pytest

from data_scripts.splits import SPLIT_NAMES, normalise_object_name, split_of


@pytest.mark.parametrize("spelling", ["TRAPPIST-1", "trappist-1", "  Trappist-1\n"])
def test_spelling_does_not_change_the_split(spelling):
    assert split_of(spelling) == split_of("TRAPPIST-1")


def test_white_space_inside_a_name_is_collapsed():
    assert normalise_object_name(" HD\t 209458 ") == "hd 209458"


def test_split_is_the_documented_hash():
    for name in ("55 Cnc", "WASP-12", "Escherichia coli", "β Pic"):
        digit = int(hashlib.sha256(name.casefold().encode()).hexdigest(), 16) % 10
        assert split_of(name) == ("train" if digit < 8 else "validation" if digit == 8 else "test")


def test_shares_are_80_10_10():
    splits = [split_of(f"star {number}") for number in range(20_000)]
    shares = [splits.count(split) / len(splits) for split in SPLIT_NAMES]
    # Four standard deviations of a binomial share.
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=4 * (0.8 * 0.2 / 20_000) ** 0.5)


@pytest.mark.parametrize("name", ["", " \t"])
def test_empty_name_is_refused(name):
    with pytest.raises(ValueError, match="object_name must contain a character"):
        split_of(name)
