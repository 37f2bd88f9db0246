"""SMOKA: fixed-width logs, made from documentation and not verified against a recorded one; headers of frames."""

import numpy as np
import pytest
from astropy.io import fits
from replays.subaru_smoka import REPLAYS, SUPRIME_CAM_ROWS, log
from walk_replay import answer_of, rows_of, select, walk

from data_scripts.archives.schemas.smoka import OBSERVATIONS, SUPRIME_CAM
from data_scripts.archives.subaru_smoka import ARCHIVE
from data_scripts.harness.archive import Request
from data_scripts.harness.errors import BadBodyError, BuildError
from data_scripts.harness.pages import read_page


HEADER = """OBJECT  = 'Test field'         / made up
DATE-OBS= '2011-03-04'
FRAMEID = 'TSTA00000017'
INSTRUME= 'TestCam '
EXPTIME =               37.500 / [sec]
BIN-FCT1=                    2
SEEING  =             -9999.99
WEATHER = 'N/A     '
RADESYS = 'FK5     '
END
"""


def page(table, stage, body, folder, context=()):
    answer = answer_of(Request("file:0", stage, context=context), body, folder)
    return read_page(ARCHIVE.table(table), answer, ARCHIVE.name)


def read_log(text, folder):
    stage = ARCHIVE.table("observations").stages["log"]
    (table,) = stage.rows(answer_of(Request("file:0", "log"), text.encode(), folder))
    return table


def test_the_source_is_marked_as_not_verified():
    assert not ARCHIVE.verified


@pytest.mark.parametrize("replay", REPLAYS, ids=lambda replay: replay.table)
def test_every_exposure_is_published(replay, tmp_path):
    assert rows_of(ARCHIVE, replay.table, walk(ARCHIVE, replay, tmp_path)) == (replay.expected, [])


@pytest.mark.parametrize("replay", REPLAYS, ids=lambda replay: replay.table)
def test_a_changed_schema_is_refused(replay, tmp_path):
    with pytest.raises(BadBodyError, match="no column EXPTIME"):
        rows_of(ARCHIVE, replay.table, walk(ARCHIVE, replay, tmp_path, replay.changed_schema))


def test_a_log_without_ruling_line_reads_the_same(tmp_path):
    body = log(SUPRIME_CAM, SUPRIME_CAM_ROWS[2002]).decode()
    first, ruling, *rest = body.splitlines(keepends=True)
    assert set(ruling.strip()) == {"-", " "}
    assert read_log(first + "".join(rest), tmp_path).equals(read_log(body, tmp_path))


def test_blanks_belong_to_the_text_before_a_number(tmp_path):
    text = "#NAME    X EXPTIME\nAB CD  1.5     2.0\nE       --    30.0\n"
    assert read_log(text, tmp_path).to_pylist() == [
        {"NAME": "AB CD", "X": "1.5", "EXPTIME": "2.0"},
        {"NAME": "E", "X": None, "EXPTIME": "30.0"},
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("NAME X\nA 1\n", "first line of a log must be #"),
        ("", "first line of a log must be #"),
        ("#NAME X\n----- -\nLONGER 1\n", "row 1 of the log does not fit"),
        ("#NAME X\nLONGER1\n", "NAME and X of the log run into one another"),
        ("#NAME X NAME\n----- - ----\nA     1 B\n", "names column NAME twice"),
    ],
)
def test_damaged_logs_are_refused(text, reason, tmp_path):
    with pytest.raises(BadBodyError, match=reason):
        read_log(text, tmp_path)


def test_the_log_of_another_instrument_is_refused(tmp_path):
    body = log(SUPRIME_CAM, SUPRIME_CAM_ROWS[2002])
    with pytest.raises(BadBodyError, match="log of HSC has frame SUPA"):
        page("observations", "log", body, tmp_path, context=(("instrument", "HSC"),))


def test_logs_are_recognised_by_their_columns():
    suprime_cam = log(SUPRIME_CAM, SUPRIME_CAM_ROWS[2002])
    other = log(OBSERVATIONS, SUPRIME_CAM_ROWS[2002])
    assert [table.recognise("x", suprime_cam) for table in ARCHIVE.tables] == ["log", None, None]
    assert [table.recognise("x", other) for table in ARCHIVE.tables] == [None, "log", None]
    assert [table.recognise("x", b"# a comment\n1 2\n") for table in ARCHIVE.tables] == [None, None, None]


def test_a_vector_that_is_not_of_length_one_is_counted(tmp_path):
    rows = [dict(row) for row in SUPRIME_CAM_ROWS[2003]]
    rows[1]["Z_2000"] = 0.5
    rows[2]["X_2000"] = None
    tally = page("suprime_cam", "log", log(SUPRIME_CAM, rows), tmp_path).tallies.identities["unit vector"]
    assert (tally.judged, tally.held) == (len(rows) - 1, len(rows) - 2)


def test_options():
    first = ARCHIVE.table("observations").first
    urls = [
        request.url for request in first(select(ARCHIVE, "observations", instruments="FCS,HDS", years="2003-2004"))
    ]
    assert urls == [
        f"https://smoka.nao.ac.jp/status/obslog/{name}.txt"
        for name in ("FCS_2003", "FCS_2004", "HDS_2003", "HDS_2004")
    ]
    with pytest.raises(BuildError, match="years must be a year or two"):
        list(first(select(ARCHIVE, "observations", years="2004-2003")))
    with pytest.raises(BuildError, match="instruments must be of CAC"):
        list(first(select(ARCHIVE, "observations", instruments="WFPC2")))
    with pytest.raises(BuildError, match="pass them with --from FILE"):
        list(ARCHIVE.table("frames").first(select(ARCHIVE, "frames")))


def check_frame(row):
    assert (row["FRAMEID"], row["OBJECT"], row["INSTRUME"]) == ("TSTA00000017", "Test field", "TestCam")
    assert (str(row["DATE-OBS"]), row["EXPTIME"], row["BIN-FCT1"]) == ("2011-03-04", 37.5, 2)
    assert row["RADECSYS"] == "FK5"
    assert row["SEEING"] is row["WEATHER"] is row["AIRMASS"] is None


def test_header_as_text(tmp_path):
    body = HEADER.encode()
    assert [table.recognise("x", body) for table in ARCHIVE.tables] == [None, None, "header"]
    check_frame(page("frames", "header", body, tmp_path).good.to_pylist()[0])
    check_frame(page("frames", "header", body.replace(b"\n", b"\r\n"), tmp_path).good.to_pylist()[0])


@pytest.mark.parametrize("extension", [False, True])
def test_header_of_a_fits_file(extension, tmp_path):
    header = fits.Header.fromstring(HEADER, sep="\n")
    pixels = np.zeros((7, 13), np.float32)
    units = [fits.PrimaryHDU(), fits.ImageHDU(pixels, header)] if extension else [fits.PrimaryHDU(pixels, header)]
    fits.HDUList(units).writeto(tmp_path / "frame.fits")
    body = (tmp_path / "frame.fits").read_bytes()
    assert [table.recognise("x", body) for table in ARCHIVE.tables] == [None, None, "fits"]
    check_frame(page("frames", "fits", body, tmp_path).good.to_pylist()[0])


def test_headers_of_other_telescopes_are_refused(tmp_path):
    body = HEADER.replace("FRAMEID ", "FRAMENO ").encode()
    assert [table.recognise("x", body) for table in ARCHIVE.tables] == [None, None, None]
    with pytest.raises(BadBodyError, match="no FRAMEID"):
        page("frames", "header", body, tmp_path)
    with pytest.raises(BadBodyError, match="card EXPTIME does not parse"):
        page("frames", "header", HEADER.replace(" 37.500 ", " 37.5x0 ").encode(), tmp_path)


def test_recorded_header(archive_samples, tmp_path):
    paths = sorted(archive_samples("subaru_smoka").glob("*.header.txt"))
    assert paths
    for path in paths:
        body = path.read_bytes()
        assert [table.recognise("x", body) for table in ARCHIVE.tables] == [None, None, "header"]
        result = page("frames", "header", body, tmp_path)
        assert (result.good.num_rows, result.rejected.num_rows) == (1, 0)
        row = result.good.to_pylist()[0]
        assert path.name.startswith(row["FRAMEID"])
        assert row["EXPTIME"] > 0
        assert 0 < row["MJD-END"] - row["MJD-STR"] < 1
