"""All near duplicates across groups are found, as by comparing every pair."""

import random

import numpy as np
import pytest

from data_scripts.derived.near_duplicates import SHINGLE_WORDS, near_duplicates, shingles
from data_scripts.harness.errors import BuildError


def naive_runs(text):
    words = text.casefold().split()
    size = min(SHINGLE_WORDS, len(words))
    return {tuple(words[start : start + size]) for start in range(len(words) - size + 1)}


def naive_marks(groups, threshold):
    kept, marks = [], []
    for texts in groups:
        runs = [naive_runs(text) for text in texts]
        marked = [any(len(one & other) / len(one | other) >= threshold for other in kept) for one in runs]
        kept += [one for one, is_marked in zip(runs, marked, strict=True) if not is_marked]
        marks.append(marked)
    return marks


def changed(text, rng, changes):
    words = text.split()
    for _ in range(changes):
        place = rng.randrange(len(words) + 1)
        words[place : place + rng.randrange(2)] = rng.choice(([], [f"new{rng.randrange(9)}"]))
    return " ".join(words) or "nothing"


def made_up_groups(seed):
    rng = random.Random(seed)
    originals = [" ".join(f"w{rng.randrange(60)}" for _ in range(rng.randrange(1, 90))) for _ in range(25)]
    # Phrases that all texts share, as labels do.
    originals += [f"the orbital period of planet {number} is {number + 3} days" for number in range(13)]
    return [[changed(rng.choice(originals), rng, rng.randrange(7)) for _ in range(count)] for count in (23, 41, 67)]


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8, 1.0])
def test_finds_what_comparing_all_pairs_finds(threshold):
    found = 0
    for seed in range(5):
        groups = made_up_groups(seed)
        marks = near_duplicates(groups, threshold)
        assert [marked.tolist() for marked in marks] == naive_marks(groups, threshold)
        found += sum(marked.sum() for marked in marks)
    assert found > 10


def test_a_product_that_rounds_up_does_not_hide_a_pair():
    # 0.8 * 15 is a little more than 12: with 13 runs needed, the first three runs that differ would decide.
    long = [f"w{number}" for number in range(19)]
    short = long[:16]
    assert len(shingles(" ".join(long))) == 15
    assert len(shingles(" ".join(short))) == 12
    for one, other in ((long, short), (short, long)):
        marks = near_duplicates([[" ".join(one)], [" ".join(other)]], 0.8)
        assert marks[1].tolist() == [True]


def test_the_first_group_keeps_all_and_groups_are_not_compared_with_themselves():
    text = "a planet of a star of a cluster of a galaxy"
    marks = near_duplicates([[text, text], [text], [text, "another text"]], 0.8)
    assert [marked.tolist() for marked in marks] == [[False, False], [True], [True, False]]


def test_a_marked_text_marks_no_other():
    words = [f"w{number}" for number in range(40)]
    first, second, third = (" ".join(words[start : start + 30]) for start in (0, 4, 8))
    marks = near_duplicates([[first], [second], [third]], 0.7)
    assert [marked.tolist() for marked in marks] == [[False], [True], [False]]
    assert [marked.tolist() for marked in near_duplicates([[second], [third]], 0.7)] == [[False], [True]]


def test_case_and_white_space_are_no_difference():
    assert np.array_equal(shingles("A b  C\nd e F"), shingles("a B c D\te f"))
    assert not np.array_equal(shingles("a b c d e f"), shingles("a b c d f e"))


@pytest.mark.parametrize("groups", [[], [[]], [[], ["one"]], [["one"], []], [[""], [""]]])
def test_groups_without_texts(groups):
    assert [len(marked) for marked in near_duplicates(groups, 0.8)] == [len(texts) for texts in groups]


@pytest.mark.parametrize("threshold", [0, -1, 1.01, float("nan")])
def test_a_threshold_that_is_no_index_is_refused(threshold):
    with pytest.raises(BuildError, match="threshold must be above 0 and at most 1; got"):
        near_duplicates([["a"], ["b"]], threshold)
