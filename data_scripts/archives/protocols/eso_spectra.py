"""One-dimensional spectra in the format of ESO's data products: one row a file.

Format: ESO Science Data Products Standard, https://www.eso.org/sci/observing/phase3/p3sdpstd.pdf: a binary table with
one row whose cells are arrays; WAVE, FLUX or FLUX_REDUCED, ERR or ERR_REDUCED, and QUAL with 0 where a value is good.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from data_scripts.archives.protocols.fits_tables import header_value, native, open_fits, table_with
from data_scripts.harness.archive import Answer, Column
from data_scripts.harness.errors import BadBodyError


__all__ = ["SPECTRUM", "is_eso_spectrum", "spectrum_rows"]

REALS = pa.list_(pa.float64())
KEYWORDS = (
    Column("ARCFILE", pa.string(), "Name of the file in the archive", required=True),
    Column("OBJECT", pa.string(), "Target", required=True),
    Column("RA", pa.float64(), "Right ascension", "deg", minimum=0, maximum=360),
    Column("DEC", pa.float64(), "Declination", "deg", minimum=-90, maximum=90),
    Column("INSTRUME", pa.string(), "Instrument", required=True),
    Column("PROG_ID", pa.string(), "Programme"),
    Column("MJD-OBS", pa.float64(), "Start of the observation, MJD", "d", minimum=0),
    Column("MJD-END", pa.float64(), "End of the observation, MJD", "d", minimum=0),
    Column("EXPTIME", pa.float64(), "Exposure time", "s", minimum=0),
    Column("SPEC_RES", pa.float64(), "Resolving power", None, minimum=0),
    Column("SNR", pa.float64(), "Median signal-to-noise ratio"),
    Column("SPECSYS", pa.string(), "Frame of the wavelengths, such as BARYCENT"),
    Column("FLUXCAL", pa.string(), "ABSOLUTE or UNCALIBRATED"),
)
SPECTRUM = (
    *KEYWORDS,
    Column("WAVE", REALS, "Wavelength, in `wave_unit`", required=True),
    Column("wave_unit", pa.string(), "Unit of WAVE as the file states it", required=True),
    Column("FLUX", REALS, "Flux density, in `flux_unit`", required=True),
    Column("flux_unit", pa.string(), "Unit of FLUX and ERR as the file states it", required=True),
    Column("ERR", REALS, "Standard deviation of FLUX"),
    Column("mask", pa.list_(pa.bool_()), "True where FLUX is a number and QUAL is 0", required=True),
)


def spectrum_rows(answer: Answer) -> Iterator[pa.Table]:
    """Read a file.

    Raises:
        BadBodyError: If the file is damaged, has no table of a spectrum, or its arrays differ in length.
    """
    with open_fits(answer) as file:
        table = table_with(file)
        names = table.columns.names
        flux = next((name for name in ("FLUX", "FLUX_REDUCED") if name in names), None)
        if flux is None or "WAVE" not in names:
            wanted = "FLUX or FLUX_REDUCED" if flux is None else "WAVE"
            raise BadBodyError(f"the FITS table has no column {wanted}; it has {', '.join(names)}")
        error = next((name for name in ("ERR", "ERR_REDUCED", "ERR_FLUX") if name in names), None)
        row = {column.name: header_value((file[0].header, table.header), column) for column in KEYWORDS}
        wave, values = (native(table.data[name]).ravel() for name in ("WAVE", flux))
        errors = None if error is None else native(table.data[error]).ravel()
        good = np.isfinite(values)
        if "QUAL" in names:
            good &= native(table.data["QUAL"]).ravel() == 0
        if len({len(wave), len(values), len(good)} | ({len(errors)} if errors is not None else set())) != 1:
            raise BadBodyError(f"WAVE has {len(wave)} values and {flux} has {len(values)}")
        row |= {
            "WAVE": wave,
            "wave_unit": table.columns["WAVE"].unit,
            "FLUX": values,
            "flux_unit": table.columns[flux].unit or "dimensionless",
            "ERR": errors,
            "mask": good,
        }
    yield pa.table({column.name: pa.array([row[column.name]], column.dtype) for column in SPECTRUM})


def is_eso_spectrum(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a spectrum among ESO's data products."""
    return head.startswith(b"SIMPLE  =") and b"PRODCATG= 'SCIENCE.SPECTRUM" in head
