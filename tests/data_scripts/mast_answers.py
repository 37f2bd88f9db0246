"""What MAST answers over made-up rows: Mashup pages, mission searches, lists of files, files."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

import pyarrow as pa
from replay import Asked, Reply

from data_scripts.harness.archive import Column


__all__ = [
    "MASHUP_ERROR",
    "NOT_FOUND",
    "expected_rows",
    "json_reply",
    "mashup",
    "mission_search",
    "selected",
    "without_columns",
]

NOT_FOUND = Reply(404, {"content-type": "text/plain"}, b"no such address")
ROWS_A_PAGE = 7

TYPES = {pa.string(): "string", pa.int64(): "int", pa.float64(): "float"}


def json_reply(body: Any) -> Reply:
    """A reply with JSON."""
    return Reply(200, {"content-type": "application/json"}, json.dumps(body, ensure_ascii=False).encode())


MASHUP_ERROR = json_reply({"status": "ERROR", "msg": "Error converting varchar to float", "data": [], "fields": []})


def expected_rows(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with all columns of a table, null where a row says nothing."""
    return [{column.name: row.get(column.name) for column in columns} for row in rows]


def mashup(services: Mapping[str, Callable[[dict], tuple[Sequence[Column], list[dict]]]]) -> Callable[[Asked], Reply]:
    """Answer Mashup requests.

    Args:
        services: By name of the service, what makes of the parameters the columns and all rows of the answer.
    """

    def answer(asked: Asked) -> Reply:
        if asked.path != "/api/v0/invoke" or asked.method != "POST":
            return NOT_FOUND
        request = json.loads(parse_qs(asked.body.decode())["request"][0])
        if request["service"] not in services:
            return json_reply({"status": "ERROR", "msg": f"no service {request['service']}"})
        columns, rows = services[request["service"]](request["params"])
        size, page = min(request["pagesize"], ROWS_A_PAGE), request["page"]
        part = rows[(page - 1) * size : page * size]
        return json_reply(
            {
                "status": "COMPLETE",
                "msg": "",
                "data": [
                    {**{column.name: row.get(column.name) for column in columns}, "_selected_": None} for row in part
                ],
                "fields": [
                    *({"name": column.name, "type": TYPES[column.dtype]} for column in columns),
                    {"name": "_selected_", "type": "boolean"},
                ],
                "paging": {
                    "page": page,
                    "pageSize": size,
                    "pagesFiltered": max(1, -(-len(rows) // size)),
                    "rows": len(rows),
                    "rowsFiltered": len(rows),
                    "rowsTotal": len(rows),
                },
            }
        )

    return answer


def selected(
    params: Mapping[str, Any], columns: Sequence[Column], rows: Sequence[dict]
) -> tuple[list[Column], list[dict]]:
    """Columns that a filtered service is asked for, and the rows that pass its filters."""
    names = params["columns"].split(",")
    for condition in params["filters"]:
        if condition["values"] and isinstance(condition["values"][0], Mapping):
            [span] = condition["values"]
            rows = [row for row in rows if span["min"] <= row[condition["paramName"]] <= span["max"]]
        else:
            rows = [row for row in rows if str(row[condition["paramName"]]) in condition["values"]]
    return [column for column in columns if column.name in names], list(rows)


def mission_search(columns: Sequence[Column], rows: Sequence[dict], cap: int = 5) -> Callable[[Asked], Reply]:
    """Answer a mission search over these rows, at most `cap` at once."""
    kinds = {pa.string(): "VARCHAR", pa.int64(): "INTEGER", pa.float64(): "FLOAT"}

    def answer(asked: Asked) -> Reply:
        request = json.loads(asked.body)
        ordered = sorted(rows, key=lambda row: row[request["sort_by"][0]])
        kept = [
            row
            for row in ordered
            if all(str(row[name]) == value for condition in request["conditions"] for name, value in condition.items())
        ]
        part = kept[request["offset"] : request["offset"] + min(cap, request["limit"])]
        names = [column for column in columns if column.name in request["select_cols"]]
        return json_reply(
            {
                "messages": [],
                "info": [{"name": column.name, "type": kinds[column.dtype]} for column in names],
                "search_params": request,
                "totalResults": len(kept),
                "results": [
                    {**{column.name: row.get(column.name) for column in names}, "ang_sep": 0.5} for row in part
                ],
            }
        )

    return answer


def without_columns(*names: str) -> Callable[[Reply], Reply]:
    """What takes these columns out of a reply with JSON."""

    def change(reply: Reply) -> Reply:
        try:
            body = json.loads(reply.body)
        except ValueError:
            return reply
        for rows in ("data", "results", "products"):
            body[rows] = [
                {name: value for name, value in row.items() if name not in names} for row in body.get(rows, [])
            ]
        for fields in ("fields", "info"):
            body[fields] = [field for field in body.get(fields, []) if field["name"] not in names]
        return Reply(reply.status, reply.headers, json.dumps(body).encode())

    return change
