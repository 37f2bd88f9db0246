"""Cells of an Arrow table, lists of numbers as numpy arrays without a Python object for each number."""

import bisect
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa


__all__ = ["SHAPE_SUFFIX", "TableCells"]


SHAPE_SUFFIX = "_shape"
Cell = Callable[[int], Any]


class TableCells:
    """Rows of a table: numbers and texts as Python objects, lists of numbers as arrays that share the table's memory.

    A column `x` beside a column `x_shape` is given that shape, and the shape is left out.

    Args:
        table: Lists of numbers must hold no nulls; a list may be null as a whole, and is then None.
    """

    def __init__(self, table: pa.Table):
        names = set(table.column_names)
        self._shape_of = {name: name + SHAPE_SUFFIX for name in names if name + SHAPE_SUFFIX in names}
        self._cells = {name: _cells_of_column(name, table.column(name)) for name in table.column_names}
        self._names = [name for name in table.column_names if name not in self._shape_of.values()]

    def row(self, number: int) -> dict[str, Any]:
        """Return a row, counted from 0.

        Raises:
            ValueError: If a list of numbers holds nulls.
        """
        cells = {}
        for name in self._names:
            value = self._cells[name](number)
            shape = self._shape_of.get(name)
            if shape is not None and value is not None:
                value = value.reshape(self._cells[shape](number))
            cells[name] = value
        return cells


def _cells_of_column(name: str, column: pa.ChunkedArray) -> Cell:
    chunks = [_cells_of_chunk(name, chunk) for chunk in column.chunks]
    if len(chunks) == 1:
        return chunks[0]
    starts = [0, *accumulate(len(chunk) for chunk in column.chunks)]

    def cell(row: int) -> Any:
        place = bisect.bisect_right(starts, row) - 1
        return chunks[place](row - starts[place])

    return cell


def _cells_of_chunk(name: str, chunk: pa.Array) -> Cell:
    if not _is_list_of_numbers(chunk.type):
        return lambda row: chunk[row].as_py()
    # The child of a slice is not sliced with it: rows count from the slice's offset.
    child, first = chunk.values, chunk.offset
    numbers = _numbers(child)
    if pa.types.is_fixed_size_list(chunk.type):
        size = chunk.type.list_size

        def bounds(row: int) -> tuple[int, int]:
            return (first + row) * size, (first + row + 1) * size
    else:
        offsets = chunk.offsets.to_numpy()

        def bounds(row: int) -> tuple[int, int]:
            return offsets[row], offsets[row + 1]

    if not chunk.null_count and not child.null_count:
        return lambda row: numbers[slice(*bounds(row))]

    def cell(row: int) -> np.ndarray | None:
        if not chunk[row].is_valid:
            return None
        start, stop = bounds(row)
        holes = child.slice(start, stop - start).null_count
        if holes:
            raise ValueError(
                f"a list of numbers must hold no nulls; {name} of row {row} holds {holes}. Write NaN and a mask."
            )
        return numbers[start:stop]

    return cell


def _numbers(child: pa.Array) -> np.ndarray:
    """The values of all lists; what stands where one is null is not looked at."""
    if pa.types.is_boolean(child.type):
        return child.fill_null(False).to_numpy(zero_copy_only=False)
    data = child.buffers()[1]
    dtype = np.dtype(child.type.to_pandas_dtype())
    if data is None:
        return np.empty(0, dtype)
    return np.frombuffer(data, dtype, count=len(child), offset=child.offset * dtype.itemsize)


def _is_list_of_numbers(dtype: pa.DataType) -> bool:
    if not (pa.types.is_list(dtype) or pa.types.is_large_list(dtype) or pa.types.is_fixed_size_list(dtype)):
        return False
    inner = dtype.value_type
    return pa.types.is_integer(inner) or pa.types.is_floating(inner) or pa.types.is_boolean(inner)
