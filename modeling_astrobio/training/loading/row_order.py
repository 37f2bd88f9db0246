"""The order of the rows of an epoch."""

from collections.abc import Sequence

import numpy as np


__all__ = ["row_order"]


def row_order(group_sizes: Sequence[int], seed: int, epoch: int) -> np.ndarray:
    """Return a permutation of all rows that depends on seed and epoch alone.

    Rows that are read together (a row group of a Parquet file) stay together: the groups are permuted, and the rows of
    each group among themselves. A table in memory is many groups of one row, or one group.

    A shuffle buffer would lose its content when a run is stopped; a permutation needs only the number of rows read.

    Args:
        group_sizes: Rows of each group, in the order of the table.
        seed: Of the run.
        epoch: Of the pass over the data, from 0.

    Returns:
        Row numbers, int64, shape (sum(group_sizes),).
    """
    sizes = np.asarray(group_sizes, dtype=np.int64)
    rng = np.random.default_rng((seed, epoch))
    rank_of_group = rng.permutation(len(sizes))
    # One sort by (place of the group, random key) does for groups of any size.
    places = np.repeat(rank_of_group, sizes)
    return np.lexsort((rng.random(int(sizes.sum())), places))
