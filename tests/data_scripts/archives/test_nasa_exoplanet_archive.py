"""NASA Exoplanet Archive: queries by windows, exports, old IPAC bodies, relations within a row."""

import datetime
import gzip

import pyarrow as pa
import pytest
from replays.nasa_exoplanet_archive import REPLAYS, UNIT_TEXTS, ipac, rows_of
from walk_replay import answer_of, select, walk
from walk_replay import rows_of as published

from data_scripts.archives.nasa_exoplanet_archive import ARCHIVE
from data_scripts.archives.protocols.nexsci_units import nexsci_unit, unit_in_brackets
from data_scripts.archives.schemas.planet_identities import composite_identities, kepler_identities
from data_scripts.harness.archive import Answer, Request, Selection
from data_scripts.harness.errors import BadBodyError, BuildError
from data_scripts.harness.pages import read_page


LABELS = {"d": "days", "earthRad": "Earth Radius", "solRad": "Solar Radius", "dex(cm / s2)": "log10(cm/s**2)"}


def export(table, rows, columns=None, labels=LABELS):
    """A file as the interactive tables export it."""
    columns = columns or [column.name for column in ARCHIVE.table(table).columns]
    units = {column.name: column.unit for column in ARCHIVE.table(table).columns}
    lines = ["# This file was produced by the NASA Exoplanet Archive", "# Sun Jan 20 03:22:26 2019", "#"]
    for name in columns:
        unit = f" [{labels[units[name]]}]" if units.get(name) in labels else ""
        lines.append(f"# COLUMN {name}:   What it is, Upper Unc.{unit}")
    lines += ["#", "loc_rowid," + ",".join(columns)]
    for number, row in enumerate(rows, start=1):
        cells = ("" if row.get(name) is None else f'"{row[name]}"' for name in columns)
        lines.append(f"{number}," + ",".join(cells))
    return ("\n".join(lines) + "\n").encode()


def read(table, body, folder, name="file"):
    config = ARCHIVE.table(table)
    stage = config.recognise(name, body[:65_536])
    assert stage is not None
    return read_page(config, answer_of(Request("file:0", stage), body, folder), ARCHIVE.name)


def recognised(body, name="file"):
    return [table.name for table in ARCHIVE.tables if table.recognise(name, body[:65_536]) is not None]


@pytest.mark.parametrize("replay", REPLAYS, ids=lambda replay: replay.table)
def test_every_row_of_the_archive_is_published_in_order(replay, tmp_path):
    assert published(ARCHIVE, replay.table, walk(ARCHIVE, replay, tmp_path)) == (replay.expected, [])


@pytest.mark.parametrize("replay", REPLAYS, ids=lambda replay: replay.table)
def test_a_renamed_column_is_refused(replay, tmp_path):
    with pytest.raises(BadBodyError, match="no column"):
        published(ARCHIVE, replay.table, walk(ARCHIVE, replay, tmp_path, replay.changed_schema))


def test_a_changed_unit_is_refused(tmp_path):
    field = b'"pl_orbper" datatype="double" unit='

    def in_hours(reply):
        return type(reply)(reply.status, reply.headers, reply.body.replace(field + b'"days"', field + b'"hours"'))

    with pytest.raises(BadBodyError, match="pl_orbper must be in d; the body states 'h'"):
        published(ARCHIVE, "pscomppars", walk(ARCHIVE, REPLAYS[0], tmp_path, in_hours))


def test_since_asks_dated_tables_only():
    day = datetime.date(2024, 2, 29)
    [first, *_] = ARCHIVE.table("ps").first(Selection(since=day))
    assert b"rowupdate+%3E%3D+%272024-02-29%27" in first.body
    for table in ("pscomppars", "cumulative", "koi", "mission_exocat"):
        with pytest.raises(BuildError, match=f"since must be absent for {table}"):
            list(ARCHIVE.table(table).first(Selection(since=day)))


def test_a_small_limit_is_one_query():
    selection = select(ARCHIVE, "toi")
    [request] = ARCHIVE.table("toi").first(Selection(limit=7, options=selection.options))
    assert b"QUERY=select+top+7+" in request.body
    assert len(list(ARCHIVE.table("toi").first(Selection(limit=4001, options=selection.options)))) == 4


def test_page_rows_must_be_a_number():
    with pytest.raises(BuildError, match="page_rows must be a number above 0; got 'many'"):
        list(ARCHIVE.table("ps").first(Selection(options={"page_rows": "many"})))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "table", ["pscomppars", "ps", "cumulative", "toi", "k2pandc", "k2candidates", "kepler_stellar"]
)
def test_exports_of_the_interactive_tables(table, packed, tmp_path):
    rows = rows_of(table, 7) if table not in ("k2candidates", "kepler_stellar") else plain_rows(table, 7)
    body = export(table, rows)
    body = gzip.compress(body) if packed else body
    assert recognised(body) == [table]
    page = read(table, body, tmp_path)
    assert page.good.select(list(rows[0])).to_pylist() == rows
    assert page.rejected.num_rows == 0


def plain_rows(table, number_of_rows):
    return [
        {
            column.name: f"{column.name} {number}" if column.dtype == pa.string() else 1
            for column in ARCHIVE.table(table).columns
        }
        for number in range(1, number_of_rows + 1)
    ]


def test_optional_columns_of_an_export_may_be_absent_and_others_extra(tmp_path):
    names = ["pl_name", "hostname", "sy_snum", "sy_pnum", "discoverymethod", "disc_year", "ra", "dec", "pl_new"]
    names += ["pl_orbper", "pl_orbsmax", "pl_rade", "pl_bmasse", "st_teff", "st_rad", "st_mass", "sy_dist"]
    rows = [{**row, "pl_new": "?"} for row in rows_of("pscomppars", 3)]
    page = read("pscomppars", export("pscomppars", rows, names), tmp_path)
    assert page.good.column("pl_orbper").to_pylist() == [row["pl_orbper"] for row in rows]
    assert page.good.column("pl_dens").null_count == 3


@pytest.mark.parametrize("renamed", ["st_mass", "disc_year"])
def test_a_renamed_column_of_an_export_is_named(renamed, tmp_path):
    body = export("pscomppars", rows_of("pscomppars", 3)).replace(f",{renamed},".encode(), b",renamed,")
    with pytest.raises(BadBodyError, match=f"no column {renamed}, .* was it renamed"):
        read("pscomppars", body, tmp_path)


def test_an_export_in_another_unit_is_refused(tmp_path):
    body = export("cumulative", rows_of("cumulative", 3), labels={"d": "hours"})
    with pytest.raises(BadBodyError, match="koi_period must be in d; the body states 'h'"):
        read("cumulative", body, tmp_path)


def test_impossible_values_are_rejected_with_their_reason(tmp_path):
    rows = [dict(row) for row in rows_of("cumulative", 5)]
    rows[1]["koi_depth"], rows[2]["kepoi_name"], rows[3]["koi_fpflag_nt"] = 1_540_000.0, None, 465
    page = read("cumulative", export("cumulative", rows), tmp_path)
    assert page.good.num_rows == 2
    assert page.rejected.column("reason").to_pylist() == [
        "koi_depth is above 1e+06 ppm: '1540000.0'",
        "kepoi_name is null and belongs to the key",
        "koi_fpflag_nt is above 1: '465'",
    ]


def test_deliveries_of_kepler_objects_are_told_apart(tmp_path):
    alone = [{**row, "koi_delivname": "cumulative"} for row in rows_of("cumulative", 4)]
    mixed = [*alone, {**alone[0], "koi_delivname": "q1_q8_koi"}]
    names = [column.name for column in ARCHIVE.table("koi").columns]
    assert recognised(export("koi", alone, names)) == ["cumulative"]
    assert recognised(export("koi", mixed, names)) == ["koi"]
    assert read("koi", export("koi", mixed, names), tmp_path).good.num_rows == 5
    # The other delivery may stand behind the bytes by which a file is recognised.
    answer = answer_of(Request("file:0", "csv export"), export("koi", mixed, names), tmp_path)
    with pytest.raises(BadBodyError, match="rows of q1_q8_koi beside the cumulative table"):
        read_page(ARCHIVE.table("cumulative"), answer, ARCHIVE.name)


def test_other_files_are_not_recognised():
    for body in (
        b"",
        b"<html><body>down</body></html>",
        b'{"manifest": {}}',
        b"name,mass\nb,1\n",
        b"\x1f\x8bbroken",
        b"pl_hostname,pl_letter,pl_orbper\nTest-1,b,3.5\n",
        b"\\fixlen = T\n|star_id|quarter|\n",
    ):
        assert recognised(body) == []


def test_an_ipac_table_that_lost_rows_is_refused(tmp_path):
    body = ipac(rows_of("mission_exocat", 5))
    lines = body.decode().splitlines(keepends=True)
    with pytest.raises(BadBodyError, match="states 5 rows and has 4"):
        read("mission_exocat", "".join(lines[:-1]).encode(), tmp_path)


@pytest.mark.parametrize(("text", "unit"), [("days", "d"), ("BKJD", None), ("solar", None), ("furlong", "furlong")])
def test_units_of_the_institute(text, unit):
    assert nexsci_unit(text) == unit
    assert unit_in_brackets(f"Some label [{text}]) Upper Unc.") == unit
    assert unit_in_brackets("Eccentricity") is None


def judged(identities, name, **values):
    identity = next(each for each in identities if each.name == name)
    columns = {key: pa.array(value, pa.float64()) for key, value in values.items()}
    return identity.holds(pa.table(columns)).to_pylist()


def test_third_law_for_the_earth_jupiter_and_nonsense():
    values = {
        "pl_orbper": [365.256, 4332.59, 365.256, None, 365.256],
        "pl_orbsmax": [1.0, 5.204, 1.2, 1.0, 1.2],
        "st_mass": [1.0] * 5,
        "pl_bmasse": [1.0, 317.83, None, 1.0, 1.0],
        "pl_orbsmaxlim": [0, 0, 0, 0, 1],
    }
    assert judged(composite_identities(), "kepler_third_law", **values) == [True, True, False, None, None]


def test_density_radius_and_mass_of_the_solar_system():
    identities = composite_identities()
    values = {"pl_dens": [5.51, 1.33, 5.51], "pl_bmasse": [1.0, 317.83, 2.0], "pl_rade": [1.0, 10.97, 1.0]}
    assert judged(identities, "density", **values) == [True, True, False]
    assert judged(identities, "radius_units", pl_rade=[11.209, 1.0, 1.0], pl_radj=[1.0, 0.089, 0.2]) == [
        True,
        True,
        False,
    ]
    assert judged(identities, "mass_units", pl_bmasse=[317.83, 1.0], pl_bmassj=[1.0, 0.1]) == [True, False]


def test_relations_of_the_kepler_objects():
    identities = kepler_identities()
    assert judged(identities, "equilibrium_temperature", koi_teq=[255.0, 300.0], koi_insol=[1.0, 1.0]) == [True, False]
    values = {"koi_prad": [1.0, 2.0], "koi_ror": [0.009168] * 2, "koi_srad": [1.0] * 2}
    assert judged(identities, "radius_ratio", **values) == [True, False]


def test_texts_of_units_in_the_replay_are_the_schemas_units():
    assert {nexsci_unit(text) for text in UNIT_TEXTS.values()} == set(UNIT_TEXTS) - {"mas / yr"} | {"mas/yr"}


RECORDED = {
    "k2candidates_expect_0.txt": ("k2candidates", 6),
    "koi_cumulative_2019-01-20.csv.gz": ("cumulative", 7668),
    "koi_expect_0.txt": ("koi", 24),
    "mission_exocat_expect_0.txt": ("mission_exocat", 1),
    "pscomppars_2021-11-04.csv": ("pscomppars", 4551),
    "q1_q17_dr25_stellar_expect_0.txt": ("kepler_stellar", 1),
    "toi_expect_0.txt": ("toi", 1),
    "bpicb_aliaslookup.json": None,
    "cross_check_open_exoplanet_catalogue.csv": None,
    "responses.json": None,
}


def pages_of(path):
    """What each table that recognises a file reads from it."""
    with path.open("rb") as file:
        head = file.read(65_536)
    for table in ARCHIVE.tables:
        stage = table.recognise(path.name, head)
        if stage is not None:
            answer = Answer(Request("file:0", stage), path, "0" * 64, 200, {}, "2020-01-01T00:00:00Z")
            yield table.name, read_page(table, answer, ARCHIVE.name)


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_body(name, archive_samples):
    path = archive_samples("nasa_exoplanet_archive") / name
    if not path.is_file():
        pytest.skip(f"no recorded answer {path}")
    expected = RECORDED[name]
    assert [(table, page.good.num_rows) for table, page in pages_of(path)] == ([expected] if expected else [])


def test_recorded_planets_keep_the_third_law(archive_samples):
    path = archive_samples("nasa_exoplanet_archive") / "pscomppars_2021-11-04.csv"
    [(_, page)] = pages_of(path)
    tally = page.tallies.identities["kepler_third_law"]
    assert tally.judged > 4000
    assert tally.held > 0.95 * tally.judged
