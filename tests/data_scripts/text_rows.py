"""Built folders of made-up rows of any archive's table, for tests of texts."""

from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from made_up_rows import made_up_row
from real_tables import write_built

from data_scripts.derived.text_tables import TextRow, TextTable, text_table
from data_scripts.harness.archive import TableConfig
from data_scripts.harness.assemble import published_schema
from data_scripts.registry import archive_named


__all__ = ["made_up_cells", "made_up_text_row", "text_row", "write_table"]

PROVENANCE = {"source_release": "r1", "source_sha256": "ab" * 32, "retrieved_at": "2026-01-01T00:00:00Z"}


def made_up_cells(config: TableConfig, number: int) -> dict[str, Any]:
    """A row that fits the schema, lists of numbers and of features too."""
    row = made_up_row(config.columns, number, always=(*config.key, *config.objects))
    for column in config.columns:
        if pa.types.is_list(column.dtype) and not pa.types.is_string(column.dtype.value_type):
            row[column.name] = [number % 2] if pa.types.is_integer(column.dtype.value_type) else None
        if column.name.startswith("feature_"):
            row[column.name] = [f"{column.name} {place}" if place != 1 else None for place in range(3)]
    return row


def write_table(folder: Path, source: str, config: str, rows: list[dict[str, Any]]) -> Path:
    """Write rows as the built folder of a source; columns that a row lacks are null."""
    table = archive_named(source).table(config)
    whole = [PROVENANCE | {"source": source, "object_id": "not read"} | row for row in rows]
    return write_built(folder, config, pa.Table.from_pylist(whole, schema=published_schema(table)))


def text_row(source: str, config: str, cells: dict[str, Any], object_id: str = "star") -> TextRow:
    """A row of a table, null where `cells` has nothing."""
    called = _called(source, config)
    whole = {column.name: None for column in archive_named(source).table(config).columns} | cells
    return TextRow(called, called.row_name.format_map(whole), whole, object_id, PROVENANCE)


def made_up_text_row(source: str, config: str, number: int) -> TextRow:
    return text_row(source, config, made_up_cells(archive_named(source).table(config), number), f"star {number}")


@cache
def _called(source: str, config: str) -> TextTable:
    archive = archive_named(source)
    return text_table(archive, archive.table(config))
