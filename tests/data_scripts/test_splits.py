"""The split of an object depends on its name alone."""

import hashlib

import pytest

from data_scripts.splits import SPLIT_NAMES, normalise_object_name, split_of, splits_of_few


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


def _named(split, number):
    return [name for name in map(str, range(300)) if split_of(name) == split][:number]


def test_few_objects_leave_no_split_empty():
    # By their hashes all of them are for training.
    names = _named("train", 12)
    found = splits_of_few(names)
    assert found == splits_of_few(reversed(names))
    assert [list(found.values()).count(split) for split in ("train", "validation", "test")] == [10, 1, 1]
    assert sorted(splits_of_few(names[:3]).values()) == ["test", "train", "validation"]


@pytest.mark.parametrize("held", ["validation", "test"])
@pytest.mark.parametrize("number", [1, 2, 5])
def test_what_is_held_out_is_never_trained_on(held, number):
    train, others = _named("train", 6), _named(held, number)
    found = splits_of_few([*train, *others])
    assert set(found.values()) == set(SPLIT_NAMES)
    assert all(found[name] != "train" for name in others)
    # Only where one object is held out does another leave the training.
    assert sum(found[name] == "train" for name in train) == (5 if number == 1 else 6)


def test_spellings_of_an_object_stay_together():
    names = ["Kepler-1", " kepler-1 ", *_named("train", 4)]
    found = splits_of_few(names)
    assert found["Kepler-1"] == found[" kepler-1 "]


def test_objects_that_are_not_too_few_are_split_by_the_rule():
    names = [str(place) for place in range(60)]
    assert splits_of_few(names) == {name: split_of(name) for name in names}


def test_two_objects_cannot_be_split():
    with pytest.raises(ValueError, match="object_names must be 3 at least, for train, validation, test; got 2"):
        splits_of_few(["a", "b", "a"])
    with pytest.raises(ValueError, match="object_names must hold one for training; all of them are held out"):
        splits_of_few(_named("test", 3))
