"""Made-up FITS files in the layout of JWST's extracted spectra, and what their rows must be, slowly."""

import io
import math

import numpy as np
from astropy.io import fits


__all__ = ["spectrum_rows", "x1d_file", "x1d_integrations_file"]

NAN = float("nan")
UNITS = {"WAVELENGTH": "um", "FLUX": "Jy", "FLUX_ERROR": "Jy", "SURF_BRIGHT": "MJy/sr", "SB_ERROR": "MJy/sr"}


def pixels(seed: int, number: int, length: int) -> list[dict]:
    """Rows of a table: one without flux, one not to be used, one with a harmless quality bit."""
    return [
        {
            "WAVELENGTH": 0.5 + 0.125 * pixel,
            "FLUX": NAN if pixel == 1 else 1e-3 * (seed + number) + pixel,
            "FLUX_ERROR": 0.0625,
            "SURF_BRIGHT": 2.0 + pixel,
            "SB_ERROR": 0.25,
            "DQ": {2: 1, 3: 4}.get(pixel, 0),
        }
        for pixel in range(length)
    ]


def x1d_file(name: str, seed: int, lengths: tuple[int, ...] = (5, 7)) -> bytes:
    """A file with a table for each length."""
    tables = []
    for number, length in enumerate(lengths, start=1):
        rows = pixels(seed, number, length)
        columns = [fits.Column(n, "D", unit, array=[row[n] for row in rows]) for n, unit in UNITS.items()]
        columns.append(fits.Column("DQ", "J", bzero=2**31, array=np.array([row["DQ"] for row in rows], np.uint32)))
        table = fits.BinTableHDU.from_columns(columns, name="EXTRACT1D")
        table.header.update({"SRCTYPE": "POINT", "SPORDER": number})
        tables.append(table)
    return _bytes(fits.HDUList([_primary(name), *tables]))


def x1d_integrations_file(name: str, seed: int, integrations: int, length: int) -> bytes:
    """A time series: one table with a row of arrays for each integration."""
    rows = [pixels(seed, number, length) for number in range(1, integrations + 1)]
    columns = [
        fits.Column(n, f"{length}D", unit, array=np.array([[pixel[n] for pixel in row] for row in rows]))
        for n, unit in UNITS.items()
    ]
    columns.append(fits.Column("DQ", f"{length}J", array=np.array([[pixel["DQ"] for pixel in row] for row in rows])))
    table = fits.BinTableHDU.from_columns(columns, name="EXTRACT1D")
    table.header.update({"SRCTYPE": "POINT", "SPORDER": 1})
    return _bytes(fits.HDUList([_primary(name), table]))


def spectrum_rows(name: str, seed: int, lengths: tuple[int, ...] = (5, 7), time_series: bool = False) -> list[dict]:
    """What the files must be read as; of a time series, the lengths are those of its integrations."""
    found = []
    for number, length in enumerate(lengths, start=1):
        rows = pixels(seed, number, length)
        series = {name: [None if math.isnan(row[name]) else row[name] for row in rows] for name in (*UNITS, "DQ")}
        found.append(
            {
                **KEYWORDS,
                "FILENAME": name,
                "SPORDER": 1 if time_series else number,
                "SRCTYPE": "POINT",
                "table": 1 if time_series else number,
                "integration": number if time_series else 0,
                **series,
                "mask": [not math.isnan(row["FLUX"]) and row["DQ"] % 2 == 0 for row in rows],
            }
        )
    return found


KEYWORDS = {
    "FILENAME": None,
    "PROGRAM": "09999",
    "TARGPROP": "TEST-1",
    "TARGNAME": None,
    "SOURCEID": None,
    "TARG_RA": 217.25,
    "TARG_DEC": -3.5,
    "INSTRUME": "NIRSPEC",
    "DETECTOR": "NRS1",
    "FILTER": "CLEAR",
    "GRATING": "PRISM",
    "SPORDER": None,
    "EXP_TYPE": "NRS_BRIGHTOBJ",
    "SRCTYPE": None,
    "DATE-BEG": "2026-01-02T03:04:05.678",
    "EFFEXPTM": 1234.5,
    "CAL_VER": "1.99.0",
    "CRDS_CTX": "jwst_9999.pmap",
}


def _primary(name: str) -> fits.PrimaryHDU:
    primary = fits.PrimaryHDU()
    primary.header.update({"TELESCOP": "JWST", **{k: v for k, v in KEYWORDS.items() if v is not None}})
    primary.header["FILENAME"] = name
    return primary


def _bytes(file: fits.HDUList) -> bytes:
    written = io.BytesIO()
    file.writeto(written)
    return written.getvalue()
