"""Keck Observatory Archive, from its documentation; there is no recorded answer."""

import datetime

import pytest
from replays.keck_koa import REPLAYS, ROWS
from walk_replay import answer_of, rows_of, select, walk

from data_scripts.archives.keck_koa import ARCHIVE
from data_scripts.archives.schemas.keck_instruments import INSTRUMENTS
from data_scripts.harness.archive import Request, Selection
from data_scripts.harness.errors import BadBodyError, BuildError


@pytest.mark.parametrize("replay", REPLAYS, ids=lambda replay: replay.table)
def test_every_frame_of_the_kind_asked_for_is_published_in_order(replay, tmp_path):
    assert rows_of(ARCHIVE, replay.table, walk(ARCHIVE, replay, tmp_path)) == (replay.expected, [])


@pytest.mark.parametrize("replay", REPLAYS, ids=lambda replay: replay.table)
def test_a_renamed_column_is_refused(replay, tmp_path):
    with pytest.raises(BadBodyError, match="no column elaptime"):
        rows_of(ARCHIVE, replay.table, walk(ARCHIVE, replay, tmp_path, replay.changed_schema))


def test_each_instrument_has_its_table_and_the_archive_is_not_called_verified():
    assert not ARCHIVE.verified
    for instrument in INSTRUMENTS:
        [first, *_] = ARCHIVE.table(instrument).first(select(ARCHIVE, instrument))
        assert f"from+koa_{instrument}+where+koaimtyp+%3D+%27object%27+and+ra" in first.body.decode()


def test_all_kinds_of_frames_if_asked_for():
    for request in ARCHIVE.table("hires").first(select(ARCHIVE, "hires", type="")):
        assert "koaimtyp" not in request.body.decode()


def test_recent_changes_cannot_be_asked_for():
    with pytest.raises(BuildError, match="since must be absent for koa_hires; got 2024-02-29"):
        list(ARCHIVE.table("hires").first(Selection(since=datetime.date(2024, 2, 29))))


@pytest.mark.parametrize("instrument", ["hires", "kpf"])
def test_a_downloaded_table_is_recognised_by_its_columns(instrument, tmp_path):
    names = [column.name for column in ARCHIVE.table(instrument).columns]
    lines = [",".join(names)]
    lines += [",".join("" if row[name] is None else f'"{row[name]}"' for name in names) for row in ROWS[instrument]]
    body = ("\n".join(lines) + "\n").encode()
    assert [table.name for table in ARCHIVE.tables if table.recognise("x", body)] == [instrument]
    answer = answer_of(Request("file:0", "csv export"), body, tmp_path)
    assert rows_of(ARCHIVE, instrument, [answer]) == (ROWS[instrument], [])
