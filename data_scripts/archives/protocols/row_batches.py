"""Rows of a large body as tables of bounded size."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from data_scripts.harness.archive import Column
from data_scripts.harness.errors import BadBodyError


__all__ = ["row_batches"]


def row_batches(
    rows: Iterable[dict[str, Any]], columns: Sequence[Column], most_rows: int = 1000, most_letters: int = 1 << 26
) -> Iterator[pa.Table]:
    """Gather rows to tables with the types of the columns; at least one table, which may be empty.

    Args:
        rows: Values by column name; what a row lacks is null, other names are left out.
        columns: Columns of the tables.
        most_rows: Rows of a table.
        most_letters: Length of the text in column `sequence` after which a table ends: one record may be a chromosome.

    Raises:
        BadBodyError: If a value does not fit its column's type.
    """
    schema = pa.schema([(column.name, column.dtype) for column in columns])
    batch: list[dict[str, Any]] = []
    letters, started = 0, False
    for row in rows:
        batch.append({name: row.get(name) for name in schema.names})
        letters += len(row.get("sequence") or "")
        if len(batch) >= most_rows or letters >= most_letters:
            yield _table(batch, schema)
            batch, letters, started = [], 0, True
    if batch or not started:
        yield _table(batch, schema)


def _table(batch: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    try:
        return pa.Table.from_pylist(batch, schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise BadBodyError(f"a value does not fit its column: {error}") from error
