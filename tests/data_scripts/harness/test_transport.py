"""The transport against a real server that misbehaves: what arrives is whole, and what does not is told."""

import asyncio
import base64
import datetime
import gzip
import hashlib
import json
import logging
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from email.utils import format_datetime
from pathlib import Path

import pytest
from loopback import FAULTS, Fault, Loopback
from replay import Asked, Reply
from small_archive import small_archive

from data_scripts.harness.archive import Archive, Credential, Request
from data_scripts.harness.credentials import Credentials
from data_scripts.harness.errors import BuildError, RequestFailedError
from data_scripts.harness.partial_body import PartialBody
from data_scripts.harness.retry import BackOff, retry_after_seconds
from data_scripts.harness.transport import Received, Transport


CANARY = "canary/7f3a+9 c=1"
ROWS = b"name,mass\n" + b"".join(b"T\xc3\xa9st-%d b,%d.5\n" % (number, number) for number in range(537))
URL = "https://archive.test/data"


def request(**changes: object) -> Request:
    return Request(**({"url": URL, "stage": "rows"} | changes))


class Fetcher:
    """Fetches within a folder, and keeps what was rejected and how long the transport meant to sleep."""

    def __init__(self, folder: Path, server: Loopback, archive: Archive | None = None, **options: object) -> None:
        self.partial = folder / "partial" / "body"
        self.archive = archive or small_archive()
        self.options = {"environment": {}, "mirrors": server.mirrors, "timeout_seconds": 5.0} | options
        self.rejected: list[tuple[bytes, str]] = []
        self.slept: list[float] = []

    def reject(self, path: Path, reason: str) -> None:
        self.rejected.append((path.read_bytes(), reason))
        path.unlink()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(min(seconds, 0.01))

    def __call__(self, asked: Request | None = None, body_format: str = "csv", **options: object) -> Received:
        async def run() -> Received:
            async with Transport(self.archive, **(self.options | {"sleep": self.sleep} | options)) as transport:
                return await transport.fetch(asked or request(), body_format, self.partial, self.reject)

        return asyncio.run(run())

    def assert_is(self, received: Received, body: bytes) -> None:
        assert self.partial.read_bytes() == body
        assert (received.sha256, received.size) == (hashlib.sha256(body).hexdigest(), len(body))
        assert [path.name for path in self.partial.parent.iterdir()] == ["body"]


def rows(asked: Asked) -> Reply:
    return Reply(200, {"Content-Type": "text/csv"}, ROWS)


@pytest.mark.parametrize("options", [{}, {"gzipped": True}, {"chunked": True}, {"gzipped": True, "chunked": True}])
def test_a_body_arrives_as_it_was_sent(tmp_path, options):
    came = []
    with Loopback(rows, **options) as server:
        fetch = Fetcher(tmp_path, server)
        received = fetch(progress=came.append)
    fetch.assert_is(received, ROWS)
    assert received.status == 200
    assert received.headers["content-type"] == "text/csv"
    sent = gzip.compress(ROWS, mtime=0) if options.get("gzipped") else ROWS
    assert sum(came) == len(sent)


def test_the_request_is_sent_as_it_was_asked(tmp_path):
    with Loopback(lambda asked: Reply(200, {}, b'{"a": 1}')) as server:
        fetch = Fetcher(tmp_path, server)
        params = (("query", "select * from t where a>'x & y'"), ("b", "é"), ("b", ""))
        fetch(request(params=params, accept="application/json"), "json")
        fetch(request(method="POST", body=b"\x00\xff=1", content_type="application/x-test"), "json")
        first, second = (served.asked for served in server.served)
    assert (first.method, first.path) == ("GET", "/data")
    assert first.query == {"query": [params[0][1]], "b": ["é", ""]}
    assert first.headers["accept"] == "application/json"
    assert first.headers["host"] == "archive.test"
    assert "modeling_astrobio" in first.headers["user-agent"]
    assert (second.method, second.body) == ("POST", b"\x00\xff=1")
    assert second.headers["content-type"] == "application/x-test"


def test_only_headers_that_are_needed_later_are_kept(tmp_path):
    headers = {
        "Link": '<https://archive.test/2>; rel="next"',
        "X-Total-Results": "7",
        "Set-Cookie": "a=b",
        "X-Own": "1",
    }
    limits = {"X-RateLimit-Limit": "100", "X-UniProt-Release": "2099_01", "Last-Modified": "yesterday"}
    with Loopback(lambda asked: Reply(200, headers | limits, b"[]\n")) as server:
        received = Fetcher(tmp_path, server)(body_format="json")
    assert sorted(received.headers) == [
        "content-type",
        "etag",
        "last-modified",
        "link",
        "x-ratelimit-limit",
        "x-total-results",
        "x-uniprot-release",
    ]


@pytest.mark.parametrize("options", [{}, {"gzipped": True}, {"chunked": True}, {"ranges": False}])
@pytest.mark.parametrize("fault", [name for name in FAULTS if name not in {"changed schema", "page repeats"}])
def test_a_fault_that_passes_is_overcome(tmp_path, fault, options):
    page = Reply(200, {"Content-Type": "text/html"}, b"<html><title>Down for maintenance</title></html>")
    body = ROWS[: ROWS.rindex(b"\n", 0, 5000) + 1]
    options = {"fault": Fault(fault), "error_page": page, "retry_after": "0.2"} | options
    with Loopback(lambda asked: Reply(200, {}, body), **options) as server:
        fetch = Fetcher(tmp_path, server, timeout_seconds=0.3 if fault == "slow drip" else 5.0)
        received = fetch()
    fetch.assert_is(received, body)
    assert server.served[0].fault == fault
    assert len(server.served) > 1 or (fault in {"wrong length", "cut to a wrong length"} and "chunked" in options)
    if fault == "error page with 200":
        assert [(body, "Down for maintenance" in reason) for body, reason in fetch.rejected] == [(page.body, True)]


@pytest.mark.parametrize("fault", [name for name in FAULTS if name not in {"changed schema", "page repeats"}])
def test_a_fault_that_lasts_is_told_after_every_attempt(tmp_path, fault):
    page = Reply(200, {}, b"<html><title>Down for maintenance</title></html>")
    said = {
        "429 with Retry-After": "status 429: Too many requests",
        "500": "status 500: Internal Server Error",
        "reset in the body": "the connection failed",
        "slow drip": "fewer than 256 bytes a second within 0.2 seconds",
        "wrong length": "the connection failed",
        "cut to a wrong length": "the last row has 1 cells, the header 3",
        "corrupt gzip": "the content encoding gzip is damaged",
        "error page with 200": "Down for maintenance",
    }
    body = b"a,b,c\n1,2,3\n" + b"44,55,66\n" * 100
    options = {"fault": Fault(fault, times=None), "error_page": page, "retry_after": "0.2", "ranges": False}
    with Loopback(lambda asked: Reply(200, {}, body), **options) as server:
        fetch = Fetcher(tmp_path, server, attempts=3, timeout_seconds=0.2)
        with pytest.raises(RequestFailedError, match=f"small: GET {URL} failed: .*{said[fault]}.* Attempts: 3"):
            fetch()
    assert len(server.served) == 3


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


@pytest.mark.parametrize(
    "sidecar", ["", "{", '{"url": "https://archive.test/other", "length": null, "validator": "x"}']
)
def test_a_partial_body_that_is_not_known_is_discarded(tmp_path, sidecar):
    with Loopback(rows) as server:
        fetch = Fetcher(tmp_path, server)
        fetch.partial.parent.mkdir(parents=True)
        fetch.partial.write_bytes(b"something else")
        if sidecar:
            fetch.partial.with_name("body.json").write_text(sidecar)
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


class Unruly:
    """Sends prepared bytes for each connection, for what a proper server library cannot be made to say."""

    def __init__(self, *replies: bytes) -> None:
        self.replies = list(replies)
        self.asked: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self.replies[min(len(self.asked), len(self.replies)) - 1])
        await writer.drain()
        writer.close()

    def fetch(self, folder: Path, body_format: str = "text", **options: object) -> bytes:
        async def run() -> bytes:
            server = await asyncio.start_server(self, "127.0.0.1", 0)
            origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            settings = {"environment": {}, "mirrors": {"https://archive.test": origin}, "timeout_seconds": 1.0}
            async with server, Transport(small_archive(), **(settings | options)) as transport:
                await transport.fetch(request(), body_format, folder / "body", lambda path, reason: path.unlink())
            return (folder / "body").read_bytes()

        return asyncio.run(run())


WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello world\n"
DATED = b"Accept-Ranges: bytes\r\nLast-Modified: %s\r\nDate: Tue, 03 Jan 2023 00:00:00 GMT\r\n"
BEGUN = b'HTTP/1.1 200 OK\r\nContent-Length: 12\r\nAccept-Ranges: bytes\r\nETag: "a"\r\n\r\nhello '


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


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (b"", "the connection failed"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 3\r\n\r\nabc", "content encoding 'br'"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "status 204"),
        (b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", "status 302 without a location"),
        (b"HTTP/1.1 302 Found\r\nLocation: /data\r\nContent-Length: 0\r\n\r\n", "more than 5 redirects"),
        (b"not HTTP at all\r\n\r\n", "the connection failed"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "the connection failed"),
    ],
)
def test_an_answer_without_sense_is_told(tmp_path, first, reason):
    with pytest.raises(RequestFailedError, match=reason):
        Unruly(first).fetch(tmp_path, attempts=2)


def test_an_answer_that_never_begins_is_given_up(tmp_path):
    with Loopback(rows, latency_seconds=5.0) as server:
        start = time.monotonic()
        with pytest.raises(RequestFailedError, match=r"no answer within 0\.1 seconds"):
            Fetcher(tmp_path, server, attempts=2, timeout_seconds=0.1)()
        assert time.monotonic() - start < 3


def test_a_server_that_is_not_there_is_told(tmp_path):
    with Loopback(rows) as server:
        pass
    with pytest.raises(RequestFailedError, match="the connection failed: ConnectError"):
        Fetcher(tmp_path, server, attempts=2)()


def test_a_text_without_a_last_line_end_is_asked_for_twice_and_taken_if_it_stays(tmp_path):
    with Loopback(lambda asked: Reply(200, {}, b"a,b\n1,2")) as server:
        fetch = Fetcher(tmp_path, server)
        fetch.assert_is(fetch(attempts=1), b"a,b\n1,2")
        assert len(server.served) == 2
    bodies = iter([b"a,b\n1,2", b"a,b\n1,23\n"])
    with Loopback(lambda asked: Reply(200, {}, next(bodies))) as server:
        fetch = Fetcher(tmp_path, server)
        fetch.assert_is(fetch(attempts=1), b"a,b\n1,23\n")
    bodies = iter(b"a,b\n1,%d" % number for number in range(99))
    with Loopback(lambda asked: Reply(200, {}, next(bodies))) as server:
        with pytest.raises(RequestFailedError, match="differs each time"):
            Fetcher(tmp_path, server)(attempts=3)
        assert len(server.served) == 4


def test_a_gzip_file_that_is_labelled_as_encoded_stays_a_gzip_file(tmp_path):
    body = gzip.compress(ROWS, mtime=0)
    with Loopback(lambda asked: Reply(200, {"Content-Encoding": "x-gzip"}, body)) as server:
        fetch = Fetcher(tmp_path, server)
        fetch.assert_is(fetch(body_format="gzip"), body)
        fetch.assert_is(fetch(body_format="csv"), ROWS)
        assert [served.asked.headers["accept-encoding"] for served in server.served] == ["identity", "gzip"]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 501])
def test_a_status_that_time_does_not_mend_is_told_at_once(tmp_path, status):
    page = b"<html><style>p {}</style><p>Column  <b>mass</b> is\nunknown</p></html>" + b"x" * 1000
    with Loopback(lambda asked: Reply(status, {}, page)) as server:
        with pytest.raises(RequestFailedError, match=rf"status {status}: Column mass is unknown x{{177}}\."):
            Fetcher(tmp_path, server)()
        assert len(server.served) == 1


def test_retry_after_holds_back_every_request_of_the_archive(tmp_path):
    with Loopback(rows, fault=Fault("429 with Retry-After"), retry_after="1") as server:

        async def run() -> None:
            async with Transport(
                small_archive(), environment={}, mirrors=server.mirrors, timeout_seconds=5
            ) as transport:
                asked = [request(params=(("page", str(number)),)) for number in range(3)]
                await asyncio.gather(
                    *(
                        transport.fetch(each, "csv", tmp_path / str(number), lambda path, reason: None)
                        for number, each in enumerate(asked)
                    )
                )

        asyncio.run(run())
    first = server.served[0]
    assert first.status == 429
    # Those that were under way at once came before the archive had said no.
    later = [served.at - first.at for served in server.served if served.at - first.at > 0.5]
    assert len(later) == len(server.served) - server.statuses.count(429) or len(later) >= 3
    assert min(later) >= 0.99


def test_retry_after_may_be_a_date_of_the_archives_own_clock(tmp_path):
    def in_two_seconds() -> str:
        return format_datetime(datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=2), usegmt=True)

    with Loopback(rows, fault=Fault("429 with Retry-After"), retry_after=in_two_seconds) as server:
        fetch = Fetcher(tmp_path, server)
        # The sleeps are not mended here: a date has whole seconds only.
        fetch(sleep=asyncio.sleep)
    assert 0.9 < server.served[1].at - server.served[0].at < 3


def test_an_archive_that_asks_to_wait_too_long_is_given_up(tmp_path):
    with (
        Loopback(rows, fault=Fault("429 with Retry-After"), retry_after="86400") as server,
        pytest.raises(RequestFailedError, match="asks to wait 86400 seconds; run the same command again"),
    ):
        Fetcher(tmp_path, server)()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "13"}, 13.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "-7"}, 0.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
        ({"retry-after": "Tue, 03 Jan 2023 00:00:37 GMT"}, 30.0),
        ({"retry-after": "Tue, 03 Jan 2023 00:00:00 GMT"}, 0.0),
        ({"retry-after": "Tue, 03 Jan 2023 00:00:37 GMT", "date": "Tue, 03 Jan 2023 00:00:00 GMT"}, 37.0),
    ],
)
def test_retry_after_seconds(headers, expected):
    assert retry_after_seconds(headers, datetime.datetime(2023, 1, 3, 0, 0, 7, tzinfo=datetime.UTC)) == expected


def test_back_off_is_drawn_below_a_bound_that_doubles():
    back_off = BackOff(1.0, 60.0, random.Random(0))
    for attempt, bound in [(1, 1), (2, 2), (3, 4), (7, 60), (5000, 60)]:
        delays = [back_off.delay_seconds(attempt) for _ in range(500)]
        assert 0 <= min(delays) < bound * 0.05
        assert bound * 0.95 < max(delays) <= bound


def test_delays_between_attempts_grow_with_the_time_out(tmp_path):
    with Loopback(rows, fault=Fault("500", times=5)) as server:
        fetch = Fetcher(tmp_path, server, timeout_seconds=60.0)
        fetch()
    assert len(fetch.slept) == 5
    assert all(0 < seconds <= 2**number for number, seconds in enumerate(fetch.slept))


def test_requests_keep_to_the_archives_rate_and_concurrency(tmp_path):
    archive = small_archive(requests_per_second=20.0, burst=3, concurrency=4)
    with Loopback(rows, latency_seconds=0.25) as server:

        async def run() -> None:
            async with Transport(archive, environment={}, mirrors=server.mirrors) as transport:
                await asyncio.gather(
                    *(
                        transport.fetch(
                            request(params=(("page", str(number)),)), "csv", tmp_path / str(number), lambda *_: None
                        )
                        for number in range(12)
                    )
                )

        asyncio.run(run())
    assert server.most_at_once == 4
    assert server.most_within(0.2) <= 3 + 4 + 1
    assert {(tmp_path / str(number)).read_bytes() for number in range(12)} == {ROWS}


# Hosts.


@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.test/data",
        "https://archive.test.elsewhere.test/data",
        "https://archive.test@elsewhere.test/data",
        "https://me:secret@archive.test/data",
        "https://archive.test:8443/data",
        "ftp://archive.test/data",
        "file:///etc/passwd",
        "https://[archive.test/data",
        "/data",
    ],
)
def test_an_address_that_is_not_the_archives_is_refused(tmp_path, url):
    with Loopback(rows) as server:
        with pytest.raises(BuildError, match=r"must be http\(s\).*; got") as caught:
            Fetcher(tmp_path, server)(request(url=url))
        assert not server.served
    assert "secret" not in str(caught.value)


def redirecting(location: str, status: int = 302) -> Callable[[Asked], Reply]:
    return lambda asked: Reply(status, {"Location": location}) if asked.path == "/data" else rows(asked)


@pytest.mark.parametrize("location", ["https://archive.test/b?c=1", "//files.test/b", "b", "http://archive.test/b"])
def test_a_redirect_within_the_archive_is_followed(tmp_path, location):
    archive = small_archive(hosts=("archive.test", "files.test"))
    with Loopback(redirecting(location), archive.hosts) as server:
        fetch = Fetcher(tmp_path, server, archive)
        fetch.assert_is(fetch(), ROWS)
        assert server.served[1].asked.path == "/b"


@pytest.mark.parametrize(
    "location", ["https://elsewhere.test/b", "file:///etc/passwd", "http://169.254.169.254/", "http://[archive.test/"]
)
def test_a_redirect_to_elsewhere_is_not_followed(tmp_path, location):
    with (
        Loopback(redirecting(location)) as server,
        pytest.raises(RequestFailedError, match=r"the archive redirects elsewhere: (small: an address must|Invalid)"),
    ):
        Fetcher(tmp_path, server)()


@pytest.mark.parametrize(
    ("status", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")]
)
def test_a_redirected_post_keeps_its_method_as_the_status_says(tmp_path, status, method):
    with Loopback(redirecting("/b", status)) as server:
        Fetcher(tmp_path, server)(request(method="POST", body=b"q=1"))
        asked = server.served[1].asked
    assert (asked.method, asked.body) == (method, b"q=1" if method == "POST" else b"")


# Secrets.


def secret_archive() -> Archive:
    def headers(values):
        pair = f"{values['SMALL_USERNAME']}:{values['SMALL_PASSWORD']}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}

    return small_archive(
        hosts=("archive.test", "files.test"),
        credentials=(
            Credential(("SMALL_USERNAME", "SMALL_PASSWORD"), "proprietary data", headers=headers),
            Credential(
                ("SMALL_API_KEY",), "more requests", params=lambda values: {"api_key": values["SMALL_API_KEY"]}
            ),
            Credential(("SMALL_UNSET",), "nothing", headers=lambda values: {"X-Unset": values["SMALL_UNSET"]}),
        ),
    )


SECRETS = {"SMALL_USERNAME": "canary user", "SMALL_PASSWORD": CANARY, "SMALL_API_KEY": CANARY + "key"}


def assert_no_secret(*texts: str | bytes) -> None:
    for text in texts:
        data = text.encode() if isinstance(text, str) else text
        for form in (b"canary", base64.b64encode(f"canary user:{CANARY}".encode()), b"9 c=1", b"9%20c", b"9+c"):
            assert form not in data, data


def echo(asked: Asked) -> str:
    return f"{asked.query.get('api_key')} {asked.headers.get('authorization')} {dict(asked.headers)}"


def test_credentials_are_sent_where_all_their_variables_are_set(tmp_path):
    with Loopback(rows) as server:
        Fetcher(tmp_path, server, secret_archive(), environment=SECRETS)(
            request(params=(("api_key", "old"), ("a", "1")))
        )
        Fetcher(tmp_path, server, secret_archive(), environment={"SMALL_USERNAME": "canary user"})()
        first, second = (served.asked for served in server.served)
    assert first.query == {"a": ["1"], "api_key": [CANARY + "key"]}
    assert base64.b64decode(first.headers["authorization"].split()[1]).decode() == f"canary user:{CANARY}"
    assert "x-unset" not in first.headers
    assert "authorization" not in second.headers
    assert second.query == {}


def test_a_credential_may_raise_the_rate():
    keyed = Credential(("SMALL_KEY",), "more", requests_per_second=10.0)
    archive = small_archive(requests_per_second=3.0, credentials=(keyed, Credential(("SMALL_EMAIL",), "contact")))
    rates = [
        Credentials(archive, dict.fromkeys(names, "x")).requests_per_second
        for names in ((), ("SMALL_EMAIL",), ("SMALL_KEY",), ("SMALL_EMAIL", "SMALL_KEY"))
    ]
    assert rates == [3.0, 3.0, 10.0, 10.0]


def test_credentials_are_not_sent_without_encryption_or_to_another_host(tmp_path):
    for url, location in [
        ("http://archive.test/data", "/b"),
        (URL, "https://files.test/b"),
        (URL, "http://archive.test/b"),
    ]:
        with Loopback(redirecting(location), ("archive.test", "files.test")) as server:
            Fetcher(tmp_path, server, secret_archive(), environment=SECRETS)(request(url=url))
            sent = [("authorization" in each.asked.headers, "api_key" in each.asked.query) for each in server.served]
        assert sent == [(url == URL, url == URL), (False, False)]


def test_no_secret_gets_into_an_error_a_log_or_a_file(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)

    def answer(asked: Asked) -> Reply:
        text = echo(asked).encode()
        if asked.path == "/refused":
            return Reply(403, {}, text)
        if asked.path == "/down":
            return Reply(503, {}, text)
        if asked.path == "/away":
            return Reply(302, {"Location": f"https://elsewhere.test/{asked.query['api_key'][0]}"}, b"")
        if asked.path == "/page":
            return Reply(200, {}, b"<html>" + text + b"</html>")
        return Reply(
            200, {"Link": f"<{URL}?api_key={CANARY}key>"}, b'{"asked": "' + text.replace(b'"', b"'") + b'"}\n'
        )

    errors, rejected = [], []
    with Loopback(answer) as server:
        for path in ("refused", "down", "away", "page"):
            fetch = Fetcher(tmp_path, server, secret_archive(), environment=SECRETS, attempts=2)
            with pytest.raises(RequestFailedError) as caught:
                fetch(request(url=f"https://archive.test/{path}"))
            errors.append(str(caught.value))
            rejected += fetch.rejected
            assert caught.value.__cause__ is None
        received = fetch(request(url="https://archive.test/good"), "json")
        asked = [served.asked for served in server.served]
    assert all("authorization" in each.headers for each in asked)
    assert len(rejected) == 2
    assert "Check the values of SMALL_USERNAME, SMALL_PASSWORD, SMALL_API_KEY." in errors[0]
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert "HTTP Request: GET" in caplog.text
    assert_no_secret(caplog.text, repr(received), *errors, *(body + reason.encode() for body, reason in rejected))
    # In data, a user name stays: it may be that of an observer.
    assert_no_secret(*(body.replace(b"canary user", b"") for body in files))


def test_an_address_that_cannot_be_asked_is_told(tmp_path):
    with (
        Loopback(rows) as server,
        pytest.raises(RequestFailedError, match="the address cannot be asked: Invalid non-printable"),
    ):
        Fetcher(tmp_path, server)(request(url=URL + "/\x01"))


@pytest.mark.parametrize("value", ["canary\r\nX-Other: 1", "canaré"])
def test_a_credential_that_no_header_can_carry_is_refused_without_showing_it(value):
    archive = small_archive(
        credentials=(Credential(("SMALL_TOKEN",), "", headers=lambda values: {"X-Token": values["SMALL_TOKEN"]}),)
    )
    with pytest.raises(BuildError, match="SMALL_TOKEN must be printable ASCII") as caught:
        Transport(archive, environment={"SMALL_TOKEN": value})
    assert "canar" not in str(caught.value)


def test_a_missing_credential_is_named_where_the_archive_refuses(tmp_path):
    with (
        Loopback(lambda asked: Reply(401, {}, b"")) as server,
        pytest.raises(RequestFailedError, match=r"status 401 .*set SMALL_USERNAME, SMALL_PASSWORD, SMALL_API_KEY"),
    ):
        Fetcher(tmp_path, server, secret_archive())()


@pytest.mark.parametrize("at", [(1 << 20) - 20, (1 << 20) - 1, 0])
def test_a_secret_across_two_reads_of_a_body_is_found(tmp_path, at):
    def answer(asked: Asked) -> Reply:
        text = b"x" * at + CANARY.encode() + b"y" * (1 << 20) + CANARY.encode()
        return Reply(200, {}, text + b"\n")

    with Loopback(answer) as server:
        fetch = Fetcher(tmp_path, server, secret_archive(), environment=SECRETS)
        fetch.assert_is(fetch(body_format="text"), b"x" * at + b"***" + b"y" * (1 << 20) + b"***\n")


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(BuildError, match="attempts must be at least 1; got 0"):
        Transport(small_archive(), environment={}, attempts=0)
    with pytest.raises(BuildError, match="timeout_seconds must be positive; got nan"):
        Transport(small_archive(), environment={}, timeout_seconds=float("nan"))
    with pytest.raises(RuntimeError, match="outside of its context"):
        asyncio.run(
            Transport(small_archive(), environment={}).fetch(request(), "csv", tmp_path / "b", lambda *_: None)
        )


def test_the_server_leaves_no_thread_behind():
    before = threading.active_count()
    with Loopback(rows):
        assert threading.active_count() > before
    assert threading.active_count() == before
