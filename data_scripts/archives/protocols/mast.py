"""The Mikulski Archive for Space Telescopes (MAST): Mashup services, product lists and file downloads.

Interface: https://mast.stsci.edu/api/v0/ (a service's name and parameters as JSON in a form field `request`, pages by
`page` and `pagesize`) and https://mast.stsci.edu/api/v0.1/Download/file (a file by its `mast:` URI).
"""

import datetime
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlencode

import pyarrow as pa

from data_scripts.harness.archive import Answer, Column, Credential, Request
from data_scripts.harness.errors import BadBodyError, BuildError


__all__ = [
    "CREDENTIAL",
    "DATA_USE",
    "asked_file",
    "download",
    "file_uris",
    "filtered",
    "follow_to_files",
    "follow_to_products",
    "has_columns",
    "invoke",
    "json_body",
    "json_table",
    "mashup_data",
    "mashup_rows",
    "mashup_total",
    "next_page",
    "one_of",
    "page_size",
    "product_requests",
    "product_rows",
    "range_of",
    "recognise_time_series",
    "refuse_since",
    "released_since",
]

INVOKE = "https://mast.stsci.edu/api/v0/invoke"
DOWNLOAD = "https://mast.stsci.edu/api/v0.1/Download/file"
FORM = "application/x-www-form-urlencoded"

# The service's own page is 50,000 rows; a smaller one keeps what is repeated after a failure small.
PAGE_SIZE = 10_000
OBSERVATIONS_PER_PRODUCT_LIST = 100

DATA_USE = "https://archive.stsci.edu/publishing/data-use"

CREDENTIAL = Credential(
    variables=("MAST_API_TOKEN",),
    purpose="data that are still proprietary",
    headers=lambda values: {"Authorization": f"token {values['MAST_API_TOKEN']}"},
)

ARROW_TYPES = {"string": pa.string(), "int": pa.int64(), "float": pa.float64(), "boolean": pa.bool_()}


def invoke(service: str, params: Mapping[str, Any], stage: str, size: int = PAGE_SIZE) -> Request:
    """Ask a Mashup service for its first page."""
    return _page({"service": service, "params": params, "format": "json", "pagesize": size, "page": 1}, stage)


def filtered(
    service: str, columns: Sequence[Column], filters: Sequence[Mapping[str, Any]], stage: str, size: int = PAGE_SIZE
) -> Request:
    """Ask a filtered Mashup service for these columns of the rows that pass every filter."""
    names = ",".join(column.name for column in columns)
    return invoke(service, {"columns": names, "filters": list(filters)}, stage, size)


def one_of(column: str, values: str) -> list[dict[str, Any]]:
    """Write the filter of a column that has one of some values, given with commas between; none for an empty text."""
    wanted = [value.strip() for value in values.split(",") if value.strip()]
    return [{"paramName": column, "values": wanted}] if wanted else []


def range_of(column: str, least: float, most: float) -> list[dict[str, Any]]:
    """Write the filter of a column between two values, both included."""
    return [{"paramName": column, "values": [{"min": least, "max": most}]}]


def released_since(day: datetime.date | None) -> list[dict[str, Any]]:
    """Write the filter of observations that became public on this day or later; none for None."""
    # The column is a Modified Julian Date; 100,000 is in the year 2132.
    return range_of("t_obs_release", (day - datetime.date(1858, 11, 17)).days, 100_000) if day else []


def refuse_since(day: datetime.date | None, table: str, reason: str) -> None:
    """Refuse `--since` for a table that cannot be asked by date.

    Raises:
        BuildError: If a day is given.
    """
    if day is not None:
        raise BuildError(f"since must be left out for {table}: {reason}; got {day}. Build it without --since.")


def page_size(limit: int | None) -> int:
    """Rows to ask for at once when no more than `limit` are wanted."""
    return PAGE_SIZE if limit is None else max(1, min(limit, PAGE_SIZE))


def product_requests(answer: Answer, stage: str) -> list[Request]:
    """Ask for the lists of files of the observations in a page."""
    numbers = [row["obsid"] for row in _rows(answer, "obsid") if row["obsid"]]
    batches = [
        numbers[start : start + OBSERVATIONS_PER_PRODUCT_LIST]
        for start in range(0, len(numbers), OBSERVATIONS_PER_PRODUCT_LIST)
    ]
    return [invoke("Mast.Caom.Products", {"obsid": ",".join(batch)}, stage, size=50_000) for batch in batches]


def file_uris(answer: Answer, kinds: Sequence[str]) -> list[str]:
    """URIs of the files of these kinds in a list of products, in order, each once."""
    _check_products(answer)
    products = _rows(answer, "dataURI", "productSubGroupDescription")
    uris = [product["dataURI"] for product in products if product["productSubGroupDescription"] in kinds]
    return list(dict.fromkeys(uri for uri in uris if uri))


def download(uri: str, stage: str) -> Request:
    """Ask for a file by its `mast:` URI."""
    return Request(DOWNLOAD, stage, params=(("uri", uri),))


def asked_file(answer: Answer) -> str:
    """Name of the file that was asked for; empty for a file that a person downloaded."""
    return dict(answer.request.params).get("uri", "").rpartition("/")[2]


def mashup_rows(answer: Answer) -> Iterator[pa.Table]:
    """Read a page as one table of the types that it states; an empty selection may come without columns."""
    table = mashup_data(answer)
    if table.num_rows or table.num_columns:
        yield table


def mashup_data(answer: Answer) -> pa.Table:
    """Read a page as one table of the types that it states.

    A column with a value that its stated type cannot hold comes as text, so that only the rows at fault are refused.

    Raises:
        BadBodyError: If the answer is not a complete page, or another page than the one asked for.
    """
    page = _mashup(answer)
    if not isinstance(page.get("fields"), list) or not isinstance(page.get("data"), list):
        raise BadBodyError("a Mashup page needs fields and data; the body lacks one of them")
    asked, got = _asked(answer).get("page"), page.get("paging", {}).get("page")
    if asked is not None and got != asked:
        raise BadBodyError(f"the archive sent page {got} for page {asked}", again=True)
    types = {
        field["name"]: ARROW_TYPES.get(field["type"], pa.string())
        for field in page["fields"]
        if field["name"] != "_selected_"
    }
    return json_table(page["data"], types)


def product_rows(answer: Answer) -> Iterator[pa.Table]:
    """Read a list of files."""
    _check_products(answer)
    yield from mashup_rows(answer)


def mashup_total(answer: Answer) -> int | None:
    """Rows of the whole selection."""
    rows = _mashup(answer).get("paging", {}).get("rowsFiltered")
    return None if rows is None else int(rows)


def next_page(answer: Answer) -> list[Request]:
    """Ask for the page after this one, if there is one."""
    asked, paging = _asked(answer), _mashup(answer).get("paging", {})
    if not asked or asked["page"] >= int(paging.get("pagesFiltered", 1)):
        return []
    return [replace(answer.request, body=_form({**asked, "page": asked["page"] + 1}))]


def has_columns(head: bytes, *columns: str) -> bool:
    """Whether the first bytes of a file are a Mashup answer whose rows have these columns."""
    text = head.decode("utf-8-sig", errors="replace")
    if not re.match(r'\s*\{\s*"(?:data|fields|msg|paging|status)"\s*:', text) or '"data"' not in text:
        return False
    return all(re.search(rf'"{re.escape(column)}"\s*:', text) for column in columns)


def json_body(answer: Answer) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        BadBodyError: If the body is something else.
    """
    try:
        body = json.loads(answer.text)
    except json.JSONDecodeError as error:
        raise BadBodyError(f"the JSON does not parse: {error}", again=True) from error
    if not isinstance(body, dict):
        raise BadBodyError(f"a JSON object is needed; the body is of type {type(body).__name__}")
    return body


def json_table(rows: Sequence[Mapping[str, Any]], types: Mapping[str, pa.DataType]) -> pa.Table:
    """Turn rows of JSON into a table with these columns; a key that a row lacks is null."""
    if any(not isinstance(row, Mapping) for row in rows):
        raise BadBodyError("every row must be a JSON object")
    return pa.table({name: _array([row.get(name) for row in rows], dtype) for name, dtype in types.items()})


def _check_products(answer: Answer) -> None:
    """Refuse a list of files of other observations than those asked for; a part of the files may be of others."""
    wanted = set(_asked(answer).get("params", {}).get("obsid", "").split(",")) - {""}
    found = {row["obsID"] for row in _rows(answer, "obsID")}
    if wanted and found and not wanted & found:
        raise BadBodyError(f"the archive sent files of {min(found)} for those of {min(wanted)}", again=True)


def _rows(answer: Answer, *columns: str) -> list[dict[str, Any]]:
    """Rows of a page with these columns alone."""
    table = mashup_data(answer)
    if missing := [column for column in columns if table.num_rows and column not in table.column_names]:
        raise BadBodyError(f"the page lacks {', '.join(missing)}; it has {', '.join(table.column_names)[:500]}")
    return table.select(columns).to_pylist() if table.num_rows else []


def _array(values: list[Any], dtype: pa.DataType) -> pa.Array:
    if dtype != pa.string():
        try:
            return pa.array(values, dtype)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            pass
    return pa.array([value if value is None else _text(value) for value in values], pa.string())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _page(asked: Mapping[str, Any], stage: str) -> Request:
    return Request(INVOKE, stage, method="POST", body=_form(asked), content_type=FORM)


def _form(asked: Mapping[str, Any]) -> bytes:
    return urlencode({"request": json.dumps(asked)}).encode()


def _asked(answer: Answer) -> dict[str, Any]:
    """The JSON of the request; empty for a file that a person downloaded."""
    form = parse_qs(answer.request.body.decode())
    return json.loads(form["request"][0]) if "request" in form else {}


def _mashup(answer: Answer) -> dict[str, Any]:
    page = json_body(answer)
    status = page.get("status")
    if status != "COMPLETE":
        message = str(page.get("msg") or "no message")[:200]
        # EXECUTING is sent while the query runs: the same request is to be sent again.
        raise BadBodyError(f"the Mashup answer has status {status}: {message}", again=status == "EXECUTING")
    return page


def follow_to_products(answer: Answer) -> list[Request]:
    """Ask for the files of the observations of this page, then for the next page."""
    return [*product_requests(answer, "products"), *next_page(answer)]


def follow_to_files(answer: Answer, kinds: Sequence[str], stage: str) -> list[Request]:
    """Ask for the files of some kinds in a list of files, then for its next page."""
    return [*(download(uri, stage) for uri in file_uris(answer, kinds)), *next_page(answer)]


def recognise_time_series(name: str, head: bytes) -> str | None:
    """Return the stage that reads observations with a light curve."""
    columns = ("obs_collection", "s_region", "sequence_number", "provenance_name")
    return "observations" if has_columns(head, *columns) else None
