"""Rows of made-up values that fit a schema, for replays of archives."""

import datetime
import zlib
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from data_scripts.harness.archive import Column


__all__ = ["as_text", "made_up_row"]


def made_up_row(columns: Iterable[Column], number: int, always: Iterable[str] = ()) -> dict[str, Any]:
    """A row with a null in about every fifth cell that is neither required nor one of `always`."""
    row = {}
    for column in columns:
        chance = zlib.crc32(f"{column.name} {number}".encode())
        null = chance % 5 == 0 and not column.required and column.name not in always
        row[column.name] = None if null else _cell(column, number, chance)
    return row


def as_text(value: Any) -> str:
    """A cell as most archives write it: nothing for null, 1 and 0 for a flag."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, bool) else str(value)


def _cell(column: Column, number: int, chance: int) -> Any:
    least = column.minimum or 0
    most = least + 1000 if column.maximum is None else column.maximum
    if pa.types.is_floating(column.dtype):
        return round(least + (most - least) * (chance % 9973) / 9973, 7)
    if pa.types.is_integer(column.dtype):
        return int(least) + chance % (int(most - least) + 1)
    if pa.types.is_boolean(column.dtype):
        return chance % 2 == 1
    if pa.types.is_date(column.dtype):
        return datetime.date(2003, 2, 1) + datetime.timedelta(days=chance % 4000)
    if pa.types.is_timestamp(column.dtype):
        zone = datetime.UTC if column.dtype.tz else None
        return datetime.datetime(2003, 2, 1, 4, 5, 6, 700000 * (chance % 2), zone) + datetime.timedelta(
            days=chance % 400
        )
    if pa.types.is_list(column.dtype):
        return [f"TAG_{chance % 7}", "TEST"][: 1 + chance % 2]
    return f"{column.name} {number}, \u00e9\u00df\u4e2d"
