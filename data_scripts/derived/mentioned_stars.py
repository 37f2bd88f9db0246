"""Find stars that a free text speaks of beside the row's own, so that no text tells of a star of another split."""

import re

from data_scripts.identifiers import parse_identifier
from data_scripts.identity import IdentityTable
from data_scripts.object_names import star_of_planet
from data_scripts.splits import SplitName, split_of


__all__ = ["MentionedStars"]

# Most words of a star's or planet's name: `GJ 667 C c`.
_MOST_WORDS = 4
_FEWEST_DIGITS = 6
_MARKS = ",;:()[]\"'?!"


class MentionedStars:
    """The splits of the stars that texts name, by the aliases of an identity table."""

    def __init__(self, identity: IdentityTable) -> None:
        self._identity = identity
        self._found: dict[str, frozenset[SplitName]] = {}

    def elsewhere(self, text: str, split: SplitName) -> bool:
        """Return whether a text names a known star of another split."""
        splits = self._found.get(text)
        if splits is None:
            splits = self._found[text] = self._splits(text)
        return bool(splits - {split})

    def _splits(self, text: str) -> frozenset[SplitName]:
        words = [word for word in (part.strip(_MARKS).rstrip(".") for part in re.split(r"[\s/]+", text)) if word]
        names = {
            " ".join(words[start : start + count])
            for start in range(len(words))
            for count in range(1, _MOST_WORDS + 1)
            if start + count <= len(words)
        }
        # Remarks call a mission's own stars by their bare numbers.
        numbers = {word for word in words if word.isdecimal() and len(word) >= _FEWEST_DIGITS}
        names |= {f"{catalogue} {number}" for number in numbers for catalogue in ("TIC", "KIC", "EPIC")}
        splits = set()
        for name in names | {star_of_planet(name) for name in names}:
            star = parse_identifier(name, "")
            label = None if star is None else self._identity.find(star)
            if label is not None:
                splits.add(split_of(label))
        return frozenset(splits)
