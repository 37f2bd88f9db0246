"""JWST at MAST over made-up rows."""

import json
from dataclasses import replace

from mast_answers import (
    MASHUP_ERROR,
    NOT_FOUND,
    expected_rows,
    json_reply,
    mashup,
    mission_search,
    selected,
    without_columns,
)
from replay import Asked, Replay, Reply
from x1d_files import spectrum_rows, x1d_file

from data_scripts.archives.protocols import mast_missions
from data_scripts.archives.schemas import caom
from data_scripts.archives.schemas import mast_missions as missions


GATEWAY_ERROR = Reply(200, {"content-type": "text/html"}, b"<html><head><title>502 Bad Gateway</title></head></html>")

OBSERVATIONS = [
    {
        "obsid": str(90_000_000 + number),
        "objID": str(500 + number),
        "obs_collection": "JWST",
        "obs_id": f"jw09999-o{number:03d}_t001_nirspec_made-up",
        "project": "JWST",
        "dataproduct_type": "spectrum" if number % 3 else "image",
        "calib_level": 3 if number % 2 else 2,
        "target_name": f"TEST-{number % 5} β" if number != 4 else None,
        "s_ra": 12.5 + number if number != 6 else None,
        "s_dec": -3.25 * number,
        "instrument_name": "NIRSPEC/SLIT",
        "em_min": 600.0,
        "em_max": 5300.0,
        "t_min": 60_000.5 + number,
        "t_max": 60_000.75 + number,
        "t_exptime": 17 if number == 2 else 1234.5,
        "t_obs_release": 60_100.0 + number,
        "proposal_id": "9999",
    }
    for number in range(23)
]
SPECTRA = [row for row in OBSERVATIONS if row["dataproduct_type"] == "spectrum" and row["calib_level"] == 3]


def product(observation: dict, kind: str, number: int) -> dict:
    """A made-up file of an observation."""
    name = f"{observation['obs_id']}_{number}_{kind.lower()}.fits"
    return {
        "obsID": observation["obsid"],
        "obs_collection": "JWST",
        "dataproduct_type": "spectrum",
        "obs_id": observation["obs_id"],
        "description": f"{kind} — made up",
        "type": "S",
        "dataURI": f"mast:JWST/product/{name}",
        "productType": "SCIENCE",
        "productSubGroupDescription": kind,
        "productFilename": name,
        "size": 2880 * (number + 1),
    }


def files_of(observation: dict) -> list[dict]:
    """The made-up files of an observation: one of them is an extracted spectrum."""
    return [product(observation, kind, number) for number, kind in enumerate(("UNCAL", "X1D", "S2D"))]


PRODUCTS = [file for observation in SPECTRA for file in files_of(observation)]


def observations_of(params: dict) -> tuple[list, list]:
    return selected(params, caom.OBSERVATIONS, OBSERVATIONS)


def products_of(params: dict) -> tuple[list, list]:
    wanted = params["obsid"].split(",")
    return list(caom.PRODUCTS), [file for file in PRODUCTS if file["obsID"] in wanted]


CAOM = mashup({"Mast.Caom.Filtered": observations_of, "Mast.Caom.Products": products_of})


def spectra_answer(asked: Asked) -> Reply:
    if asked.path != "/api/v0.1/Download/file":
        return CAOM(asked)
    [uri] = asked.query["uri"]
    for number, file in enumerate(PRODUCTS):
        if file["dataURI"] == uri:
            return Reply(200, {"content-type": "application/fits"}, x1d_file(file["productFilename"], number))
    return NOT_FOUND


def lacking_flux(reply: Reply) -> Reply:
    """Rename a column of a file; a list of files loses its addresses."""
    body = reply.body.replace(b"'FLUX_ERROR'", b"'FLUX_ERRXX'")
    return without_columns("dataURI", "obsid")(replace(reply, body=body))


JWST = [
    {
        "fileSetName": f"jw09999001001_021{number:02d}_0000{number % 4}_nrs1",
        "productLevel": "2b",
        "program": 9999,
        "access": "PUBLIC" if number % 4 else "EXCLUSIVE",
        "targprop": f"TEST-{number % 3}",
        "targ_ra": 200.5 + number,
        "targ_dec": None if number == 3 else 10.25,
        "targtype": "FIXED",
        "instrume": "NIRSPEC",
        "exp_type": "NRS_BRIGHTOBJ",
        "opticalElements": "PRISM;CLEAR",
        "date_obs": "2026-01-02T03:04:05",
        "duration": 100.5 * number,
        "publicReleaseDate": "2027-01-02",
    }
    for number in range(13)
]
HST = [
    {
        "sci_data_set_name": f"OTEST{number:04d}",
        "sci_targname": f"TEST-{number % 4}",
        "sci_ra": 15.0 * number,
        "sci_dec": -5.5,
        "sci_start_time": "1999-09-24T21:00:16.633000",
        "sci_actual_duration": 2100.0,
        "sci_instrume": "STIS  ",
        "sci_pep_id": 1234,
        "sci_status": "PUBLIC",
    }
    for number in range(11)
]
FILES = [
    {
        "product_key": f"{row['fileSetName']}_{kind}.fits",
        "access": row["access"],
        "dataset": row["fileSetName"],
        "instrument_name": "NIRSPEC",
        "filename": f"{row['fileSetName']}_{kind}.fits",
        "uri": f"{row['fileSetName']}/{row['fileSetName']}_{kind}.fits",
        "file_suffix": kind,
        "category": "2b",
        "size": 5760,
        "type": "science",
    }
    for row in JWST
    for kind in ("rate", "x1d")
]


def missions_answer(asked: Asked) -> Reply:
    if asked.path == "/search/jwst/api/v0.1/search":
        return mission_search(missions.JWST, JWST)(asked)
    if asked.path == "/search/hst/api/v0.1/search":
        return mission_search(missions.HST, HST)(asked)
    if asked.path == "/search/jwst/api/v0.1/list_products":
        wanted = json.loads(asked.body)["dataset_ids"]
        names = [column.name for column in mast_missions.PRODUCTS]
        files = [file for file in FILES if file["dataset"] in wanted]
        return json_reply({"products": [{name: file.get(name) for name in names} for file in files]})
    return NOT_FOUND


HSC = [
    {
        "ObjID": 70_000 + number,
        "DatasetName": f"HAG_TEST_{number}",
        "MatchID": str(3000 + number),
        "RA": 111.5,
        "Dec": 69.25,
        "TargetName": f"HAG_TEST_{number}",
        "SpectrumType": 2,
        "Notes": "grism, made up",
        "Detector": "ACS/WFC",
        "Wavelength": 0.0,
        "ExposureTime": 9328.0,
        "PropID": 9482,
        "HSCMatch": "Y",
    }
    for number in range(17)
]


def of(table: str, answer, expected: list[dict], changed: tuple[str, ...], error: Reply, **options: str) -> Replay:
    return Replay("jwst_mast", table, options, answer, expected, without_columns(*changed), error)


REPLAYS = [
    of("observations", CAOM, expected_rows(caom.OBSERVATIONS, OBSERVATIONS), ("t_min",), MASHUP_ERROR),
    of("products", CAOM, expected_rows(caom.PRODUCTS, PRODUCTS), ("dataURI", "obsid"), MASHUP_ERROR),
    of(
        "jwst_data_sets",
        missions_answer,
        expected_rows(missions.JWST, JWST),
        ("targprop",),
        GATEWAY_ERROR,
    ),
    of(
        "hst_data_sets",
        missions_answer,
        [{**row, "sci_instrume": "STIS"} for row in expected_rows(missions.HST, HST)],
        ("sci_ra",),
        GATEWAY_ERROR,
    ),
    of(
        "data_set_products",
        missions_answer,
        expected_rows(mast_missions.PRODUCTS, FILES),
        ("uri", "fileSetName"),
        GATEWAY_ERROR,
    ),
    of(
        "hsc_spectra",
        mashup({"Mast.HscSpectra.Db.All": lambda params: (list(missions.HSC_SPECTRA), HSC)}),
        expected_rows(missions.HSC_SPECTRA, HSC),
        ("DatasetName",),
        MASHUP_ERROR,
    ),
    Replay(
        "jwst_mast",
        "spectra",
        {},
        spectra_answer,
        [
            row
            for number, file in enumerate(PRODUCTS)
            if file["productSubGroupDescription"] == "X1D"
            for row in spectrum_rows(file["productFilename"], number)
        ],
        lacking_flux,
        MASHUP_ERROR,
    ),
]
