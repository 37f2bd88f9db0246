"""Table Access Protocol 1.1 of the IVOA: ADQL queries answered at once as VOTable or CSV."""

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal
from urllib.parse import parse_qs, urlencode

import numpy as np
import pyarrow as pa
from astropy.io import votable
from astropy.io.votable.exceptions import VOTableSpecError
from astropy.io.votable.tree import Field, VOTableFile

from data_scripts.harness.archive import Answer, Column, Request
from data_scripts.harness.errors import BadBodyError


__all__ = ["count_rows", "counted", "select", "tap_query", "votable_rows"]

FORM = "application/x-www-form-urlencoded"


def select(
    columns: Sequence[Column], table: str, where: str = "", limit: int | None = None, order_by: str = ""
) -> str:
    """Write the ADQL that asks for these columns of a table."""
    top = f"top {limit} " if limit is not None else ""
    query = f"select {top}{','.join(column.name for column in columns)} from {table}"
    return query + (f" where {where}" if where else "") + (f" order by {order_by}" if order_by else "")


def count_rows(table: str, where: str = "") -> str:
    """Write the ADQL that asks how many rows `select` will find; read the answer with `counted`.

    The count is named after the question, so that the answer to another one is not taken for it.
    """
    name = hashlib.sha256(f"{table} {where}".encode()).hexdigest()[:16]
    return f"select count(*) as n_{name} from {table}" + (f" where {where}" if where else "")


def tap_query(
    url: str,
    adql: str,
    stage: str,
    format: Literal["votable", "csv"] = "votable",
    release: str = "",
    maxrec: int | None = None,
    context: tuple[tuple[str, str], ...] = (),
) -> Request:
    """Write a synchronous query as a request.

    It is a POST because the addresses of a query for hundreds of columns are longer than servers take.

    Args:
        url: Address that ends in `/sync`.
        adql: The query.
        stage: Stage that reads the answer.
        format: Format of the answer.
        release: Release of the archive.
        maxrec: Most rows that the service may send; it states an overflow if there are more.
        context: What the parser has to know beside the body.
    """
    form = {"REQUEST": "doQuery", "LANG": "ADQL", "FORMAT": format}
    if maxrec is not None:
        form["MAXREC"] = str(maxrec)
    return Request(
        url=url,
        stage=stage,
        method="POST",
        body=urlencode({**form, "QUERY": adql}).encode(),
        content_type=FORM,
        release=release,
        context=context,
    )


def votable_rows(answer: Answer, unit: Callable[[str], str | None] = lambda text: text) -> Iterator[pa.Table]:
    """Read the tables of a VOTable with their types and units.

    Args:
        answer: The body.
        unit: Turns a unit as the archive writes it into one that `astropy.units` reads; None if it is not a unit.

    Raises:
        BadBodyError: If the document does not parse, has no table, or says that the query failed or was cut short.
    """
    document = _parse(answer)
    for table in document.iter_tables():
        fields, arrays = [], []
        for field in table.fields:
            cells = table.array[field.ID]
            arrays.append(_arrow(cells))
            stated = unit(_unit_text(field))
            fields.append(pa.field(field.name, arrays[-1].type, metadata={"unit": stated} if stated else None))
        yield pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def counted(answer: Answer) -> int:
    """Read the answer to `count_rows`.

    Raises:
        BadBodyError: If it is not one number, or answers another question.
    """
    [adql] = parse_qs(answer.request.body.decode())["QUERY"]
    name = adql.split()[3]
    [table] = votable_rows(answer)
    if [column.lower() for column in table.column_names] != [name] or table.num_rows != 1:
        raise BadBodyError(
            f"the answer to a count is one number, {name}; got {table.num_rows} rows of {table.column_names}",
            again=True,
        )
    number = table.column(0)[0].as_py()
    if not str(number).isdecimal():
        raise BadBodyError(f"the answer to a count is a number; got {number!r}", again=True)
    return int(number)


def _parse(answer: Answer) -> VOTableFile:
    with warnings.catch_warnings():
        # Archives break the letter of the standard in many harmless ways: their own units, widths, missing arraysize.
        warnings.simplefilter("ignore")
        try:
            document = votable.parse(answer.path, verify="ignore")
        except (VOTableSpecError, ValueError, IndexError, TypeError) as error:
            raise BadBodyError(f"the VOTable does not parse: {error}", again=True) from error
    for resource in document.resources:
        for info in resource.infos:
            if info.name == "QUERY_STATUS" and str(info.value).upper() in {"ERROR", "OVERFLOW"}:
                raise BadBodyError(f"the VOTable has QUERY_STATUS {info.value}: {(info.content or '')[:200]}")
    if not any(True for _ in document.iter_tables()):
        raise BadBodyError("the VOTable has no table")
    return document


def _unit_text(field: Field) -> str:
    return "" if field.unit is None else str(field.unit)


def _arrow(cells: Any) -> pa.Array:
    """Turn a masked column into Arrow: null where it is masked, lists where a cell has several values."""
    mask = np.ma.getmaskarray(cells)
    if cells.dtype == object or cells.ndim > 1:
        found = pa.array([_value(cell) for cell in cells])
        return found.cast(pa.string()) if pa.types.is_null(found.type) else found
    values = np.ma.getdata(cells)
    if values.dtype.kind in "SU":
        texts = [None if hidden or not value else str(value) for value, hidden in zip(values, mask, strict=True)]
        return pa.array(texts, pa.string())
    return pa.array(values, mask=mask)


def _value(cell: Any) -> Any:
    # A VOTable cannot tell empty text from none.
    if cell is np.ma.masked or cell is None or (isinstance(cell, str) and not cell):
        return None
    if isinstance(cell, np.ndarray):
        return cell.tolist()
    return str(cell)
