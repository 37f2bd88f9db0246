"""Bodies that go on where they stopped: by Range, after a kill, and never with bytes of another body."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from loopback import Fault, Loopback
from replay import Reply
from transport_tools import ROWS, URL, WHOLE, Fetcher, Unruly, request, rows

from data_scripts.harness.partial_body import PartialBody


DATED = b"Accept-Ranges: bytes\r\nLast-Modified: %s\r\nDate: Tue, 03 Jan 2023 00:00:00 GMT\r\n"


BEGUN = b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\nAccept-Ranges: bytes\r\nETag: "a"\r\n\r\nhello '


FETCH = """
import asyncio, json, sys
from pathlib import Path
from data_scripts.harness.archive import Request
from data_scripts.harness.transport import Transport
from small_archive import small_archive

async def run():
    async with Transport(small_archive(), environment={}, mirrors=json.loads(sys.argv[2])) as transport:
        await transport.fetch(Request("https://archive.test/data", "rows"), "text", Path(sys.argv[1]), print)

asyncio.run(run())
"""


def test_a_reset_body_goes_on_where_it_stopped(tmp_path):
    with Loopback(rows, fault=Fault("reset in the body", times=3)) as server:
        fetch = Fetcher(tmp_path, server)
        came = []
        fetch.assert_is(fetch(progress=came.append), ROWS)
    assert server.statuses == [200] * 4  # what the archive answers, before it is cut to a range
    starts = [served.asked.headers.get("range") for served in server.served]
    half = len(ROWS) // 2
    assert starts[:2] == [None, f"bytes={half}-"]
    assert sum(came) == len(ROWS)


def test_a_body_that_changed_meanwhile_is_asked_anew(tmp_path):
    bodies = iter([ROWS, ROWS.replace(b"T", b"Q"), ROWS.replace(b"T", b"Q")])
    with Loopback(lambda asked: Reply(200, {}, next(bodies)), fault=Fault("reset in the body")) as server:
        fetch = Fetcher(tmp_path, server)
        fetch.assert_is(fetch(), ROWS.replace(b"T", b"Q"))
    assert server.served[1].asked.headers["range"].startswith("bytes=")


@pytest.mark.parametrize("gzipped", [False, True])
def test_a_killed_download_goes_on_in_the_next_process(tmp_path, gzipped):
    big = b"n\n" + random.Random(0).randbytes(300_000).hex().encode() + b"\n"
    with Loopback(lambda asked: Reply(200, {}, big), fault=Fault("slow drip"), gzipped=gzipped) as server:
        fetch = Fetcher(tmp_path, server)
        folder = Path(__file__).resolve().parents[1]
        path = os.pathsep.join([str(folder), str(folder.parents[1])])
        process = subprocess.Popen(
            [sys.executable, "-c", FETCH, str(fetch.partial), json.dumps(server.mirrors)],
            env=os.environ | {"PYTHONPATH": path},
        )
        try:
            while not fetch.partial.exists() or fetch.partial.stat().st_size < 13:
                assert process.poll() is None, "the process ended by itself"
                time.sleep(0.01)
        finally:
            process.kill()
            process.wait()
        kept = fetch.partial.stat().st_size
        fetch.assert_is(fetch(body_format="text"), big)
    assert server.served[1].asked.headers["range"] == f"bytes={kept}-"
    assert len(server.served) == 2


def test_a_body_that_had_come_whole_is_not_asked_again(tmp_path):
    # Ends after the last byte and before the body is taken over, as a kill there does.
    with Loopback(rows) as server:
        fetch = Fetcher(tmp_path, server)
        fetch.partial.parent.mkdir()
        body = PartialBody(fetch.partial, URL)
        body.begin(200, {"content-length": str(len(ROWS))}, {"content-type": "text/csv"}, by_range=True)
        fetch.partial.write_bytes(ROWS)
        received = fetch()
        fetch.assert_is(received, ROWS)
    assert (received.status, received.headers) == (200, {"content-type": "text/csv"})
    assert not server.served


OF_URL = b'{"url": "https://archive.test/data", "status": 200, "headers": {}, "encoding": "", '


@pytest.mark.parametrize(
    "sidecar",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"3",
        b"[]",
        b"{}",
        b'{"url": "https://archive.test/other", "length": null, "validator": "x"}',
        b'{"url": "https://archive.test/data"}',
        b'{"url": "https://archive.test/data", "length": 14, "validator": null}',
        OF_URL + b'"length": "14", "validator": null}',
        OF_URL + b'"length": null, "validator": 5}',
        OF_URL + b'"length": 7, "validator": "\\"a\\""}',
    ],
)
def test_a_partial_body_that_is_not_known_is_discarded(tmp_path, sidecar):
    with Loopback(rows) as server:
        fetch = Fetcher(tmp_path, server)
        fetch.partial.parent.mkdir(parents=True)
        fetch.partial.write_bytes(b"something else")
        if sidecar:
            fetch.partial.with_name("body.json").write_bytes(sidecar)
        fetch.assert_is(fetch(), ROWS)
        assert "range" not in server.served[0].asked.headers


def test_progress_by_range_is_not_counted_as_a_failed_attempt(tmp_path):
    big = b"n\n" + b"7" * (9 << 20) + b"\n"
    with Loopback(lambda asked: Reply(200, {}, big), fault=Fault("reset in the body", times=3)) as server:
        fetch = Fetcher(tmp_path, server)
        fetch.assert_is(fetch(attempts=1, body_format="text"), big)
    assert len(server.served) == 4


def test_a_post_is_never_asked_in_ranges(tmp_path):
    with Loopback(rows, fault=Fault("reset in the body")) as server:
        fetch = Fetcher(tmp_path, server)
        fetch.assert_is(fetch(request(method="POST", body=b"q")), ROWS)
        assert all("range" not in served.asked.headers for served in server.served)


@pytest.mark.parametrize(
    "rest",
    [
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-11/12\r\nContent-Length: 7\r\n\r\n world\n",
        b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 6-11/13\r\nContent-Length: 6\r\n\r\nworld\n",
        b'HTTP/1.1 206 Partial Content\r\nETag: "b"\r\nContent-Range: bytes 6-11/12\r\nContent-Length: 6\r\n\r\nW'
        b"ORLD\n",
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 6\r\n\r\nworld\n",
        b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_a_rest_that_does_not_fit_is_not_appended(tmp_path, rest):
    unruly = Unruly(BEGUN, rest, WHOLE)
    assert unruly.fetch(tmp_path) == b"hello world\n"
    assert b"Range: bytes=6-" in unruly.asked[1]
    assert b"Range" not in unruly.asked[2]


def test_a_rest_that_was_not_asked_for_is_refused(tmp_path):
    rest = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 6-11/12\r\nContent-Length: 6\r\n\r\nworld\n"
    assert Unruly(rest, WHOLE).fetch(tmp_path) == b"hello world\n"


@pytest.mark.parametrize(
    ("headers", "resumes"),
    [
        (b'Accept-Ranges: bytes\r\nETag: W/"a"\r\n', False),
        (b'ETag: "a"\r\n', False),
        (b"Accept-Ranges: bytes\r\n", False),
        (DATED % b"Mon, 02 Jan 2023 00:00:00 GMT", True),
        (DATED % b"Tue, 03 Jan 2023 00:00:00 GMT", False),
    ],
)
def test_only_a_strong_validator_lets_a_body_go_on(tmp_path, headers, resumes):
    unruly = Unruly(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n" + headers + b"\r\nhello ", WHOLE)
    assert unruly.fetch(tmp_path) == b"hello world\n"
    assert (b"Range: bytes=6-" in unruly.asked[1]) is resumes


@pytest.mark.parametrize("gzipped", [False, True])
def test_a_body_is_not_asked_again_until_it_is_discarded(tmp_path, gzipped):
    """As after a kill between its last byte and its line in the manifest."""
    with Loopback(rows, gzipped=gzipped) as server:
        fetch = Fetcher(tmp_path, server)
        first = fetch()
        if gzipped:
            first.path.write_bytes(ROWS[:100])
        again = fetch()
        assert len(server.served) == 1
        assert again == first
        fetch.assert_is(again, ROWS)
        fetch()
        assert len(server.served) == 2


def test_a_body_that_came_long_ago_is_asked_again(tmp_path):
    with Loopback(rows) as server:
        fetch = Fetcher(tmp_path, server)
        fetch()
        sidecar = fetch.partial.with_name("body.json")
        before = time.time() - 4000
        os.utime(sidecar, (before, before))
        fetch()
    assert len(server.served) == 2
    assert "range" not in server.served[1].asked.headers
