"""Find texts that nearly repeat a text of another split."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from data_scripts.harness.errors import BuildError


__all__ = ["SHINGLE_WORDS", "near_duplicates", "shingles"]

SHINGLE_WORDS = 5
# Odd, so that its powers mix all bits of a word's hash.
_BASE = 0x9E3779B97F4A7C15
_WEIGHTS = np.array([pow(_BASE, place + 1, 2**64) for place in range(SHINGLE_WORDS)], np.uint64)
# A product that is a whole number may come out a little above it.
_ROUNDING = 1e-9


def shingles(text: str) -> np.ndarray:
    """Return the different runs of `SHINGLE_WORDS` words of a text, in lower case, as sorted unsigned 64-bit hashes.

    A text with fewer words is one run.
    """
    words = np.array([_word_hash(word) for word in text.casefold().split()] or [0], np.uint64)
    size = min(SHINGLE_WORDS, len(words))
    runs = np.lib.stride_tricks.sliding_window_view(words, size)
    return np.unique((runs * _WEIGHTS[:size]).sum(axis=1, dtype=np.uint64))


def near_duplicates(groups: Sequence[Iterable[str]], threshold: float) -> list[np.ndarray]:
    """Mark texts whose runs of words are nearly those of a text of an earlier group.

    Two texts are near duplicates if the Jaccard index of their `shingles` is at least the threshold. All pairs are
    found, without comparing all: of two such texts, each has one of the other's runs among its rarest few (prefix
    filter: Chaudhuri, Ganti and Kaushik 2006, Bayardo, Ma and Srikant 2007).

    Args:
        groups: Texts, the group that keeps all of its texts first; the last one is read once and not held.
        threshold: Least Jaccard index, above 0 and at most 1.

    Returns:
        For each group, shape (N,), bool: true where a text repeats one of an earlier group that is not marked itself.

    Raises:
        BuildError: If the threshold is not one.
    """
    if not 0 < threshold <= 1:
        raise BuildError(f"threshold must be above 0 and at most 1; got {threshold}. Pass a Jaccard index.")
    held = [[shingles(text) for text in texts] for texts in groups[:-1]]
    index = _Index([runs for texts in held for runs in texts], threshold)
    marks = []
    for each in held:
        ranked = [index.rank(runs) for runs in each]
        marks.append(np.array([index.repeats(*runs) for runs in ranked], bool))
        # Texts of one group may repeat each other, so they are added after all of them were looked up.
        for runs, marked in zip(ranked, marks[-1], strict=True):
            if not marked:
                index.add(*runs)
    for texts in groups[-1:]:
        marks.append(np.array([index.repeats(*index.rank(shingles(text))) for text in texts], bool))
    return marks


@lru_cache(maxsize=1 << 18)
def _word_hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")


class _Index:
    """Texts by their rarest runs."""

    def __init__(self, held: Sequence[np.ndarray], threshold: float) -> None:
        self._threshold = threshold
        joined = np.concatenate(held) if held else np.empty(0, np.uint64)
        self._known, counts = np.unique(joined, return_counts=True)
        self._ranks = np.empty(len(self._known), np.int64)
        self._ranks[np.argsort(counts, kind="stable")] = np.arange(len(self._known))
        self._texts: list[np.ndarray] = []
        self._by_run: dict[int, list[int]] = defaultdict(list)

    def rank(self, runs: np.ndarray) -> tuple[np.ndarray, int]:
        """Return the ranks of known runs, the rarest first, and how many there are with those that are not known."""
        place = np.searchsorted(self._known, runs)
        place[place == len(self._known)] = 0
        known = self._known[place] == runs if len(self._known) else np.zeros(len(runs), bool)
        return np.sort(self._ranks[place[known]]), len(runs)

    def add(self, ranks: np.ndarray, count: int) -> None:
        """Take a text, all of whose runs are known."""
        for run in self._rarest(ranks, count).tolist():
            self._by_run[run].append(len(self._texts))
        self._texts.append(ranks)

    def repeats(self, ranks: np.ndarray, count: int) -> bool:
        """Return whether a text that was added is a near duplicate."""
        compared = set()
        for run in self._rarest(ranks, count).tolist():
            for number in self._by_run.get(run, ()):
                if number in compared:
                    continue
                compared.add(number)
                other = self._texts[number]
                if min(count, len(other)) < self._threshold * max(count, len(other)) - _ROUNDING:
                    continue
                shared = len(np.intersect1d(ranks, other, assume_unique=True))
                if shared / (count + len(other) - shared) >= self._threshold:
                    return True
        return False

    def _rarest(self, ranks: np.ndarray, count: int) -> np.ndarray:
        """Return those of the rarest runs that are known: a near duplicate must share one of them."""
        needed = math.ceil(self._threshold * count - _ROUNDING)
        unknown = count - len(ranks)
        return ranks[: max(count - needed + 1 - unknown, 0)]
