"""Planet Hunters: the list of candidates as a file, events of Kepler as IPAC tables of nstedAPI in ranges of stars."""

import csv
import io
import math
import re

from made_up_rows import as_text, made_up_row
from replay import Asked, Replay, Reply

from data_scripts.archives.schemas import kepler_tce, planet_hunters_tess


LIST = [column for column in planet_hunters_tess.COLUMNS if column.name not in ("candidate", "depth_cells_moved")]
RIGHT_ORDER = ("Duration (hrs)", "Depth mmag", "Depth mmag Error", "Depth ppm", "Depth ppm Error")
LIST_ORDER = ("Depth mmag", "Depth mmag Error", "Depth ppm", "Depth ppm Error", "Duration (hrs)")


def magnitude(fraction: float) -> float:
    return round(-2500 * math.log10(1 - fraction * 1e-6), 6)


def candidate(number: int) -> dict[str, object]:
    row = made_up_row(planet_hunters_tess.COLUMNS, number)
    row.update({"TIC ID": 1000 + number // 2, "CTOI": f"{1000 + number // 2}.01", "cTOI author": "PHT"})
    row["candidate"] = f"{1000 + number // 2}-{1 + number % 2}"
    depth, error = 700.0 + 13 * number, 20.0 + number
    row["depth_cells_moved"] = number % 3 == 0
    row.update(zip(RIGHT_ORDER, (3.7 + number, magnitude(depth), magnitude(error), depth, error), strict=True))
    if number == 4:
        row.update({**dict.fromkeys(RIGHT_ORDER), "depth_cells_moved": None})
    return row


CANDIDATES = [candidate(number) for number in range(11)]


def as_listed(row: dict[str, object]) -> list[str]:
    if row["depth_cells_moved"]:
        row = {**row, **dict(zip(LIST_ORDER, [row[name] for name in RIGHT_ORDER], strict=True))}
    return [as_text(row[column.name]) for column in LIST]


def answer_list(asked: Asked) -> Reply:
    if not asked.path.endswith("/PHT_candidates_info.csv"):
        return Reply(status=404)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([column.name for column in LIST])
    writer.writerows(as_listed(row) for row in CANDIDATES)
    return Reply(headers={"content-type": "text/plain; charset=utf-8"}, body=text.getvalue().encode())


def changed_list(reply: Reply) -> Reply:
    return Reply(reply.status, reply.headers, reply.body.replace(b",period_PHT,", b",period,", 1))


def event(number: int) -> dict[str, object]:
    row = made_up_row(kepler_tce.COLUMNS, number)
    row.update(tce_delivname="q1_q17_dr25_tce", kepid=700_001 + 499_999 * (number // 2), tce_plnt_num=1 + number % 2)
    return row


EVENTS = [event(number) for number in range(37)]
IPAC_TYPES = {"double": "double", "int64": "long", "string": "char", "bool": "char"}
IPAC_UNITS = {
    "deg": "degrees",
    "d": "days",
    "h": "hours",
    "earthRad": "earth",
    "solRad": "solar",
    "percent": "perc",
    "dex(cm / s2)": "cm/s**2",
    "0.07957747154594767 solLum / AU2": "Fearth",
}


def ipac_table(names: list[str], rows: list[dict[str, object]]) -> bytes:
    columns = {column.name: column for column in kepler_tce.COLUMNS}
    cells = [[as_text(row[name]) or "null" for name in names] for row in rows]
    heads = [
        names,
        [IPAC_TYPES[str(columns[name].dtype)] for name in names],
        [IPAC_UNITS.get(columns[name].unit or "", columns[name].unit or "") for name in names],
        ["null"] * len(names),
    ]
    widths = [max(len(line[place]) for line in heads + cells) + 1 for place in range(len(names))]
    lines = ["\\fixlen = T", f"\\RowsRetrieved = {len(rows)}"]
    lines += [
        "|" + "|".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) + "|" for line in heads
    ]
    lines += [
        " " + " ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) + " " for line in cells
    ]
    return ("\n".join(lines) + "\n").encode()


def answer_events(asked: Asked) -> Reply:
    if not asked.path.endswith("/nph-nstedAPI") or asked.query["table"] != ["q1_q17_dr25_tce"]:
        return Reply(status=404)
    low, high = (int(number) for number in re.findall(r"\d+", asked.query["where"][0]))
    rows = [row for row in EVENTS if low <= row["kepid"] < high]
    body = ipac_table(asked.query["select"][0].split(","), rows)
    return Reply(headers={"content-type": "text/plain"}, body=body)


def changed_events(reply: Reply) -> Reply:
    return Reply(reply.status, reply.headers, reply.body.replace(b" days|", b"hours|"))


WEB_ERROR = Reply(
    headers={"content-type": "text/html"},
    body=b"<!DOCTYPE html>\n<html><head><title>Unicorn!</title></head><body>No server is available.</body></html>\n",
)
NSTED_ERROR = Reply(
    headers={"content-type": "text/plain"},
    body=b"ERROR<br>\nError type: SystemError<br>\nMessage: The database could not be reached.<br>\n",
)

REPLAYS = [
    Replay("planet_hunters", "candidates", {}, answer_list, CANDIDATES, changed_list, WEB_ERROR),
    Replay("planet_hunters", "tce_dr25", {}, answer_events, EVENTS, changed_events, NSTED_ERROR),
]
