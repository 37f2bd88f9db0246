"""The transport against a real server that misbehaves: what arrives is whole, and what does not is told."""

import asyncio
import gzip
import threading
import time

import pytest
from loopback import FAULTS, Fault, Loopback
from replay import Reply
from small_archive import small_archive
from transport_tools import ROWS, URL, Fetcher, Unruly, request, rows

from data_scripts.harness.errors import BuildError, RequestFailedError
from data_scripts.harness.transport import Transport


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


def test_an_address_that_cannot_be_asked_is_told(tmp_path):
    with (
        Loopback(rows) as server,
        pytest.raises(RequestFailedError, match="the address cannot be asked: Invalid non-printable"),
    ):
        Fetcher(tmp_path, server)(request(url=URL + "/\x01"))


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


@pytest.mark.parametrize("options", [{}, {"gzipped": True}, {"chunked": True}])
def test_a_body_without_end_is_given_up(tmp_path, options):
    body = b"n\n" + b"7" * (3 << 20) + b"\n"
    with Loopback(lambda asked: Reply(200, {}, body), **options) as server:
        fetch = Fetcher(tmp_path, server, most_bytes=1 << 20)
        with pytest.raises(RequestFailedError, match=r"the body (goes on after|unfolds to more than) 1048576 bytes"):
            fetch(body_format="text")
        assert len(server.served) == 1
        assert list(fetch.partial.parent.iterdir()) == []
        assert [reason for _, reason in fetch.rejected] == (
            ["the body unfolds to more than 1048576 bytes"] if "gzipped" in options else []
        )
        assert fetch(body_format="text", most_bytes=4 << 20).size == len(body)
