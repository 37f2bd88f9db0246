"""Secrets of an archive: added to a request when it is sent, and taken out of everything that is written or shown."""

import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus

from data_scripts.harness.archive import Archive, Login
from data_scripts.harness.errors import BuildError


__all__ = ["Credentials"]

_MASK = "***"
_CHUNK = 1 << 20  # bytes
# A user's name may be the name of an observer in the archive's own rows.
_NAMES_A_PERSON = re.compile(r"USER|EMAIL|LOGIN")
_SCHEMES = frozenset({"basic", "bearer", "token"})
_SHORTEST_IN_DATA = 8  # characters


class Credentials:
    """The credentials of an archive whose environment variables are all set.

    Attributes:
        login: How a token is to be asked for, with the parameters that carry them, or None.
        params: Query parameters that carry them.
        used: Variables that are used.
        unset: Variables of credentials that are not used, because at least one of them is not set.
        requests_per_second: Rate that the archive allows with those that are used.

    Args:
        archive: Archive that they belong to.
        environment: Environment variables.

    Raises:
        BuildError: If a value cannot be sent.
    """

    def __init__(self, archive: Archive, environment: Mapping[str, str]) -> None:
        self.login: tuple[Login, Mapping[str, str]] | None = None
        self._headers: dict[str, str] = {}
        self._token: str | None = None
        self.params: dict[str, str] = {}
        self.used: tuple[str, ...] = ()
        self.unset: tuple[str, ...] = ()
        self.requests_per_second = archive.requests_per_second
        shown, hidden = self._shown, self._hidden = set[str](), set[str]()
        for credential in archive.credentials:
            values = {name: environment.get(name, "").strip() for name in credential.variables}
            # A half-set credential is not sent, yet its half must not be shown either.
            for name, value in values.items():
                (shown if _NAMES_A_PERSON.search(name) else hidden).update(_forms(value))
            if not all(values.values()):
                self.unset += credential.variables
                continue
            self.used += credential.variables
            self.requests_per_second = max(self.requests_per_second, credential.requests_per_second or 0.0)
            headers, params = credential.headers(values), credential.params(values)
            if not all(value.isascii() and value.isprintable() for value in headers.values()):
                names = ", ".join(credential.variables)
                raise BuildError(f"{names} must be printable ASCII to be sent as a header; got other characters.")
            self._headers.update(headers)
            self.params.update(params)
            if credential.login is not None:
                self.login = credential.login, credential.login.params(values)
            for value in headers.values():
                parts = [part for part in value.split() if part not in shown and part.lower() not in _SCHEMES]
                hidden.update(form for part in parts for form in _forms(part))
        if "Authorization" in self._headers:
            self.login = None
        self._compile()

    @property
    def headers(self) -> dict[str, str]:
        """Headers that carry them, also the token."""
        return self._headers | ({"Authorization": f"Bearer {self._token}"} if self._token else {})

    @property
    def token(self) -> str | None:
        """What a log-in gave; as secret as the others."""
        return self._token

    @token.setter
    def token(self, token: str | None) -> None:
        self._token = token
        if token is not None:
            self._hidden.update(_forms(token))
            self._compile()

    def redact(self, text: str) -> str:
        """Replace every secret in a text, also quoted for addresses, by `***`."""
        if self._everywhere is None:
            return text
        return self._everywhere.sub(_MASK.encode(), text.encode(errors="surrogateescape")).decode(errors="replace")

    def redact_file(self, path: Path, redacted: Path, *, data: bool) -> bool:
        """Write a body that repeats secrets, such as an error page that quotes the request, without them.

        Args:
            path: Body.
            redacted: File to write, which may be the same.
            data: Whether the body is data that will be read: then user names, and values of fewer than 8 characters,
                stay, because they can be part of it.

        Returns:
            Whether there was a secret; if not, nothing is written.
        """
        pattern = self._in_data if data else self._everywhere
        if pattern is None or not self._found(pattern, path):
            return False
        target = redacted.with_name(redacted.name + ".new")
        overlap = self._longest - 1
        with path.open("rb") as source, target.open("wb") as out:
            tail = b""
            while chunk := source.read(_CHUNK):
                text = pattern.sub(_MASK.encode(), tail + chunk)
                cut = max(0, len(text) - overlap)
                out.write(text[:cut])
                tail = text[cut:]
            out.write(tail)
        os.replace(target, redacted)
        return True

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact a log record, as a filter of a logger."""
        record.msg, record.args = self.redact(record.getMessage()), None
        return True

    def _compile(self) -> None:
        every = self._hidden | self._shown
        self._everywhere = _pattern(every)
        self._in_data = _pattern({form for form in self._hidden if len(form) >= _SHORTEST_IN_DATA})
        self._longest = max((len(form.encode(errors="surrogateescape")) for form in every), default=1)

    def _found(self, pattern: re.Pattern[bytes], path: Path) -> bool:
        tail = b""
        with path.open("rb") as source:
            while chunk := source.read(_CHUNK):
                text = tail + chunk
                if pattern.search(text):
                    return True
                tail = text[max(0, len(text) - self._longest + 1) :]
        return False


def _forms(value: str) -> set[str]:
    if not value:
        return set()
    # Variables need not be UTF-8.
    data = value.encode(errors="surrogateescape")
    quoted = {quote(data), quote(data, safe=""), quote_plus(data)}
    lower = {re.sub("%..", lambda match: match[0].lower(), form) for form in quoted}
    return {value, json.dumps(value)[1:-1]} | quoted | lower


def _pattern(forms: set[str]) -> re.Pattern[bytes] | None:
    if not forms:
        return None
    longest_first = sorted(forms, key=lambda form: (-len(form), form))
    return re.compile(b"|".join(re.escape(form.encode(errors="surrogateescape")) for form in longest_first))
