"""A client and a server for tests of the transport."""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

from loopback import Loopback
from replay import Asked, Reply
from small_archive import small_archive

from data_scripts.harness.archive import Archive, Request
from data_scripts.harness.partial_body import PartialBody
from data_scripts.harness.transport import Received, Transport


ROWS = b"name,mass\n" + b"".join(b"T\xc3\xa9st-%d b,%d.5\n" % (number, number) for number in range(537))


URL = "https://archive.test/data"


WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello world\n"


def request(**changes: object) -> Request:
    return Request(**({"url": URL, "stage": "rows"} | changes))


def rows(asked: Asked) -> Reply:
    return Reply(200, {"Content-Type": "text/csv"}, ROWS)


def redirecting(location: str, status: int = 302) -> Callable[[Asked], Reply]:
    return lambda asked: Reply(status, {"Location": location}) if asked.path == "/data" else rows(asked)


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
        [received] = self.all([asked or request()], body_format, **options)
        return received

    def all(self, questions: list[Request], body_format: str = "csv", **options: object) -> list[Received]:
        """Fetch one after the other; the bodies of all but the first lie beside that one."""

        async def run() -> list[Received]:
            async with Transport(self.archive, **(self.options | {"sleep": self.sleep} | options)) as transport:
                return [
                    await transport.fetch(
                        each, body_format, self.partial.with_name(f"body{number or ''}"), self.reject
                    )
                    for number, each in enumerate(questions)
                ]

        return asyncio.run(run())

    def assert_is(self, received: Received, body: bytes) -> None:
        assert received.path.read_bytes() == body
        assert (received.sha256, received.size) == (hashlib.sha256(body).hexdigest(), len(body))
        PartialBody.discard_at(self.partial)
        assert list(self.partial.parent.iterdir()) == []


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
