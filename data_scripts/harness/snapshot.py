"""Keeps every body of a source under its SHA-256, and a manifest that says what it answered, when, and how."""

import asyncio
import contextlib
import datetime
import hashlib
import json
import logging
import os
import shutil
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from data_scripts.harness.archive import Answer, Request
from data_scripts.harness.errors import BuildError
from data_scripts.harness.transport import Received


__all__ = ["Rejection", "Snapshot", "sha256_of"]

logger = logging.getLogger(__name__)

WITHDRAWN = "withdrawn"  # an answer that turned out to be none
REJECTED = "rejected"  # a body that never became an answer
ANSWERED = "answered"


@dataclass(frozen=True)
class Rejection:
    """A body that was refused.

    Attributes:
        key: Key of its request.
        url: Address asked, without query.
        reason: What is wrong with it.
        sha256: SHA-256 (hex) of the body.
        at: Time, ISO 8601, UTC, whole seconds.
    """

    key: str
    url: str
    reason: str
    sha256: str
    at: str


def sha256_of(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _utc_now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class Snapshot:
    """The kept bodies of one source; safe to use from several processes and to kill at any moment.

    A body counts as kept once its line stands in `manifest.jsonl`. Lines are only ever added, each is on disk before
    `put` returns, and what a killed process left of a line is ignored by readers and cut off by the next writer.

    Args:
        folder: Folder of the source; made if absent.
        max_age_days: Bodies older than this at the time of construction are not found; None for any age.
        clock: Tells the time, with its zone.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_age_days: float | None = None,
        clock: Callable[[], datetime.datetime] = _utc_now,
    ) -> None:
        self.folder = folder
        for name in ("bodies", "partial", "rejected"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._manifest = folder / "manifest.jsonl"
        self._clock = clock
        self._oldest = ""
        if max_age_days is not None:
            self._oldest = _iso(clock() - datetime.timedelta(days=max_age_days))
        self._read_to = 0  # bytes of the manifest that are in the index
        self._index: dict[str, dict[str, Any]] = {}
        self._rejections: list[Rejection] = []
        self._guard = threading.RLock()

    def find(self, request: Request, *, withdrawn_too: bool = False) -> Answer | None:
        """Return the newest body kept for a request after comparing it with its size and SHA-256, or None.

        A body that no longer matches is set aside, and the request counts as unanswered.

        Args:
            request: The question.
            withdrawn_too: Whether a body counts that its parser refused: there may be a better parser by now.
        """
        with self._guard:
            self._refresh()
            record = self._index.get(request.key)
        if record is None or record["retrieved_at"] < self._oldest:
            return None
        if record["kind"] == WITHDRAWN and not withdrawn_too:
            return None
        path = self._body(record["sha256"])
        damage = _damage(path, record)
        if damage is None:
            return Answer(request, path, record["sha256"], record["status"], record["headers"], record["retrieved_at"])
        if record["kind"] == ANSWERED:
            logger.warning("kept body of %s: %s; it is set aside", request.url, damage)
            if path.exists():
                os.replace(path, self.folder / "rejected" / f"{record['sha256']}.damaged")
            self._append({**record, "kind": WITHDRAWN, "url": request.url, "reason": damage, "at": self._now()})
        return None

    def partial(self, request: Request) -> Path:
        """Return where the body of a request is received; what is there already can be continued."""
        return self.folder / "partial" / request.key

    def put(self, request: Request, received: Received) -> Answer:
        """Keep a received and checked body as the answer of a request; its file is removed when it is kept."""
        return self._keep(request, received.path, received.sha256, received.size, received.status, received.headers)

    def import_file(self, request: Request, path: Path) -> Answer:
        """Keep a copy of a file as the answer of a request, if it is not kept yet."""
        found = self.find(request, withdrawn_too=True)
        if found is not None:
            return found
        partial = self.folder / "partial" / f"{request.key}.{os.getpid()}"
        shutil.copyfile(path, partial)
        return self._keep(request, partial, sha256_of(partial), partial.stat().st_size, 200, {})

    def reject(self, request: Request, path: Path, reason: str) -> None:
        """Set aside a body that is no answer, and note why."""
        sha256 = sha256_of(path)
        os.replace(path, self.folder / "rejected" / sha256)
        self._append(
            {"kind": REJECTED, **_question(request), "reason": reason, "sha256": sha256, "at": self._now()},
        )

    def withdraw(self, answer: Answer, reason: str) -> None:
        """Note that a kept body is no answer; it stays where it is, but the request is asked again."""
        self._append(
            {
                **_question(answer.request),
                "kind": WITHDRAWN,
                "status": answer.status,
                "headers": dict(answer.headers),
                "sha256": answer.sha256,
                "size": answer.path.stat().st_size,
                "retrieved_at": answer.retrieved_at,
                "reason": reason,
                "at": self._now(),
            }
        )

    @property
    def rejections(self) -> list[Rejection]:
        """Every body refused so far, oldest first."""
        with self._guard:
            self._refresh()
            return list(self._rejections)

    @contextlib.asynccontextmanager
    async def claim(self) -> AsyncIterator[None]:
        """Hold the right to fetch for this source, which one process has at a time.

        Two processes would exceed the archive's rate, and write to the same partial files.
        """
        lock = FileLock(self.folder / "fetch.lock")
        told = False
        while not lock.is_locked:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                if not told:
                    logger.warning("another process fetches from %s; waiting for it", self.folder.name)
                    told = True
                await asyncio.sleep(0.2)
        try:
            self._remove_leftovers()
            yield
        finally:
            lock.release()

    def _remove_leftovers(self) -> None:
        """Remove what processes that were killed as they had just kept a body left of receiving it."""
        with self._guard:
            self._refresh()
            kept = {key: record["retrieved_at"] for key, record in self._index.items()}
        for path in (self.folder / "partial").iterdir():
            at = kept.get(path.name.partition(".")[0])
            # Times of records are whole seconds, rounded down.
            if at is not None and path.stat().st_mtime < datetime.datetime.fromisoformat(at).timestamp() + 1:
                path.unlink(missing_ok=True)

    def _keep(
        self, request: Request, file: Path, sha256: str, size: int, status: int, headers: Mapping[str, str]
    ) -> Answer:
        path = self._body(sha256)
        path.parent.mkdir(exist_ok=True)
        # Until the line stands in the manifest, the file is all that a next process knows of.
        _link_or_copy(file, path)
        _sync_folder(path.parent)
        retrieved_at = self._now()
        self._append(
            {
                "kind": ANSWERED,
                **_question(request),
                "status": status,
                "headers": dict(headers),
                "sha256": sha256,
                "size": size,
                "retrieved_at": retrieved_at,
            }
        )
        file.unlink()
        return Answer(request, path, sha256, status, dict(headers), retrieved_at)

    def _append(self, record: Mapping[str, Any]) -> None:
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        with self._guard, FileLock(self.folder / "manifest.lock"):
            new = not self._manifest.exists()
            with self._manifest.open("ab+") as file:
                _cut_torn_line(file)
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            if new:
                _sync_folder(self.folder)

    def _refresh(self) -> None:
        if not self._manifest.exists() or self._manifest.stat().st_size <= self._read_to:
            return
        with self._manifest.open("rb") as file:
            file.seek(self._read_to)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                try:
                    self._take(json.loads(line))
                except (ValueError, TypeError, KeyError) as error:
                    raise BuildError(
                        f"{self._manifest} must have one record a line, as JSON; got something else at byte "
                        f"{self._read_to}. Remove that line; its request is then asked again."
                    ) from error
                self._read_to += len(line)

    def _take(self, record: dict[str, Any]) -> None:
        names = ("key", "url", "reason", "sha256", "at")
        rejection = None if record["kind"] == ANSWERED else Rejection(**{name: record[name] for name in names})
        # The name of a file is made of it.
        int(record["sha256"], 16)
        if record["kind"] != REJECTED:
            datetime.datetime.fromisoformat(record["retrieved_at"])
            kept = ("kind", "key", "status", "headers", "sha256", "size", "retrieved_at")
            self._index[record["key"]] = {name: record[name] for name in kept}
        if rejection is not None:
            self._rejections.append(rejection)

    def _body(self, sha256: str) -> Path:
        return self.folder / "bodies" / sha256[:2] / sha256

    def _now(self) -> str:
        return _iso(self._clock())


def _question(request: Request) -> dict[str, Any]:
    question = {
        "key": request.key,
        "url": request.url,
        "params": request.params,
        "method": request.method,
        "body": request.body.decode(errors="backslashreplace"),
        "release": request.release,
        "stage": request.stage,
    }
    return {name: value for name, value in question.items() if value or name in ("key", "url")}


def _damage(path: Path, record: Mapping[str, Any]) -> str | None:
    if not path.exists():
        return "the file is gone"
    size = path.stat().st_size
    if size != record["size"]:
        return f"the file has {size} bytes where {record['size']} were kept"
    if sha256_of(path) != record["sha256"]:
        return "the file's SHA-256 is no longer the one that was kept"
    return None


def _iso(time: datetime.datetime) -> str:
    return time.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _cut_torn_line(file: Any) -> None:
    """Shorten a file to its last whole line."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 65536)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            file.truncate(start + newline + 1)
            return
        end = start
    file.truncate(0)


def _link_or_copy(file: Path, path: Path) -> None:
    """Give a file a second name that lasts through a loss of power, in place of a file that has it."""
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        os.link(file, beside)
    except OSError:
        # Some file systems have no links.
        shutil.copyfile(file, beside)
    with beside.open("rb+") as opened:
        os.fsync(opened.fileno())
    os.replace(beside, path)
    # Of two names for one file, a rename leaves both.
    beside.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename in a folder last through a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
