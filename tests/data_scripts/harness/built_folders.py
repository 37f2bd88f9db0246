"""Builds of the made-up archive, and what is compared of them."""

import os
import sys
from pathlib import Path

import made_up
import pyarrow as pa
import pyarrow.parquet as pq

from data_scripts.harness.build import BuildOptions, BuildReport, build_archive


HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[2]
COMMAND = [sys.executable, str(HERE / "run_made_up.py")]
# Credentials of the person who runs the tests have no place in them.
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.endswith(("_TOKEN", "_KEY", "_PASSWORD"))},
    "PYTHONPATH": os.pathsep.join(map(str, (CHECKOUT, HERE, HERE.parent))),
    "OMP_NUM_THREADS": "1",
}


def build(folder: Path, server, out: str = "out", archive=made_up.ARCHIVE, **options) -> BuildReport:
    """Build `folder/out` over the store `folder/store`, from a server or, if it is None, from the store alone."""
    chosen = {"attempts": 2, "timeout_seconds": 0.5, "environment": {}, "offline": server is None} | options
    mirrors = {} if server is None else server.mirrors
    return build_archive(archive, folder / out, BuildOptions(store=folder / "store", mirrors=mirrors, **chosen))


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Content of every file, by its name relative to the folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def rows_of(folder: Path, config: str) -> list[dict]:
    """Published columns of all rows of a table, sorted by name."""
    files = sorted((folder / config).glob("*.parquet"))
    columns = [column.name for column in made_up.ARCHIVE.table(config).columns]
    rows = pa.concat_tables(pq.read_table(file) for file in files).select(columns).to_pylist()
    return sorted(rows, key=lambda row: row["star"])


def mirror_arguments(server) -> list[str]:
    """Arguments that send the command line to a server."""
    return [text for pair in server.mirrors.items() for text in ("--mirror", "=".join(pair))]
