"""Mashup pages, mission searches and lists of files."""

import datetime
import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs

import pyarrow as pa
import pytest
from recorded_files import answer_in, archive_named

from data_scripts.archives.protocols import mast, mast_missions
from data_scripts.archives.schemas.mast_missions import JWST
from data_scripts.harness.archive import Answer, Column, Request
from data_scripts.harness.errors import BadBodyError, BuildError


COLUMNS = (Column("obsid", pa.string(), "number"), Column("t_min", pa.float64(), "start", unit="d"))


def asked(request: Request) -> dict:
    return json.loads(parse_qs(request.body.decode())["request"][0])


def page(tmp_path: Path, body: object, request: Request | None = None) -> Answer:
    path = tmp_path / "body.json"
    path.write_text(body if isinstance(body, str) else json.dumps(body), encoding="utf-8")
    return answer_in(path, request or Request("file:page", "rows"))


def complete(rows: list[dict], fields: dict[str, str], **paging: int) -> dict:
    return {
        "status": "COMPLETE",
        "data": rows,
        "fields": [{"name": name, "type": kind} for name, kind in fields.items()],
        "paging": {"page": 1, "pagesFiltered": 1, "rowsFiltered": len(rows), **paging},
    }


def test_a_filtered_request_asks_for_the_schema_and_nothing_else() -> None:
    filters = [*mast.one_of("obs_collection", "JWST, HST"), *mast.one_of("target_name", " ")]
    request = mast.filtered("Mast.Caom.Filtered", COLUMNS, filters, "rows", size=37)
    assert request.content_type == "application/x-www-form-urlencoded"
    assert asked(request) == {
        "service": "Mast.Caom.Filtered",
        "params": {
            "columns": "obsid,t_min",
            "filters": [{"paramName": "obs_collection", "values": ["JWST", "HST"]}],
        },
        "format": "json",
        "pagesize": 37,
        "page": 1,
    }


def test_since_is_a_modified_julian_date() -> None:
    [condition] = mast.released_since(datetime.date(2000, 1, 1))
    assert condition["paramName"] == "t_obs_release"
    assert condition["values"][0]["min"] == 51_544
    assert mast.released_since(None) == []


def test_since_is_refused_where_nothing_has_a_date() -> None:
    with pytest.raises(BuildError, match="since must be left out for tic: its rows have no date; got 2020-01-02"):
        mast.refuse_since(datetime.date(2020, 1, 2), "tic", "its rows have no date")


@pytest.mark.parametrize(("limit", "size"), [(None, 10_000), (3, 3), (0, 1), (10**6, 10_000)])
def test_a_page_is_no_longer_than_what_is_wanted(limit: int | None, size: int) -> None:
    assert mast.page_size(limit) == size


def test_values_have_the_types_that_the_page_states(tmp_path: Path) -> None:
    fields = {"obsid": "string", "n": "int", "t": "float", "new": "uniqueidentifier", "_selected_": "boolean"}
    rows = [
        {"obsid": 1237668629461992674, "n": 3, "t": 1, "new": "β", "_selected_": None},
        {"obsid": None, "n": None, "t": 0.1, "new": None},
    ]
    table = mast.mashup_data(page(tmp_path, complete(rows, fields)))
    assert table.schema == pa.schema(
        [("obsid", pa.string()), ("n", pa.int64()), ("t", pa.float64()), ("new", pa.string())]
    )
    assert table.to_pylist() == [
        {"obsid": "1237668629461992674", "n": 3, "t": 1.0, "new": "β"},
        {"obsid": None, "n": None, "t": 0.1, "new": None},
    ]


def test_a_value_of_another_type_spoils_its_row_alone(tmp_path: Path) -> None:
    rows = [{"t": 1.5}, {"t": "about 2"}, {"t": None}]
    table = mast.mashup_data(page(tmp_path, complete(rows, {"t": "float"})))
    assert table["t"].to_pylist() == ["1.5", "about 2", None]


def test_pages_follow_until_the_last(tmp_path: Path) -> None:
    request = mast.invoke("Mast.Caom.Filtered", {"columns": "*"}, "rows", size=7)
    numbers = []
    while True:
        number = asked(request)["page"]
        numbers.append(number)
        body = complete([{"obsid": str(number)}], {"obsid": "string"}, page=number, pagesFiltered=3, rowsFiltered=17)
        answer = page(tmp_path, body, request)
        assert mast.mashup_total(answer) == 17
        assert mast.mashup_data(answer)["obsid"].to_pylist() == [str(number)]
        following = mast.next_page(answer)
        if not following:
            break
        [request] = following
    assert numbers == [1, 2, 3]


def test_another_page_than_the_one_asked_for_is_refused(tmp_path: Path) -> None:
    request = mast.invoke("Mast.Caom.Filtered", {}, "rows")
    answer = page(tmp_path, complete([], {"obsid": "string"}, page=2, pagesFiltered=3), request)
    with pytest.raises(BadBodyError, match="sent page 2 for page 1") as caught:
        mast.mashup_data(answer)
    assert caught.value.again


def test_a_downloaded_page_has_no_next_one(tmp_path: Path) -> None:
    assert mast.next_page(page(tmp_path, complete([], {"obsid": "string"}, pagesFiltered=9))) == []


def test_an_empty_selection_without_columns_has_no_rows(tmp_path: Path) -> None:
    answer = page(tmp_path, complete([], {}))
    assert list(mast.mashup_rows(answer)) == []
    assert mast.product_requests(answer, "products") == []
    assert mast.file_uris(answer, ("LC",)) == []


@pytest.mark.parametrize(
    ("body", "message", "again"),
    [
        ({"status": "EXECUTING", "data": [], "fields": []}, "status EXECUTING", True),
        ({"status": "ERROR", "msg": "Invalid object name"}, "status ERROR: Invalid object name", False),
        ({"status": "COMPLETE", "data": [{}]}, "needs fields and data", False),
        (
            {"status": "COMPLETE", "data": ["x"], "fields": [{"name": "a", "type": "int"}]},
            "must be a JSON object",
            False,
        ),
        ([1, 2], "a JSON object is needed; the body is of type list", False),
        ('{"status": "COMPLETE", "da', "does not parse", True),
    ],
)
def test_what_is_no_complete_page_is_refused(tmp_path: Path, body: object, message: str, again: bool) -> None:
    with pytest.raises(BadBodyError, match=message) as caught:
        mast.mashup_data(page(tmp_path, body))
    assert caught.value.again is again


def test_products_are_asked_for_in_batches(tmp_path: Path) -> None:
    rows = [{"obsid": number} for number in range(237)]
    requests = mast.product_requests(page(tmp_path, complete(rows, {"obsid": "string"})), "products")
    batches = [asked(request)["params"]["obsid"].split(",") for request in requests]
    assert [len(batch) for batch in batches] == [100, 100, 37]
    assert [number for batch in batches for number in batch] == [str(number) for number in range(237)]


def test_products_without_numbers_of_observations_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadBodyError, match="the page lacks obsid; it has obs_id"):
        mast.product_requests(page(tmp_path, complete([{"obs_id": "a"}], {"obs_id": "string"})), "products")


def test_files_of_the_wanted_kinds_once_each(tmp_path: Path) -> None:
    fields = {"dataURI": "string", "productSubGroupDescription": "string", "obsID": "string"}
    kinds = [("a", "LC", 1), ("b", "TP", 1), ("a", "LC", 2), (None, "LC", 2), ("c", "FAST-LC", 3)]
    rows = [dict(zip(fields, kind, strict=True)) for kind in kinds]
    assert mast.file_uris(page(tmp_path, complete(rows, fields)), ("LC", "FAST-LC")) == ["a", "c"]


def test_files_of_other_observations_are_refused(tmp_path: Path) -> None:
    fields = {"obsID": "string", "dataURI": "string", "productSubGroupDescription": "string"}
    body = complete([{"obsID": 7, "dataURI": "a", "productSubGroupDescription": "LC"}], fields)
    asked_for = [mast.invoke("Mast.Caom.Products", {"obsid": numbers}, "products") for numbers in ("6,7", "8,9")]
    assert mast.file_uris(page(tmp_path, body, asked_for[0]), ("LC",)) == ["a"]
    with pytest.raises(BadBodyError, match="sent files of 7 for those of 8") as caught:
        list(mast.product_rows(page(tmp_path, body, asked_for[1])))
    assert caught.value.again


def test_a_token_is_a_header_and_no_parameter() -> None:
    values = {"MAST_API_TOKEN": "canary"}
    assert mast.CREDENTIAL.headers(values) == {"Authorization": "token canary"}
    assert mast.CREDENTIAL.params(values) == {}


@pytest.mark.parametrize("source", ["jwst_mast", "kepler_k2", "tess"])
def test_a_token_for_mast_reaches_no_other_host(source: str) -> None:
    archive = archive_named(source)
    assert archive.hosts == ("mast.stsci.edu",) or archive.credentials == ()


def search_body(rows: list[dict], total: int, offset: int) -> dict:
    return {
        "messages": [],
        "info": [{"name": "fileSetName", "type": "VARCHAR"}, {"name": "program", "type": "INTEGER"}],
        "search_params": {"offset": offset},
        "totalResults": total,
        "results": rows,
    }


def test_a_mission_search_asks_in_an_order_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    conditions = {"program": "1366", "instrume": "", "publicReleaseDate": ">=2024-05-06"}
    first = mast_missions.mission_search("jwst", JWST, conditions, "fileSetName", "rows")
    sent = json.loads(first.body)
    assert sent["conditions"] == [{"program": "1366"}, {"publicReleaseDate": ">=2024-05-06"}]
    assert (sent["sort_by"], sent["limit"], sent["offset"]) == (["fileSetName"], 5000, 0)
    assert "targprop" in sent["select_cols"]
    rows = [{"fileSetName": " a ", "program": 1366}, {"fileSetName": "b", "program": None}]
    answer = page(tmp_path, search_body(rows, 5, 0), first)
    assert mast_missions.mission_total(answer) == 5
    [table] = mast_missions.mission_rows(answer)
    assert table.to_pylist() == [{"fileSetName": "a", "program": 1366}, {"fileSetName": "b", "program": None}]
    [second] = mast_missions.next_rows(answer)
    assert json.loads(second.body) == {**sent, "offset": 2}
    assert mast_missions.next_rows(page(tmp_path, search_body(rows, 4, 2), second)) == []
    assert mast_missions.next_rows(page(tmp_path, search_body([], 4, 2), second)) == []


def test_rows_from_elsewhere_are_refused(tmp_path: Path) -> None:
    first = mast_missions.mission_search("jwst", JWST, {}, "fileSetName", "rows", limit=3)
    assert json.loads(first.body)["limit"] == 3
    with pytest.raises(BadBodyError, match="sent the rows from 2 for those from 0"):
        list(mast_missions.mission_rows(page(tmp_path, search_body([], 4, 2), first)))
    with pytest.raises(BadBodyError, match="needs results and info"):
        list(mast_missions.mission_rows(page(tmp_path, {"totalResults": 3}, first)))


def test_a_column_that_no_file_has_is_one_that_vanished(tmp_path: Path) -> None:
    files = [{"product_key": "a", "size": 3}, {"product_key": "b", "dataset": "d "}]
    [table] = mast_missions.product_rows(page(tmp_path, {"products": files}))
    assert table.column_names == ["product_key", "dataset", "size"]
    assert table["dataset"].to_pylist() == [None, "d"]
    [nested] = mast_missions.product_rows(page(tmp_path, {"products": [files]}))
    assert nested == table
    with pytest.raises(BadBodyError, match="needs products"):
        list(mast_missions.product_rows(page(tmp_path, {"error": "no"})))


def test_data_sets_are_asked_for_in_batches() -> None:
    requests = mast_missions.mission_products("hst", [f"d{number}" for number in range(201)], "products")
    assert [len(json.loads(request.body)["dataset_ids"]) for request in requests] == [100, 100, 1]
    assert all(request.url == "https://mast.stsci.edu/search/hst/api/v0.1/list_products" for request in requests)


def test_answers_to_two_pages_are_two_requests() -> None:
    request = mast.invoke("Mast.Caom.Filtered", {}, "rows")
    other = replace(request, body=request.body.replace(b"%22page%22%3A+1", b"%22page%22%3A+2"))
    assert other.body != request.body
    assert other.key != request.key
