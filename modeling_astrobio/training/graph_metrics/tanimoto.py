"""Tanimoto similarity of many fingerprints with many."""

from collections.abc import Iterator

import numpy as np


__all__ = ["tanimoto_rows"]


def tanimoto_rows(first: np.ndarray, second: np.ndarray, rows: int = 500) -> Iterator[np.ndarray]:
    """Give the similarity of each fingerprint with each other, a block of rows at a time, so that memory stays small.

    Args:
        first: Bits, shape (N, B), 0 or 1; each has at least one.
        second: Bits, shape (M, B).
        rows: Rows of a block.

    Yields:
        Similarities, shape (at most `rows`, M), float32, 0 to 1.
    """
    # Counts of bits are exact in float32.
    columns = second.astype(np.float32).T
    of_second = columns.sum(axis=0)
    for start in range(0, len(first), rows):
        block = first[start : start + rows].astype(np.float32)
        shared = block @ columns
        yield shared / (block.sum(axis=1, keepdims=True) + of_second - shared)
