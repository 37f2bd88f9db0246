"""Cutouts of TESS full-frame images by TESScut: a zip archive of target pixel files, one row each.

Interface and layout: https://mast.stsci.edu/tesscut/docs/ and https://astrocut.readthedocs.io (target pixel files).
"""

import re
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.io import fits

from data_scripts.archives.protocols.fits_tables import header_value, native, open_fits, table_with
from data_scripts.archives.protocols.light_curves import cadence_grid, flux_unit, on_grid, one_row, time_reference
from data_scripts.harness.archive import Answer, Column
from data_scripts.harness.errors import BadBodyError


__all__ = ["CUTOUT", "cutout_rows", "is_cutout"]

# File names are tess-s<sector>-<camera>-<ccd>_<ra>_<dec>_<columns>x<rows>_astrocut.fits.
FILE_NAME = re.compile(r"tess-s(\d{4})-(\d)-(\d)_.*_astrocut\.fits$")

# Headers have the position as it was asked for, up to rounding.
SAME_PLACE_DEG = 1e-4

TEXT, REAL, COUNT = pa.string(), pa.float64(), pa.int32()
CUBE = pa.list_(pa.float32())

CUTOUT = (
    Column("file", TEXT, "Name of the file in the zip archive", required=True),
    Column("TIC", TEXT, "TIC number of the star that the cutout was asked for; null for a bare position"),
    Column("position", TEXT, "RA_OBJ and DEC_OBJ to six decimals", required=True),
    Column("RA_OBJ", REAL, "Right ascension of the middle", unit="deg", required=True, minimum=0, maximum=360),
    Column("DEC_OBJ", REAL, "Declination of the middle", unit="deg", required=True, minimum=-90, maximum=90),
    Column("SECTOR", COUNT, "Sector", required=True, minimum=1),
    Column("CAMERA", COUNT, "Camera", required=True, minimum=1, maximum=4),
    Column("CCD", COUNT, "Chip of the camera", required=True, minimum=1, maximum=4),
    Column("DATA_REL", COUNT, "Data release", minimum=0),
    Column("PROCVER", TEXT, "Version of the pipeline"),
    Column("time_reference_bjd", REAL, "Barycentric Julian Date of TIME 0", unit="d", required=True),
    Column("TIMESYS", TEXT, "Time scale of TIME", required=True),
    Column("shape", pa.list_(pa.int32()), "Cadences, rows and columns of every cube", required=True, minimum=1),
    Column("usable_cadences", COUNT, "Number of cadences where mask is true", required=True, minimum=0),
    Column("TIME", pa.list_(REAL), "Barycentric time of mid-cadence minus `time_reference_bjd`", unit="d"),
    Column("TIMECORR", pa.list_(pa.float32()), "Barycentric correction that TIME has", unit="d"),
    Column("CADENCENO", pa.list_(pa.int32()), "Number of the cadence, without gaps"),
    Column("FLUX", CUBE, "Flux, cadence by cadence and row by row", unit="electron/s"),
    Column("FLUX_ERR", CUBE, "Standard deviation of FLUX", unit="electron/s"),
    Column("FLUX_BKG", CUBE, "Background that was subtracted", unit="electron/s"),
    Column("QUALITY", pa.list_(pa.int32()), "Quality bits of the cadence; 0 where the file has no row"),
    Column("recorded", pa.list_(pa.bool_()), "True where the file has a row for the cadence"),
    Column("mask", pa.list_(pa.bool_()), "True where usable: TIME and some FLUX are numbers, no quality bit is set"),
)
BY_CADENCE = ("TIME", "TIMECORR", "CADENCENO", "FLUX", "FLUX_ERR", "FLUX_BKG", "QUALITY")


def cutout_rows(answer: Answer) -> Iterator[pa.Table]:
    """Read a zip archive, one table of one row for each of its files.

    Raises:
        BadBodyError: If the archive or a file of it is damaged, or has other files than the cutouts asked for.
    """
    star = dict(answer.request.context).get("tic") or None
    asked = {name: float(value) for name, value in answer.request.params}
    try:
        with zipfile.ZipFile(answer.path) as archive:
            if not archive.namelist():
                raise BadBodyError("the zip archive has no cutout")
            for name in sorted(archive.namelist()):
                found = FILE_NAME.search(name)
                if found is None:
                    raise BadBodyError(f"the zip archive must have cutouts alone; it has {name!r}")
                sector, camera, ccd = (int(digits) for digits in found.groups())
                yield _row(name, archive.read(name), {"SECTOR": sector, "CAMERA": camera, "CCD": ccd}, star, asked)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise BadBodyError(f"the zip archive cannot be read: {error}", again=True) from error


def is_cutout(head: bytes) -> bool:
    """Whether the first bytes of a file are a zip archive that begins with a cutout."""
    return head.startswith(b"PK\x03\x04") and b"_astrocut.fits" in head[:300]


def _row(name: str, body: bytes, of_name: dict[str, int], star: str | None, asked: dict[str, float]) -> pa.Table:
    columns = {column.name: column for column in CUTOUT}
    with open_fits(body) as file:
        table = table_with(file, *BY_CADENCE)
        headers = (file[0].header, table.header)
        values: dict[str, Any] = {
            keyword: header_value(headers, columns[keyword])
            for keyword in ("RA_OBJ", "DEC_OBJ", "SECTOR", "CAMERA", "CCD", "DATA_REL", "PROCVER")
        }
        recorded = {column: native(table.data[column]) for column in BY_CADENCE}
        units = {column: flux_unit(table.columns[column].unit) for column in BY_CADENCE if "FLUX" in column}
        reference, scale = _time_reference(table)
    # Early files leave the sector empty; their name has it.
    for keyword, number in of_name.items():
        if values[keyword] not in (None, number):
            raise BadBodyError(f"{name} is named for {keyword} {number}; its header has {values[keyword]}")
        values[keyword] = number
    if values["RA_OBJ"] is None or values["DEC_OBJ"] is None:
        raise BadBodyError(f"the header of {name} has no RA_OBJ or no DEC_OBJ")
    for parameter, keyword in (("ra", "RA_OBJ"), ("dec", "DEC_OBJ"), ("sector", "SECTOR")):
        wanted = asked.get(parameter, values[keyword])
        if abs(wanted - values[keyword]) > SAME_PLACE_DEG:
            raise BadBodyError(f"the archive sent {name} for {parameter} {wanted:g}", again=True)
    if recorded["FLUX"].ndim != 3:
        raise BadBodyError(f"FLUX of {name} must be a cube; it has {recorded['FLUX'].ndim} axes")

    positions, length = cadence_grid(recorded["CADENCENO"])
    series = {column: on_grid(recorded[column], positions, length, columns[column]) for column in BY_CADENCE}
    series["CADENCENO"] = np.arange(length, dtype=np.int32) + recorded["CADENCENO"][0]
    present = np.zeros(length, dtype=bool)
    present[positions] = True
    usable = (
        present & np.isfinite(series["TIME"]) & np.isfinite(series["FLUX"]).any(axis=(1, 2)) & (series["QUALITY"] == 0)
    )
    row = {
        **values,
        **{column: cells.ravel() for column, cells in series.items()},
        "file": name,
        "TIC": star,
        "position": f"{values['RA_OBJ']:.6f} {values['DEC_OBJ']:+.6f}",
        "time_reference_bjd": reference,
        "TIMESYS": scale,
        "shape": list(series["FLUX"].shape),
        "recorded": present,
        "mask": usable,
        "usable_cadences": int(usable.sum()),
    }
    return one_row(row, CUTOUT, units)


def _time_reference(table: fits.BinTableHDU) -> tuple[float, str]:
    """Time reference by the header or, where the header lacks it, by the unit `BJD - 2457000, days`."""
    if "BJDREFI" in table.header:
        return time_reference(table.header)
    stated = re.match(r"\s*BJD\s*-\s*(\d+)", table.columns["TIME"].unit or "")
    if stated is None:
        raise BadBodyError("neither BJDREFI nor the unit of TIME states what TIME is relative to")
    return float(stated[1]), str(table.header.get("TIMESYS", "TDB"))
