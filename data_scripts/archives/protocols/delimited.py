"""Tables as comma or tab separated text, plain or compressed with gzip."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping
from typing import BinaryIO, cast

import pyarrow as pa
from pyarrow import csv as arrow_csv

from data_scripts.harness.archive import Answer
from data_scripts.harness.errors import BadBodyError


__all__ = ["comment_lines", "csv_head", "csv_header", "csv_rows", "open_plain", "with_units"]

GZIP_MAGIC = b"\x1f\x8b"


def csv_rows(
    answer: Answer, delimiter: str = ",", comment: str | None = None, quoting: bool = True
) -> Iterator[pa.Table]:
    """Read a table in blocks; every column is text, an empty cell is an empty string.

    Args:
        answer: The body; gzip is recognised by its first bytes.
        delimiter: Between two cells.
        comment: What lines before the header begin with that are to be skipped.
        quoting: Whether a cell may be in double quotes and then have line breaks.

    Columns without a name are left out: they are the row numbers that `pandas` and `astropy` write in front.

    Raises:
        BadBodyError: If the text is not UTF-8, has no header, two columns of one name, or rows of another length.
    """
    try:
        with open_plain(answer) as body:
            names = _skip_to_rows(body, delimiter, comment, quoting)
            reader = arrow_csv.open_csv(
                body,
                read_options=arrow_csv.ReadOptions(column_names=names, block_size=1 << 22),
                parse_options=arrow_csv.ParseOptions(
                    delimiter=delimiter, quote_char='"' if quoting else False, newlines_in_values=quoting
                ),
                convert_options=arrow_csv.ConvertOptions(
                    column_types={name: pa.string() for name in names}, strings_can_be_null=False
                ),
            )
            for batch in reader:
                yield pa.Table.from_batches([batch]).select([name for name in names if not name.startswith("\0")])
    except pa.ArrowInvalid as error:
        if "Empty CSV" not in str(error):
            raise BadBodyError(f"the delimited text does not parse: {error}") from error
        yield pa.table({name: pa.array([], pa.string()) for name in names if not name.startswith("\0")})
    except (UnicodeDecodeError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadBodyError(f"the delimited text cannot be read: {error}") from error


def open_plain(answer: Answer) -> BinaryIO:
    """Open a body for reading, uncompressed."""
    with answer.path.open("rb") as file:
        magic = file.read(2)
    return cast(BinaryIO, gzip.open(answer.path, "rb")) if magic == GZIP_MAGIC else answer.path.open("rb")


def comment_lines(head: bytes, comment: str) -> list[str]:
    """Lines before the header that begin with `comment`, without it."""
    lines = []
    for line in _plain_head(head).splitlines():
        if not line.startswith(comment):
            break
        lines.append(line.removeprefix(comment).strip())
    return lines


def csv_header(head: bytes, delimiter: str = ",", comment: str | None = None) -> list[str]:
    """Column names of a table from its first bytes, as far as they are there; empty if these are not text."""
    for line in _plain_head(head).splitlines():
        if line.strip() and not (comment and line.startswith(comment)):
            return [name.strip() for name in next(csv.reader([line], delimiter=delimiter))]
    return []


def csv_head(head: bytes, delimiter: str = ",", comment: str | None = None) -> pa.Table | None:
    """Read the whole rows among the first bytes of a table, as text; None if these are not of such a table."""
    lines = [line for line in _plain_head(head).splitlines(keepends=True) if line.endswith(("\n", "\r"))]
    lines = [line for line in lines if line.strip() and not (comment and line.startswith(comment))]
    try:
        names, *rows = csv.reader(lines, delimiter=delimiter)
    except (csv.Error, ValueError):
        return None
    names = [name.strip() for name in names]
    whole = [row for row in rows if len(row) == len(names)]
    return pa.table([pa.array([row[cell] for row in whole], pa.string()) for cell in range(len(names))], names)


def with_units(table: pa.Table, units: Mapping[str, str]) -> pa.Table:
    """Return the table with the units that a body states written into its fields."""
    fields = [
        field.with_metadata({"unit": units[field.name]}) if field.name in units else field for field in table.schema
    ]
    return table.cast(pa.schema(fields))


def _plain_head(head: bytes) -> str:
    if head.startswith(GZIP_MAGIC):
        try:
            head = zlib.decompressobj(wbits=31).decompress(head)
        except zlib.error:
            return ""
    return head.decode("utf-8-sig", errors="replace")


def _skip_to_rows(body: BinaryIO, delimiter: str, comment: str | None, quoting: bool) -> list[str]:
    """Read up to the first row and return the column names; a name that begins with NUL is of an unnamed column."""
    for number, raw in enumerate(iter(body.readline, b"")):
        line = raw.decode("utf-8-sig" if number == 0 else "utf-8").rstrip("\r\n")
        if not line.strip() or (comment and line.startswith(comment)):
            continue
        reader = csv.reader(
            io.StringIO(line), delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE
        )
        names = [name.strip() for name in next(reader)]
        repeated = sorted({name for name in names if name and names.count(name) > 1})
        if repeated:
            raise BadBodyError(f"the header names {', '.join(repeated)} twice")
        return [name or f"\0{position}" for position, name in enumerate(names)]
    raise BadBodyError("the body has no header line")
