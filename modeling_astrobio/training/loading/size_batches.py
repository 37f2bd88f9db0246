"""Batches of rows of like size, each a row for `ResumableLoader`."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from .resumable_loader import Rows, read_rows


__all__ = ["SizeBatches", "size_batches"]


def size_batches(sizes: Sequence[int] | np.ndarray, most: int, seed: int) -> list[np.ndarray]:
    """Cut all rows into batches of rows of like size.

    A batch's number of rows times its largest size is at most `most`, which bounds a batch that is padded and one that
    is packed. Rows of equal size are shuffled; which rows share a batch depends on the sizes, `most` and `seed` alone.

    Args:
        sizes: Of each row, such as the number of nodes of a graph, shape (N,); or of shape (N, K): rows are sorted by
            the first size, those of equal ones by the second, and so on, and the first is the one that is bounded.
        most: Largest number of rows times largest size.
        seed: Of the order of rows of equal size.

    Returns:
        Row numbers of each batch, int64, by ascending size.

    Raises:
        ValueError: If a row alone is larger than `most`, or a size is negative.
    """
    keys = np.asarray(sizes, dtype=np.int64)
    keys = keys.reshape(len(keys), -1) if len(keys) else keys.reshape(0, 1)
    of_row = keys[:, 0]
    if len(of_row) and of_row.min() < 0:
        raise ValueError(f"sizes must be 0 or more; got {of_row.min()} in row {of_row.argmin()}.")
    if len(of_row) and of_row.max() > most:
        raise ValueError(
            f"most must be at least the size of every row; got {most}, and {of_row.max()} in row {of_row.argmax()}. "
            "Raise it or leave the row out."
        )
    order = np.lexsort((np.random.default_rng(seed).random(len(of_row)), *keys.T[::-1]))
    cuts, first = [], 0
    for place, size in enumerate(of_row[order].tolist()):
        if (place + 1 - first) * max(size, 1) > most:
            cuts.append(place)
            first = place
    return np.split(order, cuts) if len(order) else []


class SizeBatches(Dataset):
    """Batches of `size_batches` as rows: each is a list of rows.

    Give it to `ResumableLoader` with `batch_size=1`: the batches come in another order each epoch, and resuming is
    exact with workers and on any number of ranks. The rows of a batch are the same in each epoch, so that an epoch
    always has as many steps. Its `collate` gets a list of one batch.

    Args:
        rows: Rows that can be read alone, such as `ArrowRows`.
        sizes: Of each row, as of `size_batches`.
        most: Largest number of rows times largest size in a batch.
        seed: Of the order of rows of equal size.
    """

    def __init__(self, rows: Rows, sizes: Sequence[int] | np.ndarray, most: int, seed: int = 0):
        if len(sizes) != len(rows):
            raise ValueError(f"sizes must have one entry a row, {len(rows)}; got {len(sizes)}.")
        self.rows, self.batches = rows, size_batches(sizes, most, seed)

    @property
    def group_sizes(self) -> list[int]:
        """Every batch can be read alone."""
        return [1] * len(self)

    @property
    def digest(self) -> bytes:
        """Which rows share a batch: a state holds for no others."""
        digest = hashlib.sha256()
        for batch in self.batches:
            digest.update(len(batch).to_bytes(8, "little") + batch.astype("<i8").tobytes())
        return digest.digest()

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, batch: int) -> Any:
        return read_rows(self.rows, self.batches[batch].tolist())
