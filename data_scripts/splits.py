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

    That of `split_of` where it leaves none empty. Else what that holds out stays held out: shared between `validation`
    and `test` where there is more than one, and the last tenth of the others by their hash is held out too where there
    is not. Which split an object of few is in then depends on the others.

    Args:
        object_names: Names of objects; spellings of the same name are one object.

    Raises:
        ValueError: If they are fewer than 3, or none of them is for training.
    """
    spellings: dict[str, list[str]] = {}
    for name in object_names:
        spellings.setdefault(normalise_object_name(name), []).append(name)
    if len(spellings) < len(SPLIT_NAMES):
        raise ValueError(f"object_names must be 3 at least, for {', '.join(SPLIT_NAMES)}; got {len(spellings)}.")
    found = {name: split_of(name) for name in spellings}
    train = sorted((name for name in found if found[name] == "train"), key=_hash)
    held = sorted((name for name in found if found[name] != "train"), key=_hash)
    if not train:
        raise ValueError("object_names must hold one for training; all of them are held out. Add objects.")
    tenth = max(1, round(len(found) / 10))
    for lacking in sorted({"validation", "test"} - set(found.values())):
        if len(held) > 1:
            taken = held[: len(held) // 2]
        else:
            train, taken = train[:-tenth], train[-tenth:]
        found |= dict.fromkeys(taken, lacking)  # type: ignore[arg-type]
    return {spelling: found[name] for name, several in spellings.items() for spelling in several}


def _hash(object_name: str) -> int:
    return int(hashlib.sha256(normalise_object_name(object_name).encode("utf-8")).hexdigest(), 16)
