"""The search of one mission's own metadata at MAST: rows of a mission and the files of its data sets.

Interface: https://mast.stsci.edu/search/docs/ (a POST with JSON; at most 5,000 rows an answer, more by `offset`).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from data_scripts.archives.protocols.mast import json_body, json_table
from data_scripts.harness.archive import Answer, Column, Request
from data_scripts.harness.errors import BadBodyError


__all__ = [
    "PRODUCTS",
    "is_product_list",
    "is_search_of",
    "mission_products",
    "mission_rows",
    "mission_search",
    "mission_total",
    "next_rows",
    "product_rows",
]

ROW_CAP = 5_000
DATA_SETS_PER_PRODUCT_LIST = 100

ARROW_TYPES = {
    "FLOAT": pa.float64(),
    "DOUBLE": pa.float64(),
    "REAL": pa.float64(),
    "INTEGER": pa.int64(),
    "BIGINT": pa.int64(),
    "SMALLINT": pa.int64(),
}

TEXT = pa.string()

PRODUCTS = (
    Column("product_key", TEXT, "Data set and file name", required=True),
    Column("access", TEXT, "PUBLIC or why not", required=True),
    Column("dataset", TEXT, "Data set that the file belongs to", required=True),
    Column("instrument_name", TEXT, "Instrument"),
    Column("filters", TEXT, "Filters and gratings"),
    Column("filename", TEXT, "Name of the file", required=True),
    Column("uri", TEXT, "Path of the file for the mission's download service", required=True),
    Column("authz_primary_identifier", TEXT, "Data set that decides who may read the file"),
    Column("authz_secondary_identifier", TEXT, "Kind of file that decides who may read it"),
    Column("file_suffix", TEXT, "Kind of the file, as its name ends"),
    Column("category", TEXT, "Level of processing"),
    Column("size", pa.int64(), "Size of the file", unit="byte", minimum=0),
    Column("type", TEXT, "science or another purpose"),
)


def mission_search(
    mission: str,
    columns: Sequence[Column],
    conditions: Mapping[str, str],
    order: str,
    stage: str,
    limit: int | None = None,
    context: tuple[tuple[str, str], ...] = (),
) -> Request:
    """Ask for these columns of a mission's data sets that meet every condition.

    Args:
        mission: Name in the address, such as `jwst`.
        columns: Columns wanted.
        conditions: Value of each column, or a comparison such as `>=2024-01-01`; an empty one is left out.
        order: Column to sort by; without an order, pages by offset could lose rows.
        stage: Stage that reads the answer.
        limit: Most rows wanted.
        context: Passed on to the requests that follow.
    """
    asked = {
        "conditions": [{column: value} for column, value in conditions.items() if value],
        "select_cols": [column.name for column in columns],
        "sort_by": [order],
        "sort_desc": [False],
        "skip_count": False,
        "limit": ROW_CAP if limit is None else max(1, min(limit, ROW_CAP)),
        "offset": 0,
    }
    return Request(
        f"https://mast.stsci.edu/search/{mission}/api/v0.1/search",
        stage,
        method="POST",
        body=json.dumps(asked).encode(),
        content_type="application/json",
        context=context,
    )


def mission_rows(answer: Answer) -> Iterator[pa.Table]:
    """Read an answer as one table; text is stripped of the blanks that pad it.

    Raises:
        BadBodyError: If the answer has no results, or begins at another row than the one asked for.
    """
    body = json_body(answer)
    if not isinstance(body.get("results"), list) or not isinstance(body.get("info"), list):
        raise BadBodyError("a mission search needs results and info; the body lacks one of them")
    begins, asked = body.get("search_params", {}).get("offset", 0), _asked(answer).get("offset")
    if asked is not None and begins != asked:
        raise BadBodyError(f"the archive sent the rows from {begins} for those from {asked}", again=True)
    types = {column["name"]: ARROW_TYPES.get(column["type"], TEXT) for column in body["info"]}
    yield json_table([_stripped(row) for row in body["results"]], types)


def mission_total(answer: Answer) -> int | None:
    """Rows of the whole selection."""
    total = json_body(answer).get("totalResults")
    return None if total is None else int(total)


def next_rows(answer: Answer) -> list[Request]:
    """Ask for the rows after those of this answer, if there are any."""
    asked = _asked(answer)
    if not asked:
        return []
    body = json_body(answer)
    begin = asked["offset"] + len(body["results"])
    if not body["results"] or begin >= int(body["totalResults"]):
        return []
    return [replace(answer.request, body=json.dumps({**asked, "offset": begin}).encode())]


def mission_products(mission: str, data_sets: Sequence[str], stage: str) -> list[Request]:
    """Ask for the lists of files of these data sets."""
    step = DATA_SETS_PER_PRODUCT_LIST
    return [
        Request(
            f"https://mast.stsci.edu/search/{mission}/api/v0.1/list_products",
            stage,
            method="POST",
            body=json.dumps({"dataset_ids": list(data_sets[start : start + step])}).encode(),
            content_type="application/json",
        )
        for start in range(0, len(data_sets), step)
    ]


def product_rows(answer: Answer) -> Iterator[pa.Table]:
    """Read a list of files.

    Raises:
        BadBodyError: If the body has no list, or none of its rows has one of the columns.
    """
    products = json_body(answer).get("products")
    if not isinstance(products, list):
        raise BadBodyError("a list of products needs products; the body lacks them")
    # Some missions wrap the list in another one.
    rows = products[0] if products and isinstance(products[0], list) else products
    table = json_table([_stripped(row) for row in rows], {column.name: column.dtype for column in PRODUCTS})
    # The body states no columns: one that no row has is one that the archive no longer sends.
    given = {name for row in rows for name in row}
    yield table.select([name for name in table.column_names if name in given or not rows])


def is_search_of(head: bytes, column: str) -> bool:
    """Whether the first bytes of a file are a mission search that asked for this column."""
    text = head.decode("utf-8-sig", errors="replace")
    return text.lstrip().startswith("{") and '"info"' in text and '"messages"' in text and f'"{column}"' in text


def is_product_list(head: bytes) -> bool:
    """Whether the first bytes of a file are a mission's list of products."""
    text = head.decode("utf-8-sig", errors="replace")
    return text.lstrip().startswith("{") and '"products"' in text and '"product_key"' in text


def _asked(answer: Answer) -> dict:
    """The JSON of the request; empty for a file that a person downloaded."""
    return json.loads(answer.request.body) if answer.request.body else {}


def _stripped(row: object) -> Mapping[str, Any]:
    if not isinstance(row, Mapping):
        raise BadBodyError("every row must be a JSON object")
    return {name: value.strip() if isinstance(value, str) else value for name, value in row.items()}
