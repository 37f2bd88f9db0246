"""ESO archive: windows of time, options, exports, spectra."""

import datetime
import io

import numpy as np
import pytest
from astropy.io import fits
from replays.eso_vlt import FILES, PRODUCTS, REPLAYS, spectrum
from walk_replay import answer_of, rows_of, select, walk

from data_scripts.archives.eso_vlt import ARCHIVE
from data_scripts.harness.archive import Answer, Request, Selection
from data_scripts.harness.errors import BadBodyError, BuildError
from data_scripts.harness.pages import read_page


@pytest.mark.parametrize("replay", REPLAYS, ids=lambda replay: replay.table)
def test_every_row_of_the_archive_is_published_in_order(replay, tmp_path):
    assert rows_of(ARCHIVE, replay.table, walk(ARCHIVE, replay, tmp_path)) == (replay.expected, [])


@pytest.mark.parametrize("replay", REPLAYS, ids=lambda replay: replay.table)
def test_a_renamed_column_is_refused(replay, tmp_path):
    with pytest.raises(BadBodyError, match="no column"):
        rows_of(ARCHIVE, replay.table, walk(ARCHIVE, replay, tmp_path, replay.changed_schema))


def queries(table, **arguments):
    options = select(ARCHIVE, table, **arguments.pop("options", {})).options
    return [request.body.decode() for request in ARCHIVE.table(table).first(Selection(options=options, **arguments))]


def test_options_and_days_narrow_the_query():
    for query in queries("raw", options={"instrument": "O'HARA"}, since=datetime.date(2024, 2, 29)):
        assert "instrument+%3D+%27O%27%27HARA%27+and+last_mod_date+%3E%3D+%272024-02-29%27+and+exp_start" in query
    assert all("where+t_min" in query for query in queries("obscore"))


def test_spectra_need_a_collection_or_target():
    with pytest.raises(BuildError, match="collection or target must be given"):
        queries("spectra")
    assert "target_name+%3D+%27Test-1%27" in queries("spectra", options={"target": "Test-1"})[0]


def test_names_in_the_list_of_spectra_lead_to_their_files(tmp_path):
    urls = [answer.request.url for answer in walk(ARCHIVE, REPLAYS[2], tmp_path) if answer.request.stage == "file"]
    assert urls == [f"https://dataportal.eso.org/dataPortal/file/{name}" for name in FILES]


def page_of(body, folder):
    return read_page(ARCHIVE.table("spectra"), answer_of(Request("file:0", "file"), body, folder), ARCHIVE.name)


def file_with(columns):
    head = fits.PrimaryHDU()
    head.header["ARCFILE"], head.header["OBJECT"] = "ADP.test.fits", "TEST"
    file = io.BytesIO()
    fits.HDUList([head, fits.BinTableHDU.from_columns(columns)]).writeto(file)
    return file.getvalue()


def test_a_spectrum_with_reduced_fluxes_alone(tmp_path):
    columns = [
        fits.Column("WAVE", "7D", unit="angstrom", array=np.arange(7.0)[None]),
        fits.Column("FLUX_REDUCED", "7E", array=np.arange(7.0)[None]),
    ]
    [row] = page_of(file_with(columns), tmp_path).good.to_pylist()
    assert (row["wave_unit"], row["flux_unit"], row["ERR"]) == ("angstrom", "dimensionless", None)
    assert row["FLUX"] == list(range(7))
    assert row["mask"] == [True] * 7


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ([fits.Column("WAVE", "7D", array=np.arange(7.0)[None])], "no column FLUX or FLUX_REDUCED"),
        (
            [
                fits.Column("WAVE", "7D", unit="nm", array=np.arange(7.0)[None]),
                fits.Column("FLUX", "5D", array=np.arange(5.0)[None]),
            ],
            "WAVE has 7 values and FLUX has 5",
        ),
    ],
)
def test_damaged_spectra(columns, reason, tmp_path):
    with pytest.raises(BadBodyError, match=reason):
        page_of(file_with(columns), tmp_path)


def test_a_spectrum_is_recognised_by_its_content():
    [body, *_] = FILES.values()
    assert [table.name for table in ARCHIVE.tables if table.recognise("x", body[:65_536])] == ["spectra"]
    assert spectrum(next(iter(FILES)))["mask"].count(False) == 2


def test_exports_with_row_numbers_in_front(tmp_path):
    names = [column.name for column in ARCHIVE.table("obscore").columns]
    lines = ["," + ",".join(names)]
    for number, row in enumerate(PRODUCTS):
        lines.append(f"{number}," + ",".join("" if row[name] is None else f'"{row[name]}"' for name in names))
    body = ("\n".join(lines) + "\n").encode()
    assert [table.name for table in ARCHIVE.tables if table.recognise("x", body)] == ["obscore"]
    answer = answer_of(Request("file:0", "csv export"), body, tmp_path)
    assert rows_of(ARCHIVE, "obscore", [answer]) == (PRODUCTS, [])


RECORDED = {
    "query_apex_ql_5.csv": ("apex_quicklooks", 5),
    "query_inst_sinfoni_sgra.csv": ("raw", 50),
    # Lists of names, and the tree of a frame's calibrations: no tables of observations.
    "query_list_catalogs_latest_versions.csv": None,
    "query_list_instruments.csv": None,
    "query_list_surveys.csv": None,
    "FORS2.2021-01-02T00_59_12.533_raw2raw.xml": None,
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
    path = archive_samples("eso_vlt") / name
    if not path.is_file():
        pytest.skip(f"no recorded answer {path}")
    expected = RECORDED[name]
    assert [(table, page.good.num_rows) for table, page in pages_of(path)] == ([expected] if expected else [])
