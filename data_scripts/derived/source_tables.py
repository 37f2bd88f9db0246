"""Read back the tables of a folder that `python -m data_scripts build` wrote for an archive."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from data_scripts.harness.errors import BuildError
from data_scripts.splits import SPLIT_NAMES


__all__ = ["config_names", "read_config", "read_schema"]


def config_names(folder: Path) -> list[str]:
    """Return the configurations that a folder holds, sorted.

    Raises:
        BuildError: If it holds none.
    """
    names = sorted({path.parent.name for path in folder.glob("*/train-*-of-*.parquet")} - {"data"})
    if not names:
        raise BuildError(
            f"from-folder must name a folder that python -m data_scripts build wrote for an archive; got {folder}, "
            "which has no configuration. Build the archive and pass its folder."
        )
    return names


def read_schema(folder: Path, config: str) -> pa.Schema:
    """Return the columns of a configuration, with the metadata that the harness wrote.

    Raises:
        BuildError: If the folder has no such configuration.
    """
    return pyarrow.parquet.read_schema(_files(folder, config)[0])


def read_config(folder: Path, config: str, columns: Sequence[str]) -> pa.Table:
    """Read columns of a configuration, the rows of all splits.

    Raises:
        BuildError: If the folder has no such configuration, or that has not all the columns.
    """
    missing = [column for column in columns if column not in read_schema(folder, config).names]
    if missing:
        raise BuildError(
            f"{config} in {folder} must have the columns {', '.join(missing)}; got a table without them. "
            "Build the archive again with this version."
        )
    return pa.concat_tables(pyarrow.parquet.read_table(path, columns=list(columns)) for path in _files(folder, config))


def _files(folder: Path, config: str) -> list[Path]:
    files = [path for split in SPLIT_NAMES for path in sorted((folder / config).glob(f"{split}-*-of-*.parquet"))]
    if not files:
        raise BuildError(
            f"from-folder must hold the configuration {config}; got {folder} with "
            f"{', '.join(config_names(folder))}. Build it with --config {config}."
        )
    return files
