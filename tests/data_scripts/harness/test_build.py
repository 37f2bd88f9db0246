"""From the archive to the folder: the right rows, the same bytes each time, whole or not at all."""

import dataclasses
import datetime
import hashlib
import json
import shutil
import tarfile

import made_up
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from built_folders import build, bytes_of, rows_of
from datasets import load_dataset
from loopback import Fault, Loopback
from replay import Reply

from data_scripts.harness.archive import Stage
from data_scripts.harness.errors import BuildError, RequestFailedError
from data_scripts.harness.snapshot import Snapshot
from data_scripts.identifiers import parse_identifier
from data_scripts.identity import IdentityTable
from data_scripts.splits import split_of


BOTH = ("stars", "curves")
REQUESTS = 11 + 1 + made_up.CURVES


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A folder with a store that has everything, and what was built from it first."""
    folder = tmp_path_factory.mktemp("store")
    with Loopback(made_up.answer) as server:
        report = build(folder, server, configs=BOTH)
    assert (report.fetched, report.kept) == (REQUESTS, 0)
    assert len(server.served) == REQUESTS
    return folder


def test_every_row_is_published_once_and_right(store):
    assert rows_of(store / "out", "stars") == made_up.published_stars()
    assert rows_of(store / "out", "curves") == made_up.published_curves()


def test_load_dataset_opens_it(store, tmp_path):
    loaded = load_dataset(str(store / "out"), "stars", cache_dir=str(tmp_path))
    assert list(loaded) == ["train", "validation", "test"]
    assert loaded.num_rows == {name: len(rows) for name, rows in loaded.items()}
    assert sum(loaded.num_rows.values()) == sum(made_up.REGIONS.values())
    for split, rows in loaded.items():
        assert {split_of(star) for star in rows["star"]} <= {split}
        streamed = load_dataset(str(store / "out"), "stars", split=split, streaming=True)
        assert list(streamed) == rows.to_list()
    curves = load_dataset(str(store / "out"), "curves", split="train", cache_dir=str(tmp_path))
    assert len(curves[0]["time"]) == made_up.SAMPLES


def test_each_row_says_where_it_is_from(store):
    snapshot = Snapshot(store / "store" / "made_up")
    for file in (store / "out" / "stars").glob("*.parquet"):
        for row in pq.read_table(file).to_pylist():
            body = snapshot.folder / "bodies" / row["source_sha256"][:2] / row["source_sha256"]
            assert row["star"] in [each["star"] for each in json.loads(body.read_bytes())["rows"]]
            assert (row["source"], row["source_release"]) == ("made_up", "r7")
            assert datetime.datetime.fromisoformat(row["retrieved_at"]).tzinfo is not None


@pytest.mark.parametrize("how", ["again", "offline", "without a cache", "pages alone", "two processes", "damaged"])
def test_same_bytes(store, tmp_path, how):
    options = {"configs": BOTH}
    shutil.copytree(store / "store", tmp_path / "store")
    parsed = tmp_path / "store" / "parsed"
    tables = [path for path in parsed.glob("??/*") if tarfile.is_tarfile(path)]
    assert len(tables) == 2
    if how in ("without a cache", "two processes"):
        shutil.rmtree(parsed)
    if how == "without a cache":
        options["environment"] = {"ASTROBIO_CACHE_GIB": "0"}
    if how == "two processes":
        options["processes"] = 2
    for table in tables if how in ("pages alone", "damaged") else ():
        content = bytearray(table.read_bytes())
        content[len(content) // 2] ^= 1
        table.write_bytes(content) if how == "damaged" else table.unlink()
    with Loopback(made_up.answer) as server:
        report = build(tmp_path, server if how == "again" else None, **options)
    assert server.served == []
    assert (report.fetched, report.kept) == (0, REQUESTS)
    assert bytes_of(tmp_path / "out") == bytes_of(store / "out")
    assert parsed.exists() == (how != "without a cache")


def test_an_identity_changes_objects_and_splits_alone(store, tmp_path):
    shutil.copytree(store / "store", tmp_path / "store")
    # One star has another name; the others, which it does not know, have one spelling.
    table = pa.table({"hostname": ["Other-1"], "hd_name": ["Test-17"]})
    path = tmp_path / "identity.parquet"
    IdentityTable.from_tables({"a.b": table}).save(path)
    report = build(tmp_path, None, configs=BOTH, identity=path)
    assert (report.fetched, report.kept) == (0, REQUESTS)
    found = set()
    for config in BOTH:
        assert rows_of(tmp_path / "out", config) == rows_of(store / "out", config)
        for file in (tmp_path / "out" / config).glob("*.parquet"):
            for row in pq.read_table(file).select(["star", "object_id"]).to_pylist():
                spelling = parse_identifier(row["star"], "").value
                assert row["object_id"] == ("other-1" if row["star"] == "Test-17" else spelling)
                found.add(row["star"])
                assert file.name.startswith(split_of(row["object_id"]))


def test_a_kept_body_that_was_damaged_is_asked_again_or_named(store, tmp_path):
    shutil.copytree(store / "store", tmp_path / "store")
    body = next(iter(Snapshot(tmp_path / "store" / "made_up").folder.glob("bodies/??/*")))
    body.write_bytes(body.read_bytes()[:-1] + b"!")
    with pytest.raises(RequestFailedError, match=r"archive.test/.*SHA-256 is no longer.*Build once without --offline"):
        build(tmp_path, None, configs=BOTH)
    with Loopback(made_up.answer) as server:
        report = build(tmp_path, server, configs=BOTH)
    assert (report.fetched, len(server.served)) == (1, 1)
    assert rows_of(tmp_path / "out", "stars") == made_up.published_stars()
    assert rows_of(tmp_path / "out", "curves") == made_up.published_curves()


def test_a_failure_leaves_no_folder_and_what_came_before_is_kept(tmp_path):
    with (
        Loopback(made_up.but_after(5, lambda asked: Reply(500))) as server,
        pytest.raises(RequestFailedError, match=r"archive.test/stars"),
    ):
        build(tmp_path, server)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    with Loopback(made_up.answer) as server:
        assert build(tmp_path, server).kept == 5
        assert len(server.served) == 11 - 5


def test_out_must_be_empty(store):
    with pytest.raises(FileExistsError, match="out_dir must be a new or an empty folder"):
        build(store, None)


def test_a_limit(store, tmp_path):
    shutil.copytree(store / "store", tmp_path / "store")
    for limit in (1, 7, 23, 40):
        report = build(tmp_path, None, f"out{limit}", limit=limit)
        assert len(rows_of(report.folder, "stars")) == limit
        build(tmp_path, None, f"again{limit}", limit=limit)
        assert bytes_of(report.folder) == bytes_of(tmp_path / f"again{limit}")
    first = {row["star"] for row in made_up.stars("north")[:7]}
    assert {row["star"] for row in rows_of(tmp_path / "out7", "stars")} == first


def test_options_that_do_not_fit_are_refused(tmp_path):
    cases = [
        ({"configs": ("moons",)}, "config must be one of stars, curves for made_up; got 'moons'"),
        ({"options": {"colour": "red"}}, r"--set must name an option of stars: regions; got colour"),
        ({"limit": 0}, "limit must be at least 1; got 0"),
        ({"configs": ("curves",), "since": datetime.date(2031, 1, 1)}, "since must be left out for curves of made_up"),
        ({"max_age_days": -1.0}, "max_age_days must be 0 or more; got -1.0"),
        ({"max_age_days": float("nan")}, "max_age_days must be 0 or more; got nan"),
        ({"processes": 0}, "processes must be at least 1; got 0"),
        ({"engine": "abacus"}, "engine must be one of processes, ray, dask; got 'abacus'"),
        ({"environment": {"ASTROBIO_CACHE_GIB": "many"}}, "ASTROBIO_CACHE_GIB must be a number of GiB"),
        ({"compare_with": tmp_path}, "--compare-with is for nasa_exoplanet_archive pscomppars alone"),
        ({"identity": tmp_path / "none"}, "identity must be the folder or the Parquet file"),
    ]
    with Loopback(made_up.answer) as server:
        for options, message in cases:
            with pytest.raises(BuildError, match=message):
                build(tmp_path, server, **options)
        without_releases = dataclasses.replace(made_up.ARCHIVE, default_release="")
        with pytest.raises(BuildError, match="release must be left out for made_up, which has no releases; got 'r8'"):
            build(tmp_path, server, archive=without_releases, release="r8")
    assert not (tmp_path / "out").exists()


def test_choices_reach_the_archive(tmp_path):
    with Loopback(made_up.answer) as server:
        options = {"options": {"regions": "Ω"}, "release": "r8", "since": datetime.date(2031, 2, 3)}
        report = build(tmp_path, server, **options)
        assert [served.asked.query.get("since") for served in server.served] == [["2031-02-03"], None]
        assert len(rows_of(report.folder, "stars")) == made_up.REGIONS["Ω"]
        assert set(pq.read_table(report.folder / "stars")["source_release"].to_pylist()) == {"r8"}
        # The answers of another release are other answers.
        assert build(tmp_path, server, "r9", options={"regions": "Ω"}, release="r9").fetched == 2


def test_old_answers_are_asked_again(store, tmp_path):
    shutil.copytree(store / "store", tmp_path / "store")
    manifest = tmp_path / "store" / "made_up" / "manifest.jsonl"
    text = manifest.read_text(encoding="utf-8")
    year = datetime.datetime.now(datetime.UTC).year
    manifest.write_text(text.replace(f'"retrieved_at":"{year}', f'"retrieved_at":"{year - 1}'), encoding="utf-8")
    with Loopback(made_up.answer) as server:
        assert build(tmp_path, server, "kept", max_age_days=800).fetched == 0
        assert build(tmp_path, server, "asked", max_age_days=100).fetched == 11
        assert build(tmp_path, server, "kept again", max_age_days=100).fetched == 0
    assert rows_of(tmp_path / "asked", "stars") == made_up.published_stars()


def test_a_body_that_the_reader_refuses_later_is_named_and_asked_again(store, tmp_path):
    """What an earlier version of the reader took may be refused by this one."""
    shutil.copytree(store / "store", tmp_path / "store")
    columns = tuple(
        dataclasses.replace(column, unit="kg") if column.name == "mass" else column for column in made_up.STARS.columns
    )
    archive = dataclasses.replace(
        made_up.ARCHIVE, tables=(dataclasses.replace(made_up.STARS, columns=columns), made_up.CURVES_TABLE)
    )
    with Loopback(made_up.answer) as server:
        with pytest.raises(
            RequestFailedError, match=r"/stars: column mass must be in kg; the body states 'Msun'.*next"
        ):
            build(tmp_path, server, archive=archive)
        assert server.served == []
        assert build(tmp_path, None).kept == 11
        assert build(tmp_path, server, "again").fetched == 1
    with pytest.raises(RequestFailedError, match="column mass must be in kg"):
        build(tmp_path, None, "none", archive=archive)


def test_below_the_gates(tmp_path):
    def heavy(asked):
        return Reply(body=made_up.answer(asked).body.replace(b'"mass": 1.', b'"mass": 1111.'))

    with Loopback(heavy) as server:
        with pytest.raises(
            BuildError, match=r"must pass its quality gates; got stars: .*above 0.98; got .*mass is above"
        ):
            build(tmp_path, server)
        assert not (tmp_path / "out").exists()
        report = build(tmp_path, server, allow_below_gate=True)
    assert report.fetched == 0
    assert report.quality.failed_gates
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert all(gate.split(";")[0] in card for gate in report.quality.failed_gates)
    rejected = pq.read_table(tmp_path / "out" / "rejected" / "stars.parquet").to_pylist()
    assert len(rejected) == sum(1 <= row["mass"] < 2 for row in made_up.published_stars() if row["mass"])
    assert all("mass is above 100" in row["reason"] for row in rejected)
    assert len(rows_of(tmp_path / "out", "stars")) == sum(made_up.REGIONS.values()) - len(rejected)


def test_without_a_request_that_fails(tmp_path):
    def broken(asked):
        return Reply(404, body=b"no such curve") if asked.query.get("id") == ["4"] else made_up.answer(asked)

    with Loopback(broken) as server:
        with pytest.raises(RequestFailedError, match="no such curve"):
            build(tmp_path, server, configs=("curves",))
        report = build(tmp_path, server, configs=("curves",), allow_below_gate=True)
    expected = [row for row in made_up.published_curves() if row["star"] != "Test-4"]
    assert rows_of(tmp_path / "out", "curves") == expected
    [missing] = report.quality.missing
    assert "no such curve" in missing
    assert "no such curve" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_refused_bodies_are_in_the_report(tmp_path):
    fault = Fault("error page with 200", times=1)
    page = Reply(body=b"<!DOCTYPE html><html><body>Busy</body></html>")
    with Loopback(made_up.answer, fault=fault, error_page=page) as server:
        report = build(tmp_path, server)
    [refused] = report.quality.refused
    assert (refused.url, refused.sha256) == ("https://archive.test/stars", hashlib.sha256(page.body).hexdigest())
    assert "an HTML page came instead of json" in (tmp_path / "out" / "quality" / "quality.md").read_text()
    assert rows_of(tmp_path / "out", "stars") == made_up.published_stars()
    build(tmp_path, None, "again")
    assert bytes_of(tmp_path / "again") == bytes_of(tmp_path / "out")


def test_an_archive_that_no_module_has_cannot_be_read_by_other_processes(store, tmp_path):
    shutil.copytree(store / "store", tmp_path / "store")
    nowhere = dataclasses.replace(made_up.ARCHIVE)
    with pytest.raises(BuildError, match="archive must be the attribute ARCHIVE of a module"):
        build(tmp_path, None, archive=nowhere, processes=2)


def test_a_selection_without_rows(tmp_path):
    stage = Stage("json", rows=lambda answer: [pa.table({"star": pa.array([], pa.string())})])
    table = dataclasses.replace(made_up.STARS, columns=made_up.STARS.columns[:1], stages={"page": stage})
    archive = dataclasses.replace(made_up.ARCHIVE, tables=(table,))
    message = "made_up must have rows for stars; got 0 failed requests and no row"
    with Loopback(made_up.answer) as server, pytest.raises(BuildError, match=message):
        build(tmp_path, server, archive=archive)
    assert not (tmp_path / "out").exists()


def test_stars_of_one_identity_are_in_one_split(store, tmp_path):
    shutil.copytree(store / "store", tmp_path / "store")
    north, south = [row["star"] for row in made_up.stars("north")], [row["star"] for row in made_up.stars("south")]
    pairs = list(zip(north, south, strict=False))
    splits = {name: split_of(name) for name in north + south}
    assert any(splits[one] != splits[other] for one, other in pairs)
    identity = tmp_path / "identity.parquet"
    columns = {"hostname": [one for one, _ in pairs], "star": [other for _, other in pairs]}
    IdentityTable.from_tables({"a.b": pa.table(columns)}).save(identity)
    report = build(tmp_path, None, identity=identity)
    found = {}
    for file in (report.folder / "stars").glob("*.parquet"):
        for row in pq.read_table(file).to_pylist():
            found[row["star"]] = (row["object_id"], file.name.partition("-")[0])
    assert len(found) == sum(made_up.REGIONS.values())
    assert all(found[one] == found[other] for one, other in pairs)
    assert all(split == split_of(label) for label, split in found.values())


def test_a_cache_too_small_for_the_tables(store, tmp_path):
    shutil.copytree(store / "store" / "made_up", tmp_path / "store" / "made_up")
    for out in ("one", "two"):
        build(tmp_path, None, out, configs=BOTH, environment={"ASTROBIO_CACHE_GIB": "0.00001"})
        assert bytes_of(tmp_path / out) == bytes_of(store / "out")
    files = list((tmp_path / "store" / "parsed").glob("??/*"))
    assert 0 < sum(file.stat().st_size for file in files) <= 0.00001 * 2**30
