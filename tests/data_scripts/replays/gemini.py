"""Gemini: `jsonsummary` in ranges of days, cut at 500 files as the archive cuts what it takes for an open search."""

import datetime
import json
import re
from typing import Any

from made_up_rows import made_up_row
from replay import Asked, Replay, Reply

from data_scripts.archives.schemas.gemini import COLUMNS


LIMIT = 500
FIRST_DAY = datetime.date(2023, 1, 1)

# Files by day after the first: the third day alone is over the limit, other days have few or none.
FILES = {2: 509, 4: 7, 8: 13, 15: 5}


def file(day: int, number: int) -> dict[str, Any]:
    row = made_up_row(COLUMNS, 1000 * day + number)
    telescope = ("Gemini-North", "Gemini-South")[number % 2]
    date = FIRST_DAY + datetime.timedelta(days=day)
    # Sorted by name, files are in the order of the days and the telescopes.
    row["name"] = f"{date:%Y%m%d}{telescope[7]}{number:04}.fits"
    row["filename"] = row["name"] + ".bz2"
    row["telescope"] = telescope
    time = datetime.time(number % 24, number % 60, number % 60, 500000 * (number % 2))
    row["ut_datetime"] = datetime.datetime.combine(date, time)
    return row


EXPECTED = sorted(
    (file(day, number) for day, files in FILES.items() for number in range(files)), key=lambda row: row["name"]
)


def as_json(row: dict[str, Any]) -> dict[str, Any]:
    entry = {name: str(value) if isinstance(value, datetime.date) else value for name, value in row.items()}
    entry["types"] = None if row["types"] is None else str(row["types"])
    return {**entry, "path": "", "md5": row["file_md5"], "size": row["file_size"]}


def answer(asked: Asked) -> Reply:
    feature, *terms = asked.path.strip("/").split("/")
    if feature != "jsonsummary" or "canonical" not in terms:
        return Reply(status=404)
    start, end = next(term.split("-") for term in terms if re.fullmatch(r"\d{8}-\d{8}", term))
    telescopes = [term for term in terms if term.startswith("Gemini-")]
    found = [
        as_json(row)
        for row in EXPECTED
        if start <= f"{row['ut_datetime']:%Y%m%d}" <= end and (not telescopes or row["telescope"] in telescopes)
    ]
    return Reply(headers={"content-type": "application/json"}, body=json.dumps(found[:LIMIT], indent=4).encode())


def changed_schema(reply: Reply) -> Reply:
    return Reply(reply.status, reply.headers, reply.body.replace(b'"exposure_time":', b'"exposure":'))


ERROR_PAGE = Reply(
    headers={"content-type": "text/html"},
    body=b"<!DOCTYPE html>\n<html><head><title>Login Required</title></head><body>Please log in.</body></html>\n",
)

REPLAYS = [
    Replay(
        "gemini",
        "observations",
        {"start": "2023-01-01", "end": "2023-01-16"},
        answer,
        EXPECTED,
        changed_schema,
        ERROR_PAGE,
    )
]
