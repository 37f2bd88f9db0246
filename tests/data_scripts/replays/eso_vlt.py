"""ESO archive: data products and raw frames by TAP, and spectra that a list of products leads to."""

import io
from typing import Any

import numpy as np
from astropy.io import fits
from made_up_rows import made_up_row
from replay import Asked, Replay, Reply
from tap_answers import rename_in_votable, tap_answers, tap_error

from data_scripts.archives.eso_vlt import ARCHIVE
from data_scripts.archives.protocols.eso_spectra import KEYWORDS


SOURCE = "eso_vlt"


def products(number_of_rows: int) -> list[dict[str, Any]]:
    """Data products in the order of the windows, which are of time; the last ones have none."""
    rows = []
    for number in range(number_of_rows):
        row = made_up_row(ARCHIVE.table("obscore").columns, number)
        row |= {"dp_id": f"ADP.2020-01-02T03:04:{number:02d}.678", "target_name": f"Test-{number} β"}
        row |= {"obs_collection": "NOBODY'S", "dataproduct_type": "spectrum" if number % 7 == 2 else "image"}
        row["t_min"] = None if number >= number_of_rows - 2 else 55_000.123456 + 11 * number
        rows.append(row)
    return rows


def frames(number_of_rows: int) -> list[dict[str, Any]]:
    """Raw frames in the order of the windows; one is older than the telescope."""
    rows = []
    for number in range(number_of_rows):
        row = made_up_row(ARCHIVE.table("raw").columns, number)
        row |= {"dp_id": f"TEST.2009-05-{number:02d}", "object": f"TEST {number}", "instrument": "TESTSPEC"}
        row["exp_start"] = "1950-02-03T04:05:06Z" if number == 0 else f"2009-05-{number:02d}T10:17:41.160Z"
        rows.append(row)
    return rows


PRODUCTS, FRAMES = products(26), frames(30)
SPECTRA_IDS = [row["dp_id"] for row in PRODUCTS if row["dataproduct_type"] == "spectrum"]
tap = tap_answers(
    "/tap_obs/sync",
    {"ivoa.ObsCore": (ARCHIVE.table("obscore").columns, PRODUCTS), "dbo.raw": (ARCHIVE.table("raw").columns, FRAMES)},
    {},
)


def spectrum(dp_id: str) -> dict[str, Any]:
    """A spectrum of odd length with a value that is no number and one of bad quality."""
    number = SPECTRA_IDS.index(dp_id)
    row = made_up_row(KEYWORDS, number)
    row |= {"ARCFILE": f"{dp_id}.fits", "OBJECT": f"TEST {number}"}
    # Headers of FITS files are ASCII.
    row = {name: ascii(value).strip("'") if isinstance(value, str) else value for name, value in row.items()}
    wave = 300 + 0.25 * np.arange(37 + number)
    flux = np.sqrt(wave)
    flux[5] = np.nan
    mask = [bool(place not in (5, 11)) for place in range(len(wave))]
    return {
        **row,
        "WAVE": wave.tolist(),
        "wave_unit": "nm",
        "FLUX": [None if np.isnan(value) else value for value in flux.tolist()],
        "flux_unit": "adu",
        "ERR": (wave / 100).tolist(),
        "mask": mask,
    }


def spectrum_file(dp_id: str) -> bytes:
    row = spectrum(dp_id)
    head = fits.PrimaryHDU()
    head.header["PRODCATG"] = "SCIENCE.SPECTRUM"
    for column in KEYWORDS:
        if row[column.name] is not None:
            head.header[column.name] = row[column.name]
    flux = np.array([np.nan if value is None else value for value in row["FLUX"]])
    quality = np.array([0 if good or place == 5 else 1 for place, good in enumerate(row["mask"])])
    size = len(flux)
    arrays = (("WAVE", np.array(row["WAVE"]), "nm"), ("FLUX", flux, "adu"), ("ERR", np.array(row["ERR"]), "adu"))
    columns = [fits.Column(name, f"{size}D", unit=unit, array=values[None]) for name, values, unit in arrays]
    columns.append(fits.Column("QUAL", f"{size}J", array=quality[None]))
    file = io.BytesIO()
    fits.HDUList([head, fits.BinTableHDU.from_columns(columns, name="SPECTRUM")]).writeto(file)
    return file.getvalue()


FILES = {name: spectrum_file(name) for name in SPECTRA_IDS}


def archive(asked: Asked) -> Reply:
    name = asked.path.removeprefix("/dataPortal/file/")
    if name in FILES:
        return Reply(headers={"content-type": "application/fits"}, body=FILES[name])
    return tap(asked)


def without_wavelengths(reply: Reply) -> Reply:
    return Reply(reply.status, reply.headers, reply.body.replace(b"'WAVE    '", b"'LAMBDA  '"))


ERROR = tap_error("Incorrect ADQL query: 1 unresolved identifier")
OPTIONS = {"page_rows": "11"}
REPLAYS = [
    Replay(SOURCE, "obscore", OPTIONS, archive, PRODUCTS, rename_in_votable("em_min", "wave_min"), ERROR),
    Replay(SOURCE, "raw", OPTIONS, archive, FRAMES, rename_in_votable("exposure", "exptime"), ERROR),
    Replay(
        SOURCE,
        "spectra",
        {"page_rows": "3", "collection": "NOBODY'S"},
        archive,
        [spectrum(name) for name in SPECTRA_IDS],
        without_wavelengths,
        ERROR,
    ),
]
