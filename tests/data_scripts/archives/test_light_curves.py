"""Light curves, cutouts and spectra from made-up FITS files."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from light_curve_files import (
    Cadence,
    cutout_row,
    cutout_zip,
    gappy_cadences,
    kepler_file,
    kepler_row,
    tess_file,
    tess_row,
)
from recorded_files import answer_in, archive_named
from x1d_files import spectrum_rows, x1d_file, x1d_integrations_file

from data_scripts.archives.jwst_mast import SPECTRUM_KEYWORDS
from data_scripts.archives.kepler_k2 import KEYWORDS as KEPLER_KEYWORDS
from data_scripts.archives.protocols.cutouts import cutout_rows
from data_scripts.archives.protocols.jwst_spectra import spectrum_rows as read_spectra
from data_scripts.archives.protocols.light_curves import cadence_grid, light_curve_rows
from data_scripts.archives.tess import KEYWORDS as TESS_KEYWORDS
from data_scripts.harness.archive import Answer, Request
from data_scripts.harness.conform import conform
from data_scripts.harness.errors import BadBodyError


NAN = float("nan")


def written(tmp_path: Path, body: bytes, context: dict[str, str] | None = None, **params: str) -> Answer:
    path = tmp_path / "body"
    path.write_bytes(body)
    request = Request("file:body", "body", params=tuple(params.items()), context=tuple((context or {}).items()))
    return answer_in(path, request)


def changed(body: bytes, change: Callable[[fits.HDUList], None]) -> bytes:
    new = io.BytesIO()
    with fits.open(io.BytesIO(body)) as file:
        change(file)
        file.writeto(new)
    return new.getvalue()


def conformed(source: str, table: str, rows: pa.Table) -> list[dict]:
    result = conform(rows, archive_named(source).table(table))
    assert result.rejected.num_rows == 0, result.rejected.to_pylist()
    return result.good.to_pylist()


@pytest.mark.parametrize(("campaign", "first"), [(None, 11_914), (5, 103_746)])
def test_a_kepler_light_curve_is_read_as_a_slow_reader_reads_it(
    tmp_path: Path, campaign: int | None, first: int
) -> None:
    cadences = gappy_cadences(first, 13, 1274.125, 0.0204)
    body = kepler_file(8_462, cadences, campaign=campaign)
    [table] = light_curve_rows(written(tmp_path, body), KEPLER_KEYWORDS)
    assert conformed("kepler_k2", "light_curves", table) == [kepler_row(8_462, cadences, campaign=campaign)]


def test_random_gaps_never_shorten_the_grid(tmp_path: Path) -> None:
    generator = np.random.default_rng(7)
    numbers = np.flatnonzero(generator.random(997) < 0.3) + 270_000
    cadences = [
        Cadence(int(n), NAN if n % 11 == 0 else n * 0.5, 1.5, NAN if n % 7 == 0 else 2.5, int(n % 5 == 0))
        for n in numbers
    ]
    [table] = light_curve_rows(written(tmp_path, tess_file(123, cadences)), TESS_KEYWORDS)
    [row] = conformed("tess", "light_curves", table)
    assert row == tess_row(123, cadences)
    assert len(row["TIME"]) == numbers[-1] - numbers[0] + 1 > 2 * len(numbers)
    assert sum(row["recorded"]) == len(numbers)


def test_times_keep_every_bit_and_state_their_reference(tmp_path: Path) -> None:
    times = [1354.1012345678901 + 1e-9, 1354.1020000000003]
    cadences = [Cadence(5, times[0], 1.0, 1.0), Cadence(6, times[1], 1.0, 1.0)]
    [table] = light_curve_rows(written(tmp_path, tess_file(1, cadences)), TESS_KEYWORDS)
    assert table.schema.field("TIME").type == pa.list_(pa.float64())
    assert table["TIME"][0].as_py() == times
    assert table["time_reference_bjd"][0].as_py() == 2_457_000.0


def test_a_fraction_of_the_reference_is_added(tmp_path: Path) -> None:
    def shift(file: fits.HDUList) -> None:
        file[1].header["BJDREFF"] = 0.25

    body = changed(kepler_file(1, gappy_cadences(3, 9, 1.0, 0.5)), shift)
    [table] = light_curve_rows(written(tmp_path, body), KEPLER_KEYWORDS)
    assert table["time_reference_bjd"][0].as_py() == 2_454_833.25


def test_another_unit_of_flux_is_noticed(tmp_path: Path) -> None:
    def unit(file: fits.HDUList) -> None:
        file[1].columns["SAP_FLUX"].unit = "mJy"

    body = changed(kepler_file(1, gappy_cadences(3, 9, 1.0, 0.5)), unit)
    [table] = light_curve_rows(written(tmp_path, body), KEPLER_KEYWORDS)
    with pytest.raises(BadBodyError, match="SAP_FLUX must be in electron/s; the body states 'mJy'"):
        conform(table, archive_named("kepler_k2").table("light_curves"))


@pytest.mark.parametrize(
    ("column", "message"),
    [("PDCSAP_FLUX", "lacks PDCSAP_FLUX"), ("SAP_FLUX_ERR", "lacks SAP_FLUX_ERR"), ("CADENCENO", "lacks CADENCENO")],
)
def test_a_column_that_vanished_is_named(tmp_path: Path, column: str, message: str) -> None:
    body = kepler_file(1, gappy_cadences(3, 9, 1.0, 0.5)).replace(f"'{column}'".encode(), f"'X{column[1:]}'".encode())
    with pytest.raises(BadBodyError, match=message):
        list(light_curve_rows(written(tmp_path, body), KEPLER_KEYWORDS))


def test_a_file_without_reference_of_time_is_refused(tmp_path: Path) -> None:
    def forget(file: fits.HDUList) -> None:
        del file[1].header["BJDREFI"]

    body = changed(kepler_file(1, gappy_cadences(3, 9, 1.0, 0.5)), forget)
    with pytest.raises(BadBodyError, match="no BJDREFI, so its times have no reference"):
        list(light_curve_rows(written(tmp_path, body), KEPLER_KEYWORDS))


def test_a_keyword_of_another_kind_is_named(tmp_path: Path) -> None:
    def spoil(file: fits.HDUList) -> None:
        file[0].header["CHANNEL"] = "thirty"

    body = changed(kepler_file(1, gappy_cadences(3, 9, 1.0, 0.5)), spoil)
    with pytest.raises(BadBodyError, match="keyword CHANNEL must be int64; got 'thirty'"):
        list(light_curve_rows(written(tmp_path, body), KEPLER_KEYWORDS))


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_cut_file_is_refused(tmp_path: Path, share: float) -> None:
    body = kepler_file(1, gappy_cadences(3, 400, 1.0, 0.5))
    with pytest.raises(BadBodyError):
        list(light_curve_rows(written(tmp_path, body[: int(len(body) * share)]), KEPLER_KEYWORDS))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([], "has no cadence"),
        ([3, 5, 5], "must increase"),
        ([3, 2], "must increase"),
        ([0, 2**31 - 1], "spans 2147483648 cadences"),
    ],
)
def test_impossible_cadences_are_refused(numbers: list[int], message: str) -> None:
    with pytest.raises(BadBodyError, match=message):
        cadence_grid(np.array(numbers, dtype=np.int32))


def test_a_cutout_is_read_as_a_slow_reader_reads_it(tmp_path: Path) -> None:
    cadences = gappy_cadences(4_697, 11, 1325.25, 0.0208)
    answer = written(tmp_path, cutout_zip(107.27, -70.0, 33, cadences, rows=3, columns=5), {"tic": "123"})
    [table] = cutout_rows(answer)
    [row] = conformed("tess", "cutouts", table)
    assert row == cutout_row(107.27, -70.0, 33, cadences, "123", rows=3, columns=5)
    assert np.array(row["FLUX"], dtype=float).reshape(row["shape"])[0, 2, 4] == cadences[0].sap + 24


def repacked(body: bytes, name: str | None = None, change: Callable[[bytes], bytes] = lambda body: body) -> bytes:
    new = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(body)) as old, zipfile.ZipFile(new, "w") as archive:
        for item in old.namelist():
            archive.writestr(name or item, change(old.read(item)))
    return new.getvalue()


def test_damaged_cutouts_are_refused(tmp_path: Path) -> None:
    body = cutout_zip(10.5, -7.25, 3, gappy_cadences(1, 9, 1.0, 0.5))
    name = "tess-s0003-2-3_10.5_-7.25_3x2_astrocut.fits"
    for bad, message in [
        (body[:-40], "cannot be read"),
        (b"PK\x05\x06" + bytes(18), "has no cutout"),
        (repacked(body, "readme.txt"), "must have cutouts alone; it has 'readme.txt'"),
        (repacked(body, name), "is named for CAMERA 2; its header has 4"),
        (repacked(body, change=lambda part: part.replace(b"'FLUX_BKG'", b"'FLUX_BKX'")), "lacks FLUX_BKG"),
        (
            repacked(body, change=lambda part: part.replace(b"BJD - 2457000", b"JD          "[:13].ljust(13))),
            "relative to",
        ),
    ]:
        with pytest.raises(BadBodyError, match=message):
            list(cutout_rows(written(tmp_path, bad)))


def test_spectra_of_several_tables_and_of_a_time_series(tmp_path: Path) -> None:
    [tables] = read_spectra(written(tmp_path, x1d_file("a_x1d.fits", 3, (5, 11, 2))), SPECTRUM_KEYWORDS)
    assert conformed("jwst_mast", "spectra", tables) == spectrum_rows("a_x1d.fits", 3, (5, 11, 2))
    [series] = read_spectra(written(tmp_path, x1d_integrations_file("b_x1dints.fits", 4, 3, 7)), SPECTRUM_KEYWORDS)
    expected = spectrum_rows("b_x1dints.fits", 4, (7, 7, 7), time_series=True)
    assert conformed("jwst_mast", "spectra", series) == expected


def test_other_files_are_no_spectra(tmp_path: Path) -> None:
    body = x1d_file("a_x1d.fits", 3)
    with pytest.raises(BadBodyError, match="no table EXTRACT1D"):
        list(read_spectra(written(tmp_path, body.replace(b"EXTRACT1D", b"EXTRACT2D")), SPECTRUM_KEYWORDS))
    with pytest.raises(BadBodyError, match="table 1 EXTRACT1D lacks FLUX_ERROR"):
        list(read_spectra(written(tmp_path, body.replace(b"'FLUX_ERROR'", b"'FLUX_ERRXX'")), SPECTRUM_KEYWORDS))
    at = body.rindex(b"'MJy/sr")
    other = body[:at] + b"'mJy/sr" + body[at + 7 :]
    with pytest.raises(BadBodyError, match="different units of SB_ERROR"):
        list(read_spectra(written(tmp_path, other), SPECTRUM_KEYWORDS))


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (kepler_file(1, gappy_cadences(3, 9, 1.0, 0.5)), {"kepler_k2 light_curves"}),
        (tess_file(1, gappy_cadences(3, 9, 1.0, 0.5)), {"tess light_curves"}),
        (x1d_file("jw1_x1d.fits", 1), {"jwst_mast spectra"}),
        (cutout_zip(1.5, 2.5, 3, gappy_cadences(3, 9, 1.0, 0.5)), {"tess cutouts"}),
        (b"SIMPLE  =                    T", set()),
        (b"PK\x03\x04 another archive", set()),
    ],
)
def test_files_are_recognised_by_their_content(body: bytes, names: set[str]) -> None:
    found = {
        f"{source} {table.name}"
        for source in ("jwst_mast", "kepler_k2", "tess")
        for table in archive_named(source).tables
        if table.recognise("anything", body[:65_536])
    }
    assert found == names


def test_a_body_that_is_no_fits_may_be_asked_for_again(tmp_path: Path) -> None:
    answer = written(tmp_path, b"not FITS")
    with pytest.raises(BadBodyError, match="cannot be read") as caught:
        list(light_curve_rows(answer, KEPLER_KEYWORDS))
    assert caught.value.again


@pytest.mark.parametrize("name", ["kplr000000123-2012_llc.fits", "ktwo000000123-c05_llc.fits", ""])
def test_a_light_curve_of_the_star_that_was_asked_for(tmp_path: Path, name: str) -> None:
    body = kepler_file(123, gappy_cadences(3, 9, 1.0, 0.5))
    [table] = light_curve_rows(written(tmp_path, body, uri=f"mast:KEPLER/x/{name}"), KEPLER_KEYWORDS)
    assert table["OBJECT"].to_pylist() == ["KIC 123"]


@pytest.mark.parametrize(
    "name", ["tess1-s0014-0000000000000124-s_lc.fits", "tess1-s0015-0000000000000123-s_lc.fits", "tess1231.fits"]
)
def test_a_light_curve_of_another_star_or_sector_is_refused(tmp_path: Path, name: str) -> None:
    answer = written(tmp_path, tess_file(123, gappy_cadences(3, 9, 1.0, 0.5)), uri=f"mast:TESS/product/{name}")
    with pytest.raises(BadBodyError, match=f"sent the light curve of TIC 123, sector 14 for {name}") as caught:
        list(light_curve_rows(answer, TESS_KEYWORDS))
    assert caught.value.again


def test_another_spectrum_or_cutout_is_refused(tmp_path: Path) -> None:
    spectrum = written(tmp_path, x1d_file("a_x1d.fits", 1), uri="mast:JWST/product/b_x1d.fits")
    with pytest.raises(BadBodyError, match=r"sent a_x1d.fits for b_x1d.fits"):
        list(read_spectra(spectrum, SPECTRUM_KEYWORDS))
    body = cutout_zip(10.5, -7.25, 3, gappy_cadences(1, 9, 1.0, 0.5))
    asked = {"ra": "10.5", "dec": "-7.25", "sector": "3"}
    assert len(list(cutout_rows(written(tmp_path, body, **asked)))) == 1
    for name, value in (("ra", "10.75"), ("dec", "7.25"), ("sector", "4")):
        with pytest.raises(BadBodyError, match=f"astrocut.fits for {name} {value}"):
            list(cutout_rows(written(tmp_path, body, **{**asked, name: value})))
