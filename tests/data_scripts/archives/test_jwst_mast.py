"""JWST at MAST: what is asked for, replays, recorded answers."""

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from recorded_files import parse_file
from replay import Replay
from replays.jwst_mast import REPLAYS
from walk_replay import rows_of, walk

from data_scripts.archives.jwst_mast import ARCHIVE
from data_scripts.harness.archive import Selection
from data_scripts.harness.errors import BadBodyError, BuildError


# Which table reads a recorded answer, and how many rows it has; None for what is a step or a description, not a table.
SAMPLES = {
    "advSearch.json": ("observations", 3),
    "caom.json": ("observations", 19),
    "products.json": ("products", 22),
    "mission_results.json": ("hst_data_sets", 3),
    "mission_products.json": ("data_set_products", 5),
    "spectra.json": ("hsc_spectra", 26),
    "bundleResponse.json": None,
    "columnsconfig.json": None,
    "countsResp.json": None,
    "mission_columns.json": None,
}


def defaults(table: str, **options: str) -> dict[str, str]:
    return {**{name: option.default for name, option in ARCHIVE.table(table).options.items()}, **options}


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


@pytest.mark.parametrize("name", SAMPLES)
def test_recorded_answers(name: str, archive_samples: Callable[[str], Path]) -> None:
    path = archive_samples("jwst_mast") / name
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    found = {table.name: parse_file(path, table) for table in ARCHIVE.tables}
    read = {table: len(rows) for table, rows in found.items() if rows is not None}
    assert read == dict([SAMPLES[name]] if SAMPLES[name] else [])


def test_a_recorded_observation_keeps_its_values(archive_samples: Callable[[str], Path]) -> None:
    rows = parse_file(archive_samples("jwst_mast") / "advSearch.json", ARCHIVE.table("observations"))
    body = json.loads((archive_samples("jwst_mast") / "advSearch.json").read_text())
    for row, recorded in zip(rows, body["data"], strict=True):
        assert row == {
            **{n: recorded[n] for n in row},
            "obsid": str(recorded["obsid"]),
            "objID": str(recorded["objID"]),
        }


def test_options_and_since_become_filters() -> None:
    options = defaults("observations", proposal_id="1366,2734", calib_level="3")
    selection = Selection(limit=5, since=datetime.date(2024, 1, 2), options=options)
    [request] = ARCHIVE.table("observations").first(selection)
    sent = json.loads(parse_qs(request.body.decode())["request"][0])
    assert sent["pagesize"] == 5
    assert sent["params"]["filters"] == [
        {"paramName": "obs_collection", "values": ["JWST"]},
        {"paramName": "proposal_id", "values": ["1366", "2734"]},
        {"paramName": "calib_level", "values": ["3"]},
        {"paramName": "t_obs_release", "values": [{"min": 60_311, "max": 100_000}]},
    ]


def test_hst_data_sets_are_asked_for_by_their_own_columns() -> None:
    options = defaults("hst_data_sets", program="9482", instrument="ACS")
    [request] = ARCHIVE.table("hst_data_sets").first(Selection(since=datetime.date(2020, 5, 6), options=options))
    assert json.loads(request.body)["conditions"] == [
        {"sci_pep_id": "9482"},
        {"sci_instrume": "ACS"},
        {"sci_release_date": ">=2020-05-06"},
    ]


def test_a_mission_that_is_not_offered_is_refused() -> None:
    with pytest.raises(BuildError, match="mission must be jwst or hst; got 'roman'"):
        list(
            ARCHIVE.table("data_set_products").first(Selection(options=defaults("data_set_products", mission="Roman")))
        )


def test_hubble_spectra_have_no_date() -> None:
    with pytest.raises(BuildError, match="since must be left out for hsc_spectra"):
        list(ARCHIVE.table("hsc_spectra").first(Selection(since=datetime.date(2020, 1, 1))))
