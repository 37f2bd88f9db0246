"""TESS: what is asked for, replays, recorded answers."""

import csv
import datetime
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

import numpy as np
import pytest
from astropy.io import fits
from recorded_files import answer_in, parse_file
from replay import Replay
from replays.tess import REPLAYS
from walk_replay import rows_of, walk

from data_scripts.archives.tess import ARCHIVE, follow_to_cutouts, sectors_of
from data_scripts.harness.archive import Selection
from data_scripts.harness.errors import BadBodyError, BuildError


WANTED = (("size", "7"), ("sectors", ""))


def cutout_options(**options: str) -> dict[str, str]:
    return {**{name: option.default for name, option in ARCHIVE.table("cutouts").options.items()}, **options}


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
    [
        ("TOI_list_2021-10-13.csv", "toi"),
        ("tic.json", "tic"),
        ("astrocut_107.27_-70.0_5x5.zip", "cutouts"),
        ("tess_sector.json", None),
        ("ticcolumns.json", None),
    ],
)
def test_recorded_answers_go_to_their_table(
    name: str, table: str | None, archive_samples: Callable[[str], Path]
) -> None:
    path = archive_samples("tess") / name
    found = [each.name for each in ARCHIVE.tables if parse_file(path, each) is not None]
    assert found == ([table] if table else [])


def test_the_recorded_objects_of_interest_keep_their_values(archive_samples: Callable[[str], Path]) -> None:
    path = archive_samples("tess") / "TOI_list_2021-10-13.csv"
    rows = parse_file(path, ARCHIVE.table("toi"))
    with path.open(newline="", encoding="utf-8") as file:
        recorded = list(csv.DictReader(line for line in file if not line.startswith("#")))
    assert len(rows) == len(recorded) == 4548
    for row, texts in zip(rows, recorded, strict=True):
        for name, value in row.items():
            if value is None:
                assert texts[name].strip() == ""
            elif isinstance(value, bool):
                assert texts[name].lower() == str(value).lower()
            elif isinstance(value, str):
                assert value == texts[name]
            else:
                assert value == float(texts[name])


def test_the_recorded_stars_keep_their_values(archive_samples: Callable[[str], Path]) -> None:
    path = archive_samples("tess") / "tic.json"
    rows = parse_file(path, ARCHIVE.table("tic"))
    for row, recorded in zip(rows, json.loads(path.read_text())["data"], strict=True):
        # Text of blanks alone says nothing; identifiers are text, however long.
        assert row == {
            name: str(recorded[name]) if isinstance(value, str) else recorded[name] for name, value in row.items()
        }


def test_the_recorded_cutout_keeps_its_pixels(archive_samples: Callable[[str], Path]) -> None:
    path = archive_samples("tess") / "astrocut_107.27_-70.0_5x5.zip"
    [row] = parse_file(path, ARCHIVE.table("cutouts"))
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as file, fits.open(file) as cutout:
        data = cutout[1].data
        assert row["shape"] == list(data["FLUX"].shape)
        np.testing.assert_array_equal(np.float32(row["FLUX"]).reshape(row["shape"]), data["FLUX"])
        np.testing.assert_array_equal(row["TIME"], data["TIME"])
        np.testing.assert_array_equal(row["QUALITY"], data["QUALITY"])
        assert row["usable_cadences"] == int((data["QUALITY"] == 0).sum())
    assert (row["SECTOR"], row["CAMERA"], row["CCD"]) == (1, 4, 3)
    assert (row["RA_OBJ"], row["DEC_OBJ"], row["time_reference_bjd"]) == (107.27, -70.0, 2_457_000.0)


def test_the_recorded_sector_leads_to_its_cutout(archive_samples: Callable[[str], Path]) -> None:
    request = sectors_of("107.27", "-70.0", "", WANTED)
    [cutout] = follow_to_cutouts(answer_in(archive_samples("tess") / "tess_sector.json", request))
    assert cutout.url == "https://mast.stsci.edu/tesscut/api/v0.1/astrocut"
    assert cutout.params == (("ra", "107.27"), ("dec", "-70.0"), ("y", "7"), ("x", "7"), ("sector", "1"))


def test_sectors_can_be_chosen_and_a_position_may_have_none(tmp_path: Path) -> None:
    path = tmp_path / "sectors.json"
    path.write_text(json.dumps({"results": [{"sector": "14"}, {"sector": "0041"}, {"sector": "15"}]}))
    request = sectors_of("1.5", "2.5", "99", (("size", "3"), ("sectors", "15,14")))
    found = follow_to_cutouts(answer_in(path, request))
    assert [dict(cutout.params)["sector"] for cutout in found] == ["14", "15"]
    assert all(cutout.context == (("tic", "99"),) for cutout in found)
    path.write_text(json.dumps({"results": []}))
    assert follow_to_cutouts(answer_in(path, request)) == []
    path.write_text(json.dumps({"msg": "none"}))
    with pytest.raises(BadBodyError, match="needs results"):
        follow_to_cutouts(answer_in(path, request))


def test_positions_are_asked_for_one_by_one() -> None:
    options = cutout_options(positions="107.27 -70.0, 1.5 +2.5", size="11")
    requests = list(ARCHIVE.table("cutouts").first(Selection(options=options)))
    assert [request.params for request in requests] == [
        (("ra", "107.27"), ("dec", "-70.0")),
        (("ra", "1.5"), ("dec", "+2.5")),
    ]
    [objects] = ARCHIVE.table("cutouts").first(Selection(options=cutout_options()))
    assert objects.stage == "objects"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positions": "107.27"}, "positions must be 'RA DEC' in degrees.*got '107.27'"),
        ({"positions": "12h30m -70"}, "got '12h30m -70'"),
        ({"size": "100"}, "size must be a number of pixels from 1 to 99; got '100'"),
        ({"size": "0"}, "got '0'"),
    ],
)
def test_impossible_cutouts_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(BuildError, match=message):
        list(ARCHIVE.table("cutouts").first(Selection(options=cutout_options(**options))))


def filters_of(**options: str) -> list[dict]:
    [request] = ARCHIVE.table("tic").first(Selection(options=options))
    return json.loads(parse_qs(request.body.decode())["request"][0])["params"]["filters"]


def test_stars_by_number_or_brightness() -> None:
    assert filters_of(id="12,13", tmag_max="10") == [{"paramName": "ID", "values": ["12", "13"]}]
    assert filters_of(id="", tmag_max="7.5") == [{"paramName": "Tmag", "values": [{"min": -10.0, "max": 7.5}]}]
    for text in ("bright", "nan", ""):
        with pytest.raises(BuildError, match=f"tmag_max must be a magnitude; got '{text}'"):
            filters_of(id="", tmag_max=text)


@pytest.mark.parametrize("table", ["toi", "tic", "cutouts"])
def test_tables_without_dates_have_no_since(table: str) -> None:
    with pytest.raises(BuildError, match=f"since must be left out for {table}"):
        list(ARCHIVE.table(table).first(Selection(since=datetime.date(2020, 1, 1), options=cutout_options())))
