"""Read one answer of an archive into a page: rows of the published table, each with where it is from."""

from dataclasses import dataclass

import pyarrow as pa

from data_scripts.harness.archive import Answer, TableConfig
from data_scripts.harness.conform import REJECTED_SCHEMA, conform
from data_scripts.harness.errors import BuildError
from data_scripts.harness.tallies import Tallies


__all__ = ["PROVENANCE", "Page", "page_schema", "read_page"]

PROVENANCE = {
    "source": "Name of the archive in this package",
    "source_release": "Release of the archive; empty where it has none",
    "source_sha256": "SHA-256 of the body that the row was read from",
    "retrieved_at": "Time of the archive's answer, UTC, ISO 8601",
}


@dataclass(frozen=True)
class Page:
    """The rows of one answer; it can be pickled.

    Attributes:
        good: Published columns, then the columns of `PROVENANCE`.
        rejected: Columns `row_json` and `reason`.
        tallies: Counts of both.
        sha256: SHA-256 of the body.
    """

    good: pa.Table
    rejected: pa.Table
    tallies: Tallies
    sha256: str


def page_schema(config: TableConfig) -> pa.Schema:
    """Schema of a page's good rows.

    Raises:
        BuildError: If a column has the name of a column that the harness adds, or a type that Parquet has not.
    """
    taken = sorted({column.name for column in config.columns} & {*PROVENANCE, "object_id"})
    if taken:
        raise BuildError(f"columns of {config.name} must not be named {', '.join(taken)}: the harness adds these.")
    for column in config.columns:
        if (pa.types.is_timestamp(column.dtype) and column.dtype.unit == "s") or pa.types.is_date64(column.dtype):
            raise BuildError(
                f"{column.name} of {config.name} must be of a type that Parquet keeps; got {column.dtype}. "
                "Use timestamp[ms], timestamp[us] or date32."
            )
    published = [(column.name, column.dtype) for column in config.columns]
    return pa.schema(published + [(name, pa.string()) for name in PROVENANCE])


def read_page(config: TableConfig, answer: Answer, source: str) -> Page:
    """Read an answer.

    Args:
        config: The table.
        answer: A body of one of its stages that has rows.
        source: Name of the archive.

    Raises:
        BadBodyError: If the body is not what the stage needs.
        BuildError: If the stage is unknown or has no rows.
    """
    stage = config.stages.get(answer.request.stage)
    if stage is None or stage.rows is None:
        raise BuildError(
            f"stage must be one with rows of {config.name}, of {', '.join(config.stages)}; "
            f"got {answer.request.stage!r}."
        )
    schema = page_schema(config)
    tallies, good, rejected = Tallies(), [], [REJECTED_SCHEMA.empty_table()]
    for table in stage.rows(answer):
        conformed = conform(table, config)
        good.append(conformed.good)
        rejected.append(conformed.rejected)
        tallies += conformed.tallies
    rows = pa.concat_tables(good) if good else schema.empty_table().select(range(len(config.columns)))
    for name, value in zip(
        PROVENANCE, (source, answer.request.release, answer.sha256, answer.retrieved_at), strict=True
    ):
        rows = rows.append_column(name, pa.repeat(pa.scalar(value, pa.string()), rows.num_rows))
    return Page(rows.cast(schema), pa.concat_tables(rejected), tallies, answer.sha256)
