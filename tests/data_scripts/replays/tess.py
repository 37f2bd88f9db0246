"""TESS over made-up rows."""

import csv
import io
import zipfile
from dataclasses import replace

from light_curve_files import cutout_row, cutout_zip, gappy_cadences, tess_file, tess_row
from mast_answers import MASHUP_ERROR, NOT_FOUND, expected_rows, json_reply, mashup, selected, without_columns
from replay import Asked, Replay, Reply

from data_scripts.archives.schemas import caom, tic, toi_release


LOGIN_PAGE = Reply(200, {"content-type": "text/html"}, b"<!DOCTYPE html>\n<html><body>Please log in</body></html>\n")
CUTOUT_ERROR = json_reply({"msg": "Cutout request failed", "status": "ERROR"})

STARS = [
    {
        "ID": str(880_000_000_000 + number),
        "version": "20190415",
        "GAIA": str(2**60 + number) if number % 3 else None,
        "TWOMASS": f"1657309{number % 10}-0405387",
        "objType": "STAR",
        "ra": 254.375 + number,
        "dec": -4.25,
        "Tmag": 9.5 if number != 5 else 10.0,
        "e_Tmag": 1.0,
        "TESSflag": "rered",
        "Teff": None if number == 2 else 5000.5,
        "rad": 0.75,
        "numcont": number,
        "objID": str(number),
    }
    for number in range(19)
]
FAINT = {**STARS[0], "ID": "880000000999", "Tmag": 10.5}

OBSERVATIONS = [
    {
        "obsid": str(60_000_000 + number),
        "objID": str(number),
        "obs_collection": "TESS",
        "obs_id": f"tess-made-up-s0014-{70_000 + number:016d}-s",
        "project": "TESS",
        "dataproduct_type": "timeseries",
        "calib_level": 3,
        "target_name": str(70_000 + number),
        "s_ra": 10.5 + number,
        "s_dec": -70.25,
        "instrument_name": "Photometer",
        "t_min": 58_682.5,
        "t_max": 58_709.75,
        "t_exptime": 120.0,
        "t_obs_release": 58_780.0,
        "provenance_name": "SPOC" if number % 6 else "QLP",
        "sequence_number": 14,
    }
    for number in range(20)
]
SPOC = [row for row in OBSERVATIONS if row["provenance_name"] == "SPOC"]


def file_of(observation: dict) -> dict:
    return {
        "obsID": observation["obsid"],
        "obs_collection": "TESS",
        "obs_id": observation["obs_id"],
        "dataURI": f"mast:TESS/product/{observation['obs_id']}_lc.fits",
        "productType": "SCIENCE",
        "productSubGroupDescription": "LC",
        "productFilename": f"{observation['obs_id']}_lc.fits",
    }


def products_of(params: dict) -> tuple[list, list]:
    wanted = params["obsid"].split(",")
    files = [file_of(observation) for observation in SPOC if observation["obsid"] in wanted]
    return list(caom.PRODUCTS), [
        {**file, "dataURI": None, "productSubGroupDescription": "TP"} for file in files
    ] + files


MAST = mashup(
    {
        "Mast.Caom.Filtered": lambda params: selected(params, caom.TIME_SERIES_OBSERVATIONS, OBSERVATIONS),
        "Mast.Caom.Products": products_of,
        "Mast.Catalogs.Filtered.Tic.Rows": lambda params: selected(params, tic.TIC, [*STARS, FAINT]),
    }
)


def cadences_of(observation: dict) -> list:
    number = int(observation["target_name"])
    return gappy_cadences(270_000 + number, 10 + number % 2, 1683.375, 0.00138)


def light_curves_answer(asked: Asked) -> Reply:
    if asked.path != "/api/v0.1/Download/file":
        return MAST(asked)
    for observation in SPOC:
        if [file_of(observation)["dataURI"]] == asked.query["uri"]:
            body = tess_file(int(observation["target_name"]), cadences_of(observation))
            return Reply(200, {"content-type": "application/fits"}, body)
    return NOT_FOUND


OBJECTS = [
    {
        "Source Pipeline": "spoc",
        "TIC": 70_000 + number,
        "Full TOI ID": f"{9000 + number}.01",
        "TOI Disposition": "PC",
        "TIC Right Ascension": 10.5 + number,
        "TIC Declination": -70.25,
        "TMag Value": 9.5,
        "Orbital Period Value": None if number == 1 else 3.5,
        "Transit Depth Value": 1250.5,
        "Sectors": "[1, 14]",
        "Public Comment": "made up, V-shaped; “λ”",
        "Signal ID": 1,
        "Centroid Offset": number == 2,
        "TFOP Master": 3,
        "Alerted": "2021-06-23 15:17:53+00",
    }
    for number in range(4)
]


def toi_list() -> Reply:
    """The release as CSV below its comments."""
    written = io.StringIO()
    written.write("# TESS Object of Interest\n# Sectors: S0001-S0014\n")
    names = [column.name for column in toi_release.TOI_RELEASE]
    table = csv.DictWriter(written, names, lineterminator="\r\n")
    table.writeheader()
    for row in OBJECTS:
        table.writerow({name: "" if row.get(name) is None else row[name] for name in names})
    return Reply(200, {"content-type": "text/csv"}, written.getvalue().encode())


def toi_answer(asked: Asked) -> Reply:
    return toi_list() if asked.path == "/data/collection/193/csv/6/" else NOT_FOUND


def sectors_of(ra: str) -> list[int]:
    """Sectors of a position: the same of all, since the archive's answer does not say whose they are."""
    return [14, 41]


def cutouts_answer(asked: Asked) -> Reply:
    if asked.path == "/tesscut/api/v0.1/sector":
        results = [
            {"sectorName": f"tess-s{sector:04d}-4-3", "sector": str(sector), "camera": "4", "ccd": "3"}
            for sector in sectors_of(asked.query["ra"][0])
        ]
        return json_reply({"results": results})
    if asked.path == "/tesscut/api/v0.1/astrocut":
        ra, dec, sector = (float(asked.query[name][0]) for name in ("ra", "dec", "sector"))
        if sector not in sectors_of(asked.query["ra"][0]):
            return Reply(400, {"content-type": "application/json"}, b'{"msg": "not observed in this sector"}')
        body = cutout_zip(ra, dec, int(sector), cutout_cadences(int(sector)))
        return Reply(200, {"content-type": "application/zip"}, body)
    return toi_answer(asked)


def cutout_cadences(sector: int) -> list:
    return gappy_cadences(1, 8 + sector % 3, 1683.375, 0.0208)


def lacking_a_column(reply: Reply) -> Reply:
    """Take a column out of any of the replies."""
    if reply.body.startswith(b"PK"):
        changed = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(reply.body)) as old, zipfile.ZipFile(changed, "w") as new:
            for item in old.infolist():
                new.writestr(item, old.read(item).replace(b"'FLUX_BKG'", b"'FLUX_BKX'"))
        return replace(reply, body=changed.getvalue())
    body = reply.body.replace(b",TIC Declination,", b",TIC Decl.,").replace(b"'PDCSAP_FLUX'", b"'PDCSAP_FLUZ'")
    return without_columns("dataURI", "obsid", "Tmag")(replace(reply, body=body))


def of(table: str, answer, expected: list[dict], error: Reply) -> Replay:
    return Replay("tess", table, {}, answer, expected, lacking_a_column, error)


REPLAYS = [
    of("toi", toi_answer, expected_rows(toi_release.TOI_RELEASE, OBJECTS), LOGIN_PAGE),
    of("tic", MAST, expected_rows(tic.TIC, STARS), MASHUP_ERROR),
    of("observations", MAST, expected_rows(caom.TIME_SERIES_OBSERVATIONS, SPOC), MASHUP_ERROR),
    of(
        "light_curves",
        light_curves_answer,
        [tess_row(int(observation["target_name"]), cadences_of(observation)) for observation in SPOC],
        MASHUP_ERROR,
    ),
    of(
        "cutouts",
        cutouts_answer,
        [
            cutout_row(
                row["TIC Right Ascension"], row["TIC Declination"], sector, cutout_cadences(sector), str(row["TIC"])
            )
            for row in OBJECTS
            for sector in sectors_of(str(row["TIC Right Ascension"]))
        ],
        CUTOUT_ERROR,
    ),
]
