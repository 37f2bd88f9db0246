"""Write a split of a derived data set as one Parquet file from which a few rows are read quickly."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset

from data_scripts.harness.parquet_shards import content_bytes, slices_of, with_features


__all__ = ["write_split"]

# What is read at once when rows are streamed: one cube of (5, 12, 10, 32, 64) as float32, or some thousand texts.
GROUP_BYTES = 4 << 20
_ROWS_AT_ONCE = 64


def write_split(rows: Dataset, path: Path) -> None:
    """Write a file whose bytes depend on the rows alone.

    Lists of numbers of which none is null and none holds a null are declared so: reading then need not look at each
    number. Lists of floating-point numbers hardly become smaller and are stored as they are; the rest is compressed.

    Args:
        rows: A split.
        path: File to write.
    """
    schema = with_features(rows.features.arrow_schema)
    without_nulls = {field.name for field in schema if _is_list_of_numbers(field.type)}
    for table in _tables(rows):
        without_nulls -= {name for name in without_nulls if _has_nulls(table[name])}
    schema = pa.schema(
        [_required(field) if field.name in without_nulls else field for field in schema], schema.metadata
    )
    leaves = dict(leaf for field in schema for leaf in _leaves(field.name, field.type))
    arrays = [name for name, dtype in leaves.items() if name.endswith(".list.element") and pa.types.is_floating(dtype)]
    with pq.ParquetWriter(
        path,
        schema,
        compression={name: "none" if name in arrays else "zstd" for name in leaves},
        use_dictionary=[name for name in leaves if name not in arrays],
        write_page_index=True,
        use_content_defined_chunking=True,
    ) as writer:
        for group in _groups(_tables(rows)):
            columns = [group[field.name].combine_chunks().cast(field.type) for field in schema]
            writer.write_table(pa.table(columns, schema=schema), row_group_size=max(group.num_rows, 1))


def _tables(rows: Dataset) -> Iterator[pa.Table]:
    return iter(rows.with_format("arrow").iter(_ROWS_AT_ONCE))


def _groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    waiting: list[pa.Table] = []
    waiting_bytes = 0
    for table in tables:
        for part in slices_of(table, GROUP_BYTES):
            waiting.append(part)
            waiting_bytes += content_bytes(part)
            if waiting_bytes >= GROUP_BYTES * 3 // 4:
                yield pa.concat_tables(waiting)
                waiting, waiting_bytes = [], 0
    if waiting:
        yield pa.concat_tables(waiting)


def _is_list_of_numbers(dtype: pa.DataType) -> bool:
    types = pa.types
    is_list = types.is_list(dtype) or types.is_large_list(dtype)
    return is_list and (types.is_integer(dtype.value_type) or types.is_floating(dtype.value_type))


def _has_nulls(column: pa.ChunkedArray) -> bool:
    return bool(column.null_count) or any(pc.list_flatten(chunk).null_count for chunk in column.chunks)


def _required(field: pa.Field) -> pa.Field:
    make = pa.large_list if pa.types.is_large_list(field.type) else pa.list_
    item = field.type.value_field.with_nullable(False)
    return pa.field(field.name, make(item), nullable=False)


def _leaves(path: str, dtype: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """Names of Parquet's columns, and their types."""
    if pa.types.is_struct(dtype):
        for field in dtype:
            yield from _leaves(f"{path}.{field.name}", field.type)
    elif pa.types.is_list(dtype) or pa.types.is_large_list(dtype) or pa.types.is_fixed_size_list(dtype):
        yield from _leaves(f"{path}.list.element", dtype.value_type)
    else:
        yield path, dtype
