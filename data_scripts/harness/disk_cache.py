"""Files on disk that can be made again: each appears whole, is checked when it is used, and the oldest make room."""

import contextlib
import hashlib
import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from data_scripts.harness.errors import BuildError


__all__ = ["DIGEST_BYTES", "DiskCache", "cache_bytes"]

logger = logging.getLogger(__name__)

GIB = 1 << 30
STALE_SECONDS = 3600  # age at which an unfinished file is one that a killed process left
DIGEST_BYTES = 32


def cache_bytes(environment: Mapping[str, str]) -> int:
    """Return the most bytes that a cache may take: `ASTROBIO_CACHE_GIB`, 20 if it is not set.

    Raises:
        BuildError: If it is no number, or negative.
    """
    text = environment.get("ASTROBIO_CACHE_GIB", "20")
    try:
        size = float(text)
    except ValueError:
        size = -1
    if not 0 <= size < float("inf"):
        raise BuildError(f"ASTROBIO_CACHE_GIB must be a number of GiB, 0 for no cache; got {text!r}. Correct it.")
    return int(size * GIB)


class DiskCache:
    """A folder of files by key, each followed by its SHA-256; safe to use from several processes, can be pickled.

    Args:
        folder: The folder; made when something is stored.
        most_bytes: Size that the files may take together; 0 keeps none.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder = folder
        self.most_bytes = most_bytes
        self._written = 0  # bytes since the last trim

    def find(self, key: str) -> Path | None:
        """Return the file of a key, which is then the last to be removed, or None."""
        path = self._path(key)
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(_Body(file), "sha256").digest()
                whole = file.read() == digest
            os.utime(path)
        except FileNotFoundError:
            return None
        if not whole:
            logger.warning("cached file %s is damaged; it is made again", path.name)
            path.unlink(missing_ok=True)
            return None
        return path

    def store(self, key: str, write: Callable[[BinaryIO], object]) -> None:
        """Store what a function writes, unless it is larger than the cache."""
        if not self.most_bytes:
            return
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{uuid.uuid4().hex}.new")
        try:
            with partial.open("w+b") as file:
                write(file)
                file.flush()
                file.seek(0)
                digest = hashlib.file_digest(file, "sha256").digest()
                file.seek(0, os.SEEK_END)
                file.write(digest)
                size = file.tell()
            if size > self.most_bytes:
                return
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        self._written += size
        # Several processes, each with a twentieth too many, stay near the bound.
        if self._written > self.most_bytes // 20:
            self.trim()

    def trim(self) -> None:
        """Remove the files not used for longest until the rest is small enough."""
        self._written = 0
        if not self.folder.exists():
            return
        lock = FileLock(self.folder / "trim.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return  # another process does it
        try:
            files = []
            for path in self.folder.glob("??/*"):
                with contextlib.suppress(FileNotFoundError):
                    stat = path.stat()
                    if path.suffix == ".new":
                        if stat.st_mtime < time.time() - STALE_SECONDS:
                            path.unlink()
                        continue
                    files.append((stat.st_mtime_ns, stat.st_size, path))
            total = sum(size for _, size, _ in files)
            for _, size, path in sorted(files):
                if total <= self.most_bytes:
                    break
                path.unlink(missing_ok=True)
                total -= size
        finally:
            lock.release()

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key


class _Body:
    """All of an open file but the digest at its end, as `hashlib.file_digest` reads it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = max(0, os.fstat(file.fileno()).st_size - DIGEST_BYTES)

    def readinto(self, buffer: bytearray) -> int:
        view = memoryview(buffer)[: min(len(buffer), self._left)]
        count = self._file.readinto(view) if len(view) else 0  # type: ignore[attr-defined]
        self._left -= count
        return int(count)

    def readable(self) -> bool:
        return True
