"""Rows read from Parquet files, a row group at a time, from the disk or from the Hub."""

import bisect
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import fsspec
import pyarrow.parquet as pq
from torch.utils.data import Dataset

from .array_cells import TableCells


__all__ = ["ParquetRows"]


class ParquetRows(Dataset):
    """Rows of Parquet files that are never copied to the disk as a whole.

    Only the footers are read at once; a row group is read when one of its rows is asked for and kept until
    `groups_in_memory` others were, so memory is bounded by row groups and not by the data. Read it in the order of
    `row_order(rows.group_sizes, ...)`, which keeps the rows of a group together.

    Args:
        paths: Files or addresses that fsspec opens, such as `hf://datasets/NAME/cubes/train-00000-of-00004.parquet`.
        columns: Those to read; all if omitted. A column `x_shape` gives `x` its shape.
        groups_in_memory: Decoded row groups kept in each process.
    """

    def __init__(self, paths: Sequence[str], columns: Sequence[str] | None = None, groups_in_memory: int = 2):
        if not paths:
            raise ValueError("paths must name at least one Parquet file; got none.")
        if groups_in_memory < 1:
            raise ValueError(f"groups_in_memory must be at least 1; got {groups_in_memory}.")
        self.paths, self.columns = [str(path) for path in paths], list(columns) if columns is not None else None
        self.groups_in_memory = groups_in_memory
        self._groups: list[tuple[int, int]] = []
        self.group_sizes: list[int] = []
        for place, path in enumerate(self.paths):
            with fsspec.open(path, "rb") as file:
                metadata = pq.read_metadata(file)
            for group in range(metadata.num_row_groups):
                self._groups.append((place, group))
                self.group_sizes.append(metadata.row_group(group).num_rows)
        self._starts = [0]
        for size in self.group_sizes:
            self._starts.append(self._starts[-1] + size)
        self._files: dict[int, pq.ParquetFile] = {}
        self._read: OrderedDict[int, TableCells] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, row: int) -> dict[str, Any]:
        if not 0 <= row < len(self):
            raise IndexError(f"row must be from 0 to {len(self) - 1}; got {row}.")
        group = bisect.bisect_right(self._starts, row) - 1
        # One thread decodes at a time, so that none reads a group that another is reading.
        with self._lock:
            cells = self._group(group)
        return cells.row(row - self._starts[group])

    def _group(self, group: int) -> TableCells:
        if group not in self._read:
            place, number = self._groups[group]
            if place not in self._files:
                # Files of groups read before are closed: a data set may have thousands.
                self._files = {place: pq.ParquetFile(fsspec.open(self.paths[place], "rb").open())}
            table = self._files[place].read_row_group(number, columns=self.columns, use_threads=False)
            self._read[group] = TableCells(table)
            while len(self._read) > self.groups_in_memory:
                self._read.popitem(last=False)
        self._read.move_to_end(group)
        return self._read[group]
