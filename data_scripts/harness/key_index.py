"""Find rows whose key came before, in 24 bytes a key."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_scripts.harness.errors import BuildError


__all__ = ["KeyIndex", "hash_keys"]


def hash_keys(table: pa.Table, key: tuple[str, ...]) -> np.ndarray:
    """Hash the key of every row.

    Args:
        table: Rows; the key's columns have no null.
        key: Column names.

    Returns:
        Shape (N, 2), unsigned 64-bit: 128 bits of BLAKE2b of the key's values.

    Raises:
        BuildError: If a column of the key has no plain text form.
    """
    texts = []
    for name in key:
        column = table.column(name)
        try:
            texts.append(column if pa.types.is_binary(column.type) else pc.cast(column, pa.string()))
        except pa.ArrowNotImplementedError as error:
            raise BuildError(f"key column {name} must hold plain values; got {column.type}.") from error
    if len(texts) == 1:
        joined = texts[0]
    else:
        # With the lengths before them, ("a", "b c") and ("a b", "c") differ.
        parts = [part for text in texts for part in (pc.cast(pc.binary_length(text), pa.string()), text)]
        joined = pc.binary_join_element_wise(*(pc.cast(part, pa.binary()) for part in parts), b" ")
    blake2b = hashlib.blake2b
    digests = [blake2b(value, digest_size=16).digest() for value in pc.cast(joined, pa.binary()).to_pylist()]
    return np.frombuffer(b"".join(digests), dtype=np.uint64).reshape(-1, 2)


@dataclass(frozen=True)
class _Run:
    """Keys with the row that each was first in, all of shape (N,), sorted by key, then by row."""

    high: np.ndarray
    low: np.ndarray
    row: np.ndarray

    def __len__(self) -> int:
        return len(self.row)

    def take(self, order: np.ndarray) -> "_Run":
        return _Run(self.high[order], self.low[order], self.row[order])


class KeyIndex:
    """Keys seen so far: sorted runs, each at least twice as long as the next, so that adding stays cheap."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self.rows = 0

    def add(self, hashes: np.ndarray) -> np.ndarray:
        """Take the next rows.

        Args:
            hashes: Shape (N, 2), from `hash_keys`.

        Returns:
            Shape (N,), 64-bit: the number, counted from 0 over all rows added, of the first row with the same key; -1
            where this row is the first.
        """
        rows = np.arange(self.rows, self.rows + len(hashes), dtype=np.int64)
        run = _sorted(_Run(hashes[:, 0], hashes[:, 1], rows))
        first = np.full(len(run), -1, np.int64)
        for earlier in self._runs:
            _look_up(earlier, run, first)
        again = np.zeros(len(run), bool)
        again[1:] = (run.high[1:] == run.high[:-1]) & (run.low[1:] == run.low[:-1])
        # The first row of a key within these rows stands at the head of its group.
        head = np.maximum.accumulate(np.where(again, 0, np.arange(len(run))))
        first = np.where(again & (first < 0), run.row[head], first)
        answer = np.empty(len(run), np.int64)
        answer[run.row - self.rows] = first
        self.rows += len(run)
        self._keep(run.take(np.flatnonzero(first < 0)))
        return answer

    def _keep(self, run: _Run) -> None:
        self._runs.append(run)
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            right, left = self._runs.pop(), self._runs.pop()
            joined = [np.concatenate(pair) for pair in zip(_arrays(left), _arrays(right), strict=True)]
            self._runs.append(_sorted(_Run(*joined)))


def _arrays(run: _Run) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return run.high, run.low, run.row


def _sorted(run: _Run) -> _Run:
    """Sort; rows must ascend for each key already."""
    # Half the key sorts nearly every table, and two sorted runs one after the other are merged in one pass.
    ordered = run.take(np.argsort(run.high, kind="stable"))
    if np.any((ordered.high[1:] == ordered.high[:-1]) & (ordered.low[1:] != ordered.low[:-1])):
        return run.take(np.lexsort((run.row, run.low, run.high)))
    return ordered


def _look_up(earlier: _Run, run: _Run, first: np.ndarray) -> None:
    """Write the row of every key of `run` that `earlier` has into `first`."""
    place = np.searchsorted(earlier.high, run.high)
    asked = np.arange(len(run))
    while len(asked):
        asked = asked[place[asked] < len(earlier)]
        asked = asked[earlier.high[place[asked]] == run.high[asked]]
        found = earlier.low[place[asked]] == run.low[asked]
        first[asked[found]] = earlier.row[place[asked[found]]]
        # Two keys may share 64 bits and differ in the others.
        asked = asked[~found]
        place[asked] += 1
