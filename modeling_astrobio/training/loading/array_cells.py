"""Cells of an Arrow table, lists of numbers as numpy arrays without a Python object for each number."""

import bisect
from collections.abc import Callable, Iterable, Sequence
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
        first: Number of the table's first row, for messages.
    """

    def __init__(self, table: pa.Table, first: int = 0):
        # Pieces in which every column is one array: a row is looked for once, not in each column.
        self._pieces = table.to_batches()
        self._starts = [0, *accumulate(len(piece) for piece in self._pieces)]
        self._cells: list[dict[str, Cell] | None] = [None] * len(self._pieces)
        self._first = first

    def rows(self, numbers: Iterable[int]) -> list[dict[str, Any]]:
        """Return rows, counted from 0.

        Raises:
            ValueError: If a list of numbers holds nulls, or another number of values than its shape.
        """
        found = []
        for number in numbers:
            place = bisect.bisect_right(self._starts, number) - 1
            row = number - self._starts[place]
            found.append({name: cell(row) for name, cell in (self._cells[place] or self._read(place)).items()})
        return found

    def _read(self, place: int) -> dict[str, Cell]:
        # Not before it is asked for: a table of millions of rows has thousands of pieces, of which a run may see few.
        cells = self._cells[place] = _cells_of_piece(self._pieces[place], self._first + self._starts[place])
        return cells


def _cells_of_piece(piece: pa.RecordBatch, first: int) -> dict[str, Cell]:
    names = piece.schema.names
    shapes = {name: name + SHAPE_SUFFIX for name in names if name + SHAPE_SUFFIX in names}
    return {
        name: _cells_of_array(name, piece.column(name), piece.column(shapes[name]) if name in shapes else None, first)
        for name in names
        if name not in shapes.values()
    }


def _cells_of_array(name: str, array: pa.Array, shapes: pa.Array | None, first: int) -> Cell:
    flat = _plain(array)
    if _is_list_of_numbers(array.type):
        offsets, numbers = _offsets(array), _numbers(array.values)
        holes = array.null_count or array.values.null_count
        shape = None if holes else _one_shape(offsets, shapes)
        if shape is not None:
            # Most often all rows have one shape: an index is then all that a row costs.
            return numbers[offsets[0] : offsets[-1]].reshape(len(array), *shape).__getitem__
        flat = _ragged(name, array, offsets, numbers, first)
    if shapes is None:
        return flat

    def cell(row: int) -> Any:
        values = flat(row)
        if values is None:
            return None
        shape = shapes[row].as_py()
        if shape is None or int(np.prod(shape)) != np.size(values):
            raise ValueError(
                f"{name} of row {first + row} must have the values of its shape {shape}; got {np.size(values)}."
            )
        return np.reshape(values, shape)

    return cell


def _plain(array: pa.Array) -> Cell:
    return lambda row: array[row].as_py()


def _ragged(name: str, array: pa.Array, offsets: np.ndarray, numbers: np.ndarray, first: int) -> Cell:
    child = array.values
    if not array.null_count and not child.null_count:
        return lambda row: numbers[offsets[row] : offsets[row + 1]]

    def cell(row: int) -> np.ndarray | None:
        if not array[row].is_valid:
            return None
        start, stop = offsets[row], offsets[row + 1]
        holes = child.slice(start, stop - start).null_count
        if holes:
            raise ValueError(
                f"a list of numbers must hold no nulls; {name} of row {first + row} holds {holes}. "
                "Write NaN and a mask."
            )
        return numbers[start:stop]

    return cell


def _one_shape(offsets: np.ndarray, shapes: pa.Array | None) -> Sequence[int] | None:
    """The shape that every list has, or None."""
    lengths = np.diff(offsets)
    if not len(lengths) or (lengths != lengths[0]).any():
        return None
    if shapes is None:
        return [int(lengths[0])]
    if shapes.null_count or shapes.values.null_count:
        return None
    shape_offsets = _offsets(shapes)
    axes = np.diff(shape_offsets)
    if (axes != axes[0]).any():
        return None
    sizes = _numbers(shapes.values)[shape_offsets[0] : shape_offsets[-1]].reshape(len(shapes), axes[0])
    if (sizes != sizes[0]).any() or sizes[0].prod(dtype=np.int64) != lengths[0]:
        return None
    return [int(size) for size in sizes[0]]


def _offsets(array: pa.Array) -> np.ndarray:
    """Where each list begins in `array.values`, which is not sliced with the array, and where the last ends."""
    if pa.types.is_fixed_size_list(array.type):
        return (array.offset + np.arange(len(array) + 1)) * array.type.list_size
    return array.offsets.to_numpy()


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
