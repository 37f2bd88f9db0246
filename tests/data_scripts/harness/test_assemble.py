"""Pages become Parquet that load_dataset opens; nothing is lost, doubled, or dependent on how it came."""

import dataclasses
import hashlib
import json
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from made_up_tables import archive_of, config_of, typed_config, typed_table

from data_scripts.harness import parquet_shards
from data_scripts.harness.archive import Column
from data_scripts.harness.archive_card import archive_card
from data_scripts.harness.assemble import assemble, published_schema
from data_scripts.harness.conform import REJECTED_SCHEMA
from data_scripts.harness.pages import PROVENANCE, Page
from data_scripts.harness.quality.report import QualityReport, TableReport
from data_scripts.harness.tallies import Tallies


def page_of(table, sha256="00" * 32, rejected=()):
    values = ("test_archive", "r7", sha256, "2024-05-06T07:08:09Z")
    for name, value in zip(PROVENANCE, values, strict=True):
        table = table.append_column(name, pa.array([value] * table.num_rows, pa.string()))
    rows = [{"row_json": "{}", "reason": reason} for reason in rejected]
    tallies = Tallies(rows=table.num_rows + len(rejected), rejected=len(rejected))
    return Page(table, pa.Table.from_pylist(rows, schema=REJECTED_SCHEMA), tallies, sha256)


def pages_of(rows, size):
    return [
        page_of(typed_table(min(size, rows - start), start), f"{start:064x}", ["made up"] * (start % 2))
        for start in range(0, rows, size)
    ]


def by_star(table):
    """Split by a digest of the star; no star is in validation."""
    stars = [name.rsplit(" ", 1)[0] for name in table["name"].to_pylist()]
    return stars, ["test" if hashlib.sha256(star.encode()).digest()[0] % 4 == 0 else "train" for star in stars]


def build(folder, pages):
    """Write the data set `kinds` with its card."""
    config = typed_config()
    quality = assemble(pages, config, by_star, folder)
    card = archive_card(archive_of(config), QualityReport("test_archive", (TableReport(config, quality),)))
    (folder / "README.md").write_text(card)
    return folder, quality


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def small_groups(monkeypatch):
    monkeypatch.setattr(parquet_shards, "GROUP_BYTES", 4000)
    monkeypatch.setattr(parquet_shards, "SHARD_BYTES", 12_000)
    monkeypatch.setattr(parquet_shards, "MOST_WAITING", 3)


@pytest.fixture
def built(tmp_path, small_groups):
    return build(tmp_path / "built", pages_of(301, 37))


def expected_rows():
    """Published rows of `built`, by split, in the order of the pages."""
    rows = {"train": [], "validation": [], "test": []}
    for page in pages_of(301, 37):
        for row, star, split in zip(page.good.to_pylist(), *by_star(page.good), strict=True):
            rows[split].append(row | {"object_id": star})
    return rows


def test_load_dataset_gives_every_row_and_type(built, tmp_path):
    loaded = load_dataset(str(built[0]), "kinds", cache_dir=str(tmp_path / "cache"))
    expected = expected_rows()
    assert expected.pop("validation") == []
    assert {split: rows.to_list() for split, rows in loaded.items()} == expected
    plain = published_schema(typed_config()).remove_metadata()
    for rows in loaded.values():
        assert pa.schema([(field.name, field.type) for field in rows.features.arrow_schema]) == pa.schema(
            [(field.name, field.type) for field in plain]
        )


def test_streaming_gives_every_row(built, tmp_path):
    streamed = load_dataset(str(built[0]), "kinds", streaming=True, cache_dir=str(tmp_path / "cache"))
    expected = expected_rows()
    assert expected.pop("validation") == []
    assert {split: list(rows) for split, rows in streamed.items()} == expected
    assert (
        streamed["train"].features
        == load_dataset(str(built[0]), "kinds", split="test", cache_dir=str(tmp_path / "cache")).features
    )


def test_shards_are_numbered_and_row_groups_bounded(built):
    folder, quality = built
    shards = sorted(path.name for path in (folder / "kinds").glob("train-*"))
    assert len(shards) > 1
    assert shards == [f"train-{place:05d}-of-{len(shards):05d}.parquet" for place in range(len(shards))]
    assert [path.name for path in (folder / "kinds").glob("validation-*")] == ["validation-00000-of-00001.parquet"]
    for shard in shards:
        file = pq.ParquetFile(folder / "kinds" / shard)
        for group in range(file.num_row_groups):
            # A group is closed once full, so that it is at most the bound and one slice of a page beyond it.
            assert parquet_shards.content_bytes(file.read_row_group(group)) < 2 * 4000
        assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert quality.split_rows == {split: len(rows) for split, rows in expected_rows().items()}
    assert quality.rows == 301
    assert quality.bodies == 9


def test_units_and_descriptions_are_in_the_files(built):
    schema = pq.read_schema(next((built[0] / "kinds").glob("test-*")))
    assert schema.field("period").metadata[b"unit"] == b"d"
    assert schema.field("name").metadata[b"description"] == b"name"
    assert b"unit" not in schema.field("name").metadata


def test_rejected_rows_are_written_with_their_body(built):
    rejected = pq.read_table(built[0] / "rejected" / "kinds.parquet")
    assert rejected.column_names == ["row_json", "reason", "source_sha256"]
    assert rejected["source_sha256"].to_pylist() == [f"{start:064x}" for start in range(37, 301, 74)]
    assert [path.name for path in (built[0] / "rejected").iterdir()] == ["kinds.parquet"]


def test_two_builds_are_identical(built, tmp_path):
    build(tmp_path / "again", pages_of(301, 37))
    assert files_of(tmp_path / "again") == files_of(built[0])


def test_pages_from_a_cache_give_the_same_bytes(built, tmp_path):
    """Neither chunks, nor bitmaps without a null, nor offsets into a larger array reach the files."""

    def cached(table):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=5)
        return pa.ipc.open_stream(sink.getvalue()).read_all()

    def within_more(table):
        return pa.concat_tables([table, table]).combine_chunks().slice(table.num_rows)

    for place, change in enumerate((cached, within_more)):
        pages = [dataclasses.replace(page, good=change(page.good)) for page in pages_of(301, 37)]
        folder, _ = build(tmp_path / str(place), pages)
        assert files_of(folder) == files_of(built[0])


def test_duplicate_keys_leave_and_name_the_first(tmp_path):
    config = config_of(Column("name", pa.string(), "x"), Column("n", pa.int64(), "x"), Column("v", pa.float64(), "x"))
    config = dataclasses.replace(config, key=("name", "n"))
    names, numbers = ["a", "b", "a", "a"], [1, 1, 2, 1]
    first = page_of(pa.table({"name": names, "n": numbers, "v": [0.0, 1.0, 2.0, None]}), "11" * 32)
    second = page_of(pa.table({"name": ["c", "b"], "n": [1, 1], "v": [4.0, 5.0]}), "22" * 32)
    quality = assemble(
        [first, second], config, lambda rows: (rows["name"].to_pylist(), ["train"] * len(rows)), tmp_path
    )
    [file] = (tmp_path / "planets").glob("train-*")
    assert pq.read_table(file)["v"].to_pylist() == [0.0, 1.0, 2.0, 4.0]
    assert quality.duplicates == 2
    rejected = pq.read_table(tmp_path / "rejected" / "planets.parquet").to_pylist()
    assert [row["reason"] for row in rejected] == [
        f"duplicate key name 'a', n 1: first is good row 1 of body {'11' * 32}",
        f"duplicate key name 'b', n 1: first is good row 2 of body {'11' * 32}",
    ]
    assert [json.loads(row["row_json"]) for row in rejected] == [
        {"name": "a", "n": 1, "v": None},
        {"name": "b", "n": 1, "v": 5.0},
    ]
    assert [row["source_sha256"] for row in rejected] == ["11" * 32, "22" * 32]


def test_limit_cuts_in_order_and_asks_for_no_more(tmp_path):
    def pages():
        yield from pages_of(60, 20)
        raise AssertionError("a page beyond the limit was read")

    quality = assemble(pages(), typed_config(), by_star, tmp_path, limit=45)
    rows = [row for path in (tmp_path / "kinds").glob("*.parquet") for row in pq.read_table(path)["name"].to_pylist()]
    assert sorted(rows) == sorted(typed_table(45)["name"].to_pylist())
    assert (quality.rows, quality.beyond_limit) == (45, 15)


@pytest.mark.parametrize("pages", [[], [page_of(typed_table(0))]])
def test_table_without_rows_is_written_with_its_schema(pages, tmp_path):
    quality = assemble(pages, typed_config(), by_star, tmp_path)
    assert quality.rows == 0
    files = sorted((tmp_path / "kinds").iterdir())
    assert [path.name.split("-")[0] for path in files] == ["test", "train", "validation"]
    for path in files:
        assert pq.read_table(path).num_rows == 0
        assert pq.read_schema(path).equals(published_schema(typed_config()))


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        ((["a"], ["train"] * 3), "1 objects and 3 splits, train"),
        ((["a"] * 3, ["train"]), "3 objects and 1 splits, train"),
        ((["a"] * 3, ["train", "held out", "test"]), "3 objects and 3 splits, held out, test, train"),
    ],
)
def test_split_must_answer_for_every_row(answer, got, tmp_path):
    with pytest.raises(ValueError, match=f"split must return 3 objects and as many of train.*; got {got}"):
        assemble([page_of(typed_table(3))], typed_config(), lambda rows: answer, tmp_path)


def test_memory_is_bounded_by_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_shards, "GROUP_BYTES", 1 << 20)
    config = config_of(Column("key", pa.int64(), "x"), Column("flux", pa.list_(pa.float64()), "x"))
    rows, length, count = 64, 1000, 150
    rng = np.random.default_rng(0)
    before, most = pa.total_allocated_bytes(), 0

    def pages():
        nonlocal most
        for number in range(count):
            flux = pa.ListArray.from_arrays(
                np.arange(0, rows * length + 1, length, np.int32), rng.random(rows * length)
            )
            keys = pa.array(np.arange(number * rows, (number + 1) * rows))
            yield page_of(pa.table({"key": keys, "flux": flux}))
            most = max(most, pa.total_allocated_bytes() - before)

    tracemalloc.start()
    assemble(pages(), config, lambda part: (["a"] * len(part), ["train"] * len(part)), tmp_path)
    python_most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    page_bytes = rows * length * 8
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.parquet")) > 50 << 20
    # A page, the rows waiting for a group, and the group as it is encoded; 75 MiB went through.
    assert most < 6 * page_bytes + 4 * (1 << 20)
    assert python_most < 6 * page_bytes + 4 * (1 << 20)
