"""exoplanets.org: one file of comma separated text."""

import csv
import io

from made_up_rows import as_text, made_up_row
from replay import Asked, Replay, Reply

from data_scripts.archives.schemas.exoplanets_org import COLUMNS


def planet(number: int) -> dict[str, object]:
    row = made_up_row(COLUMNS, number, always=("PER", "MSTAR", "MASS"))
    row.update(NAME=f"Test-{number} \u03b2 b", STAR=f"Test-{number} \u03b2", COMP="b", DATE=1990 + number)
    row["PER"], row["MSTAR"], row["MASS"] = 0.7 * (number + 1), 0.8 + 0.01 * number, 1.5
    mass = row["MSTAR"] + row["MASS"] * 9.5458e-4
    row["A"] = round((mass * (row["PER"] / 365.25) ** 2) ** (1 / 3), 6)
    return row


EXPECTED = [planet(number) for number in range(13)]


def answer(asked: Asked) -> Reply:
    if asked.path != "/csv-files/exoplanets.csv":
        return Reply(status=404)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.name for column in COLUMNS])
    writer.writerows([as_text(row[column.name]) for column in COLUMNS] for row in EXPECTED)
    return Reply(headers={"content-type": "text/csv"}, body=text.getvalue().encode())


def changed_schema(reply: Reply) -> Reply:
    return Reply(reply.status, reply.headers, reply.body.replace(b",MSTAR,", b",STELLAR_MASS,", 1))


ERROR_PAGE = Reply(
    headers={"content-type": "text/html"},
    body=b"<!DOCTYPE html>\n<html><head><title>Error</title></head><body>The database is down.</body></html>\n",
)

REPLAYS = [Replay("exoplanets_org", "planets", {}, answer, EXPECTED, changed_schema, ERROR_PAGE)]
