"""Requests to an archive over HTTP: at its rate, again where that helps, and never with a secret in a message."""

import asyncio
import datetime
import functools
import hashlib
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from data_scripts.harness.addresses import Addresses, with_params
from data_scripts.harness.archive import Archive, BodyFormat, Request
from data_scripts.harness.body_formats import check_body, ends_a_line
from data_scripts.harness.content_encoding import ACCEPTED_ENCODINGS, decode_body
from data_scripts.harness.credentials import Credentials
from data_scripts.harness.error_message import message_of
from data_scripts.harness.errors import BadBodyError, BuildError, RequestFailedError
from data_scripts.harness.exchange import AgainError, Exchange, FinalError, extend
from data_scripts.harness.partial_body import PartialBody
from data_scripts.harness.rate_limit import RateLimit
from data_scripts.harness.retry import BackOff, is_retried, retry_after_seconds


__all__ = ["Received", "Transport"]

_USER_AGENT = "modeling_astrobio data_scripts (python-httpx)"
_KEPT_HEADERS = frozenset({"content-type", "etag", "last-modified", "link", "x-total-results", "x-uniprot-release"})
_KEPT_PREFIX = "x-ratelimit-"
_LEAST_BYTES_PER_SECOND = 256
_PROGRESS_BYTES = 1 << 20
_LONGEST_PAUSE = 15  # times the time-out
_SHOWN_ADDRESS = 500  # characters
# They write addresses, with the parameters that carry a credential, at level INFO and below.
_LOGGERS = ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy")


@dataclass(frozen=True)
class Received:
    """What came with a body.

    Attributes:
        status: HTTP status.
        headers: The response headers that later requests or the snapshot need, in lower case.
        sha256: SHA-256 (hex) of the body, without content encoding.
        size: Its bytes.
        path: File with it.
    """

    status: int
    headers: dict[str, str]
    sha256: str
    size: int
    path: Path


@functools.cache
def _ssl_context() -> ssl.SSLContext:
    # Reading the certificates takes longer than many a question; clients can share them.
    return httpx.create_ssl_context()


class Transport:
    """Asynchronous client of one archive, for use as an asynchronous context manager.

    Args:
        archive: Its hosts, rate, concurrency and credentials are kept to.
        environment: Environment variables that credentials are read from.
        mirrors: Origins to ask instead, such as `{"https://archive.org": "http://127.0.0.1:8000"}`.
        attempts: Times that a request is sent at most; one that brought a resumable body forward by 1 MiB is not
            counted.
        timeout_seconds: Longest wait for the head of an answer, and for as many times 256 bytes of its body. The
            longest delay of the back-off is as long, the first a sixtieth of it; an archive that asks to wait more
            than 15 times as long is given up.
        most_bytes: Bytes that a body may have, as it is sent and as it is decoded.
        progress: Called with the number of bytes that came.
        sleep: Waits a number of seconds.

    Raises:
        BuildError: If `attempts` or `timeout_seconds` is not positive.
    """

    def __init__(
        self,
        archive: Archive,
        *,
        environment: Mapping[str, str],
        mirrors: Mapping[str, str] | None = None,
        attempts: int = 6,
        timeout_seconds: float = 60.0,
        most_bytes: int = 32 << 30,
        progress: Callable[[int], None] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if attempts < 1:
            raise BuildError(f"attempts must be at least 1; got {attempts}.")
        if not timeout_seconds > 0:
            raise BuildError(f"timeout_seconds must be positive; got {timeout_seconds}.")
        self._archive = archive
        self._credentials = Credentials(archive, environment)
        self._addresses = Addresses(archive, mirrors or {})
        self._attempts = attempts
        self._timeout_seconds = timeout_seconds
        self._most_bytes = most_bytes
        self._progress = progress
        self._sleep = sleep
        self._back_off = BackOff(timeout_seconds / 60, timeout_seconds)
        self._rate = RateLimit(self._credentials.requests_per_second, archive.burst, sleep=sleep)
        self._slots = asyncio.Semaphore(archive.concurrency)
        self._client: httpx.AsyncClient | None = None
        self._exchange: Exchange | None = None

    async def __aenter__(self) -> Self:
        for name in _LOGGERS:
            logging.getLogger(name).addFilter(self._credentials.filter)
        # Time-outs are this class's own: httpx would start anew with every byte.
        self._client = httpx.AsyncClient(
            timeout=None,
            verify=_ssl_context(),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=self._archive.concurrency),
            headers={"User-Agent": _USER_AGENT},
        )
        self._exchange = Exchange(self._client, self._addresses, self._credentials, self._rate, self._timeout_seconds)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        client, self._client, self._exchange = self._client, None, None
        if client is not None:
            await client.aclose()
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(self._credentials.filter)

    async def fetch(
        self, request: Request, body_format: BodyFormat, partial: Path, reject: Callable[[Path, str], None]
    ) -> Received:
        """Ask until a body of the right format has come.

        Args:
            request: The question.
            body_format: Format that the body must have.
            partial: File for the body. What an earlier, killed process left there is gone on with. At most one
                process may use it and what lies beside it, `<name>.*`, at a time.
            reject: Takes a bad body out of the way, with the reason.

        Returns:
            What came, and where the body is. When it is safe elsewhere, the caller removes what `partial` still has,
            by `PartialBody.discard_at`; until then the same request is answered from there.

        Raises:
            BuildError: If the address is not one of the archive's.
            RequestFailedError: If no good body came after every attempt.
        """
        url = with_params(request.url, request.params)
        self._addresses.check(url)
        body = PartialBody(partial, url)
        unended = ""
        attempt = 0
        while True:
            size = body.size
            try:
                if not body.is_complete:
                    async with self._slots:
                        await self._receive(request, url, body_format, body)
                received = await self._taken(body, body_format, reject)
                if received.sha256 == unended or ends_a_line(received.path, body_format):
                    return received
                # A cut that falls on the end of a cell does not show, but hardly comes twice at the same byte.
                failure: Exception = BadBodyError("the last line does not end, and differs each time", again=True)
                is_first, unended = not unended, received.sha256
                body.discard()
                if is_first:
                    continue
            except (BadBodyError, AgainError) as error:
                failure = error
            if isinstance(failure, BadBodyError) and not failure.again:
                raise self._failed(request, url, str(failure), "")
            attempt = 0 if body.is_resumable and body.size - size >= _PROGRESS_BYTES else attempt + 1
            if attempt >= self._attempts:
                remedy = f"Attempts: {attempt}. Run the same command again later; it goes on with what it has."
                raise self._failed(request, url, str(failure), remedy)
            if not (isinstance(failure, AgainError) and failure.waits):
                await self._sleep(self._back_off.delay_seconds(max(1, attempt)))

    async def _receive(self, request: Request, url: str, body_format: BodyFormat, body: PartialBody) -> None:
        """Make one attempt to receive the body or the rest of it."""
        if self._exchange is None:
            raise RuntimeError("Transport is used outside of its context; write `async with Transport(...)`.")
        headers = {"Accept-Encoding": ACCEPTED_ENCODINGS.get(body_format, "gzip")}
        if request.accept is not None:
            headers["Accept"] = request.accept
        if request.method == "GET":
            headers |= body.range_headers()
        response = None
        what = "no answer"
        try:
            async with asyncio.timeout(None) as deadline:
                response = await self._exchange.send(request, url, headers, deadline)
                received = _lower(response.headers)
                self._rate.observe(received)
                if response.status_code not in {200, 206}:
                    await self._refused(request, url, response, received, body)
                body.begin(response.status_code, received, self._kept(received), by_range=request.method == "GET")
                what = f"fewer than {_LEAST_BYTES_PER_SECOND} bytes a second"
                await self._write(response, body, deadline)
                body.end()
        except FinalError as error:
            raise self._failed(request, url, str(error), self._remedy(error.status)) from None
        except TimeoutError:
            raise AgainError(f"{what} within {self._timeout_seconds:g} seconds") from None
        except httpx.InvalidURL as error:
            raise self._failed(request, url, f"the address cannot be asked: {error}", "") from None
        except httpx.TransportError as error:
            raise AgainError(f"the connection failed: {type(error).__name__} {error}".rstrip()) from None
        finally:
            if response is not None:
                await response.aclose()

    async def _write(self, response: httpx.Response, body: PartialBody, deadline: asyncio.Timeout) -> None:
        """Append the bytes that come; the deadline goes on with every window's worth of bytes."""
        window = _LEAST_BYTES_PER_SECOND * self._timeout_seconds
        extend(deadline, self._timeout_seconds)
        since = 0
        with body.path.open("ab", buffering=0) as file:
            async for chunk in response.aiter_raw():
                file.write(chunk)
                since += len(chunk)
                if body.size > self._most_bytes:
                    body.discard()
                    raise BadBodyError(f"the body goes on after {self._most_bytes} bytes")
                if since >= window:
                    since = 0
                    extend(deadline, self._timeout_seconds)
                if self._progress is not None:
                    self._progress(len(chunk))

    async def _refused(
        self, request: Request, url: str, response: httpx.Response, headers: Mapping[str, str], body: PartialBody
    ) -> None:
        """Raise for a status that brings no body."""
        status = response.status_code
        message = self._credentials.redact(await message_of(response))
        reason = f"status {status}: {message}" if message else f"status {status} {response.reason_phrase}".rstrip()
        if status == 416:
            # The kept part is not a part of what the archive has now.
            body.discard()
            raise AgainError(reason)
        if not is_retried(status):
            raise self._failed(request, url, reason, self._remedy(status))
        seconds = retry_after_seconds(headers, datetime.datetime.now(datetime.UTC))
        if seconds is None:
            raise AgainError(reason)
        if seconds > _LONGEST_PAUSE * self._timeout_seconds:
            remedy = f"It asks to wait {seconds:g} seconds; run the same command again then."
            raise self._failed(request, url, reason, remedy)
        self._rate.pause(seconds)
        raise AgainError(reason, waits=seconds > 0)

    async def _taken(
        self, body: PartialBody, body_format: BodyFormat, reject: Callable[[Path, str], None]
    ) -> Received:
        """Decode and check a body that is whole."""
        try:
            path, sha256 = await asyncio.to_thread(self._check, body, body_format)
        except BadBodyError as error:
            path = body.whole if body.whole.exists() else body.path
            self._credentials.redact_file(path, path, data=False)
            reason = self._credentials.redact(str(error))
            reject(path, reason)
            body.discard()
            raise BadBodyError(reason, again=error.again) from None
        return Received(body.status, body.headers, sha256, path.stat().st_size, path)

    def _check(self, body: PartialBody, body_format: BodyFormat) -> tuple[Path, str]:
        # Of an attempt that was killed.
        body.whole.unlink(missing_ok=True)
        try:
            is_decoded = decode_body(body.path, body.whole, body.encoding, body_format, self._most_bytes)
        except BadBodyError:
            body.whole.unlink(missing_ok=True)
            raise
        path = body.whole if is_decoded else body.path
        check_body(path, body_format)
        if self._credentials.redact_file(path, body.whole, data=True):
            path = body.whole
            # Asked again after a kill, rather than a secret that stays.
            body.discard_received()
        with path.open("rb") as file:
            return path, hashlib.file_digest(file, "sha256").hexdigest()

    def _kept(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {
            name: self._credentials.redact(value)
            for name, value in headers.items()
            if name in _KEPT_HEADERS or name.startswith(_KEPT_PREFIX)
        }

    def _failed(self, request: Request, url: str, reason: str, remedy: str) -> RequestFailedError:
        address = url if len(url) <= _SHOWN_ADDRESS else url[:_SHOWN_ADDRESS] + "..."
        text = f"{self._archive.name}: {request.method} {address} failed: {reason.rstrip('.')}. {remedy}".rstrip()
        return RequestFailedError(self._credentials.redact(text))

    def _remedy(self, status: int) -> str:
        if status not in {401, 403}:
            return ""
        if self._credentials.used:
            return f"Check the values of {', '.join(self._credentials.used)}."
        if self._credentials.unset:
            return f"It may need a credential: set {', '.join(self._credentials.unset)}."
        return ""


def _lower(headers: httpx.Headers) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}
