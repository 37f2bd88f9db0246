"""Kepler and K2 over made-up rows."""

from dataclasses import replace

import pyarrow as pa
from light_curve_files import gappy_cadences, kepler_file, kepler_row
from mast_answers import MASHUP_ERROR, NOT_FOUND, expected_rows, mashup, selected, without_columns
from replay import Asked, Replay, Reply

from data_scripts.archives.schemas import caom, kepler_objects, kepler_time_series
from data_scripts.harness.archive import Column


NSTED_ERROR = Reply(
    200,
    {"content-type": "text/plain"},
    b'ERROR<br>\nError Type: UserError - "select" parameter<br>\nMessage: bad column\n',
)

OBSERVATIONS = [
    {
        "obsid": str(7_000 + number),
        "objID": str(number),
        "obs_collection": "K2" if number % 4 == 3 else "Kepler",
        "obs_id": f"kplr{number:09d}_lc_made-up",
        "project": "K2" if number % 4 == 3 else "Kepler",
        "dataproduct_type": "timeseries" if number != 8 else "image",
        "calib_level": 2,
        "target_name": f"kplr{number:09d}",
        "s_ra": 290.5,
        "s_dec": 44.0 + 0.125 * number,
        "instrument_name": "Kepler",
        "t_min": 54_953.5,
        "t_max": 55_200.25,
        "t_exptime": 1766.0,
        "t_obs_release": 55_300.0,
        "provenance_name": "Kepler",
        "sequence_number": number % 3 if number else None,
    }
    for number in range(17)
]
TIME_SERIES = [row for row in OBSERVATIONS if row["dataproduct_type"] == "timeseries"]


def file_of(observation: dict) -> dict:
    number = of_observation(observation)["number"]
    name = f"kplr{number:09d}-made-up_llc.fits"
    return {
        "obsID": observation["obsid"],
        "obs_collection": observation["obs_collection"],
        "obs_id": observation["obs_id"],
        "dataURI": f"mast:KEPLER/url/missions/kepler/lightcurves/{name}",
        "productType": "SCIENCE",
        "productSubGroupDescription": "LLC",
        "productFilename": name,
    }


def products_of(params: dict) -> tuple[list, list]:
    files = []
    for observation in TIME_SERIES:
        if observation["obsid"] in params["obsid"].split(","):
            files.append(file_of(observation))
            files.append({**file_of(observation), "dataURI": "mast:KEPLER/x.pdf", "productSubGroupDescription": "DVR"})
    return list(caom.PRODUCTS), files


CAOM = mashup(
    {
        "Mast.Caom.Filtered": lambda params: selected(params, caom.TIME_SERIES_OBSERVATIONS, OBSERVATIONS),
        "Mast.Caom.Products": products_of,
    }
)


def of_observation(observation: dict) -> dict:
    """Arguments of the made-up light curve of an observation."""
    number = int(observation["obsid"]) - 7_000
    return {
        "number": 1_000 + number,
        "cadences": gappy_cadences(11_914 + 100 * number, 9 + number % 3, 1274.5, 0.0204),
        "campaign": 5 if observation["obs_collection"] == "K2" else None,
    }


def light_curves_answer(asked: Asked) -> Reply:
    if asked.path != "/api/v0.1/Download/file":
        return CAOM(asked)
    for observation in TIME_SERIES:
        if [file_of(observation)["dataURI"]] == asked.query["uri"]:
            return Reply(200, {"content-type": "application/fits"}, kepler_file(**of_observation(observation)))
    return NOT_FOUND


def lacking_flux(reply: Reply) -> Reply:
    body = reply.body.replace(b"'PDCSAP_FLUX'", b"'PDCSAP_FLUZ'")
    return without_columns("dataURI", "obsid")(replace(reply, body=body))


def ipac(columns: list[Column], rows: list[dict]) -> Reply:
    """A table as nstedAPI writes it: four header lines between bars, `null` for nothing."""
    kinds = {pa.string(): "char", pa.int64(): "long", pa.float64(): "double"}
    units = {"d": "days", "K": "kelvin", "deg": "degrees", "h": "hours"}
    cells = [
        [
            column.name,
            kinds[column.dtype],
            units.get(column.unit or "", ""),
            "null",
            *("null" if row.get(column.name) is None else str(row[column.name]) for row in rows),
        ]
        for column in columns
    ]
    widths = [max(map(len, texts)) + 1 for texts in cells]
    lines = ["\\fixlen = T", f"\\RowsRetrieved = {len(rows)}", "\\ "]
    for line in range(4 + len(rows)):
        bar = "|" if line < 4 else " "
        texts = (texts[line].rjust(width) for texts, width in zip(cells, widths, strict=True))
        lines.append(bar + bar.join(texts) + bar)
    return Reply(200, {"content-type": "text/plain"}, ("\n".join(lines) + "\n").encode())


OBJECTS = [
    {
        "kepid": 9_000_000 + number // 2,
        "kepoi_name": f"K{90_000 + number // 2:05d}.{number % 2 + 1:02d}",
        "kepler_name": f"Test-{number // 2} {'bc'[number % 2]}" if number % 5 == 0 else None,
        "ra": 290.25 + number,
        "dec": 44.5,
        "koi_disposition": "CANDIDATE" if number % 3 else "FALSE POSITIVE",
        "koi_score": 0.5,
        "koi_period": 3.25 * (number + 1),
        "koi_period_err1": 1e-05,
        "koi_period_err2": -1e-05,
        "koi_duration": 2.5,
        "koi_steff": None if number == 7 else 5100.0,
        "koi_delivname": "q1_q17_dr25_koi",
    }
    for number in range(13)
]
SERIES = [
    {
        "star_id": star,
        "targettype": "long cadence",
        "field": "The Kepler Field",
        "quarter": quarter,
        "ra": 290.25,
        "dec": 44.5,
        "start_time": 100.0 * quarter + 0.25,
        "end_time": 100.0 * quarter + 90.5,
        "npts": 4_000 + quarter,
        "eff_temp": 5100.0,
        "file_version": "6.1",
    }
    for star in sorted({row["kepid"] for row in OBJECTS})
    for quarter in (1, 2, 5)
]


def nsted_answer(asked: Asked) -> Reply:
    if asked.path != "/cgi-bin/nstedAPI/nph-nstedAPI" or asked.query["format"] != ["ipac"]:
        return NOT_FOUND
    names = asked.query["select"][0].split(",")
    if asked.query["table"] == ["q1_q17_dr25_koi"]:
        return ipac([column for column in kepler_objects.KOI if column.name in names], OBJECTS)
    rows = [row for row in SERIES if [str(row["star_id"])] == asked.query["kepid"]]
    return ipac([column for column in kepler_time_series.KEPLER_TIME_SERIES if column.name in names], rows)


def changed_unit(reply: Reply) -> Reply:
    """Turn a period and the times of a series into hours; a list of stars alone loses its numbers."""
    body = reply.body.replace(b" days|", b"hours|")
    if b"|kepid|" in body.replace(b" ", b""):
        body = body.replace(b"kepid|", b"kepXX|")
    return replace(reply, body=body)


REPLAYS = [
    Replay(
        "kepler_k2",
        "observations",
        {},
        CAOM,
        expected_rows(caom.TIME_SERIES_OBSERVATIONS, TIME_SERIES),
        without_columns("sequence_number"),
        MASHUP_ERROR,
    ),
    Replay(
        "kepler_k2",
        "light_curves",
        {},
        light_curves_answer,
        [kepler_row(**of_observation(observation)) for observation in TIME_SERIES],
        lacking_flux,
        MASHUP_ERROR,
    ),
    Replay(
        "kepler_k2",
        "koi_dr25",
        {},
        nsted_answer,
        expected_rows(kepler_objects.KOI, OBJECTS),
        changed_unit,
        NSTED_ERROR,
    ),
    Replay(
        "kepler_k2",
        "time_series",
        {},
        nsted_answer,
        expected_rows(kepler_time_series.KEPLER_TIME_SERIES, SERIES),
        changed_unit,
        NSTED_ERROR,
    ),
]
