"""Collect the rows of a data set on disk, so that memory does not grow with them."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetDict, Features
from datasets.fingerprint import get_temporary_cache_files_directory


__all__ = ["SplitWriter"]

# Values in a row group of rows that are held in memory, roughly: graphs differ in size by a factor of a thousand.
_VALUES_PER_BATCH = 1 << 20


class SplitWriter:
    """Takes rows as they are made and gives the splits; use as a context manager, and call `finish` inside.

    The rows lie in a temporary folder of `datasets`, which it removes when the process ends.

    Args:
        features: Columns of every split.
        splits: Names of the splits; one without rows is there, empty.
    """

    def __init__(self, features: Features, splits: Sequence[str]) -> None:
        self._folder = Path(tempfile.mkdtemp(dir=get_temporary_cache_files_directory()))
        self._schema = features.arrow_schema
        self._streams = {split: pa.ipc.new_stream(self._file(split), self._schema) for split in splits}
        self._waiting: dict[str, list[Mapping[str, Any]]] = {split: [] for split in splits}
        self._values = dict.fromkeys(splits, 0)

    def __enter__(self) -> "SplitWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in self._streams.values():
            stream.close()

    def write(self, split: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows to a split; each must have every column."""
        for row in rows:
            self._waiting[split].append(row)
            self._values[split] += sum(len(cell) if hasattr(cell, "__len__") else 1 for cell in row.values())
            if self._values[split] >= _VALUES_PER_BATCH:
                self._flush(split)

    def finish(self) -> DatasetDict:
        """Return the splits, which read their rows from disk."""
        for split, stream in self._streams.items():
            self._flush(split)
            stream.close()
        return DatasetDict({split: Dataset.from_file(self._file(split)) for split in self._streams})

    def _flush(self, split: str) -> None:
        rows, self._waiting[split], self._values[split] = self._waiting[split], [], 0
        if rows:
            columns = [pa.array([row[field.name] for row in rows], field.type) for field in self._schema]
            self._streams[split].write_batch(pa.record_batch(columns, schema=self._schema))

    def _file(self, split: str) -> str:
        return str(self._folder / f"{split}.arrow")
