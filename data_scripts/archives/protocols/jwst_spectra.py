"""Extracted spectra of the JWST pipeline (x1d, c1d files): one row a spectrum.

Layout: https://jwst-pipeline.readthedocs.io/en/latest/jwst/data_products/science_products.html#x1d. A file has a table
EXTRACT1D for each source or exposure; a table has a row for each wavelength, or, for time series, a row of arrays for
each integration.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from astropy.io import fits

from data_scripts.archives.protocols.fits_tables import header_value, native, open_fits
from data_scripts.archives.protocols.mast import asked_file
from data_scripts.harness.archive import Answer, Column
from data_scripts.harness.errors import BadBodyError


__all__ = ["is_x1d", "spectrum_columns", "spectrum_rows"]

# https://jwst-pipeline.readthedocs.io/en/latest/jwst/references_general/references_general.html#data-quality-flags
DO_NOT_USE = 1

REALS = pa.list_(pa.float64())

SERIES = (
    Column("WAVELENGTH", REALS, "Vacuum wavelength", unit="um", minimum=0),
    Column("FLUX", REALS, "Flux density", unit="Jy"),
    Column("FLUX_ERROR", REALS, "Standard deviation of FLUX", unit="Jy"),
    Column("SURF_BRIGHT", REALS, "Surface brightness", unit="MJy/sr"),
    Column("SB_ERROR", REALS, "Standard deviation of SURF_BRIGHT", unit="MJy/sr"),
    Column("DQ", pa.list_(pa.int64()), "Quality bits of the pipeline"),
)

OURS = (
    Column("mask", pa.list_(pa.bool_()), "True where usable: FLUX is a number and bit DO_NOT_USE is not set"),
    Column("table", pa.int32(), "Number of the table in the file, from 1", required=True, minimum=1),
    Column(
        "integration", pa.int32(), "Row of the table of a time series, from 1; 0 for others", required=True, minimum=0
    ),
)


def spectrum_columns(keywords: Sequence[Column]) -> tuple[Column, ...]:
    """Columns of a table of spectra with these header keywords of their files."""
    return tuple(keywords) + OURS[1:] + SERIES + OURS[:1]


def spectrum_rows(answer: Answer, keywords: Sequence[Column]) -> Iterator[pa.Table]:
    """Read a file as a table of one row a spectrum.

    Args:
        answer: The body.
        keywords: Columns that are keywords of the header; one that a file lacks is null.

    Raises:
        BadBodyError: If the file is damaged, has no table of spectra with these columns, or is another one than was
            asked for.
    """
    rows: list[dict] = []
    units: dict[str, str] = {}
    with open_fits(answer) as file:
        tables = [part for part in file if isinstance(part, fits.BinTableHDU) and part.name == "EXTRACT1D"]
        if not tables:
            raise BadBodyError("the FITS file has no table EXTRACT1D")
        for number, table in enumerate(tables, start=1):
            missing = [column.name for column in SERIES if column.name not in table.columns.names]
            if missing:
                raise BadBodyError(f"table {number} EXTRACT1D lacks {', '.join(missing)}")
            for column in SERIES:
                units.setdefault(column.name, table.columns[column.name].unit or "")
                if units[column.name] != (table.columns[column.name].unit or ""):
                    raise BadBodyError(f"the tables of the file state different units of {column.name}")
            values = {column.name: header_value((file[0].header, table.header), column) for column in keywords}
            if asked_file(answer) not in ("", values["FILENAME"]):
                raise BadBodyError(f"the archive sent {values['FILENAME']} for {asked_file(answer)}", again=True)
            cells = {column.name: native(table.data[column.name]) for column in SERIES}
            one = cells["WAVELENGTH"].ndim == 1
            spectra = [cells] if one else [{name: cells[name][i] for name in cells} for i in range(len(table.data))]
            for integration, spectrum in enumerate(spectra, start=0 if one else 1):
                usable = np.isfinite(spectrum["FLUX"]) & (spectrum["DQ"] & DO_NOT_USE == 0)
                rows.append({**values, **spectrum, "mask": usable, "table": number, "integration": integration})
    yield pa.table(
        [pa.array([row[column.name] for row in rows], column.dtype) for column in spectrum_columns(keywords)],
        schema=pa.schema(
            [
                pa.field(
                    column.name,
                    column.dtype,
                    metadata={"unit": units[column.name]} if units.get(column.name) else None,
                )
                for column in spectrum_columns(keywords)
            ]
        ),
    )


def is_x1d(head: bytes) -> bool:
    """Whether the first bytes of a file are a JWST file; its tables may come after them."""
    return head.startswith(b"SIMPLE  =") and b"TELESCOP= 'JWST" in head and b"_x1d" in head.replace(b"_c1d", b"_x1d")
