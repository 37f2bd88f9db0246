"""Hold an archive's table to its schema: columns, types, units, bounds, key. Nothing is dropped without a reason."""

import base64
import datetime
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_scripts.harness.archive import Column, TableConfig
from data_scripts.harness.convert_cells import convert_cells
from data_scripts.harness.errors import BadBodyError, BuildError
from data_scripts.harness.tallies import ColumnTally, IdentityTally, Tallies
from data_scripts.harness.unit_texts import same_unit


__all__ = ["REJECTED_SCHEMA", "Conformed", "conform", "row_json", "rows_as_json"]

REJECTED_SCHEMA = pa.schema([("row_json", pa.string()), ("reason", pa.string())])

# Rows handled at once: the temporary masks of a slice stay in the processor's cache.
SLICE_ROWS = 1 << 16


@dataclass(frozen=True)
class Conformed:
    """What the schema made of a table.

    Attributes:
        good: Rows with the published columns, in the schema's order.
        rejected: Columns `row_json`, the archive's own values, and `reason`; in the order of the rows.
        tallies: Counts over both.
    """

    good: pa.Table
    rejected: pa.Table
    tallies: Tallies


@dataclass(frozen=True)
class _Problem:
    """Rows that one rule refuses; `says` ends the sentence that begins with the column's name."""

    column: str
    mask: np.ndarray
    says: str
    shows_cell: bool = True


def conform(table: pa.Table, config: TableConfig) -> Conformed:
    """Check and convert a table.

    Blank text and NaN are null. A row is rejected for a cell that does not convert exactly, for an infinite number,
    for a value outside its column's bounds (in a list: for one such element) and for null in the key; its reason names
    every such cell. Columns that the schema does not have are left out.

    Args:
        table: The archive's table under its own column names.
        config: The schema.

    Raises:
        BadBodyError: If a column of the schema is absent, appears twice, or states another unit or type.
        BuildError: If the key of the schema names a column that it does not have.
    """
    _check_header(table.schema, config)
    schema = pa.schema([(column.name, column.dtype) for column in config.columns])
    tallies, good, rejected = Tallies(), [], []
    for start in range(0, max(table.num_rows, 1), SLICE_ROWS):
        part = _conform_slice(table.slice(start, SLICE_ROWS), config, schema)
        good.append(part.good)
        rejected.append(part.rejected)
        tallies += part.tallies
    return Conformed(pa.concat_tables(good), pa.concat_tables(rejected), tallies)


def _check_header(schema: pa.Schema, config: TableConfig) -> None:
    declared = {column.name for column in config.columns}
    unknown = [name for name in config.key if name not in declared]
    if unknown:
        raise BuildError(f"key of {config.name} must name columns of its schema; got {', '.join(unknown)}.")
    vanished = [column.name for column in config.columns if column.name not in schema.names]
    if vanished:
        raise BadBodyError(
            f"the body has no column {', '.join(vanished)} for {config.name}; it has {', '.join(schema.names)[:500]}"
        )
    for column in config.columns:
        if schema.names.count(column.name) > 1:
            raise BadBodyError(f"the body has column {column.name} {schema.names.count(column.name)} times")
        stated = (schema.field(column.name).metadata or {}).get(b"unit")
        if stated is not None and not same_unit(stated.decode(), column.unit):
            raise BadBodyError(
                f"column {column.name} must be in {column.unit or 'no unit'}; the body states {stated.decode()!r}: "
                "its unit changed"
            )


def _conform_slice(table: pa.Table, config: TableConfig, schema: pa.Schema) -> Conformed:
    arrays, problems, counts = [], [], {}
    for column in config.columns:
        converted, failed = convert_cells(_one_array(table.column(column.name)), column.dtype, column.name)
        arrays.append(converted)
        found = [] if failed is None else [_Problem(column.name, _as_numpy(failed), f"is not {column.dtype}")]
        unconverted = found[0].mask.sum() if found else 0
        judged, outside = _check_bounds(converted, column)
        found += outside
        if column.name in config.key and converted.null_count:
            null = _as_numpy(pc.is_null(converted))
            if failed is not None:
                null &= ~_as_numpy(failed)
            found.append(_Problem(column.name, null, "is null and belongs to the key", shows_cell=False))
        problems += [problem for problem in found if problem.mask.any()]
        counts[column.name] = ColumnTally(
            cells=len(converted),
            stated=int(len(converted) - converted.null_count + unconverted),
            unconverted=int(unconverted),
            judged=judged,
            outside=int(np.logical_or.reduce([problem.mask for problem in outside]).sum()) if outside else 0,
        )
    good = pa.Table.from_arrays(arrays, schema=schema)
    rejected = REJECTED_SCHEMA.empty_table()
    if problems:
        refused = np.logical_or.reduce([problem.mask for problem in problems])
        rejected = _rejected_rows(table, np.flatnonzero(refused), problems)
        good = good.filter(pa.array(~refused))
    faults: dict[str, int] = {}
    for problem in problems:
        faults[f"{problem.column} {problem.says}"] = int(problem.mask.sum())
    identities = {}
    for identity in config.identities:
        holds = identity.holds(good)
        identities[identity.name] = IdentityTally(len(holds) - holds.null_count, int(pc.sum(holds).as_py() or 0))
    return Conformed(good, rejected, Tallies(table.num_rows, rejected.num_rows, counts, identities, faults))


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    # combine_chunks copies even a single chunk.
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _as_numpy(mask: pa.Array) -> np.ndarray:
    return mask.to_numpy(zero_copy_only=False)


def _check_bounds(converted: pa.Array, column: Column) -> tuple[int, list[_Problem]]:
    """Return how many cells could be judged and what was found."""
    floating, numbers, parents = _numbers_in(converted)
    if numbers is None or (not floating and column.minimum is None and column.maximum is None):
        return 0, []
    judged = len(converted) - converted.null_count
    extremes = pc.min_max(numbers)
    least, greatest = extremes["min"].as_py(), extremes["max"].as_py()
    if least is None:
        return judged, []
    tests = []
    if math.isinf(least) or math.isinf(greatest):
        tests.append((pc.is_inf(numbers), "is infinite"))
    if column.minimum is not None and least < column.minimum:
        tests.append((pc.less(numbers, column.minimum), f"is below {column.minimum:g}{_unit_after(column)}"))
    if column.maximum is not None and greatest > column.maximum:
        tests.append((pc.greater(numbers, column.maximum), f"is above {column.maximum:g}{_unit_after(column)}"))
    problems = []
    for cells, says in tests:
        cells = _as_numpy(pc.fill_null(cells, False))
        if parents is not None:
            rows = np.zeros(len(converted), bool)
            rows[parents[cells]] = True
            cells = rows
        problems.append(_Problem(column.name, cells, says))
    return judged, problems


def _numbers_in(values: pa.Array) -> tuple[bool, pa.Array | None, np.ndarray | None]:
    """Return whether the values are floating point, the values without lists (None: no numbers), and their rows."""
    parents = None
    types = pa.types
    while types.is_list(values.type) or types.is_large_list(values.type) or types.is_fixed_size_list(values.type):
        rows = pc.list_parent_indices(values).to_numpy()
        parents = rows if parents is None else parents[rows]
        values = pc.list_flatten(values)
    floating = types.is_floating(values.type)
    return floating, values if floating or types.is_integer(values.type) else None, parents


def _unit_after(column: Column) -> str:
    return f" {column.unit}" if column.unit else ""


def _rejected_rows(table: pa.Table, refused: np.ndarray, problems: list[_Problem]) -> pa.Table:
    rows = table.take(pa.array(refused))
    reasons: list[list[str]] = [[] for _ in refused]
    for problem in problems:
        cells = rows.column(problem.column)
        for position in np.flatnonzero(problem.mask[refused]):
            cell = f": {_shown(cells[position].as_py())}" if problem.shows_cell else ""
            reasons[position].append(f"{problem.column} {problem.says}{cell}")
    return pa.table([rows_as_json(rows), pa.array(["; ".join(each) for each in reasons])], schema=REJECTED_SCHEMA)


def _shown(cell: Any) -> str:
    text = repr(cell)
    return text if len(text) <= 80 else f"{text[:77]}..."


def rows_as_json(table: pa.Table) -> pa.Array:
    """Write every row as a JSON object."""
    return pa.array([row_json(row) for row in table.to_pylist()], pa.string())


def row_json(row: dict[str, Any]) -> str:
    """Write a row as JSON: times as ISO 8601, bytes as base64, what is not finite as text."""
    return json.dumps({name: _plain(value) for name, value in row.items()}, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)
