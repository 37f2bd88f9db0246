"""Whether a body is what its format promises: an error page or a cut file must not be kept as an answer.

Every check reads the body as a stream, except that of JSON, whose pages archives keep small.
"""

import gzip
import json
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from data_scripts.harness.archive import BodyFormat
from data_scripts.harness.body_documents import check_votable, check_xml
from data_scripts.harness.body_fits import check_fits
from data_scripts.harness.body_tables import check_csv, check_ipac, check_tsv
from data_scripts.harness.errors import BadBodyError


__all__ = ["check_body", "ends_a_line"]

_HEAD = 4096  # bytes
_CHUNK = 1 << 20  # bytes
_MOST_JSON = 1 << 29  # bytes; it takes ten times as much memory
_GZIP_MAGIC = b"\x1f\x8b"
_HTML = re.compile(rb"\s*(<!--.*?-->\s*)*<(!doctype html|html|head|body|script|title|h1|p|pre|div)\b", re.I | re.S)
_MARKUP = re.compile(rb"\s*<[!?a-z]", re.I)
_ERROR_TEXT = re.compile(rb"\W*(fatal error|internal server error|service unavailable|error)\b\s*[:=!<\n]", re.I)
_LINES = frozenset({"csv", "fasta", "ipac", "text", "tsv"})


def check_body(path: Path, body_format: BodyFormat) -> None:
    """Refuse a body that is not of a format, is cut short, or is an error that the archive sent with status 200.

    A body that is compressed by gzip is judged by what it holds.

    Args:
        path: File with the body.
        body_format: Format that it must have.

    Raises:
        BadBodyError: With the reason; `again` where another attempt may get a good one.
    """
    if path.stat().st_size == 0:
        raise BadBodyError("the body is empty", again=True)
    if body_format == "zip":
        _check_zip(path)
        return
    with path.open("rb") as file:
        is_gzip = file.read(2) == _GZIP_MAGIC
    if body_format == "gzip" and not is_gzip:
        raise BadBodyError(f"the body is no gzip file; it begins with {_shown(_head(path, gz=False))}", again=True)
    try:
        _check_content(path, body_format, gz=is_gzip)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadBodyError(f"the gzip file is cut or damaged: {error}", again=True) from error


def ends_a_line(path: Path, body_format: BodyFormat) -> bool:
    """Return whether a body of lines ends with a line's end; one that does not may have been cut unnoticed."""
    if body_format not in _LINES:
        return True
    with path.open("rb") as file:
        if file.read(2) == _GZIP_MAGIC:
            # Its checksum has shown that it is whole.
            return True
        file.seek(-1, 2)
        return file.read(1) in b"\r\n"


def _check_content(path: Path, body_format: BodyFormat, *, gz: bool) -> None:
    head = _head(path, gz=gz).removeprefix(b"\xef\xbb\xbf")
    if not head.strip(b"\0 \t\r\n"):
        raise BadBodyError("the body has nothing but white space", again=True)
    if _HTML.match(head):
        raise BadBodyError(f"an HTML page came instead of {body_format}: {_title(head)}", again=True)
    if body_format not in {"xml", "votable"} and _MARKUP.match(head):
        raise BadBodyError(f"markup came instead of {body_format}: {_error_in_markup(path, head, gz=gz)}", again=True)
    if body_format in {"csv", "tsv", "text", "fasta", "genbank", "embl"} and _ERROR_TEXT.match(head):
        raise BadBodyError(f"an error message came instead of {body_format}: {_shown(head)}", again=True)
    if body_format in {"csv", "tsv"} and head.lstrip().startswith((b"{", b"[")):
        raise BadBodyError(f"JSON came instead of {body_format}: {_shown(head)}", again=True)
    with _opened(path, gz=gz) as file:
        _CHECKS[body_format](file)
        # Reaching the end is what checks a gzip file's checksum and length.
        while gz and file.read(_CHUNK):
            pass


def _check_json(file: BinaryIO) -> None:
    text = file.read(_MOST_JSON + 1)
    if len(text) > _MOST_JSON:
        raise BadBodyError(f"the JSON has more than {_MOST_JSON} bytes, too many for memory")
    try:
        body = json.loads(text.decode("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise BadBodyError(f"the body is no JSON: {error}", again=True) from error
    reason = _json_error(body)
    if reason is not None:
        raise BadBodyError(f"the archive answered with an error: {reason}", again=True)


def _json_error(body: object) -> str | None:
    """Return the message of an error document, or None.

    The words are those of the archives: `error` (Ensembl, NCBI), `ERROR` within `esearchresult` (NCBI), `status` and
    `msg` (MAST), `messages` beside `url` and nothing else (UniProt).
    """
    if not isinstance(body, dict):
        return None
    lower = {str(key).lower(): value for key, value in body.items()}
    for key in ("error", "errors", "exception", "errormessage", "error_message", "errormsg"):
        if lower.get(key):
            return _shown(json.dumps(lower[key]).encode())
    status = str(lower.get("status", "")).upper()
    if status in {"ERROR", "FAILED", "EXECUTING", "TIMEOUT"}:
        message = lower.get("msg") or lower.get("message") or ""
        return _shown(f"status {status} {message}".encode())
    if set(lower) == {"url", "messages"}:
        return _shown(json.dumps(lower["messages"]).encode())
    inner = lower.get("esearchresult")
    return _json_error(inner) if isinstance(inner, dict) else None


def _check_flat_file(first: bytes) -> Callable[[BinaryIO], None]:
    """Make the check of GenBank and EMBL flat files: each record begins with `first` and ends with a line `//`."""

    def check(file: BinaryIO) -> None:
        records, ends, inside = 0, 0, False
        for line in file:
            if line.startswith(first):
                if inside:
                    raise BadBodyError(f"record {records} does not end with //", again=True)
                records, inside = records + 1, True
            elif line.rstrip() == b"//":
                ends, inside = ends + 1, False
            elif line.strip() and not inside:
                raise BadBodyError(f"this line is in no record: {_shown(line)}", again=True)
        if inside or not records or ends != records:
            raise BadBodyError(f"the flat file has {records} records and {ends} ends of a record", again=True)

    return check


def _check_fasta(file: BinaryIO) -> None:
    begun = False
    for number, line in enumerate(file, start=1):
        if line.startswith(b">"):
            begun = True
        elif line.strip() and not begun:
            raise BadBodyError(f"FASTA begins with >; this begins with {_shown(line)}", again=True)
        elif line.strip() and not re.fullmatch(rb"[A-Za-z*\-. ]+", line.strip()):
            raise BadBodyError(f"line {number} of the FASTA file is no sequence: {_shown(line)}", again=True)


def _check_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        head = _shown(_head(path, gz=False))
        raise BadBodyError(f"the zip file is cut or damaged ({error}); it begins with {head}", again=True) from error
    if damaged is not None:
        raise BadBodyError(f"{damaged} in the zip file is damaged", again=True)


def _nothing_more(file: BinaryIO) -> None:
    """Text and gzip have no structure of their own."""


_CHECKS: dict[str, Callable[[BinaryIO], None]] = {
    "csv": check_csv,
    "embl": _check_flat_file(b"ID   "),
    "fasta": _check_fasta,
    "fits": check_fits,
    "genbank": _check_flat_file(b"LOCUS "),
    "gzip": _nothing_more,
    "ipac": check_ipac,
    "json": _check_json,
    "text": _nothing_more,
    "tsv": check_tsv,
    "votable": check_votable,
    "xml": check_xml,
}


def _opened(path: Path, *, gz: bool) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if gz else path.open("rb")


def _head(path: Path, *, gz: bool) -> bytes:
    with _opened(path, gz=gz) as file:
        return file.read(_HEAD)


def _shown(data: bytes) -> str:
    """Return the first words of a body for a message."""
    text = " ".join(data[:_HEAD].decode(errors="replace").split())
    return repr(text[:200])


def _title(head: bytes) -> str:
    """Return what an HTML page says of itself."""
    match = re.search(rb"<title[^>]*>(.*?)</title>", head, re.I | re.S)
    return _shown(match[1] if match and match[1].strip() else re.sub(rb"<[^>]*>", b" ", head))


def _error_in_markup(path: Path, head: bytes, *, gz: bool) -> str:
    """Return the message of an XML error document that came in place of data, such as a TAP service's VOTable."""
    try:
        with _opened(path, gz=gz) as file:
            (check_votable if b"VOTABLE" in head else check_xml)(file)
    except BadBodyError as error:
        return str(error)
    return _shown(head)
