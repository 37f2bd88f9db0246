"""Batches of a table of numbers and texts, column by column."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset as HubDataset
from torch.utils.data import Dataset


__all__ = ["TableBatches"]


class TableBatches(Dataset):
    """Rows of a `datasets.Dataset` of single values, gathered a batch at a time.

    `collate` of the loader gets a dictionary of columns: numbers and booleans as numpy arrays, null as NaN (integers
    and booleans with nulls become float64), texts as lists.

    Args:
        dataset: What `load_dataset(folder, config, split=...)` returns.
        columns: Those to read; all if omitted.
    """

    def __init__(self, dataset: HubDataset, columns: Sequence[str] | None = None):
        chosen = dataset.select_columns(list(columns)) if columns is not None else dataset
        self._table: pa.Table = chosen.with_format("arrow")[:]

    @property
    def group_sizes(self) -> list[int]:
        """Every row can be read alone."""
        return [1] * len(self)

    def __len__(self) -> int:
        return self._table.num_rows

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.__getitems__([row])

    def __getitems__(self, rows: Sequence[int]) -> dict[str, Any]:
        batch = self._table.take(pa.array(rows, pa.int64()))
        return {name: _values(batch.column(name)) for name in batch.column_names}


def _values(column: pa.ChunkedArray) -> np.ndarray | list[Any]:
    dtype = column.type
    if pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or pa.types.is_boolean(dtype):
        if column.null_count and not pa.types.is_floating(dtype):
            column = column.cast(pa.float64())
        return column.to_numpy()
    return column.to_pylist()
