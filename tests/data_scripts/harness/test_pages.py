"""An answer becomes rows that say where they are from."""

import pickle

import pyarrow as pa
import pytest
from made_up_tables import answer_of, config_of, typed_config, typed_table

from data_scripts.harness.archive import Column
from data_scripts.harness.errors import BadBodyError, BuildError
from data_scripts.harness.pages import page_schema, read_page


def test_tables_of_an_answer_follow_one_another_with_provenance(tmp_path):
    config = typed_config(rows=lambda answer: [typed_table(5), typed_table(2, start=5)])
    page = read_page(config, answer_of(tmp_path / "body", sha256="cd" * 32), "test_archive")
    assert page.good.schema == page_schema(config)
    assert page.good.select(typed_table(0).column_names).to_pylist() == typed_table(7).to_pylist()
    assert set(page.good["source"].to_pylist()) == {"test_archive"}
    assert set(page.good["source_release"].to_pylist()) == {"r7"}
    assert set(page.good["source_sha256"].to_pylist()) == {"cd" * 32} == {page.sha256}
    assert set(page.good["retrieved_at"].to_pylist()) == {"2024-05-06T07:08:09Z"}
    assert page.tallies.rows == 7
    assert pickle.loads(pickle.dumps(page)) == page


@pytest.mark.parametrize("tables", [[], [typed_table(0)]])
def test_answer_without_rows_has_the_schema(tables, tmp_path):
    page = read_page(typed_config(rows=lambda answer: tables), answer_of(tmp_path / "body"), "test_archive")
    assert page.good.num_rows == page.rejected.num_rows == page.tallies.rows == 0
    assert page.good.schema == page_schema(typed_config())


def test_rejected_rows_are_kept(tmp_path):
    bad = typed_table(2).append_column("extra", pa.array(["x", None]))
    bad = bad.set_column(2, "period", pa.array([-1.0, 1.0]))
    page = read_page(typed_config(rows=lambda answer: [bad]), answer_of(tmp_path / "body"), "test_archive")
    assert page.good.num_rows == 1
    assert page.rejected["reason"].to_pylist() == ["period is below 0 d: -1.0"]
    assert '"extra": "x"' in page.rejected["row_json"][0].as_py()


def test_bad_body_passes_through(tmp_path):
    config = typed_config(rows=lambda answer: [typed_table(3).drop_columns("flux")])
    with pytest.raises(BadBodyError, match="the body has no column flux for kinds"):
        read_page(config, answer_of(tmp_path / "body"), "test_archive")


@pytest.mark.parametrize("stage", ["index", "unknown"])
def test_stage_without_rows_is_an_error(stage, tmp_path):
    with pytest.raises(BuildError, match="stage must be one with rows of kinds, of page, index; got"):
        read_page(typed_config(rows=lambda answer: []), answer_of(tmp_path / "body", stage=stage), "test_archive")


def test_names_of_added_columns_are_taken():
    with pytest.raises(BuildError, match="columns of planets must not be named object_id, source: the harness adds"):
        page_schema(config_of(Column("source", pa.string(), "x"), Column("object_id", pa.string(), "x")))


@pytest.mark.parametrize("dtype", [pa.timestamp("s"), pa.date64()])
def test_types_that_parquet_would_change_are_refused(dtype):
    with pytest.raises(BuildError, match=r"seen of planets must be of a type that Parquet keeps; got .*"):
        page_schema(config_of(Column("seen", dtype, "x")))
