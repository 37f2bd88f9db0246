"""Write a split as Parquet shards whose bytes depend on the rows alone."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Features


__all__ = ["ShardWriter", "content_bytes", "slices_of", "with_features"]

# Read at once when a data set is streamed, and held in memory while it is written.
GROUP_BYTES = 32 << 20
SHARD_BYTES = 256 << 20
# A table of one row takes far more memory than its cells: pages that small are put together before a group is full.
MOST_WAITING = 256


def with_features(schema: pa.Schema) -> pa.Schema:
    """Return the schema with the metadata from which `load_dataset` takes its features."""
    features = Features.from_arrow_schema(schema).to_dict()
    return schema.with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def content_bytes(table: pa.Table) -> int:
    """Bytes of the cells themselves.

    `Table.nbytes` will not do: it counts validity bitmaps, which a table may have or lack without another meaning, and
    row groups that depend on it would differ between a page just parsed and the same page from a cache.
    """
    return sum(_array_bytes(chunk) for column in table.columns for chunk in column.chunks)


def _array_bytes(array: pa.Array) -> int:
    types = pa.types
    if types.is_null(array.type):
        return 0
    texts = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    if any(is_text(array.type) for is_text in texts):
        return 4 * len(array) + int(pc.sum(pc.binary_length(array)).as_py() or 0)
    if types.is_struct(array.type):
        return sum(map(_array_bytes, array.flatten()))
    if types.is_list(array.type) or types.is_large_list(array.type) or types.is_fixed_size_list(array.type):
        return 4 * len(array) + _array_bytes(pc.list_flatten(array))
    return array.type.bit_width * len(array) // 8


def slices_of(table: pa.Table, most_bytes: int | None = None) -> list[pa.Table]:
    """Cut a table into equal numbers of rows so that a slice has about `most_bytes`, or `GROUP_BYTES`, at most."""
    count = max(1, -(-content_bytes(table) // (most_bytes or GROUP_BYTES)))
    rows = max(1, -(-table.num_rows // count))
    return [table.slice(start, rows) for start in range(0, table.num_rows, rows)]


class ShardWriter:
    """Writes `{stem}-00000-of-0000N.parquet`; N is known when it is closed, names are given then.

    Args:
        folder: Made if absent.
        stem: The split.
        schema: Columns of what is written.
        single: Whether all goes into one file.
    """

    def __init__(self, folder: Path, stem: str, schema: pa.Schema, *, single: bool = False) -> None:
        self.rows = 0
        self._folder, self._stem, self._schema, self._single = folder, stem, schema, single
        self._waiting: list[pa.Table] = []
        self._waiting_bytes = 0
        self._shards: list[Path] = []
        self._writer: pq.ParquetWriter | None = None
        self._sink: pa.NativeFile | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, table: pa.Table) -> None:
        """Take the next rows; columns as in the schema."""
        for part in slices_of(table):
            self._waiting.append(part)
            self._waiting_bytes += content_bytes(part)
            self.rows += part.num_rows
            if self._waiting_bytes >= GROUP_BYTES:
                self._write_group()
            elif len(self._waiting) >= MOST_WAITING:
                self._waiting = [pa.concat_tables(self._waiting).combine_chunks()]

    def close(self) -> list[Path]:
        """Write what waits and return the shards; without rows there is one, empty."""
        if self._waiting or not self._shards:
            self._write_group()
        self._close_shard()
        named = []
        for number, path in enumerate(self._shards):
            named.append(self._folder / f"{self._stem}-{number:05d}-of-{len(self._shards):05d}.parquet")
            path.rename(named[-1])
        return named

    def _write_group(self) -> None:
        if self._writer is None:
            path = self._folder / f"{self._stem}-{len(self._shards):05d}.partial"
            self._shards.append(path)
            self._sink = pa.OSFile(str(path), "wb")
            self._writer = pq.ParquetWriter(
                self._sink, self._schema, compression="zstd", write_page_index=True, use_dictionary=True
            )
        # One chunk: the encoder starts anew at the borders of chunks, and these are the pages' borders.
        table = pa.concat_tables(self._waiting).cast(self._schema).combine_chunks() if self._waiting else None
        self._waiting, self._waiting_bytes = [], 0
        if table is not None:
            self._writer.write_table(table, row_group_size=max(table.num_rows, 1))
        if not self._single and self._sink is not None and self._sink.tell() >= SHARD_BYTES:
            self._close_shard()

    def _close_shard(self) -> None:
        if self._writer is not None and self._sink is not None:
            self._writer.close()
            self._sink.close()
        self._writer = self._sink = None
