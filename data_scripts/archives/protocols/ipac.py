"""Tables in the fixed-width format of IPAC, as the NASA Exoplanet Archive's old interface nstedAPI answers."""

import itertools
import re
from collections.abc import Iterator

import pyarrow as pa

from data_scripts.archives.protocols.nexsci_units import nexsci_unit
from data_scripts.harness.archive import Answer
from data_scripts.harness.errors import BadBodyError


__all__ = ["ipac_columns", "ipac_head", "ipac_rows"]


def ipac_rows(answer: Answer) -> Iterator[pa.Table]:
    """Read a table; every column is text, null where the cell has the table's null text.

    Format: https://irsa.ipac.caltech.edu/applications/DDGEN/Doc/ipac_tbl.html: lines that begin with a backslash are
    keywords and comments; up to four lines between bars hold names, types, units and null texts; the bars' positions
    bound the cells of every row, and the cells keep clear of them.

    Raises:
        BadBodyError: If there is no header, a row does not fit it, or rows are missing from the number that the table
            states.
    """
    text = answer.text
    table = _read(text.splitlines())
    stated = re.search(r"^\\RowsRetrieved\s*=\s*(\d+)", text, re.MULTILINE)
    if stated and int(stated[1]) != table.num_rows:
        raise BadBodyError(f"the IPAC table states {stated[1]} rows and has {table.num_rows}", again=True)
    yield table


def ipac_columns(head: bytes) -> list[str]:
    """Column names of a table from its first bytes, or an empty list where these have no whole header line."""
    table = ipac_head(head)
    return [] if table is None else table.column_names


def ipac_head(head: bytes) -> pa.Table | None:
    """Read the whole rows among the first bytes of a table; None if these are of no table or end in its header."""
    lines = head.decode("utf-8-sig", errors="replace").splitlines(keepends=True)
    whole = [line.rstrip("\r\n") for line in lines if line.endswith("\n")]
    if not any(line.startswith("|") for line in whole) or any(line[:1] not in "\\| " for line in whole):
        return None
    return _read(whole)


def _read(lines: list[str]) -> pa.Table:
    header = [line for line in lines if line.startswith("|")]
    if not header or len(header) > 4:
        raise BadBodyError(f"an IPAC table has one to four header lines between bars; got {len(header)}")
    bars = [position for position, character in enumerate(header[0]) if character == "|"]
    cells = list(itertools.pairwise(bars))
    names = [header[0][start + 1 : end].strip() for start, end in cells]
    units = _header_cells(header, 2, cells)
    nulls = _header_cells(header, 3, cells)
    rows = [line for line in lines if line.strip() and line[0] not in "\\|"]
    for number, row in enumerate(rows, start=1):
        if any(row[bar : bar + 1].strip() for bar in bars) or row[bars[-1] :].strip():
            raise BadBodyError(f"row {number} of the IPAC table does not fit the bars of its header")

    arrays, fields = [], []
    for (start, end), name, unit_text, null_text in zip(cells, names, units, nulls, strict=True):
        texts = [row[start + 1 : end].strip() for row in rows]
        arrays.append(pa.array([None if text == null_text else text for text in texts], pa.string()))
        unit = nexsci_unit(unit_text)
        fields.append(pa.field(name, pa.string(), metadata={"unit": unit} if unit else None))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _header_cells(header: list[str], line: int, cells: list[tuple[int, int]]) -> list[str]:
    if line >= len(header):
        return [""] * len(cells)
    return [header[line][start + 1 : end].strip() for start, end in cells]
