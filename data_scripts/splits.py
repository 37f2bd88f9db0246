"""The one rule that puts an object into train, validation or test."""

import hashlib
from collections.abc import Collection
from typing import Literal


__all__ = ["SPLIT_NAMES", "SplitName", "normalise_object_name", "split_of", "splits_of_few"]

SplitName = Literal["train", "validation", "test"]
SPLIT_NAMES: tuple[SplitName, ...] = ("train", "validation", "test")


def normalise_object_name(object_name: str) -> str:
    """Return the name casefolded, stripped, with every run of white space made one space.

    Raises:
        ValueError: If nothing is left of the name.
    """
    normalised = " ".join(object_name.casefold().split())
    if not normalised:
        raise ValueError(
            f"object_name must contain a character that is not white space; got {object_name!r}. "
            "Pass the catalogue name of the star, organism or planet."
        )
    return normalised


def split_of(object_name: str) -> SplitName:
    """Return the split of an object: 80 % train, 10 % validation, 10 % test.

    Every builder of this package splits with this function, by object (star, organism, planet) and never by row, so
    that an object held out of one data set is held out of all of them. The split is
    `int(sha256(normalise_object_name(name)), 16) % 10`: 0 to 7 train, 8 validation, 9 test. It depends on nothing but
    the name. Aliases are not resolved here: builders of archives' tables pass the label that `data_scripts.identity`
    gives an object of many names.

    Args:
        object_name: Name of the object that must not be shared between splits, for planets the host star.

    Raises:
        ValueError: If the name is empty or white space.
    """
    bucket = _hash(object_name) % 10
    if bucket < 8:
        return "train"
    return "validation" if bucket == 8 else "test"


def splits_of_few(object_names: Collection[str]) -> dict[str, SplitName]:
    """Return the split of each object, none of the three empty.

    That of `split_of` where it leaves none empty. Of objects that are too few for it the last tenth by bucket, and
    within a bucket by hash, is `test`, the tenth before it `validation`, at least one each: an object that `split_of`
    holds out is then among the first to be held out, but the split depends on the others, and changes with them.

    Args:
        object_names: Names of objects; the same one counts once.

    Raises:
        ValueError: If they are fewer than 3.
    """
    names = set(object_names)
    if len(names) < len(SPLIT_NAMES):
        raise ValueError(f"object_names must be 3 at least, for {', '.join(SPLIT_NAMES)}; got {len(names)}.")
    found = {name: split_of(name) for name in names}
    if set(found.values()) == set(SPLIT_NAMES):
        return found
    ordered = sorted(names, key=lambda name: (_hash(name) % 10, _hash(name)))
    held = max(1, round(len(names) / 10))
    splits: tuple[tuple[SplitName, list[str]], ...] = (
        ("train", ordered[: -2 * held]),
        ("validation", ordered[-2 * held : -held]),
        ("test", ordered[-held:]),
    )
    return {name: split for split, several in splits for name in several}


def _hash(object_name: str) -> int:
    return int(hashlib.sha256(normalise_object_name(object_name).encode("utf-8")).hexdigest(), 16)
