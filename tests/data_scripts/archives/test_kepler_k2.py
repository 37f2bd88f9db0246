"""Kepler and K2: what is asked for, replays, recorded answers."""

import datetime
from collections.abc import Callable
from pathlib import Path

import pytest
from astropy.table import Table
from recorded_files import answer_in, parse_file
from replay import Replay
from replays.kepler_k2 import REPLAYS, SERIES, ipac
from walk_replay import rows_of, walk

from data_scripts.archives.kepler_k2 import ARCHIVE, nsted, time_series_rows
from data_scripts.archives.schemas.kepler_time_series import KEPLER_TIME_SERIES
from data_scripts.harness.archive import Selection
from data_scripts.harness.errors import BadBodyError, BuildError


@pytest.mark.parametrize("replay", REPLAYS, ids=lambda replay: replay.table)
def test_replay(replay: Replay, tmp_path: Path) -> None:
    rows, reasons = rows_of(ARCHIVE, replay.table, walk(ARCHIVE, replay, tmp_path))
    assert rows == replay.expected
    assert reasons == []


@pytest.mark.parametrize("replay", REPLAYS, ids=lambda replay: replay.table)
def test_a_changed_schema_is_noticed(replay: Replay, tmp_path: Path) -> None:
    with pytest.raises(BadBodyError, match=r"lack|has no column|must be in|needs"):
        rows_of(ARCHIVE, replay.table, walk(ARCHIVE, replay, tmp_path, replay.changed_schema))


def test_every_table_has_a_replay() -> None:
    assert {replay.table for replay in REPLAYS} == {table.name for table in ARCHIVE.tables}


@pytest.mark.parametrize(
    ("name", "table"),
    [("keplertimeseries_expect_0.txt", "time_series"), ("q1_q17_dr25_koi_expect_0.txt", "koi_dr25")],
)
def test_recorded_answers(name: str, table: str, archive_samples: Callable[[str], Path]) -> None:
    path = archive_samples("kepler_k2") / name
    assert [found.name for found in ARCHIVE.tables if parse_file(path, found) is not None] == [table]
    rows = parse_file(path, ARCHIVE.table(table))
    # Another reader of the same format, with its own handling of null.
    other = Table.read(path, format="ascii.ipac")
    assert len(rows) == len(other)
    for row, recorded in zip(rows, other, strict=True):
        for column in ARCHIVE.table(table).columns:
            value = recorded[column.name]
            if row[column.name] is None:
                assert getattr(value, "mask", False) is not False or str(value) in ("--", "")
            elif isinstance(row[column.name], str):
                assert row[column.name] == str(value)
            else:
                assert row[column.name] == value


def test_other_deliveries_of_objects_are_not_taken_for_dr25(archive_samples: Callable[[str], Path]) -> None:
    text = (archive_samples("kepler_k2") / "q1_q17_dr25_koi_expect_0.txt").read_bytes()
    assert ARCHIVE.table("koi_dr25").recognise("x", text[:65_536]) == "objects"
    assert (
        ARCHIVE.table("koi_dr25").recognise("x", text[:65_536].replace(b"q1_q17_dr25_koi", b"q1_q12_koi     ")) is None
    )


def test_stars_are_asked_for_one_by_one() -> None:
    requests = list(ARCHIVE.table("time_series").first(Selection(options={"kepid": "8561063, 10601284"})))
    assert [dict(request.params)["kepid"] for request in requests] == ["8561063", "10601284"]
    assert {dict(request.params)["table"] for request in requests} == {"keplertimeseries"}
    [stars] = ARCHIVE.table("time_series").first(Selection(options={"kepid": ""}))
    assert stars.stage == "stars"


@pytest.mark.parametrize("table", ["koi_dr25", "time_series"])
def test_finished_tables_have_no_since(table: str) -> None:
    with pytest.raises(BuildError, match=f"since must be left out for {table}"):
        list(ARCHIVE.table(table).first(Selection(since=datetime.date(2020, 1, 1), options={"kepid": ""})))


def test_time_series_of_another_star_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "series"
    path.write_bytes(ipac(list(KEPLER_TIME_SERIES), SERIES).body)
    with pytest.raises(BadBodyError, match=r"sent time series of 9000000, 9000001.* for 9000001"):
        list(time_series_rows(answer_in(path, nsted("keplertimeseries", "*", "time_series", kepid="9000001"))))
