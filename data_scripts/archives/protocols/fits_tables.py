"""FITS binary tables as numpy arrays, and keywords of their headers."""

import io
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning

from data_scripts.harness.archive import Answer, Column
from data_scripts.harness.errors import BadBodyError


__all__ = ["header_value", "native", "open_fits", "table_with"]


@contextmanager
def open_fits(source: Answer | bytes) -> Iterator[fits.HDUList]:
    """Open a file; what astropy finds wrong with it, also while it is read, is a BadBodyError."""
    opened = io.BytesIO(source) if isinstance(source, bytes) else source.path
    try:
        with warnings.catch_warnings():
            # Archives break the letter of the standard in harmless ways; a cut file is not one of them.
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message="File may have been truncated")
            with fits.open(opened, memmap=False, lazy_load_hdus=False) as file:
                yield file
    except BadBodyError:
        raise
    except (AstropyUserWarning, OSError, ValueError, TypeError, KeyError, IndexError, fits.VerifyError) as error:
        raise BadBodyError(f"the FITS file cannot be read: {error}", again=True) from error


def table_with(file: fits.HDUList, *columns: str) -> fits.BinTableHDU:
    """Return the first binary table that has these columns.

    Raises:
        BadBodyError: If there is none; names what the first table lacks.
    """
    tables = [part for part in file if isinstance(part, fits.BinTableHDU)]
    for table in tables:
        if set(columns) <= set(table.columns.names):
            return table
    if not tables:
        raise BadBodyError(f"the FITS file has no binary table; one with {', '.join(columns)} is needed")
    lacking = [column for column in columns if column not in tables[0].columns.names]
    raise BadBodyError(f"the FITS table lacks {', '.join(lacking)}")


def native(values: np.ndarray) -> np.ndarray:
    """Copy an array into the byte order of this machine."""
    return np.array(values, dtype=values.dtype.newbyteorder("="))


def header_value(headers: Sequence[fits.Header], column: Column) -> Any:
    """Value of a keyword in the first header that has one, as its column's type; None for undefined or no number.

    Raises:
        BadBodyError: If the value is of another kind.
    """
    for header in headers:
        value = header.get(column.name)
        if value is None or isinstance(value, fits.card.Undefined) or value == "":
            continue
        try:
            return _as(value, column.dtype)
        except (TypeError, ValueError) as error:
            raise BadBodyError(f"the keyword {column.name} must be {column.dtype}; got {value!r}") from error
    return None


def _as(value: Any, dtype: pa.DataType) -> Any:
    if pa.types.is_integer(dtype):
        if int(value) != float(value):
            raise ValueError
        return int(value)
    if pa.types.is_floating(dtype):
        number = float(value)
        return None if math.isnan(number) else number
    return str(value).strip()
