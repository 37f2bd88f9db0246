"""Put pages together into a published table: duplicate keys out, objects named, splits written."""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_scripts.harness.archive import TableConfig
from data_scripts.harness.conform import REJECTED_SCHEMA, rows_as_json
from data_scripts.harness.key_index import KeyIndex, hash_keys
from data_scripts.harness.pages import PROVENANCE, Page, page_schema
from data_scripts.harness.parquet_shards import ShardWriter, slices_of, with_features
from data_scripts.harness.tallies import Tallies
from data_scripts.splits import SPLIT_NAMES, SplitName


__all__ = ["ADDED_COLUMNS", "Split", "TableQuality", "assemble", "published_schema"]

OBJECT_ID = "object_id"
# Name to description.
ADDED_COLUMNS = PROVENANCE | {
    OBJECT_ID: "Star, organism or planet that the row is about; rows of one object are in one split of every data set"
}


Split = Callable[[pa.Table], tuple[list[str], list[SplitName]]]


@dataclass(frozen=True)
class TableQuality:
    """What is known of a table after it was written.

    Attributes:
        config: Its name.
        tallies: Counts over the rows read.
        duplicates: Rows left out because their key came before.
        beyond_limit: Good rows left out because the limit was reached.
        split_rows: Rows published, by split.
        bodies: Bodies that had rows.
    """

    config: str
    tallies: Tallies
    duplicates: int = 0
    beyond_limit: int = 0
    split_rows: dict[str, int] = field(default_factory=dict)
    bodies: int = 0

    @property
    def rows(self) -> int:
        """Rows published."""
        return sum(self.split_rows.values())


def published_schema(config: TableConfig) -> pa.Schema:
    """Schema of the published table: the archive's columns, provenance, the object's name.

    A field's metadata has the column's `description` and `unit`.
    """
    schema = page_schema(config).append(pa.field(OBJECT_ID, pa.string()))
    texts = {name: {"description": text} for name, text in ADDED_COLUMNS.items()}
    for column in config.columns:
        texts[column.name] = {"description": column.description} | ({"unit": column.unit} if column.unit else {})
    return with_features(pa.schema([each.with_metadata(texts[each.name]) for each in schema]))


def assemble(
    pages: Iterable[Page], config: TableConfig, split: Split, out: Path, limit: int | None = None
) -> TableQuality:
    """Write `out/<config>/<split>-*.parquet` and `out/rejected/<config>.parquet`.

    Memory is bounded by the largest page, one row group a split, and 24 bytes a key. The files depend on the rows and
    their order alone.

    Args:
        pages: In the order of the requests.
        config: The table.
        split: Takes good rows; returns the object and the split of each.
        out: Folder of the data set.
        limit: Most rows published; pages after it are not asked for.

    Raises:
        ValueError: If `split` does not return one object and one known split for each row.
    """
    writers = {name: ShardWriter(out / config.name, name, published_schema(config)) for name in SPLIT_NAMES}
    rejected = _Rejected(out / "rejected", config)
    index = KeyIndex()
    tallies = Tallies()
    duplicates = beyond_limit = published = bodies = 0
    for page in pages:
        bodies += 1
        tallies += page.tallies
        rejected.write(page.rejected, page.sha256)
        rejected.begin_page(index.rows, page.sha256)
        for part in slices_of(page.good):
            first = index.add(hash_keys(part, config.key))
            if (first >= 0).any():
                duplicates += int((first >= 0).sum())
                rejected.write_repeated(part, first, page.sha256)
                part = part.filter(pa.array(first < 0))
            if limit is not None and published + part.num_rows > limit:
                beyond_limit += published + part.num_rows - limit
                part = part.slice(0, limit - published)
            published += part.num_rows
            _write_splits(part, split, writers)
        if limit is not None and published >= limit:
            break
    for writer in writers.values():
        writer.close()
    rejected.close()
    split_rows: dict[str, int] = {name: writer.rows for name, writer in writers.items()}
    return TableQuality(config.name, tallies, duplicates, beyond_limit, split_rows, bodies)


def _write_splits(rows: pa.Table, split: Split, writers: dict[SplitName, ShardWriter]) -> None:
    if not rows.num_rows:
        return
    objects, names = split(rows)
    if len(objects) != rows.num_rows or len(names) != rows.num_rows or not set(names) <= set(writers):
        raise ValueError(
            f"split must return {rows.num_rows} objects and as many of {', '.join(writers)}; got {len(objects)} "
            f"objects and {len(names)} splits, {', '.join(sorted(set(map(str, names))))}."
        )
    rows = rows.append_column(OBJECT_ID, pa.array(objects, pa.string()))
    encoded = np.asarray(names)
    for name, writer in writers.items():
        writer.write(rows.take(pa.array(np.flatnonzero(encoded == name))))


class _Rejected:
    """Writes `rejected/<config>.parquet`, and knows which body a row number is from."""

    def __init__(self, folder: Path, config: TableConfig) -> None:
        schema = with_features(REJECTED_SCHEMA.append(pa.field("source_sha256", pa.string())))
        self._path = folder / f"{config.name}.parquet"
        self._writer = ShardWriter(folder, config.name, schema, single=True)
        self._key = config.key
        self._published = [column.name for column in config.columns]
        self._starts: list[int] = []
        self._bodies: list[str] = []

    def begin_page(self, row: int, sha256: str) -> None:
        self._starts.append(row)
        self._bodies.append(sha256)

    def write(self, rejected: pa.Table, sha256: str) -> None:
        bodies = pa.repeat(pa.scalar(sha256, pa.string()), rejected.num_rows)
        self._writer.write(rejected.append_column("source_sha256", bodies))

    def write_repeated(self, rows: pa.Table, first: np.ndarray, sha256: str) -> None:
        """Reject the rows whose key came before, at the row that `first` has."""
        repeated = rows.take(pa.array(np.flatnonzero(first >= 0)))
        reasons = []
        for values, row in zip(repeated.select(list(self._key)).to_pylist(), first[first >= 0].tolist(), strict=True):
            page = bisect_right(self._starts, row) - 1
            key = ", ".join(f"{name} {value!r}" for name, value in values.items())
            reasons.append(
                f"duplicate key {key}: first is good row {row - self._starts[page] + 1} of body {self._bodies[page]}"
            )
        texts = rows_as_json(repeated.select(self._published))
        self.write(pa.table([texts, pa.array(reasons, pa.string())], schema=REJECTED_SCHEMA), sha256)

    def close(self) -> None:
        [shard] = self._writer.close()
        shard.rename(self._path)
