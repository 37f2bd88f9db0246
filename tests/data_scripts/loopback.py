"""A real HTTP server on 127.0.0.1 that stands in for an archive, and misbehaves on command."""

import gzip
import hashlib
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

from replay import Asked, Replay, Reply


__all__ = ["FAULTS", "Fault", "Loopback", "Served", "loopback_of"]

FAULTS = (
    "429 with Retry-After",
    "500",
    "reset in the body",
    "slow drip",
    "wrong length",
    "cut to a wrong length",
    "corrupt gzip",
    "error page with 200",
    "changed schema",
    "page repeats",
)
_DRIP_SECONDS = 0.02
_WRONG_BY = 7  # bytes; odd, so that no page's rows are as long


@dataclass(frozen=True)
class Fault:
    """One way to misbehave.

    Attributes:
        name: One of `FAULTS`.
        times: How often each address suffers it, or None for always.
        every: Which addresses suffer it, in the order in which they are first asked: the first, and each so many on.
    """

    name: str
    times: int | None = 1
    every: int = 1

    def __post_init__(self) -> None:
        if self.name not in FAULTS:
            raise ValueError(f"name must be one of {FAULTS}; got {self.name!r}.")


@dataclass(frozen=True)
class Served:
    """A request that was served: when (monotonic, s), with which status, and the fault it suffered, if any."""

    asked: Asked
    at: float
    status: int
    fault: str | None


class Loopback:
    """The server, as a context manager; it supports keep-alive, Range with a strong ETag, gzip and chunks.

    Args:
        answer: What the archive replies.
        hosts: Hosts of the archive, for `mirrors`.
        fault: How it misbehaves.
        changed_schema: What the fault of this name does to a reply.
        error_page: What the fault of this name replies.
        retry_after: Value of Retry-After; a function is called for it.
        gzipped: Whether bodies are encoded with gzip for clients that accept it.
        chunked: Whether bodies are sent in chunks, without a length.
        ranges: Whether a rest of a body can be asked for.
        latency_seconds: Time before each reply.

    Attributes:
        served: Requests, in the order in which they came.
        mirrors: Origins of the archive, mapped to this server.
    """

    def __init__(
        self,
        answer: Callable[[Asked], Reply],
        hosts: Sequence[str] = ("archive.test",),
        *,
        fault: Fault | None = None,
        changed_schema: Callable[[Reply], Reply] | None = None,
        error_page: Reply | None = None,
        retry_after: str | Callable[[], str] = "1",
        gzipped: bool = False,
        chunked: bool = False,
        ranges: bool = True,
        latency_seconds: float = 0.0,
    ) -> None:
        self.answer = answer
        self.fault = fault
        self.changed_schema = changed_schema
        self.error_page = error_page
        self.retry_after = retry_after
        self.gzipped = gzipped
        self.chunked = chunked
        self.ranges = ranges
        self.latency_seconds = latency_seconds
        self.served: list[Served] = []
        self.errors: list[Exception] = []
        self.at_once = 0
        self.most_at_once = 0
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self._ordinals: dict[object, int] = {}
        self._suffered: Counter[object] = Counter()
        self._replies: dict[tuple[str, str], dict[int, Reply]] = {}
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.loopback = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self.mirrors = {f"{scheme}://{host}": self.origin for host in hosts for scheme in ("http", "https")}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        if kind is None and self.errors:
            raise self.errors[0]

    @property
    def statuses(self) -> list[int]:
        """Status of each reply, in the order of the requests."""
        return [served.status for served in self.served]

    def most_within(self, seconds: float) -> int:
        """Return the greatest number of requests that came within a time."""
        times = sorted(served.at for served in self.served)
        return max((sum(start <= at < start + seconds for at in times) for start in times), default=0)

    def decide(self, asked: Asked, raw: str) -> tuple[Reply, str | None]:
        """Return the reply to a request and the fault that it suffers, and note both."""
        key = (asked.method, raw, asked.body)
        try:
            reply = self.answer(asked)
        except Exception as error:
            self.errors.append(error)
            reply = Reply(500, {}, f"the replay failed: {error!r}".encode())
        with self.lock:
            ordinal = self._ordinals.setdefault(key, len(self._ordinals))
            fault = self.fault
            suffers = (
                fault is not None
                and ordinal % fault.every == 0
                and (fault.times is None or self._suffered[key] < fault.times)
                and reply.status == 200
            )
            name = fault.name if suffers else None
            replies = self._replies.setdefault((asked.method, asked.path), {})
            before = max((number for number in replies if number < ordinal), default=None)
            if reply.status == 200:
                replies[ordinal] = reply
            if name == "page repeats":
                name = name if before is not None and replies[before].body != reply.body else None
                reply = reply if name is None else replies[before]
            elif name == "changed schema":
                changed = self.changed_schema(reply)
                name = name if changed.body != reply.body else None
                reply = changed
            elif name == "error page with 200":
                reply = self.error_page
            elif name == "429 with Retry-After":
                after = self.retry_after if isinstance(self.retry_after, str) else self.retry_after()
                reply = Reply(429, {"Retry-After": after}, b"Too many requests")
            elif name == "500":
                reply = Reply(500, {}, b"<html><h1>Internal Server Error</h1></html>")
            if name is not None:
                self._suffered[key] += 1
            self.served.append(Served(asked, time.monotonic(), reply.status, name))
        return reply, name


def loopback_of(replay: Replay, hosts: Sequence[str], fault: Fault | None = None, **options: object) -> Loopback:
    """Return the server that plays a replay."""
    return Loopback(
        replay.answer,
        hosts,
        fault=fault,
        changed_schema=replay.changed_schema,
        error_page=replay.error_page,
        **options,
    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    loopback: Loopback

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        loopback = self.server.loopback
        with loopback.lock:
            loopback.at_once += 1
            loopback.most_at_once = max(loopback.most_at_once, loopback.at_once)
        try:
            loopback.stopping.wait(loopback.latency_seconds)
            self._reply(loopback)
        finally:
            with loopback.lock:
                loopback.at_once -= 1

    def _reply(self, loopback: Loopback) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        headers["host"] = headers.get("x-forwarded-host", headers["host"])
        parts = urlsplit(self.path)
        query = parse_qs(parts.query, keep_blank_values=True)
        asked = Asked(self.command, unquote(parts.path), query, body, headers)
        reply, fault = loopback.decide(asked, self.path)
        sent = {"Content-Type": "application/octet-stream"} | dict(reply.headers) | {"Date": formatdate(usegmt=True)}
        reply = replace(reply, headers=sent)
        if reply.status == 200:
            reply = self._encoded(loopback, asked, reply, fault)
            reply = self._ranged(loopback, asked, reply)
        self._send(loopback, reply, fault)

    def _encoded(self, loopback: Loopback, asked: Asked, reply: Reply, fault: str | None) -> Reply:
        sent = dict(reply.headers)
        body = reply.body
        is_gzip = body.startswith(b"\x1f\x8b")
        accepts = "gzip" in asked.headers.get("accept-encoding", "")
        if not is_gzip and ((loopback.gzipped and accepts) or fault == "corrupt gzip"):
            body = gzip.compress(body, mtime=0)
            sent["Content-Encoding"] = "gzip"
        # The ETag is that of the good body: a proxy that damages one does not know.
        sent["ETag"] = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        if fault == "corrupt gzip":
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 0xFF]) + body[middle + 1 : -4]
        return Reply(reply.status, sent, body)

    def _ranged(self, loopback: Loopback, asked: Asked, reply: Reply) -> Reply:
        if not loopback.ranges or asked.method != "GET":
            return reply
        sent = dict(reply.headers) | {"Accept-Ranges": "bytes"}
        match = re.fullmatch(r"bytes=(\d+)-", asked.headers.get("range", ""))
        if match is None or asked.headers.get("if-range", sent["ETag"]) != sent["ETag"]:
            return Reply(200, sent, reply.body)
        start, length = int(match[1]), len(reply.body)
        if start >= length:
            return Reply(416, {"Content-Range": f"bytes */{length}"}, b"")
        return Reply(206, sent | {"Content-Range": f"bytes {start}-{length - 1}/{length}"}, reply.body[start:])

    def _send(self, loopback: Loopback, reply: Reply, fault: str | None) -> None:
        body = reply.body
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        announced = len(body)
        if fault == "wrong length":
            announced += _WRONG_BY
        elif fault == "cut to a wrong length":
            announced = max(1, announced - _WRONG_BY)
        if loopback.chunked and reply.status == 200:
            self.send_header("Transfer-Encoding", "chunked")
            body = _chunks(body)
        else:
            self.send_header("Content-Length", str(announced))
        self.end_headers()
        if fault == "reset in the body":
            self.wfile.write(body[: len(body) // 2])
            self._reset()
        elif fault == "slow drip":
            for start in range(len(body)):
                if loopback.stopping.wait(_DRIP_SECONDS):
                    break
                self.wfile.write(body[start : start + 1])
            self.close_connection = True
        else:
            self.wfile.write(body)
            self.close_connection |= fault in {"wrong length", "cut to a wrong length"}

    def _reset(self) -> None:
        # Closing with a linger of no time sends RST instead of FIN. What was written has to arrive first.
        time.sleep(0.02)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


def _chunks(body: bytes) -> bytes:
    """Return a body in chunks of 1, 8, 15... bytes."""
    out, start, size = [], 0, 1
    while start < len(body):
        part = body[start : start + size]
        out.append(b"%x\r\n%s\r\n" % (len(part), part))
        start, size = start + size, size + 7
    return b"".join(out) + b"0\r\n\r\n"
