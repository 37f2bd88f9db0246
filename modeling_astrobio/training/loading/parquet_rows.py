"""Rows read from Parquet files, a row group at a time, from the disk or from the Hub."""

import bisect
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import accumulate
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem
from torch.utils.data import Dataset

from .array_cells import TableCells


__all__ = ["ParquetRows"]


class ParquetRows(Dataset):
    """Rows of Parquet files that are never copied to the disk as a whole.

    Only the footers are read at once; a row group is read when one of its rows is asked for and kept until
    `groups_in_memory` others were, so memory is bounded by row groups and not by the data. Read it in the order of
    `row_order(rows.group_sizes, ...)`, which keeps the rows of a group together. Threads decode different groups at
    the same time: row groups that are no larger than a batch let them.

    Args:
        paths: Files or addresses that fsspec opens, such as `hf://datasets/NAME/cubes/train-00000-of-00004.parquet`.
        columns: Those to read; all if omitted. A column `x_shape` gives `x` its shape.
        groups_in_memory: Decoded row groups kept in each process.

    Raises:
        ValueError: If there is no path, or a file lacks a column.
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
        self._footers: list[pq.FileMetaData] = []
        self._versions: list[str] = []
        for place, path in enumerate(self.paths):
            self._versions.append(_version(path))
            with _open(path) as file:
                footer = pq.read_metadata(file)
            missing = sorted(set(self.columns or ()) - set(footer.schema.to_arrow_schema().names))
            if missing:
                raise ValueError(f"columns must be in every file; got {', '.join(missing)}, which {path} lacks.")
            self._footers.append(footer)
            for group in range(footer.num_row_groups):
                self._groups.append((place, group))
                self.group_sizes.append(footer.row_group(group).num_rows)
        self._starts = [0, *accumulate(self.group_sizes)]
        self._forget()

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, row: int) -> dict[str, Any]:
        if not 0 <= row < len(self):
            raise IndexError(f"row must be from 0 to {len(self) - 1}; got {row}.")
        group = bisect.bisect_right(self._starts, row) - 1
        return self._cells(group).rows([row - self._starts[group]])[0]

    def __getstate__(self) -> dict[str, Any]:
        # Another process reads for itself.
        return {name: value for name, value in vars(self).items() if name not in ("_read", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()

    def _forget(self) -> None:
        self._read: OrderedDict[int, Future[TableCells]] = OrderedDict()
        self._lock = threading.Lock()

    def _cells(self, group: int) -> TableCells:
        with self._lock:
            cells = self._read.get(group)
            mine = cells is None
            if cells is None:
                # Before it is decoded, so that no other thread decodes it too.
                cells = self._read[group] = Future()
            self._read.move_to_end(group)
            while len(self._read) > self.groups_in_memory:
                self._read.popitem(last=False)
        if mine:
            try:
                cells.set_result(self._decode(group))
            except BaseException as error:
                with self._lock:
                    # It may be asked for again: a network comes back.
                    self._read.pop(group, None)
                cells.set_exception(error)
        return cells.result()

    def _decode(self, group: int) -> TableCells:
        place, number = self._groups[group]
        path = self.paths[place]
        if _version(path) != self._versions[place]:
            raise ValueError(f"{path} must stay as it was when it was opened; it has changed. Open it anew.")
        # Opened for each group: threads and forked processes that shared a file would share its position.
        with _open(path) as file:
            table = pq.ParquetFile(file, metadata=self._footers[place]).read_row_group(
                number, columns=self.columns, use_threads=False
            )
        return TableCells(table, self._starts[group])


def _open(path: str) -> Any:
    filesystem, inside = fsspec.core.url_to_fs(path)
    # Bytes of a file on the disk need not come through Python.
    return pa.OSFile(inside) if isinstance(filesystem, LocalFileSystem) else filesystem.open(inside, "rb")


def _version(path: str) -> str:
    filesystem, inside = fsspec.core.url_to_fs(path)
    return str(filesystem.ukey(inside))
