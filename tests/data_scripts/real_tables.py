"""Recorded tables of archives, read by the archives' own parsers as the harness publishes them."""

import hashlib
import importlib
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from data_scripts.harness.archive import Answer, Request
from data_scripts.harness.assemble import published_schema
from data_scripts.harness.pages import read_page


SAMPLES = Path(
    os.environ.get("ASTROBIO_SAMPLES") or Path(__file__).resolve().parents[3] / "shared" / "archive_samples"
)


def real_table(source: str, config_name: str, file_name: str) -> pa.Table:
    """Good rows of a recorded file, with the schema that is published; skips the test where the file is absent."""
    path = SAMPLES / source / file_name
    if not path.is_file():
        pytest.skip(f"no recorded answer {path} (ASTROBIO_SAMPLES names another folder)")
    config = importlib.import_module(f"data_scripts.archives.{source}").ARCHIVE.table(config_name)
    with path.open("rb") as file:
        stage = config.recognise(path.name, file.read(65_536))
    assert stage is not None, f"{config_name} does not recognise {file_name}"
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    answer = Answer(Request(f"file:{sha256}", stage), path, sha256, 200, {}, "2026-01-01T00:00:00Z")
    rows = read_page(config, answer, source).good
    return rows.cast(pa.schema([published_schema(config).field(name) for name in rows.column_names]))


def write_built(folder: Path, config: str, table: pa.Table) -> Path:
    """Write a table where `python -m data_scripts build` would have put it, a row in each split as far as they go."""
    (folder / config).mkdir(parents=True)
    for place, split in enumerate(("test", "validation", "train")):
        part = table.slice(2) if split == "train" else table.slice(place, 1)
        pyarrow.parquet.write_table(part, folder / config / f"{split}-00000-of-00001.parquet")
    return folder
