"""A body on its way: what was received outlives a kill, and goes on by HTTP Range where the server allows it."""

import email.utils
import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_scripts.harness.errors import BadBodyError


__all__ = ["PartialBody"]

# A body that came whole is taken without asking again, but not when nobody remembers how old it is.
_LONGEST_KEPT = 3600  # seconds
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class PartialBody:
    """A file that is being received, and beside it `<name>.json` with what is needed to go on.

    The file stays as it came until it is discarded, so that a kill at any moment loses nothing of it. One process at a
    time may hold a partial body; its caller sees to that.

    Attributes:
        path: File that receives the body as it is sent, encoded.
        whole: File for what is made of a whole body, if that is something else.

    Args:
        path: The first of these.
        url: Address asked, without credentials; what another address left is discarded.
    """

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self.whole = path.with_name(path.name + ".whole")
        self._url = url
        self._sidecar = path.with_name(path.name + ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._state = self._load()

    @property
    def size(self) -> int:
        """Bytes received."""
        return self.path.stat().st_size if self._state else 0

    @property
    def is_complete(self) -> bool:
        """Whether all of the body is here, so that nothing has to be asked."""
        return bool(self._state) and self._state["length"] == self.size

    @property
    def is_resumable(self) -> bool:
        """Whether the server lets the rest be asked for."""
        return bool(self._state) and self._state["validator"] is not None and self.size > 0

    @property
    def status(self) -> int:
        """HTTP status of the answer that began it."""
        return self._state["status"]

    @property
    def headers(self) -> dict[str, str]:
        """Headers of that answer, as they were given to `begin`."""
        return self._state["headers"]

    @property
    def encoding(self) -> str:
        """Content encoding of the bytes in the file, empty for none."""
        return self._state["encoding"]

    def range_headers(self) -> dict[str, str]:
        """Return the headers that ask for the rest, none if all has to be asked for."""
        if not self.is_resumable:
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": self._state["validator"]}

    def begin(self, status: int, headers: Mapping[str, str], kept: dict[str, str], *, by_range: bool) -> None:
        """Take the head of an answer; the bytes that follow are to be appended to the file.

        Args:
            status: 200, or 206 for the rest.
            headers: Response headers in lower case.
            kept: Headers to keep with the body.
            by_range: Whether the request may be asked in ranges.

        Raises:
            BadBodyError: If a 206 is not the rest that was asked for; what was kept is then discarded.
        """
        encoding = headers.get("content-encoding", "").strip().lower()
        if status == 206:
            self._check_rest(headers, "" if encoding == "identity" else encoding)
            return
        length = headers.get("content-length", "")
        self._state = {
            "url": self._url,
            "status": status,
            "headers": kept,
            "encoding": "" if encoding == "identity" else encoding,
            "length": int(length) if length.isdecimal() and "transfer-encoding" not in headers else None,
            "validator": _validator(headers) if by_range else None,
        }
        # The old sidecar must never describe the new bytes, nor the new one the old bytes.
        self._sidecar.unlink(missing_ok=True)
        self.path.write_bytes(b"")
        self._save()

    def end(self) -> None:
        """Note that the body is whole.

        Raises:
            BadBodyError: If it is shorter or longer than the server said.
        """
        length = self._state["length"]
        if length is not None and length != self.size:
            size = self.size
            if size > length:
                self.discard()
            raise BadBodyError(f"the body has {size} bytes instead of the {length} announced", again=True)
        self._state["length"] = self.size
        self._save()

    def discard(self) -> None:
        """Remove the file and what is kept beside it."""
        self.discard_at(self.path)
        self._state = {}

    def discard_received(self) -> None:
        """Remove what was received, but not what was made of it, nor what is known of it here."""
        self._sidecar.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    @staticmethod
    def discard_at(path: Path) -> None:
        """Remove a file that a body was received in, and what is kept beside it."""
        # First what says how to go on: a kill in between must not leave it without the bytes that it is about.
        for ending in (".json", "", ".whole"):
            path.with_name(path.name + ending).unlink(missing_ok=True)

    def _check_rest(self, headers: Mapping[str, str], encoding: str) -> None:
        match = _CONTENT_RANGE.fullmatch(headers.get("content-range", "").strip())
        length = self._state.get("length")
        etag = headers.get("etag")
        is_rest = (
            match is not None
            and self.is_resumable
            and int(match[1]) == self.size
            and (match[3] == "*" or length is None or int(match[3]) == length)
            and encoding == self.encoding
            and (etag is None or not self._state["validator"].startswith('"') or etag == self._state["validator"])
        )
        if not is_rest:
            self.discard()
            raise BadBodyError(
                f"the archive answered with the range {headers.get('content-range')!r}, not with the rest of the body",
                again=True,
            )
        if length is None and match is not None and match[3] != "*":
            self._state["length"] = int(match[3])
            self._save()

    def _load(self) -> dict[str, Any]:
        try:
            state = json.loads(self._sidecar.read_text())
            size = self.path.stat().st_size
            whole = size == state["length"]
            usable = (
                state.keys() == {"url", "status", "headers", "encoding", "length", "validator"}
                and state["url"] == self._url
                and (state["length"] is None or size <= state["length"])
                and isinstance(state["validator"], str | None)
                and (state["validator"] is not None or whole)
                and not (whole and time.time() - self._sidecar.stat().st_mtime > _LONGEST_KEPT)
            )
        # Absent, or damaged in whatever way.
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            usable = False
        if not usable:
            self.discard()
        return state if usable else {}

    def _save(self) -> None:
        beside = self._sidecar.with_name(self._sidecar.name + ".new")
        beside.write_text(json.dumps(self._state))
        os.replace(beside, self._sidecar)


def _validator(headers: Mapping[str, str]) -> str | None:
    """Return what `If-Range` may name: a strong ETag or a strong date of change (RFC 9110, 8.8.2.2 and 13.1.5)."""
    if headers.get("accept-ranges", "").strip().lower() != "bytes":
        return None
    etag = headers.get("etag", "").strip()
    if etag:
        return etag if etag.startswith('"') else None
    try:
        modified = email.utils.parsedate_to_datetime(headers.get("last-modified", ""))
        date = email.utils.parsedate_to_datetime(headers.get("date", ""))
    except ValueError:
        return None
    return headers["last-modified"] if (date - modified).total_seconds() >= 1 else None
