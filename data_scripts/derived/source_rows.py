"""Rows of built archives as texts speak of them, each in the split of its object."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_scripts.derived.mentioned_stars import MentionedStars
from data_scripts.derived.object_identity import OBJECT_IDENTITY_SOURCES
from data_scripts.derived.source_tables import config_names, read_schema
from data_scripts.derived.text_tables import TextRow, TextTable, text_table
from data_scripts.harness.archive import Archive, TableConfig
from data_scripts.harness.errors import BuildError
from data_scripts.harness.key_index import hash_keys
from data_scripts.identifier_columns import names_objects
from data_scripts.identifiers import parse_identifier
from data_scripts.identity import IdentityTable, split_rows
from data_scripts.splits import SPLIT_NAMES, SplitName


__all__ = ["MOST_ROWS_PER_TABLE", "SourceTable", "source_tables"]

# Else the log of one telescope would outnumber everything.
MOST_ROWS_PER_TABLE = 10_000
_PROVENANCE = ("source_release", "source_sha256")
_OF_LIFE = frozenset({"ensembl_genomes", "gtdb", "ncbi_genbank", "uniprotkb"})


@dataclass(frozen=True)
class SourceTable:
    """Rows of one table of an archive.

    Attributes:
        text_table: What the table is called.
        license: Licence identifier of the Hub, or the name of the archive's terms.
        rows: Rows by split.
        cells_left_out: Cells that name a star of another split; the rows have null in their place.
    """

    text_table: TextTable
    license: str
    rows: Mapping[SplitName, Sequence[TextRow]]
    cells_left_out: int


def source_tables(folders: Mapping[str, Path], identity: IdentityTable | None) -> Iterator[SourceTable]:
    """Read the tables of built archives, one after another.

    Args:
        folders: Archive to folder.
        identity: Aliases across archives, needed if there is more than one table.

    Raises:
        BuildError: If it is absent then, a table lacks columns, or an object is not in the identity that its table
            should be in.
    """
    # The registry imports the builders, so it cannot be imported before them.
    from data_scripts.registry import archive_named

    names = [(source, config) for source, folder in folders.items() for config in config_names(folder)]
    if identity is None and len(names) > 1:
        raise BuildError(
            f"from-folder must name object_identity where there is more than one table; got {len(names)} tables of "
            f"{', '.join(folders)}. Build object_identity from the same folders and pass it."
        )
    mentioned = None if identity is None else MentionedStars(identity)
    for source, config in names:
        archive = archive_named(source)
        yield _source_table(archive, archive.table(config), folders[source], identity, mentioned)


def _source_table(
    archive: Archive,
    config: TableConfig,
    folder: Path,
    identity: IdentityTable | None,
    mentioned: MentionedStars | None,
) -> SourceTable:
    table = _chosen_rows(folder, config)
    if identity is not None and archive.name in OBJECT_IDENTITY_SOURCES:
        _require_known(table, archive, config, identity)
    objects, splits = split_rows(table, config.objects, identity)
    called = text_table(archive, config)
    free_text = [] if archive.name in _OF_LIFE or mentioned is None else _free_text(config)
    rows: dict[SplitName, list[TextRow]] = {split: [] for split in SPLIT_NAMES}
    cells_left_out = 0
    for cells, object_id, split in zip(table.to_pylist(), objects, splits, strict=True):
        for column in free_text:
            if cells[column] and mentioned is not None and mentioned.elsewhere(cells[column], split):
                cells[column] = None
                cells_left_out += 1
        provenance = {column: cells[column] or "" for column in _PROVENANCE}
        rows[split].append(TextRow(called, called.row_name.format_map(cells), cells, object_id, provenance))
    license_name = archive.license if archive.license != "other" else archive.license_name
    return SourceTable(called, license_name, rows, cells_left_out)


def _free_text(config: TableConfig) -> list[str]:
    """Return the columns of text that may speak of other stars than the row's own."""
    return [
        column.name
        for column in config.columns
        if pa.types.is_string(column.dtype)
        and column.name not in {*config.objects, *config.key}
        and not names_objects(column.name)
    ]


def _chosen_rows(folder: Path, config: TableConfig) -> pa.Table:
    """Return rows with the least hashes of their key, in the order of the hashes, without numeric lists."""
    files = [path for split in SPLIT_NAMES for path in sorted((folder / config.name).glob(f"{split}-*-of-*.parquet"))]
    lists = {
        column.name
        for column in config.columns
        if pa.types.is_list(column.dtype) and not pa.types.is_string(column.dtype.value_type)
    }
    columns = [*(column.name for column in config.columns if column.name not in lists), *_PROVENANCE]
    missing = [name for name in columns if name not in read_schema(folder, config.name).names]
    if missing:
        raise BuildError(
            f"{config.name} in {folder} must have the columns {', '.join(missing)}; got a table without them. "
            "Build the archive again with this version."
        )
    hashes = [hash_keys(keys, config.key)[:, 0] for keys in _batches(files, config.key)]
    joined = np.sort(np.concatenate(hashes or [np.empty(0, np.uint64)]))
    greatest = joined[min(len(joined), MOST_ROWS_PER_TABLE) - 1] if len(joined) else 0
    parts = [
        rows.filter(pa.array(ranks <= greatest)) for rows, ranks in zip(_batches(files, columns), hashes, strict=True)
    ]
    table = pa.concat_tables(parts) if parts else pq.read_table(files[0], columns=columns)
    ranks = np.concatenate([ranks[ranks <= greatest] for ranks in hashes] or [np.empty(0, np.uint64)])
    return table.take(pa.array(np.argsort(ranks, kind="stable")))


def _batches(files: Sequence[Path], columns: Sequence[str]) -> Iterator[pa.Table]:
    for path in files:
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=list(columns))


def _require_known(table: pa.Table, archive: Archive, config: TableConfig, identity: IdentityTable) -> None:
    """Refuse an identity that was built without this table: an object could be in two splits under two names."""
    naming = [column for column in config.objects if names_objects(column)]
    cells = zip(*(table[column].to_pylist() for column in naming), strict=True)
    unknown = []
    for row in dict.fromkeys(cells):
        found = [parse_identifier(cell, column) for cell, column in zip(row, naming, strict=True)]
        named = [identifier for identifier in found if identifier is not None]
        if named and not any(identity.knows(identifier) for identifier in named):
            unknown.append(named[0].label)
    if unknown:
        raise BuildError(
            f"object_identity must know every object of {config.name} of {archive.name}; got one without "
            f"{len(unknown)}, such as {', '.join(sorted(unknown)[:5])}. Build object_identity from this folder."
        )
