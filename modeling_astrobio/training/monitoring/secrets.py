"""Secrets among the environment variables: kept out of what a run writes, and searched for in what it wrote."""

import base64
import functools
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus, urlsplit


__all__ = ["UNREADABLE", "find_leaks", "redact", "secret_values"]


UNREADABLE = "(cannot be read)"
"""Stands for the variable's name where `find_leaks` could not read a file or a folder."""

_SHORTEST = 8  # characters; shorter values are words like "true" or "offline"
_NAME = re.compile(
    r"TOKENS?(_|$)|(^|_)(KEYS?|AUTH|PASS|PAT|DSN)(_|$)|API_?KEY|PRIVATE_?KEY|ACCESS_?KEY|SECRET|PASSWORD|PASSWD"
    r"|PASSPHRASE|CREDENTIAL|WEBHOOK",
    re.IGNORECASE,
)
# Where a secret lies is none.
_NAME_OF_PLACE = re.compile(r"_(PATH|FILE|DIR|FOLDER|HOME|SOCK)$", re.IGNORECASE)
_PASSWORD_IN_URL = re.compile(r"://[^/@\s:]*:([^/@\s]+)@")
_CHUNK = 1 << 24  # bytes


@functools.lru_cache(maxsize=4096)
def _is_secret_name(name: str) -> bool:
    return bool(_NAME.search(name)) and not _NAME_OF_PLACE.search(name)


def secret_values(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables whose values must not be shown.

    Those are the ones named like a token, a key, a password, a credential or a webhook, and passwords inside URLs.
    Paths that exist and values of fewer than 8 characters are not among them.

    Args:
        environ: Names and values; `None` means those of this process.
    """
    found = {}
    for name, value in (os.environ if environ is None else environ).items():
        value = value.strip()
        if not _is_secret_name(name):
            in_url = _PASSWORD_IN_URL.search(value)
            value = in_url[1] if in_url else ""
        elif value.startswith(("/", "~", ".")) and os.path.exists(os.path.expanduser(value)):
            continue
        if len(value) >= _SHORTEST:
            found[name] = value
    return found


@functools.lru_cache(maxsize=256)
def _forms(value: str) -> tuple[str, ...]:
    """Return what a value looks like as it is, in JSON, in a URL, and in base64 at any place of a longer text."""
    forms = {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1], repr(value)[1:-1]}
    # Variables need not be UTF-8.
    data = value.encode(errors="surrogateescape")
    for quoted in (quote(data), quote(data, safe=""), quote_plus(data)):
        forms |= {quoted, re.sub(r"%..", lambda match: match[0].lower(), quoted)}
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data).decode()
        # The first and last characters hold bits of the neighbours too.
        inner = encoded[(0, 2, 3)[before] : len(encoded) - (0, 3, 2)[(before + len(data)) % 3]]
        forms |= {inner, inner.translate(str.maketrans("+/", "-_"))}
    url = urlsplit(value) if value.startswith(("http://", "https://")) else None
    if url is not None:
        # What receives a request knows it by the path alone.
        forms |= {part for part in (url.path, url.query) if len(part) >= _SHORTEST}
    return tuple(sorted(forms, key=len, reverse=True))


def redact(text: str, environ: Mapping[str, str] | None = None) -> str:
    """Replace each secret in a text, also quoted for URLs or in base64, by `***`.

    Args:
        text: Any text.
        environ: Names and values of variables; `None` means those of this process.
    """
    forms = {form for value in secret_values(environ).values() for form in _forms(value)}
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "***")
    return text


def find_leaks(folder: Path, environ: Mapping[str, str] | None = None) -> list[tuple[Path, str]]:
    """Search all files below a folder, and their names, for secrets.

    Files are searched as they lie on the disk: what is compressed inside them is not.

    Args:
        folder: Where to search.
        environ: Names and values of variables; `None` means those of this process.

    Returns:
        Path and variable's name, sorted. What could not be read stands there with `UNREADABLE`, as nothing is known
        of it.
    """
    sought = {
        name: [form.encode(errors="surrogateescape") for form in _forms(value)]
        for name, value in secret_values(environ).items()
    }
    leaks: list[tuple[Path, str]] = []
    walk = os.walk(folder, onerror=lambda error: leaks.append((Path(error.filename), UNREADABLE)))
    for root, folders, files in walk:
        for entry in (*folders, *files):
            path = Path(root, entry)
            leaks += [
                (path, name) for name, forms in sought.items() if any(form in os.fsencode(entry) for form in forms)
            ]
        for entry in files:
            path = Path(root, entry)
            try:
                # Opening a pipe would wait for whoever writes into it.
                if stat.S_ISREG(path.stat().st_mode):
                    leaks += [(path, name) for name in _search(path, sought)]
            except OSError:
                leaks.append((path, UNREADABLE))
    return sorted(set(leaks))


def _search(path: Path, sought: Mapping[str, list[bytes]]) -> set[str]:
    """Return the names of the variables whose values are in a file."""
    overlap = max((len(form) for forms in sought.values() for form in forms), default=1) - 1
    found: set[str] = set()
    tail = b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            chunk = tail + chunk
            for name, forms in sought.items():
                if name not in found and any(form in chunk for form in forms):
                    found.add(name)
            tail = chunk[-overlap:] if overlap else b""
    return found
