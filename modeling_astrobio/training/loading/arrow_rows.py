"""Rows of a data set that `datasets` has mapped into memory."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from datasets import Dataset as HubDataset
from torch.utils.data import Dataset

from .array_cells import TableCells


__all__ = ["ArrowRows"]


class ArrowRows(Dataset):
    """Rows of a `datasets.Dataset`, their lists of numbers as numpy arrays that share the mapped memory.

    Args:
        dataset: What `load_dataset(folder, config, split=...)` returns. One that was shuffled or selected from has to
            be gathered into memory: call its `flatten_indices()` first, which writes it anew.
        columns: Those to read; all if omitted. A column `x_shape` gives `x` its shape.
    """

    def __init__(self, dataset: HubDataset, columns: Sequence[str] | None = None):
        self._dataset = dataset.select_columns(list(columns)) if columns is not None else dataset
        self._rows = len(dataset)

    @cached_property
    def _cells(self) -> TableCells:
        return TableCells(self._dataset.with_format("arrow")[:])

    @property
    def group_sizes(self) -> list[int]:
        """Every row can be read alone."""
        return [1] * len(self)

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        if len(rows) and not 0 <= min(rows) <= max(rows) < self._rows:
            raise IndexError(f"row must be from 0 to {self._rows - 1}; got {list(rows)}.")
        return self._cells.rows(rows)
