"""Exoplanet Orbit Database: the whole file, its units, Kepler's third law."""

import csv
import json

import astropy.units
import pytest
from replays.exoplanets_org import EXPECTED, REPLAYS
from walk_replay import answer_of, rows_of, walk

from data_scripts.archives.exoplanets_org import ARCHIVE
from data_scripts.archives.schemas.exoplanets_org import COLUMNS
from data_scripts.harness.archive import Request
from data_scripts.harness.errors import BadBodyError
from data_scripts.harness.pages import read_page


PLANETS = ARCHIVE.table("planets")


def page(body, folder):
    return read_page(PLANETS, answer_of(Request("file:0", "file"), body, folder), ARCHIVE.name)


def test_every_row_of_the_file_is_published(tmp_path):
    assert rows_of(ARCHIVE, "planets", walk(ARCHIVE, REPLAYS[0], tmp_path)) == (EXPECTED, [])


def test_a_renamed_column_is_refused(tmp_path):
    with pytest.raises(BadBodyError, match="no column MSTAR"):
        rows_of(ARCHIVE, "planets", walk(ARCHIVE, REPLAYS[0], tmp_path, REPLAYS[0].changed_schema))


def test_third_law_fails_for_another_period_only(tmp_path):
    body = walk(ARCHIVE, REPLAYS[0], tmp_path)[0].body.decode()
    header, *rows = csv.reader(body.splitlines())
    place = header.index("PER")
    rows[3][place] = str(2 * float(rows[3][place]))
    rows[5][place] = ""
    text = "\n".join(",".join(f'"{cell}"' for cell in row) for row in [header, *rows]) + "\n"
    tally = page(text.encode(), tmp_path).tallies.identities["Kepler's third law"]
    assert (tally.judged, tally.held) == (len(EXPECTED) - 1, len(EXPECTED) - 2)


def test_impossible_values_are_rejected_with_their_reason(tmp_path):
    body = walk(ARCHIVE, REPLAYS[0], tmp_path)[0].body.decode()
    header, *rows = csv.reader(body.splitlines())
    rows[2][header.index("ECC")] = "1.2"
    rows[4][header.index("NAME")] = ""
    text = "\n".join(",".join(f'"{cell}"' for cell in row) for row in [header, *rows]) + "\n"
    result = page(text.encode(), tmp_path)
    assert result.good.num_rows == len(EXPECTED) - 2
    assert result.rejected["reason"].to_pylist() == [
        "ECC is above 1: '1.2'",
        "NAME is null and belongs to the key",
    ]


def test_recorded_file(archive_samples, tmp_path):
    path = archive_samples("exoplanets_org") / "exoplanet_orbit_database.csv"
    body = path.read_bytes()
    assert PLANETS.recognise("download", body[:65536]) == "file"
    assert {column.name for column in COLUMNS} == set(next(csv.reader(path.read_text().splitlines())))
    result = page(body, tmp_path)
    assert (result.good.num_rows, result.rejected.num_rows) == (1, 0)
    row = result.good.to_pylist()[0]
    assert row["TRANSIT"] is True
    assert row["PER"] > 0
    assert result.tallies.identities["Kepler's third law"].held == 1


def test_units_are_those_of_the_recorded_table_of_units(archive_samples):
    path = archive_samples("exoplanets_org") / "exoplanet_orbit_database_units.json"
    assert PLANETS.recognise(path.name, path.read_bytes()[:65536]) is None
    declared = {column.name: column.unit for column in COLUMNS}
    # "T" is none of the file's columns; astropy calls the milliarcsecond mas.
    stated = {
        name: text.replace("marcsec", "mas") for name, text in json.loads(path.read_text()).items() if name != "T"
    }
    for name, text in stated.items():
        unit = astropy.units.Unit(declared[name] or "")
        assert unit == astropy.units.Unit(text), name
