"""Planet Hunters: moved cells of the list of candidates, ranges of stars of Kepler's events."""

import itertools

import pytest
from replays.planet_hunters import CANDIDATES, EVENTS, REPLAYS, ipac_table
from walk_replay import answer_of, rows_of, select, walk

from data_scripts.archives.planet_hunters import ARCHIVE, KEPIDS
from data_scripts.archives.schemas import kepler_tce
from data_scripts.harness.archive import Request
from data_scripts.harness.errors import BadBodyError
from data_scripts.harness.pages import read_page


LIST, DR25 = REPLAYS
NAMES = [column.name for column in kepler_tce.COLUMNS]


def page(table, stage, body, folder, context=()):
    answer = answer_of(Request("file:0", stage, context=context), body, folder)
    return read_page(ARCHIVE.table(table), answer, ARCHIVE.name)


@pytest.mark.parametrize("replay", REPLAYS, ids=lambda replay: replay.table)
def test_every_row_is_published(replay, tmp_path):
    assert rows_of(ARCHIVE, replay.table, walk(ARCHIVE, replay, tmp_path)) == (replay.expected, [])


@pytest.mark.parametrize(("replay", "reason"), [(LIST, "no column period_PHT"), (DR25, "its unit changed")])
def test_a_changed_schema_is_refused(replay, reason, tmp_path):
    with pytest.raises(BadBodyError, match=reason):
        rows_of(ARCHIVE, replay.table, walk(ARCHIVE, replay, tmp_path, replay.changed_schema))


def test_depths_put_right_agree_and_are_marked(tmp_path):
    body = walk(ARCHIVE, LIST, tmp_path)[0].body
    result = page("candidates", "list", body, tmp_path)
    moved = [row["depth_cells_moved"] for row in CANDIDATES]
    assert set(moved) == {True, False, None}
    assert result.good["depth_cells_moved"].to_pylist() == moved
    tally = result.tallies.identities["transit depth"]
    assert tally.judged == tally.held == len(moved) - moved.count(None)


def test_a_row_of_the_list_that_stands_twice_has_one_key(tmp_path):
    lines = walk(ARCHIVE, LIST, tmp_path)[0].body.splitlines(keepends=True)
    result = page("candidates", "list", b"".join([*lines, lines[2]]), tmp_path)
    keys = result.good["candidate"].to_pylist()
    assert len(keys) == len(CANDIDATES) + 1
    assert len(set(keys)) == len(CANDIDATES)
    assert keys[-1] == keys[1]


def test_a_list_without_its_key_is_refused(tmp_path):
    body = walk(ARCHIVE, LIST, tmp_path)[0].body.replace(b"Depth mmag,", b"Depth,", 1)
    with pytest.raises(BadBodyError, match="no column Depth mmag"):
        page("candidates", "list", body, tmp_path)


def test_ranges_of_stars_meet_and_cover_the_catalogue():
    requests = list(ARCHIVE.table("tce").first(select(ARCHIVE, "tce")))
    ranges = [tuple(int(number) for _, number in request.context) for request in requests]
    assert ranges[0][0] == 0
    assert ranges[-1][1] >= KEPIDS
    assert all(before[1] == after[0] for before, after in itertools.pairwise(ranges))
    assert {dict(request.params)["table"] for request in requests} == {"tce"}


def test_an_answer_for_another_range_is_refused(tmp_path):
    body = ipac_table(NAMES, EVENTS[:5])
    with pytest.raises(BadBodyError, match="for stars 0 to 9 has star 700001"):
        page("tce_dr25", "events", body, tmp_path, context=(("low", "0"), ("high", "10")))


def test_an_answer_that_lacks_stated_rows_is_refused(tmp_path):
    body = ipac_table(NAMES, EVENTS[:5]).replace(b"RowsRetrieved = 5", b"RowsRetrieved = 6")
    with pytest.raises(BadBodyError, match="states 6 rows and has 5"):
        page("tce_dr25", "events", body, tmp_path, context=(("low", "0"), ("high", "9999999")))


def test_files_of_events_go_to_the_table_of_their_deliveries():
    last = ipac_table(NAMES, EVENTS[:3])
    mixed = ipac_table(NAMES, [EVENTS[0], {**EVENTS[1], "tce_delivname": "q1_q12_tce"}])
    stages = {
        name: [t.recognise("x", body) for t in ARCHIVE.tables] for name, body in [("last", last), ("mixed", mixed)]
    }
    assert stages["last"] == [None, "ipac export", None]
    assert stages["mixed"] == [None, None, "ipac export"]


def test_recorded_list(archive_samples, tmp_path):
    body = (archive_samples("planet_hunters") / "PHT_candidates_info.csv").read_bytes()
    assert [table.recognise("x", body[:65536]) for table in ARCHIVE.tables] == ["list", None, None]
    result = page("candidates", "list", body, tmp_path)
    assert (result.good.num_rows, result.rejected.num_rows) == (len(body.decode().splitlines()) - 1, 0)
    assert len(set(result.good["candidate"].to_pylist())) == result.good.num_rows
    tally = result.tallies.identities["transit depth"]
    assert tally.judged == tally.held > 130
    assert result.good["depth_cells_moved"].to_pylist().count(None) < 5


@pytest.mark.parametrize(
    ("file", "table", "rows"), [("q1_q17_dr25_tce_expect_0.txt", "tce_dr25", 3), ("tce_expect_0.txt", "tce", 14)]
)
def test_recorded_events(archive_samples, tmp_path, file, table, rows):
    body = (archive_samples("planet_hunters") / file).read_bytes()
    stages = {t.name: t.recognise("x", body[:65536]) for t in ARCHIVE.tables}
    assert [name for name, stage in stages.items() if stage] == [table]
    result = page(table, stages[table], body, tmp_path)
    assert (result.good.num_rows, result.rejected.num_rows) == (rows, 0)
    assert set(result.good["kepid"].to_pylist()) == {10601284}
    # The stage of the archive's own answers takes no column for granted.
    strict = page(table, "events", body, tmp_path, context=(("low", "10000000"), ("high", "11000000")))
    assert strict.good.equals(result.good)


def test_an_export_with_fewer_columns_has_nulls_in_the_others(tmp_path):
    names = ["kepid", "tce_plnt_num", "tce_delivname", "ra", "dec", "tce_period", "tce_time0bk", "tce_max_mult_ev"]
    cells = ["757076", "1", "q1_q17_dr25_tce", "290.5", "36.5", "13.25", "134.5", "9.75"]
    comments = ["# made up", "# COLUMN kepid: KepID", "# COLUMN tce_period: Orbital Period [days]"]
    body = "\n".join([*comments, ",".join(names), ",".join(cells), ""]).encode()
    stage = ARCHIVE.table("tce_dr25").recognise("x", body)
    assert stage == "csv export"
    (row,) = page("tce_dr25", stage, body, tmp_path).good.to_pylist()
    assert (row["kepid"], row["tce_period"], row["tce_prad"]) == (757076, 13.25, None)
    with pytest.raises(BadBodyError, match="no column tce_period"):
        page("tce_dr25", stage, body.replace(b"tce_period", b"tce_per"), tmp_path)
