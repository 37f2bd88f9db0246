"""Gemini: ranges of days are halved until none is cut."""

import datetime
import json

import pytest
from replays.gemini import EXPECTED, REPLAYS, as_json
from walk_replay import answer_of, rows_of, select, walk

from data_scripts.archives.gemini import ARCHIVE
from data_scripts.harness.archive import Request
from data_scripts.harness.errors import BadBodyError, BuildError
from data_scripts.harness.pages import read_page


OBSERVATIONS = ARCHIVE.table("observations")
DAY = "2023-01-03"


def context(start=DAY, end=DAY, telescope=""):
    return (("start", start), ("end", end), ("telescope", telescope), ("terms", "NotFail"))


def summary(rows, folder, context=()):
    body = json.dumps([as_json(row) for row in rows]).encode()
    return answer_of(Request("https://archive.gemini.edu/jsonsummary", "summary", context=context), body, folder)


def page(answer):
    return read_page(OBSERVATIONS, answer, ARCHIVE.name)


def test_every_file_is_published_once(tmp_path):
    answers = walk(ARCHIVE, REPLAYS[0], tmp_path)
    assert rows_of(ARCHIVE, "observations", answers) == (EXPECTED, [])
    days = [answer.request.url.rpartition("/")[2] for answer in answers]
    assert days[:4] == ["20230101-20230107", "20230101-20230104", "20230101-20230102", "20230103-20230104"]
    assert any("/Gemini-South/20230103-20230103" in answer.request.url for answer in answers)


@pytest.mark.parametrize("count", [499, 500, 501, 1999, 2000, 2345])
def test_bodies_that_may_be_cut_have_no_rows_and_are_halved(count, tmp_path):
    row = {**EXPECTED[0], "ut_datetime": datetime.datetime(2023, 1, 3)}
    answer = summary([row] * count, tmp_path, context("2023-01-01", "2023-01-05"))
    may_be_cut = count == 500 or count >= 2000
    assert page(answer).good.num_rows == (0 if may_be_cut else count)
    followed = [request.url.rpartition("/")[2] for request in OBSERVATIONS.stages["summary"].follow(answer)]
    assert followed == (["20230101-20230103", "20230104-20230105"] if may_be_cut else [])


def test_a_body_that_says_it_is_cut_is_halved(tmp_path):
    entry = {**as_json(EXPECTED[0]), "ut_datetime": f"{DAY} 01:02:03", "results_truncated": True}
    request = Request("https://archive.gemini.edu/jsonsummary", "summary", context=context())
    answer = answer_of(request, json.dumps([entry]).encode(), tmp_path)
    followed = OBSERVATIONS.stages["summary"].follow(answer)
    assert [dict(request.context)["telescope"] for request in followed] == ["Gemini-North", "Gemini-South"]
    assert page(answer).good.num_rows == 0


def test_a_day_of_one_telescope_over_the_limit_is_an_error(tmp_path):
    rows = [row for row in EXPECTED if row["telescope"] == "Gemini-North" and str(row["ut_datetime"]).startswith(DAY)]
    answer = summary((rows * 9)[:2000], tmp_path, context(telescope="Gemini-North"))
    with pytest.raises(BadBodyError, match=r"Gemini-North has more files on 2023-01-03 .* --set selection="):
        OBSERVATIONS.stages["summary"].follow(answer)


def test_a_file_that_a_person_brought_is_never_taken_as_cut(tmp_path):
    answer = summary([EXPECTED[0]] * 500, tmp_path, (("file_name", "summary.json"),))
    assert page(answer).good.num_rows == 500
    assert OBSERVATIONS.stages["summary"].follow(answer) == ()


@pytest.mark.parametrize("asked", [context("2023-01-04", "2023-01-05"), context(telescope="Gemini-South")])
def test_the_body_of_another_range_is_refused(asked, tmp_path):
    rows = [row for row in EXPECTED if row["telescope"] == "Gemini-North" and str(row["ut_datetime"]).startswith(DAY)]
    with pytest.raises(BadBodyError, match="has a file of Gemini-North of 2023-01-03"):
        page(summary(rows[:3], tmp_path, asked))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"error": "no"}', "not a list of objects"),
        (b'["a"]', "not a list of objects"),
        (b"[{", "not JSON"),
        (b'[{"filename": "x"}]', "lacks name"),
    ],
)
def test_other_json_is_refused(body, reason, tmp_path):
    with pytest.raises(BadBodyError, match=reason):
        page(answer_of(Request("file:0", "summary"), body, tmp_path))


def test_tags_are_a_list_however_they_are_written(tmp_path):
    entries = [as_json(row) for row in EXPECTED[:4]]
    for entry, types in zip(entries, ["['B', 'A']", "{'B', 'A'}", None, ""], strict=True):
        entry["types"] = types
    result = page(answer_of(Request("file:0", "summary"), json.dumps(entries).encode(), tmp_path))
    assert result.good["types"].to_pylist() == [["B", "A"], ["A", "B"], None, None]
    entries[0]["types"] = "A and B"
    with pytest.raises(BadBodyError, match="types is not a list of tags"):
        page(answer_of(Request("file:0", "summary"), json.dumps(entries).encode(), tmp_path))


def test_options():
    first = OBSERVATIONS.first
    selection = select(ARCHIVE, "observations", start="2023-01-01", end="2023-01-09", selection="OBJECT/GMOS-N")
    assert [request.url for request in first(selection)] == [
        "https://archive.gemini.edu/jsonsummary/canonical/OBJECT/GMOS-N/20230101-20230107",
        "https://archive.gemini.edu/jsonsummary/canonical/OBJECT/GMOS-N/20230108-20230109",
    ]
    with pytest.raises(BuildError, match="start must be a day as YYYY-MM-DD"):
        list(first(select(ARCHIVE, "observations", start="20230101")))
    with pytest.raises(BuildError, match="end must be a day of the calendar"):
        list(first(select(ARCHIVE, "observations", end="2023-02-29")))
    with pytest.raises(BuildError, match="end must not be before start"):
        list(first(select(ARCHIVE, "observations", start="2023-01-02", end="2023-01-01")))


def test_the_session_goes_into_a_header_only():
    (credential,) = ARCHIVE.credentials
    values = {"GEMINI_ARCHIVE_SESSION": "canary"}
    assert credential.headers(values) == {"Cookie": "gemini_archive_session=canary"}
    assert credential.params(values) == {}


def test_recorded_summary(archive_samples, tmp_path):
    paths = sorted(archive_samples("gemini").glob("*.json"))
    assert paths
    for path in paths:
        body = path.read_bytes()
        assert OBSERVATIONS.recognise("download", body[:65536]) == "summary"
        entries = json.loads(body)
        result = page(answer_of(Request("file:0", "summary"), body, tmp_path))
        assert (result.good.num_rows, result.rejected.num_rows) == (len(entries), 0)
        published = result.good.to_pylist()
        for entry, row in zip(entries, published, strict=True):
            assert (row["filename"], row["ra"], row["exposure_time"]) == (
                entry["filename"],
                entry["ra"],
                entry["exposure_time"],
            )
            assert str(row["ut_datetime"]) == entry["ut_datetime"]
            assert str(row["types"]) == entry["types"]
