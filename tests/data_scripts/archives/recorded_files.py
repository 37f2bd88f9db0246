"""Read a file as a person would give it to a build."""

import importlib
from pathlib import Path

from data_scripts.harness.archive import Answer, Archive, Request, TableConfig
from data_scripts.harness.body_formats import check_body
from data_scripts.harness.conform import conform


__all__ = ["answer_in", "archive_named", "parse_file"]


def archive_named(source: str) -> Archive:
    """The archive that a module declares."""
    return importlib.import_module(f"data_scripts.archives.{source}").ARCHIVE


def answer_in(path: Path, request: Request) -> Answer:
    """The body in a file as the answer to a request."""
    return Answer(request, path, "0" * 64, 200, {}, "2026-01-01T00:00:00Z")


def parse_file(path: Path, table: TableConfig) -> list[dict] | None:
    """Rows of a file, none of which may be rejected; None if the table does not recognise it."""
    with path.open("rb") as file:
        stage = table.recognise(path.name, file.read(65_536))
    if stage is None:
        return None
    check_body(path, table.stages[stage].body_format)
    read = table.stages[stage].rows
    rows = []
    for part in read(answer_in(path, Request("file:sample", stage))) if read else ():
        conformed = conform(part, table)
        assert conformed.rejected.num_rows == 0, conformed.rejected.to_pylist()[:3]
        rows += conformed.good.to_pylist()
    return rows
