"""NASA Exoplanet Archive: tables by TAP, and stars by nstedAPI in IPAC's format."""

from typing import Any

from made_up_rows import made_up_row
from replay import Asked, Replay, Reply
from tap_answers import rename_in_votable, tap_answers, tap_error

from data_scripts.archives.nasa_exoplanet_archive import ARCHIVE
from data_scripts.archives.protocols.nexsci_units import EARTH_FLUX
from data_scripts.archives.schemas.candidates_and_targets import MISSION_EXOCAT


SOURCE = "nasa_exoplanet_archive"
UNIT_TEXTS = {
    "AU": "au",
    "d": "days",
    "deg": "deg",
    "dex(cm / s2)": "log10(cm/s**2)",
    "earthMass": "Earth mass",
    "earthRad": "R_Earth",
    "g / cm3": "g/cm**3",
    "h": "hours",
    "jupiterMass": "Jupiter mass",
    "jupiterRad": "R_J",
    "mag": "mags",
    "mas / yr": "mas/yr",
    "percent": "%",
    "solMass": "Msun",
    "solRad": "Rsun",
    EARTH_FLUX: "Earth flux",
}
NAMES = {
    "pscomppars": {"pl_name": "Test-{} β b", "hostname": "Test-{} β"},
    "ps": {"pl_name": "Test-{} β b", "hostname": "Test-{} β", "pl_refname": "<a href=x>Nobody & Nemo {}</a>"},
    "cumulative": {"kepoi_name": "K{:05d}.01", "kepler_name": "Test-{} β b"},
    "toi": {"toi": "{}.01"},
    "k2pandc": {"pl_name": "TEST {}.01", "hostname": "Test-{} β", "pl_refname": "Nobody {}"},
    "mission_exocat": {"star_name": "Test-{} A"},
}


def consistent(row: dict[str, Any]) -> None:
    """Give a row values that keep the relations of planets, where it has values."""
    if "pl_orbsmax" in row:
        row |= {"pl_orbper": 365.25, "st_mass": 8.0, "pl_bmasse": 317.83, "pl_rade": 11.209}
        row |= {"pl_orbsmax": 2.0, "pl_bmassj": 1.0, "pl_radj": 1.0, "pl_dens": 1.25}
    elif "koi_sma" in row:
        row |= {"koi_period": 365.25, "koi_smass": 8.0, "koi_sma": 2.0, "koi_insol": 16.0, "koi_teq": 509.0}
        row |= {"koi_ror": 0.1, "koi_srad": 1.0, "koi_prad": 10.9}


def rows_of(table: str, number_of_rows: int) -> list[dict[str, Any]]:
    """Rows in the order of the windows: uneven on the sky, as the archive's are, and one at the origin."""
    rows = []
    for number in range(number_of_rows):
        row = made_up_row(ARCHIVE.table(table).columns, number)
        row.update({name: text.format(number) for name, text in NAMES[table].items()})
        consistent(row)
        row["ra"] = 0.0 if number == 0 else 150 + 5.03125 * number
        if table == "cumulative":
            row["kepid"] = 1_000_000 + 97_777 * number
        rows.append(row)
    return rows


COUNTS = {"pscomppars": 37, "ps": 23, "cumulative": 29, "toi": 13, "k2pandc": 17}
ROWS = {table: rows_of(table, number) for table, number in COUNTS.items()}
EXOCAT = rows_of("mission_exocat", 5)

tap = tap_answers("/TAP/sync", {name: (ARCHIVE.table(name).columns, rows) for name, rows in ROWS.items()}, UNIT_TEXTS)


def ipac(rows: list[dict[str, Any]]) -> bytes:
    """An IPAC table: cells between bars, nulls as `null`, the number of rows in front."""
    names = [column.name for column in MISSION_EXOCAT]
    texts = [["null" if row[name] is None else str(row[name]) for name in names] for row in rows]
    kinds = ["char" if str(column.dtype) == "string" else "double" for column in MISSION_EXOCAT]
    units = [UNIT_TEXTS.get(column.unit or "", column.unit or "") for column in MISSION_EXOCAT]
    heads = [names, kinds, units, ["null"] * len(names)]
    widths = [2 + max(len(line[cell]) for line in heads + texts) for cell in range(len(names))]
    lines = ["\\fixlen = T", f"\\RowsRetrieved = {len(rows):17d}"]
    for edge, table in (("|", heads), (" ", texts)):
        for line in table:
            cells = (text.rjust(width) for text, width in zip(line, widths, strict=True))
            lines.append(edge + edge.join(cells) + edge)
    return ("\n".join(lines) + "\n").encode()


def nsted(asked: Asked) -> Reply:
    if asked.path != "/cgi-bin/nstedAPI/nph-nstedAPI":
        return Reply(status=404)
    assert asked.query["table"] == ["mission_exocat"]
    assert asked.query["format"] == ["ipac"]
    assert asked.query["select"] == [",".join(column.name for column in MISSION_EXOCAT)]
    return Reply(headers={"content-type": "text/plain"}, body=ipac(EXOCAT))


def without_distance(reply: Reply) -> Reply:
    return Reply(reply.status, reply.headers, reply.body.replace(b" st_dist|", b" st_away|"))


TAP_ERROR = tap_error('ORA-00904: "PL_NAME": invalid identifier & more')
NSTED_ERROR = Reply(
    headers={"content-type": "text/plain"}, body=b"ERROR<br>\nError Type: SystemError<br>\nMessage: it is down\n"
)

REPLAYS = [
    Replay(SOURCE, table, {"page_rows": "11"}, tap, ROWS[table], rename_in_votable(column, "renamed"), TAP_ERROR)
    for table, column in (
        ("pscomppars", "pl_orbper"),
        ("ps", "st_teff"),
        ("cumulative", "koi_depth"),
        ("toi", "pl_trandep"),
        ("k2pandc", "disposition"),
    )
]
REPLAYS.append(Replay(SOURCE, "mission_exocat", {}, nsted, EXOCAT, without_distance, NSTED_ERROR))
