"""Files of derived data sets: every value comes back, arrays are declared without nulls where that is true."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, Features, List, Value, load_dataset

from data_scripts.harness import split_file
from data_scripts.harness.split_file import write_split
from modeling_astrobio.training.loading import ParquetRows


FEATURES = Features(
    {
        "name": Value("string"),
        "cube": List(Value("float32")),
        "cube_shape": List(Value("int32")),
        "edges": List(Value("int64")),
        "depth": Value("float64"),
        "whole": Value("bool"),
        "messages": List({"role": Value("string"), "content": Value("string")}),
    }
)


def rows(count: int, hole: str | None = None) -> Dataset:
    rng = np.random.default_rng(count)
    made = [
        {
            "name": f"row {number}" if number % 3 else None,
            "cube": rng.standard_normal(7 * 13).astype(np.float32).tolist(),
            "cube_shape": [7, 13],
            "edges": list(range(number % 5)),
            "depth": None if number % 4 else number / 3,
            "whole": bool(number % 2),
            "messages": [{"role": "user", "content": "ä" * number}, {"role": None, "content": ""}][: number % 3],
        }
        for number in range(count)
    ]
    if hole == "list":
        made[count // 2]["cube"] = None
    if hole == "number":
        made[count // 2]["cube"][5] = None
    return Dataset.from_list(made, FEATURES) if made else rows(1).select([])


@pytest.mark.parametrize("hole", [None, "list", "number"])
@pytest.mark.parametrize("count", [0, 1, 150])
def test_every_value_comes_back(tmp_path, monkeypatch, count, hole):
    if hole and not count:
        pytest.skip("no row to leave empty")
    monkeypatch.setattr(split_file, "GROUP_BYTES", 4000)
    written = rows(count, hole)
    write_split(written, tmp_path / "train.parquet")
    file = pq.ParquetFile(tmp_path / "train.parquet")
    assert file.read().to_pylist() == written.to_list()
    field = file.schema_arrow.field("cube")
    assert (field.nullable, field.type.value_field.nullable) == (bool(hole), bool(hole))
    groups = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert sum(groups) == count
    if count == 150:
        # 7 x 13 numbers and more are some 500 bytes.
        assert 4 <= min(groups[:-1]) <= max(groups) <= 9


def test_splits_with_and_without_nulls_are_one_data_set(tmp_path):
    splits = DatasetDict({"train": rows(20), "validation": rows(9, "list"), "test": rows(8, "number")})
    (tmp_path / "data").mkdir()
    for split, part in splits.items():
        write_split(part, tmp_path / "data" / f"{split}-00000-of-00001.parquet")
    loaded = load_dataset(str(tmp_path), cache_dir=str(tmp_path / "cache"))
    for split, part in splits.items():
        assert loaded[split].features == FEATURES
        assert loaded[split].to_list() == part.to_list()
        assert list(load_dataset(str(tmp_path), split=split, streaming=True)) == part.to_list()
    table = pa.concat_tables([loaded[split].data.table for split in splits])
    assert table.num_rows == 37


def test_bytes_depend_on_the_rows_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(split_file, "GROUP_BYTES", 4000)
    whole = rows(150)
    parts = Dataset(pa.concat_tables([whole.data.table.slice(0, 31), whole.data.table.slice(31)]))
    # Through indices, as `select` and `shuffle` leave them.
    turned = whole.select(range(149, -1, -1)).select(range(149, -1, -1))
    written = []
    for name, same in (("whole", whole), ("parts", parts), ("turned", turned)):
        write_split(same, tmp_path / name)
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1] == written[2]


def test_arrays_are_read_back_in_their_shape(tmp_path):
    written = rows(30)
    write_split(written, tmp_path / "train.parquet")
    read = ParquetRows([str(tmp_path / "train.parquet")])
    for number in (0, 7, 29):
        assert read[number]["cube"].dtype == np.float32
        expected = np.array(written[number]["cube"], np.float32).reshape(7, 13)
        np.testing.assert_array_equal(read[number]["cube"], expected)


def test_floating_point_lists_are_stored_as_they_are(tmp_path):
    write_split(rows(30), tmp_path / "train.parquet")
    group = pq.read_metadata(tmp_path / "train.parquet").row_group(0)
    columns = {group.column(place).path_in_schema: group.column(place) for place in range(group.num_columns)}
    assert columns["cube.list.element"].compression == "UNCOMPRESSED"
    assert "RLE_DICTIONARY" not in columns["cube.list.element"].encodings
    others = columns.keys() - {"cube.list.element"}
    assert {columns[name].compression for name in others} == {"ZSTD"}
    assert "messages.list.element.content" in others
