"""SMOKA: yearly observation logs of fixed width, ruled with hyphens; made from documentation as the parser is."""

import datetime
import math
import re
from typing import Any

from made_up_rows import as_text, made_up_row
from replay import Asked, Replay, Reply

from data_scripts.archives.schemas.smoka import OBSERVATIONS, SUPRIME_CAM
from data_scripts.harness.archive import Column


def exposure(columns: tuple[Column, ...], instrument: str, year: int, number: int) -> dict[str, Any]:
    row = made_up_row(columns, 1000 * year + number)
    row["FRAME_ID"] = f"{instrument}A{10 * year + number:07}X"
    row["DATE_OBS"] = datetime.date(year, 1, 1) + datetime.timedelta(days=11 * number)
    row["DATA_TYP"] = ("OBJECT", "DOMEFLAT", "BIAS")[number % 3]
    row["OBJECT2"] = None if number % 4 == 3 else f"Test field {number} \u03b1"
    if "X_2000" in row:
        row["X_2000"], row["Y_2000"], row["Z_2000"] = round(math.cos(number), 6), round(math.sin(number), 6), 0.0
    return row


def log(columns: tuple[Column, ...], rows: list[dict[str, Any]], extra: str = "") -> bytes:
    """A log as SMOKA is documented to write it: numbers flush right, texts flush left, hyphens for nothing."""
    names = [column.name for column in columns] + ([extra] if extra else [])
    numbers = {column.name for column in columns if column.unit or column.minimum is not None}
    cells = [[as_text(row.get(name)) or "---" for name in names] for row in rows]
    widths = [max(len(line[place]) for line in [names, *cells]) + (place == 0) for place in range(len(names))]

    def written(line: list[str]) -> str:
        sides = [
            text.rjust(w) if n in numbers else text.ljust(w) for n, text, w in zip(names, line, widths, strict=True)
        ]
        return " ".join(sides)

    head = written(["#" + names[0], *names[1:]])
    return "\n".join([head, " ".join("-" * width for width in widths), *map(written, cells), ""]).encode()


SUPRIME_CAM_ROWS = {year: [exposure(SUPRIME_CAM, "SUP", year, n) for n in range(7)] for year in (2002, 2003, 2004)}
OTHER_ROWS = {
    (instrument, year): [exposure(OBSERVATIONS, instrument, year, n) for n in range(5)]
    for instrument in ("HSC", "FCS")
    for year in (2014, 2015)
}


def answer_suprime_cam(asked: Asked) -> Reply:
    found = re.fullmatch(r"/status/obslog/SUP_(\d{4})\.txt", asked.path)
    if not found or int(found[1]) not in SUPRIME_CAM_ROWS:
        return Reply(status=404)
    return Reply(headers={"content-type": "text/plain"}, body=log(SUPRIME_CAM, SUPRIME_CAM_ROWS[int(found[1])]))


def answer_others(asked: Asked) -> Reply:
    found = re.fullmatch(r"/status/obslog/([A-Z]{3})_(\d{4})\.txt", asked.path)
    if not found or (found[1], int(found[2])) not in OTHER_ROWS:
        return Reply(status=404)
    body = log(OBSERVATIONS, OTHER_ROWS[found[1], int(found[2])], extra="FILTER01")
    return Reply(headers={"content-type": "text/plain"}, body=body)


def changed_schema(reply: Reply) -> Reply:
    return Reply(reply.status, reply.headers, reply.body.replace(b"EXPTIME", b"EXPOSED", 1))


ERROR_PAGE = Reply(
    headers={"content-type": "text/html"},
    body=b"<html><head><title>SMOKA</title></head><body>The service is under maintenance.</body></html>\n",
)

REPLAYS = [
    Replay(
        "subaru_smoka",
        "suprime_cam",
        {"years": "2002-2004"},
        answer_suprime_cam,
        [row for rows in SUPRIME_CAM_ROWS.values() for row in rows],
        changed_schema,
        ERROR_PAGE,
    ),
    Replay(
        "subaru_smoka",
        "observations",
        {"instruments": "HSC,FCS", "years": "2014-2015"},
        answer_others,
        [row for rows in OTHER_ROWS.values() for row in rows],
        changed_schema,
        ERROR_PAGE,
    ),
]
