"""The walk over an archive's pages: in order, each body once, nothing repeated and nothing wrong kept."""

import asyncio
import dataclasses
import json
import os
import random
import time

import made_up
import pyarrow as pa
import pytest
from loopback import Fault, Loopback
from replay import Asked, Reply

from data_scripts.harness.archive import Request, Selection, Stage
from data_scripts.harness.crawl import crawl
from data_scripts.harness.errors import BuildError, RequestFailedError
from data_scripts.harness.pages import read_page
from data_scripts.harness.snapshot import Snapshot
from data_scripts.harness.transport import Transport


URL = "https://archive.test/stars"
ALL = Selection(release="r7", options={"regions": ",".join(made_up.REGIONS)})
PAGES = {region: -(-rows // made_up.PAGE_ROWS) for region, rows in made_up.REGIONS.items()}
ORDER = [(region, page) for region, pages in PAGES.items() for page in range(1, pages + 1)]


def walk(folder, server, table=made_up.STARS, selection=ALL, concurrency=3, **options):
    async def run():
        def read(answer):
            return read_page(table, answer, "made_up")

        async with Transport(
            made_up.ARCHIVE, environment={}, mirrors=server.mirrors, attempts=2, timeout_seconds=0.5
        ) as transport:
            return await crawl(
                table, selection, Snapshot(folder), transport, read=read, concurrency=concurrency, **options
            )

    return asyncio.run(run())


def walk_offline(folder, table=made_up.STARS, selection=ALL, **options):
    def read(answer):
        return read_page(table, answer, "made_up")

    return asyncio.run(crawl(table, selection, Snapshot(folder), None, read=read, **options))


def asked_pages(found):
    return [tuple(value for _, value in node.request.params) for node in found.nodes]


def slowly(asked):
    time.sleep(random.Random(repr(asked.query)).uniform(0, 0.03))
    return made_up.answer(asked)


@pytest.mark.parametrize("concurrency", [1, 3, 7])
def test_order_is_that_of_the_requests(tmp_path, concurrency):
    with Loopback(slowly) as server:
        stars = walk(tmp_path, server, concurrency=concurrency)
        curves = walk(tmp_path, server, made_up.CURVES_TABLE, concurrency=concurrency)
    assert asked_pages(stars) == [(region, str(page)) for region, page in ORDER]
    assert asked_pages(curves) == [(), *((str(number),) for number in range(made_up.CURVES))]
    assert stars.whole
    assert curves.whole
    assert len(server.served) == len(ORDER) + 1 + made_up.CURVES


def test_what_is_kept_is_not_asked_again(tmp_path):
    with Loopback(made_up.answer) as server:
        first = walk(tmp_path, server)
        served = len(server.served)
        again = walk(tmp_path, server)
        assert len(server.served) == served == len(ORDER)
    assert again.answers == first.answers == walk_offline(tmp_path).answers
    assert [node.fetched for node in again.nodes] == [False] * len(ORDER)


def test_offline_names_what_is_missing(tmp_path):
    with pytest.raises(
        RequestFailedError, match=r"archive.test/stars: the snapshot has no answer. Build once without"
    ):
        walk_offline(tmp_path)


def test_walks_over_one_store_ask_each_page_once(tmp_path):
    async def both():
        def read(answer):
            return read_page(made_up.STARS, answer, "made_up")

        async def one():
            async with Transport(made_up.ARCHIVE, environment={}, mirrors=server.mirrors) as transport:
                return await crawl(made_up.STARS, ALL, Snapshot(tmp_path), transport, read=read, concurrency=2)

        return await asyncio.gather(one(), one(), one())

    with Loopback(slowly) as server:
        walks = asyncio.run(both())
    assert len(server.served) == len(ORDER)
    assert walks[0].answers == walks[1].answers == walks[2].answers


@pytest.mark.parametrize(("limit", "pages"), [(1, 1), (5, 1), (6, 2), (22, 5), (23, 5), (24, 6), (1000, len(ORDER))])
def test_a_limit_ends_the_walk_at_the_same_request_each_time(tmp_path, limit, pages):
    selection = dataclasses.replace(ALL, limit=limit)
    with Loopback(slowly) as server:
        found = walk(tmp_path, server, selection=selection)
        assert len(server.served) == pages
    assert found.answers == walk_offline(tmp_path, selection=selection).answers
    assert len(found.answers) == pages
    assert found.whole == (pages == len(ORDER))


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_repeated_page_is_asked_again(tmp_path, concurrency):
    """With several chains at once, pages of one come for another; it may take another build to get them all right."""
    failed = 0
    with Loopback(made_up.answer, fault=Fault("page repeats", times=1)) as server:
        while failed < 4:
            try:
                found = walk(tmp_path, server, concurrency=concurrency)
                break
            except RequestFailedError:
                failed += 1
    assert failed == 0 or concurrency > 1
    assert asked_pages(found) == [(region, str(page)) for region, page in ORDER]
    assert [answer.body for answer in found.answers] == [right_body(*page) for page in ORDER]
    assert found.answers == walk_offline(tmp_path).answers


def right_body(region, page):
    return made_up.answer(Asked("GET", "/stars", {"region": [region], "page": [str(page)]})).body


def test_a_page_of_another_chain_is_asked_again(tmp_path):
    """The wrong page may be read before the right one, and lead to pages that do not exist."""
    sent = set()

    def crossed(asked):
        first = (asked.query["region"][0], asked.query["page"][0]) == ("south", "1")
        if first and "crossed" not in sent:
            sent.add("crossed")
            return made_up.answer(dataclasses.replace(asked, query={"region": ["north"], "page": ["3"]}))
        return made_up.answer(asked)

    for concurrency in (1, 3):
        sent.clear()
        with Loopback(crossed) as server:
            found = walk(tmp_path / str(concurrency), server, concurrency=concurrency)
        assert asked_pages(found) == [(region, str(page)) for region, page in ORDER]
        assert found.answers == walk_offline(tmp_path / str(concurrency)).answers
        assert [answer.body for answer in found.answers] == [right_body(*page) for page in ORDER]
        reasons = {each.reason for each in Snapshot(tmp_path / str(concurrency)).rejections}
        assert reasons <= {
            "the archive sent one body for several pages",
            f"the archive sent the body of {URL} {{'region': 'north', 'page': '3'}}",
            f"the archive sent the body of {URL} {{'region': 'south', 'page': '1'}}",
        }
        assert reasons


def test_one_body_for_two_chains_is_refused(tmp_path):
    def one_for_both(asked):
        region = asked.query["region"][0].replace("south", "north")
        return made_up.answer(dataclasses.replace(asked, query={**asked.query, "region": [region]}))

    # Which of the two came twice, and is believed, depends on which is asked first.
    with (
        Loopback(one_for_both) as server,
        pytest.raises(RequestFailedError, match=r"sent one body for several pages: .*'(north|south)', 'page': '1'"),
    ):
        walk(tmp_path, server)


def test_rows_must_be_as_many_as_the_archive_says(tmp_path):
    def short(asked):
        body = json.loads(made_up.answer(asked).body)
        body["total"] += asked.query["region"] == ["south"]
        return Reply(body=json.dumps(body).encode() + b"\n")

    with (
        Loopback(short) as server,
        pytest.raises(RequestFailedError, match=r"states 18 rows and sent 17 in 4 bodies: https://archive.test/stars"),
    ):
        walk(tmp_path, server)
    # Asked three times, and again by the next build.
    assert len(server.served) == len(ORDER) + 2 * PAGES["south"]
    with Loopback(made_up.answer) as server:
        assert len(walk(tmp_path, server).answers) == len(ORDER)
        assert len(server.served) == PAGES["south"]


def test_a_total_that_grows_while_pages_are_read(tmp_path):
    """The last page's count is that of the rows that were sent."""

    def growing(asked):
        body = json.loads(made_up.answer(asked).body)
        body["total"] -= body["next"] is not None
        return Reply(body=json.dumps(body).encode() + b"\n")

    with Loopback(growing) as server:
        assert len(walk(tmp_path, server).answers) == len(ORDER)


def test_one_body_may_answer_two_requests_whose_rows_differ(tmp_path):
    stage = Stage("text", rows=lambda answer: [pa.table({"star": [answer.request.context[0][1]]})])
    table = dataclasses.replace(
        made_up.STARS,
        columns=made_up.STARS.columns[:1],
        first=lambda selection: [
            dataclasses.replace(_numbered(number), context=(("star", str(number)),)) for number in (1, 2)
        ],
        stages={"page": stage},
    )
    with Loopback(lambda asked: Reply(body=b"sector 7\n")) as server:
        assert len(walk(tmp_path, server, table).answers) == 2


def test_an_archive_that_goes_on_repeating_a_page_is_refused(tmp_path):
    def stuck(asked):
        return made_up.answer(dataclasses.replace(asked, query={**asked.query, "page": ["2"]}))

    with Loopback(stuck) as server, pytest.raises(RequestFailedError, match=r"sent page 1 again.*asked 3 times"):
        walk(tmp_path, server, concurrency=1)
    with pytest.raises(RequestFailedError, match="sent page 1 again"):
        walk_offline(tmp_path)
    # Mended, it goes on.
    first_page = next((tmp_path / "manifest.jsonl").open(encoding="utf-8"))
    assert json.loads(first_page)["params"][1] == ["page", "1"]


def test_a_page_that_asks_for_itself_or_an_earlier_one_is_refused(tmp_path):
    for back_to in (1, 2, 3):

        def circle(asked, back_to=back_to):
            reply = made_up.answer(asked)
            body = json.loads(reply.body)
            if asked.query["page"] == ["3"]:
                body["next"] = back_to
            return Reply(body=json.dumps(body).encode() + b"\n")

        with Loopback(circle) as server:
            message = f"page 3 asks for page {back_to} again"
            with pytest.raises(RequestFailedError, match=message):
                walk(tmp_path / str(back_to), server, concurrency=1)


def test_pages_without_rows_may_be_alike(tmp_path):
    def empty(asked):
        return Reply(body=b'{"total": 0, "unit": "Msun", "rows": [], "next": null}\n')

    def next_page(answer):
        region, (_, page) = answer.request.params
        return [dataclasses.replace(answer.request, params=(region, ("page", f"{page}1")))] if len(page) < 3 else []

    stage = dataclasses.replace(made_up.STARS.stages["page"], follow=next_page)
    table = dataclasses.replace(made_up.STARS, stages={"page": stage})
    with Loopback(empty) as server:
        assert len(walk(tmp_path, server, table).answers) == 3 * len(PAGES)


def test_a_changed_schema_is_refused_by_name_and_asked_again_later(tmp_path):
    def changed(asked):
        return Reply(body=made_up.answer(asked).body.replace(b'"mass"', b'"weight"'))

    with (
        Loopback(made_up.but_after(2, changed)) as server,
        pytest.raises(RequestFailedError, match=r"https://archive.test/stars: the body has no column mass.*3 times"),
    ):
        walk(tmp_path, server, concurrency=1)
    reasons = {rejection.reason.split(" for ")[0] for rejection in Snapshot(tmp_path).rejections}
    assert reasons == {"the body has no column mass"}
    with Loopback(made_up.answer) as server:
        found = walk(tmp_path, server)
        assert len(server.served) == len(ORDER) - 2
    assert len(found.answers) == len(ORDER)


def test_a_parser_that_fails_names_the_address(tmp_path):
    def odd(asked):
        return Reply(body=b'["neither", "rows"]\n')

    with Loopback(odd) as server, pytest.raises(RequestFailedError, match=r"/stars: the parser failed with TypeError"):
        walk(tmp_path, server)


def test_one_request_asked_for_twice_is_walked_once(tmp_path):
    selection = dataclasses.replace(ALL, options={"regions": "south,north,south"})
    with Loopback(slowly) as server:
        found = walk(tmp_path, server, selection=selection, concurrency=7)
        assert len(server.served) == PAGES["south"] + PAGES["north"]
    expected = [(region, str(page)) for region in ("south", "north") for page in range(1, PAGES[region] + 1)]
    assert asked_pages(found) == expected


def test_going_on_without_a_failed_request(tmp_path):
    def broken(asked):
        return Reply(404, body=b"no such star") if asked.query["region"] == ["south"] else made_up.answer(asked)

    with Loopback(broken) as server:
        with pytest.raises(RequestFailedError, match="no such star"):
            walk(tmp_path, server)
        found = walk(tmp_path, server, keep_going=True)
    assert [node.request.params[0][1] for node in found.nodes] == ["north"] * PAGES["north"] + ["Ω"] * PAGES["Ω"]
    assert not found.whole
    [failure] = found.failures
    assert failure.url == "https://archive.test/stars"
    assert "404" in failure.reason


def test_an_unknown_stage_is_an_error_of_the_table(tmp_path):
    table = dataclasses.replace(made_up.STARS, first=lambda selection: [Request(f"{made_up.ORIGIN}/stars", "moons")])
    with pytest.raises(BuildError, match="stage must be one of page in stars; got 'moons'"):
        walk_offline(tmp_path, table)


def test_a_chain_of_many_pages(tmp_path, monkeypatch):
    """It is longer than what Python can call in depth."""
    pages = 1500
    # So many bodies are on disk before the test ends, or not: it does not matter here.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    stage = Stage(
        "text",
        rows=lambda answer: [pa.table({"n": [answer.text]})],
        follow=lambda answer: [_numbered(int(answer.text) + 1)] if int(answer.text) < pages else [],
    )
    table = dataclasses.replace(made_up.STARS, first=lambda selection: [_numbered(1)], stages={"page": stage})
    snapshot = Snapshot(tmp_path)
    for number in range(1, pages + 1):
        file = tmp_path / "file"
        file.write_text(f"{number}\n", encoding="utf-8")
        snapshot.import_file(_numbered(number), file)
    found = walk_offline(tmp_path, table)
    assert [int(answer.text) for answer in found.answers] == list(range(1, pages + 1))


def _numbered(number):
    return Request(f"{made_up.ORIGIN}/stars", "page", (("page", str(number)),))


def test_many_pages_that_are_empty_alike_are_read_a_few_times_each(tmp_path):
    asked, read = 150, []
    stage = made_up.STARS.stages["page"]

    def rows(answer):
        read.append(answer.request.key)
        return stage.rows(answer)

    table = dataclasses.replace(
        made_up.STARS,
        first=lambda selection: [Request(URL, "page", (("page", str(number)),)) for number in range(asked)],
        stages={"page": Stage("json", rows=rows)},
    )
    with Loopback(lambda asked: Reply(body=b'{"total": 0, "unit": "", "rows": []}')) as server:
        found = walk(tmp_path, server, table=table)
    assert len(found.nodes) == asked
    assert len(read) <= 4 * asked
