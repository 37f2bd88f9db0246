"""Light curves of Kepler, K2 and TESS: one FITS file as one row.

Layout: Kepler Archive Manual (KDMC-10008), section 2.3.1, and TESS Science Data Products Description Document
(EXP-TESS-ARC-ICD-0014), section 5. A pipeline keeps a row for every cadence, with TIME not a number where none was
observed; where rows are left out, CADENCENO tells so, and they are put back here. The grid of a light curve is never
shorter than what the spacecraft's clock says.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.io import fits

from data_scripts.archives.protocols.fits_tables import header_value, native, open_fits, table_with
from data_scripts.archives.protocols.mast import asked_file
from data_scripts.harness.archive import Answer, Column
from data_scripts.harness.errors import BadBodyError


__all__ = ["cadence_grid", "is_light_curve", "light_curve_columns", "light_curve_rows", "time_reference"]

# A year of 20-second cadences; a larger grid means that CADENCENO is damaged.
LONGEST_GRID = 1_600_000

SERIES = (
    Column("TIME", pa.list_(pa.float64()), "Barycentric time of mid-cadence minus `time_reference_bjd`", unit="d"),
    Column("TIMECORR", pa.list_(pa.float32()), "Barycentric correction that TIME has", unit="d"),
    Column("CADENCENO", pa.list_(pa.int32()), "Number of the cadence, without gaps"),
    Column("SAP_FLUX", pa.list_(pa.float32()), "Flux of the aperture", unit="electron/s"),
    Column("SAP_FLUX_ERR", pa.list_(pa.float32()), "Standard deviation of SAP_FLUX", unit="electron/s"),
    Column("PDCSAP_FLUX", pa.list_(pa.float32()), "Flux without systematic errors", unit="electron/s"),
    Column("PDCSAP_FLUX_ERR", pa.list_(pa.float32()), "Standard deviation of PDCSAP_FLUX", unit="electron/s"),
    Column("QUALITY", pa.list_(pa.int32()), "Quality bits as the pipeline set them; 0 where the file has no row"),
)

OURS = (
    Column("recorded", pa.list_(pa.bool_()), "True where the file has a row for the cadence"),
    Column("mask", pa.list_(pa.bool_()), "True where usable: time and PDCSAP_FLUX are numbers, no quality bit is set"),
    Column("time_reference_bjd", pa.float64(), "Barycentric Julian Date of TIME 0", unit="d", required=True),
    Column("TIMESYS", pa.string(), "Time scale of TIME", required=True),
    Column("cadence_start", pa.int32(), "Number of the first cadence", required=True),
    Column("cadences", pa.int32(), "Length of every list", required=True, minimum=1),
    Column("usable_cadences", pa.int32(), "Number of cadences where mask is true", required=True, minimum=0),
)


def light_curve_columns(keywords: Sequence[Column]) -> tuple[Column, ...]:
    """Columns of a table of light curves with these header keywords of their files."""
    return tuple(keywords) + OURS[2:] + SERIES + OURS[:2]


def light_curve_rows(answer: Answer, keywords: Sequence[Column]) -> Iterator[pa.Table]:
    """Read a file as a table of one row.

    Args:
        answer: The body.
        keywords: Columns that are keywords of the header; one that a file lacks is null.

    Raises:
        BadBodyError: If the file is damaged, is no light curve with a time reference, or is of another star or sector
            than the one asked for.
    """
    with open_fits(answer) as file:
        table = table_with(file, "TIME", "CADENCENO", "SAP_FLUX", "PDCSAP_FLUX")
        headers = (file[0].header, table.header)
        # Kepler and K2 name the column SAP_QUALITY, TESS names it QUALITY.
        sources = {column.name: column.name for column in SERIES}
        if "QUALITY" not in table.columns.names:
            sources["QUALITY"] = "SAP_QUALITY"
        missing = sorted(set(sources.values()) - set(table.columns.names))
        if missing:
            raise BadBodyError(f"the light curve lacks {', '.join(missing)}")
        recorded = {name: native(table.data[source]) for name, source in sources.items()}
        units = {name: flux_unit(table.columns[sources[name]].unit) for name in recorded if "FLUX" in name}
        reference, scale = time_reference(table.header)
        values = {column.name: header_value(headers, column) for column in keywords}
    _check_asked(asked_file(answer), values)

    positions, length = cadence_grid(recorded["CADENCENO"])
    series = {column.name: on_grid(recorded[column.name], positions, length, column) for column in SERIES}
    series["CADENCENO"] = np.arange(length, dtype=np.int32) + recorded["CADENCENO"][0]
    present = np.zeros(length, dtype=bool)
    present[positions] = True
    usable = present & np.isfinite(series["TIME"]) & np.isfinite(series["PDCSAP_FLUX"]) & (series["QUALITY"] == 0)
    row = {
        **values,
        **series,
        "recorded": present,
        "mask": usable,
        "time_reference_bjd": reference,
        "TIMESYS": scale,
        "cadence_start": int(series["CADENCENO"][0]),
        "cadences": length,
        "usable_cadences": int(usable.sum()),
    }
    yield one_row(row, light_curve_columns(keywords), units)


def cadence_grid(numbers: np.ndarray) -> tuple[np.ndarray, int]:
    """Positions of recorded cadences in the grid from the first to the last, and its length.

    Args:
        numbers: Numbers of the recorded cadences, shape (n,).

    Raises:
        BadBodyError: If there is none, they do not increase, or the grid would be longer than any observation.
    """
    if not len(numbers):
        raise BadBodyError("the light curve has no cadence")
    wide = numbers.astype(np.int64)
    if (np.diff(wide) <= 0).any():
        raise BadBodyError("CADENCENO must increase from row to row; it does not")
    length = int(wide[-1] - wide[0]) + 1
    if length > LONGEST_GRID:
        raise BadBodyError(f"CADENCENO spans {length} cadences; at most {LONGEST_GRID} are possible")
    return wide - wide[0], length


def on_grid(values: np.ndarray, positions: np.ndarray, length: int, column: Column) -> np.ndarray:
    """Lay recorded values, shape (n, ...), on a grid of (length, ...): NaN or 0 where nothing was recorded."""
    dtype = np.dtype(column.dtype.value_type.to_pandas_dtype())
    grid = np.full((length, *values.shape[1:]), np.nan if dtype.kind == "f" else 0, dtype)
    grid[positions] = values
    return grid


def time_reference(header: fits.Header) -> tuple[float, str]:
    """Barycentric Julian Date of TIME 0, and the time scale.

    Raises:
        BadBodyError: If the header does not state the date.
    """
    if "BJDREFI" not in header:
        raise BadBodyError("the header has no BJDREFI, so its times have no reference")
    return float(header["BJDREFI"]) + float(header.get("BJDREFF", 0.0)), str(header.get("TIMESYS", "TDB"))


def one_row(row: Mapping[str, Any], columns: Sequence[Column], units: Mapping[str, str]) -> pa.Table:
    """Write a row as a table with the units that the file states."""
    fields = [
        pa.field(column.name, column.dtype, metadata={"unit": units[column.name]} if units.get(column.name) else None)
        for column in columns
    ]
    arrays = [pa.array([row[field.name]], field.type) for field in fields]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _check_asked(name: str, values: Mapping[str, Any]) -> None:
    """Compare star and sector of a file with its name; a file that a person downloaded has none."""
    star = re.search(r"\d+", values["OBJECT"] or "")
    sector = re.search(r"-s(\d{4})-", name)
    other_star = name and (star is None or not re.search(rf"(?<!\d)0*{int(star[0])}(?!\d)", name))
    if other_star or (sector and int(sector[1]) != values.get("SECTOR")):
        got = f"{values['OBJECT']}, sector {values['SECTOR']}" if "SECTOR" in values else values["OBJECT"]
        raise BadBodyError(f"the archive sent the light curve of {got} for {name}", again=True)


def flux_unit(stated: str | None) -> str:
    """Write a unit of flux as `astropy.units` reads it."""
    return {"e-/s": "electron/s"}.get(stated or "", stated or "")


def is_light_curve(head: bytes, telescope: str) -> bool:
    """Whether the first bytes of a file are a light curve of this telescope."""
    return head.startswith(b"SIMPLE  =") and f"TELESCOP= '{telescope}".encode() in head and b"= 'PDCSAP_FLUX'" in head
