"""Made-up FITS files in the layout of Kepler, K2, TESS and TESScut, and what a row of each must be, slowly."""

import io
import math
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.io import fits


__all__ = [
    "Cadence",
    "cutout_row",
    "cutout_zip",
    "gappy_cadences",
    "kepler_file",
    "kepler_row",
    "tess_file",
    "tess_row",
]

NAN = float("nan")


@dataclass(frozen=True)
class Cadence:
    """One row of a light-curve file."""

    number: int
    time: float
    sap: float
    pdc: float
    quality: int = 0


def gappy_cadences(first: int, count: int, start: float, step: float) -> list[Cadence]:
    """Cadences with one left out of the file, one without time, one without corrected flux and one of bad quality."""
    rows = []
    for position in range(count):
        if position == 3:
            continue
        rows.append(
            Cadence(
                first + position,
                NAN if position == 5 else start + step * position,
                NAN if position == 5 else 1000.5 + position,
                NAN if position in (5, 6) else 1001.25 + position,
                {5: 16, 7: 128}.get(position, 0),
            )
        )
    return rows


def kepler_file(number: int, cadences: list[Cadence], quarter: int | None = 4, campaign: int | None = None) -> bytes:
    """A light curve of Kepler, or of K2 where a campaign is given."""
    k2 = campaign is not None
    header = {
        "TELESCOP": "Kepler",
        "OBJECT": f"{'EPIC' if k2 else 'KIC'} {number}",
        "KEPLERID": number,
        "MISSION": "K2" if k2 else "Kepler",
        **({"CAMPAIGN": campaign} if k2 else {"QUARTER": quarter}),
        "OBSMODE": "long cadence",
        "CHANNEL": 31,
        "DATA_REL": 25,
        "PROCVER": "svn+made-up",
        "RA_OBJ": 290.125,
        "DEC_OBJ": 44.5,
        "KEPMAG": 12.75,
        "TEFF": 5777.0,
        "LOGG": 4.5,
        "FEH": fits.card.Undefined(),
        "RADIUS": 1.0,
    }
    return _file(header, cadences, 2454833, 0.0204, "SAP_QUALITY")


def kepler_row(number: int, cadences: list[Cadence], quarter: int | None = 4, campaign: int | None = None) -> dict:
    """What `kepler_file` must be read as."""
    k2 = campaign is not None
    return {
        "OBJECT": f"{'EPIC' if k2 else 'KIC'} {number}",
        "MISSION": "K2" if k2 else "Kepler",
        "QUARTER": None if k2 else quarter,
        "CAMPAIGN": campaign,
        "OBSMODE": "long cadence",
        "CHANNEL": 31,
        "DATA_REL": 25,
        "PROCVER": "svn+made-up",
        "TIMEDEL": 0.0204,
        "RA_OBJ": 290.125,
        "DEC_OBJ": 44.5,
        "KEPMAG": 12.75,
        "TEFF": 5777.0,
        "LOGG": 4.5,
        "FEH": None,
        "RADIUS": 1.0,
        "CROWDSAP": 0.9375,
        "FLFRCSAP": None,
        **_series(cadences, 2454833.0),
    }


def tess_file(number: int, cadences: list[Cadence], sector: int = 14) -> bytes:
    """A light curve of TESS."""
    header = {
        "TELESCOP": "TESS",
        "OBJECT": f"TIC {number}",
        "TICID": number,
        "SECTOR": sector,
        "CAMERA": 2,
        "CCD": 4,
        "DATA_REL": 19,
        "PROCVER": "spoc-made-up",
        "TICVER": "8",
        "RA_OBJ": 10.0625,
        "DEC_OBJ": -70.25,
        "TESSMAG": 9.5,
        "TEFF": 4800.0,
        "LOGG": 4.25,
        "MH": -0.125,
        "RADIUS": fits.card.Undefined(),
    }
    return _file(header, cadences, 2457000, 0.00138, "QUALITY")


def tess_row(number: int, cadences: list[Cadence], sector: int = 14) -> dict:
    """What `tess_file` must be read as."""
    return {
        "OBJECT": f"TIC {number}",
        "TICID": number,
        "SECTOR": sector,
        "CAMERA": 2,
        "CCD": 4,
        "DATA_REL": 19,
        "PROCVER": "spoc-made-up",
        "TICVER": "8",
        "TIMEDEL": 0.00138,
        "RA_OBJ": 10.0625,
        "DEC_OBJ": -70.25,
        "TESSMAG": 9.5,
        "TEFF": 4800.0,
        "LOGG": 4.25,
        "MH": -0.125,
        "RADIUS": None,
        "CROWDSAP": 0.9375,
        "FLFRCSAP": None,
        **_series(cadences, 2457000.0),
    }


def cutout_zip(ra: float, dec: float, sector: int, cadences: list[Cadence], rows: int = 2, columns: int = 3) -> bytes:
    """A zip archive of one cutout; its pixels are the cadence's flux plus ten times the row plus the column."""
    pixels = np.array([[[c.sap + 10 * y + x for x in range(columns)] for y in range(rows)] for c in cadences])
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("TIME", "D", "BJD - 2457000, days", array=[c.time for c in cadences]),
            fits.Column("TIMECORR", "E", "d", array=[0.0] * len(cadences)),
            fits.Column("CADENCENO", "J", array=[c.number for c in cadences]),
            *(
                fits.Column(name, f"{rows * columns}E", "e-/s", dim=f"({columns},{rows})", array=pixels * scale)
                for name, scale in (("FLUX", 1.0), ("FLUX_ERR", 0.5), ("FLUX_BKG", 0.25))
            ),
            fits.Column("QUALITY", "J", array=[c.quality for c in cadences]),
        ],
        name="PIXELS",
    )
    primary = fits.PrimaryHDU()
    # The early cutouts have an empty sector.
    primary.header.update({"TELESCOP": "TESS", "SECTOR": "", "CAMERA": 4, "CCD": 3, "RA_OBJ": ra, "DEC_OBJ": dec})
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        name = zipfile.ZipInfo(cutout_name(ra, dec, sector, rows, columns))
        archive.writestr(name, _bytes(fits.HDUList([primary, table])))
    return packed.getvalue()


def cutout_name(ra: float, dec: float, sector: int, rows: int, columns: int) -> str:
    """Name of a cutout's file."""
    return f"tess-s{sector:04d}-4-3_{ra}_{dec}_{columns}x{rows}_astrocut.fits"


def cutout_row(
    ra: float,
    dec: float,
    sector: int,
    cadences: list[Cadence],
    star: str | None = None,
    rows: int = 2,
    columns: int = 3,
) -> dict:
    """What `cutout_zip` must be read as."""
    grid = _grid(cadences)
    flux = [
        None if c is None or math.isnan(c.sap) else c.sap + 10 * y + x
        for c in grid
        for y in range(rows)
        for x in range(columns)
    ]
    mask = [c is not None and not math.isnan(c.time) and not math.isnan(c.sap) and c.quality == 0 for c in grid]
    return {
        "file": cutout_name(ra, dec, sector, rows, columns),
        "TIC": star,
        "position": f"{ra:.6f} {dec:+.6f}",
        "RA_OBJ": ra,
        "DEC_OBJ": dec,
        "SECTOR": sector,
        "CAMERA": 4,
        "CCD": 3,
        "DATA_REL": None,
        "PROCVER": None,
        "time_reference_bjd": 2457000.0,
        "TIMESYS": "TDB",
        "shape": [len(grid), rows, columns],
        "usable_cadences": sum(mask),
        "TIME": [_number(c and c.time) for c in grid],
        "TIMECORR": [None if c is None else 0.0 for c in grid],
        "CADENCENO": list(range(cadences[0].number, cadences[-1].number + 1)),
        "FLUX": flux,
        "FLUX_ERR": [None if value is None else value * 0.5 for value in flux],
        "FLUX_BKG": [None if value is None else value * 0.25 for value in flux],
        "QUALITY": [0 if c is None else c.quality for c in grid],
        "recorded": [c is not None for c in grid],
        "mask": mask,
    }


def _file(header: dict[str, Any], cadences: list[Cadence], reference: int, step: float, quality: str) -> bytes:
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("TIME", "D", f"BJD - {reference}", array=[c.time for c in cadences]),
            fits.Column("TIMECORR", "E", "d", array=[0.0 * c.time for c in cadences]),
            fits.Column("CADENCENO", "J", array=[c.number for c in cadences]),
            fits.Column("SAP_FLUX", "E", "e-/s", array=[c.sap for c in cadences]),
            fits.Column("SAP_FLUX_ERR", "E", "e-/s", array=[c.sap / 8 for c in cadences]),
            fits.Column("PDCSAP_FLUX", "E", "e-/s", array=[c.pdc for c in cadences]),
            fits.Column("PDCSAP_FLUX_ERR", "E", "e-/s", array=[c.pdc / 8 for c in cadences]),
            fits.Column(quality, "J", array=[c.quality for c in cadences]),
        ],
        name="LIGHTCURVE",
    )
    table.header.update({"BJDREFI": reference, "BJDREFF": 0.0, "TIMESYS": "TDB", "TIMEDEL": step, "CROWDSAP": 0.9375})
    primary = fits.PrimaryHDU()
    primary.header.update(header)
    return _bytes(fits.HDUList([primary, table]))


def _bytes(file: fits.HDUList) -> bytes:
    written = io.BytesIO()
    file.writeto(written)
    return written.getvalue()


def _grid(cadences: list[Cadence]) -> list[Cadence | None]:
    by_number = {c.number: c for c in cadences}
    return [by_number.get(number) for number in range(cadences[0].number, cadences[-1].number + 1)]


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _series(cadences: list[Cadence], reference: float) -> dict:
    grid = _grid(cadences)
    mask = [c is not None and c.quality == 0 and not math.isnan(c.time) and not math.isnan(c.pdc) for c in grid]
    return {
        "time_reference_bjd": reference,
        "TIMESYS": "TDB",
        "cadence_start": cadences[0].number,
        "cadences": len(grid),
        "usable_cadences": sum(mask),
        "TIME": [_number(c and c.time) for c in grid],
        "TIMECORR": [None if c is None or math.isnan(c.time) else 0.0 for c in grid],
        "CADENCENO": list(range(cadences[0].number, cadences[-1].number + 1)),
        "SAP_FLUX": [_number(c and c.sap) for c in grid],
        "SAP_FLUX_ERR": [_number(c and c.sap / 8) for c in grid],
        "PDCSAP_FLUX": [_number(c and c.pdc) for c in grid],
        "PDCSAP_FLUX_ERR": [_number(c and c.pdc / 8) for c in grid],
        "QUALITY": [0 if c is None else c.quality for c in grid],
        "recorded": [c is not None for c in grid],
        "mask": mask,
    }
