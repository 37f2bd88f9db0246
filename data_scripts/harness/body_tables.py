"""Checks of delimited and IPAC tables as streams.

Delimited text does not say how long it is. Where a body is cut between two rows and its `Content-Length` agrees with
the cut, nothing in it shows that; only a number of rows that the archive states elsewhere does, as `Stage.total`.
"""

import csv
import io
import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from data_scripts.harness.errors import BadBodyError


__all__ = ["check_csv", "check_ipac", "check_tsv"]

_IPAC_ERROR = re.compile(rb"\s*(\\?\s*ERROR\b|\[struct\s+stat\s*=\s*\"?ERROR)", re.I)
_IPAC_ROWS_RETRIEVED = re.compile(rb"\\\s*RowsRetrieved\s*=\s*'?(\d+)'?\s*", re.I)


def check_csv(file: BinaryIO) -> None:
    """Refuse comma-separated values whose last row has not as many cells as the first; lines of `#` are comments.

    Raises:
        BadBodyError: If they were cut.
    """
    # Not detached: closing the wrapper would close the file, whose end the caller reads.
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")
    try:
        _check_last_row(len(row) for row in csv.reader(line for line in text if not line.startswith("#")) if row)
    except csv.Error as error:
        raise BadBodyError(f"the body is no CSV: {error}", again=True) from error
    finally:
        text.detach()


def check_tsv(file: BinaryIO) -> None:
    """Refuse tab-separated values whose last row has not as many cells as the first; quotes mean nothing in them.

    Raises:
        BadBodyError: If they were cut.
    """
    rows = (line for line in file if line.strip() and not line.startswith(b"#"))
    _check_last_row(line.count(b"\t") + 1 for line in rows)


def check_ipac(file: BinaryIO) -> None:
    r"""Refuse what is no IPAC table: keywords after `\`, a header between `|`, then rows as wide as the header.

    Raises:
        BadBodyError: If it is an error message, has no header, was cut within a row, or has another number of rows
            than its keyword `RowsRetrieved` says.
    """
    announced, width, rows, last = None, 0, 0, b""
    for line in file:
        if _IPAC_ERROR.match(line):
            raise BadBodyError(f"the archive answered with an error: {_shown(line)}", again=True)
        if line.startswith(b"\\"):
            match = _IPAC_ROWS_RETRIEVED.fullmatch(line.rstrip())
            announced = int(match[1]) if match else announced
        elif line.startswith(b"|"):
            width = line.rstrip().rfind(b"|")
        elif line.strip():
            if not width:
                raise BadBodyError(f"the IPAC table has a row before its header: {_shown(line)}", again=True)
            rows, last = rows + 1, line
    if not width:
        raise BadBodyError("the IPAC table has no header", again=True)
    # Blanks at the end of a row may be left out; a row that was cut has no line's end either.
    if last and not last.endswith(b"\n") and len(last) < width:
        raise BadBodyError(f"the last row of the IPAC table is cut: {_shown(last[-200:])}", again=True)
    if announced is not None and announced != rows:
        raise BadBodyError(f"the IPAC table has {rows} rows instead of the {announced} it announces", again=True)


def _check_last_row(cells: Iterable[int]) -> None:
    """Compare the number of cells of the last row with that of the first."""
    numbers: Iterator[int] = iter(cells)
    first = next(numbers, 0)
    last = deque(numbers, maxlen=1)
    # One cell in the header means another delimiter, or one column whose text may have this one.
    if last and first > 1 and last[0] != first:
        raise BadBodyError(f"the last row has {last[0]} cells, the header {first}; the body is cut", again=True)


def _shown(line: bytes) -> str:
    return repr(" ".join(line.decode(errors="replace").split())[:200])
