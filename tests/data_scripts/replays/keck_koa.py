"""Keck Observatory Archive: an instrument's frames by TAP, made from the documentation."""

from typing import Any

from made_up_rows import made_up_row
from replay import Replay
from tap_answers import rename_in_votable, tap_answers, tap_error

from data_scripts.archives.keck_koa import ARCHIVE


SOURCE = "keck_koa"
UNIT_TEXTS = {"deg": "degrees", "s": "seconds"}


def frames(instrument: str, prefix: str, number_of_rows: int) -> list[dict[str, Any]]:
    """Frames in the order of the windows: many at one place, and some without a place at the end."""
    rows = []
    for number in range(number_of_rows):
        row = made_up_row(ARCHIVE.table(instrument).columns, number, always=("ra",))
        row |= {"koaid": f"{prefix}.20200102.{number:05d}.fits", "koaimtyp": "object", "targname": f"Test-{number} β"}
        row["ra"] = None if number >= number_of_rows - 3 else 123.5 if number < 9 else 200.25 + 5 * number
        rows.append(row)
    return rows


ROWS = {"hires": frames("hires", "HI", 31), "kpf": frames("kpf", "KP", 19)}
CALIBRATION = {**ROWS["hires"][0], "koaid": "HI.20200102.99999.fits", "koaimtyp": "arclamp"}

answer = tap_answers(
    "/TAP/sync",
    {
        "koa_hires": (ARCHIVE.table("hires").columns, [CALIBRATION, *ROWS["hires"]]),
        "koa_kpf": (ARCHIVE.table("kpf").columns, ROWS["kpf"]),
    },
    UNIT_TEXTS,
)

REPLAYS = [
    Replay(
        SOURCE,
        table,
        {"page_rows": "13"},
        answer,
        ROWS[table],
        rename_in_votable("elaptime", "exptime"),
        tap_error('ORA-00904: "KOAIMTYP": invalid identifier'),
    )
    for table in ROWS
]
