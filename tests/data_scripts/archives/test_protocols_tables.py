"""Delimited text, IPAC tables and VOTables against naive readers, and what is wrong with damaged ones."""

import csv
import gzip
import io

import pyarrow as pa
import pytest
from made_up_rows import made_up_row
from replay import Asked
from tap_answers import tap_answers, tap_error
from walk_replay import answer_of

from data_scripts.archives.protocols.delimited import comment_lines, csv_head, csv_header, csv_rows, with_units
from data_scripts.archives.protocols.ipac import ipac_columns, ipac_head, ipac_rows
from data_scripts.archives.protocols.tap import count_rows, counted, select, tap_query, votable_rows
from data_scripts.archives.protocols.tap_windows import TapWindows
from data_scripts.harness.archive import Column, Request, Selection
from data_scripts.harness.errors import BadBodyError


COLUMNS = (
    Column("name", pa.string(), "A name"),
    Column("width", pa.float64(), "A width", "deg"),
    Column("count", pa.int64(), "A count"),
)
ROWS = [made_up_row(COLUMNS, number) for number in range(37)]
TEXT = 'name,width,"count"\n# not a comment,1.50,\n"a, b","",7\n"é\nß",-0.0,007\n'


def table_of(body, folder, **arguments):
    return pa.concat_tables(csv_rows(answer_of(Request("file:0", "s"), body, folder), **arguments))


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("before", ["", "﻿", "# one\n#two\n\n"], ids=["bare", "mark", "comments"])
def test_delimited_text_is_read_as_the_csv_module_reads_it(pack, before, tmp_path):
    table = table_of(pack((before + TEXT).encode()), tmp_path, comment="#" if "#" in before else None)
    if "#" not in before:
        assert table.to_pylist() == list(csv.DictReader(io.StringIO(TEXT)))
    else:
        assert table.to_pylist()[0]["name"] == "# not a comment"


def test_tabs_without_quoting_keep_quotation_marks(tmp_path):
    table = table_of(b'a\tb\n"x\ty"\n5\'\t\n', tmp_path, delimiter="\t", quoting=False)
    assert table.to_pylist() == [{"a": '"x', "b": 'y"'}, {"a": "5'", "b": ""}]


def test_row_numbers_without_a_name_are_left_out(tmp_path):
    assert table_of(b",a,\n0,x,1\n1,y,2\n", tmp_path).to_pylist() == [{"a": "x"}, {"a": "y"}]


def test_a_header_alone_is_a_table_without_rows(tmp_path):
    table = table_of(b"a,b\n", tmp_path)
    assert table.schema == pa.schema([("a", pa.string()), ("b", pa.string())])
    assert table.num_rows == 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "no header"),
        (b"# only\n", "no header"),
        (b"a,b\n1,2,3\n", "does not parse"),
        (b"a,b\n1\n", "does not parse"),
        (b"a,b,a\n1,2,3\n", "names a twice"),
        (b"a,b\n\xff\xfe,2\n", "does not parse"),
        (b"\xff\xfe,b\n1,2\n", "cannot be read"),
        (gzip.compress(TEXT.encode(), mtime=0)[:-20], "cannot be read"),
    ],
)
def test_damaged_delimited_text(body, reason, tmp_path):
    with pytest.raises(BadBodyError, match=reason):
        table_of(body, tmp_path, comment="#")


def test_heads_of_delimited_text():
    head = b"# u: d\n#\nname,width\na,1\nb,2\nc"
    assert comment_lines(head, "#") == ["u: d", ""]
    assert csv_header(head, comment="#") == ["name", "width"]
    assert csv_head(head, comment="#").to_pylist() == [{"name": "a", "width": "1"}, {"name": "b", "width": "2"}]
    assert csv_header(b"") == []
    assert csv_head(b"name,wid") is None
    assert with_units(csv_head(head, comment="#"), {"width": "d"}).schema.field("width").metadata == {b"unit": b"d"}


IPAC = (
    "\\RowsRetrieved = 2\n\\ width (days)\n"
    "|  name|   width| note|\n|  char|  double| char|\n|      |    days|     |\n|  null|    null|    -|\n"
    "   a b     1.50     -\n  null     null  é ß \n"
)


def test_an_ipac_table(tmp_path):
    [table] = ipac_rows(answer_of(Request("file:0", "s"), IPAC.encode(), tmp_path))
    assert table.to_pylist() == [
        {"name": "a b", "width": "1.50", "note": None},
        {"name": None, "width": None, "note": "é ß"},
    ]
    assert [field.metadata for field in table.schema] == [None, {b"unit": b"d"}, None]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace("   a b     1.50     -\n", ""), "states 2 rows and has 1"),
        (lambda text: text.replace("   a b     1.50  ", "     a b     1.50"), "row 1 .* does not fit the bars"),
        (lambda text: text.replace("é ß ", "é ß too long"), "row 2 .* does not fit the bars"),
        (lambda text: text.replace("|", " "), "header lines between bars; got 0"),
    ],
)
def test_damaged_ipac_tables(change, reason, tmp_path):
    with pytest.raises(BadBodyError, match=reason):
        list(ipac_rows(answer_of(Request("file:0", "s"), change(IPAC).encode(), tmp_path)))


def test_heads_of_ipac_tables():
    assert ipac_columns(IPAC.encode()[:-10]) == ["name", "width", "note"]
    assert ipac_head(IPAC.encode()[:-10]).num_rows == 1
    assert ipac_columns(b"|  name|   wid") == []
    assert ipac_columns(b"name,width\n|a|b|\n") == []


def ask(request, rows=ROWS):
    return tap_answers("/sync", {"things": (COLUMNS, rows)}, {})(Asked("POST", "/sync", {}, request.body))


def test_a_votable_has_types_nulls_and_units(tmp_path):
    request = tap_query("https://x/sync", select(COLUMNS, "things"), "s")
    [table] = votable_rows(answer_of(request, ask(request).body, tmp_path))
    assert table.to_pylist() == ROWS
    assert [field.metadata for field in table.schema] == [None, {b"unit": b"deg"}, None]
    [renamed] = votable_rows(answer_of(request, ask(request).body, tmp_path), lambda text: None)
    assert renamed.schema.field("width").metadata is None


def test_a_votable_without_rows_has_its_columns(tmp_path):
    request = tap_query("https://x/sync", select(COLUMNS, "things"), "s")
    [table] = votable_rows(answer_of(request, ask(request, []).body, tmp_path))
    assert table.column_names == ["name", "width", "count"]
    assert table.num_rows == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda body: body.replace(b'"QUERY_STATUS" value="OK"', b'"QUERY_STATUS" value="OVERFLOW"'), "OVERFLOW"),
        (lambda body: tap_error("no such column").body, "QUERY_STATUS ERROR: .*no such column"),
        (lambda body: body[: len(body) // 2], "does not parse"),
        (lambda body: b"<html><body>down</body></html>", "does not parse|no table"),
    ],
)
def test_damaged_votables(change, reason, tmp_path):
    request = tap_query("https://x/sync", select(COLUMNS, "things"), "s")
    with pytest.raises(BadBodyError, match=reason):
        list(votable_rows(answer_of(request, change(ask(request).body), tmp_path)))


def test_a_count_is_not_taken_for_another(tmp_path):
    one, other = (tap_query("https://x/sync", count_rows("things", where), "s") for where in ("", "count >= 500"))
    assert counted(answer_of(one, ask(one).body, tmp_path)) == 37
    with pytest.raises(BadBodyError, match="the answer to a count is one number"):
        counted(answer_of(one, ask(other).body, tmp_path))


def windows(**changes):
    arguments = {"columns": COLUMNS, "column": "width", "literal": str, "start": 0, "stop": 1000} | changes
    return TapWindows("https://x/sync", "things", **arguments)


def walk(asked, rows, folder, cap):
    """Rows of all windows, and how many requests they took."""
    stages = asked.stages()
    waiting, found, requests = list(asked.first(Selection(options={"page_rows": str(cap)})))[::-1], [], 0
    while waiting:
        request = waiting.pop()
        requests += 1
        answer = answer_of(request, ask(request, rows).body, folder)
        if request.stage != "window":
            waiting += reversed(stages[request.stage].follow(answer))
        else:
            found += [row for table in stages["window"].rows(answer) for row in table.to_pylist()]
    return found, requests


@pytest.mark.parametrize("cap", [1, 3, 50])
def test_windows_hold_every_row_once(cap, tmp_path):
    found, _ = walk(windows(), ROWS, tmp_path, cap)
    assert sorted(map(str, found)) == sorted(map(str, ROWS))
    values = [row["width"] for row in found if row["width"] is not None]
    assert all(row["width"] is None for row in found[len(values) :])
    if cap == 1:
        assert [int(value) for value in values] == sorted(int(value) for value in values)


def test_rows_outside_of_the_bounds_and_at_one_value_end_the_halving(tmp_path):
    rows = [{"name": None, "width": width, "count": 1} for width in (-5.0, 1e9, None, *[7.25] * 9)]
    found, requests = walk(windows(), rows, tmp_path, 4)
    assert sorted(map(str, found)) == sorted(map(str, rows))
    assert requests < 40


def test_windows_of_text(tmp_path):
    rows = [{"name": f"2020-01-{day:02d}T01:02:03.5Z", "width": None, "count": day} for day in range(1, 24)]
    asked = windows(column="name", text=True, literal=lambda day: f"2020-01-{day:02d}T00:00:00", start=1, stop=31)
    assert walk(asked, rows, tmp_path, 4)[0] == rows


def test_a_window_that_lost_rows_or_is_another_is_refused(tmp_path):
    asked = windows()
    [_, middle, *_] = asked.first(Selection())
    [request] = asked.follow(answer_of(middle, ask(middle).body, tmp_path))
    with pytest.raises(BadBodyError, match=r"has \d+ rows in this window; got 0"):
        asked.rows(answer_of(request, ask(request, []).body, tmp_path))
    elsewhere = [{**row, "width": -1.0} for row in ROWS if row["width"] is not None]
    body = ask(tap_query("https://x/sync", select(COLUMNS, "things"), "s"), elsewhere).body
    with pytest.raises(BadBodyError, match=r"\d+ rows of things are of another window"):
        asked.rows(answer_of(request, body, tmp_path))
