"""What an archive would answer: one source's table as a function from a request to a reply in the archive's format.

`tests/data_scripts/replays/<source>.py` has `REPLAYS`, a list of `Replay`; the loopback server serves them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


__all__ = ["Asked", "Replay", "Reply"]


@dataclass(frozen=True)
class Asked:
    """A request as the server got it.

    Attributes:
        method: `GET`, `HEAD` or `POST`.
        path: Path of the address, unquoted, without query.
        query: Values of each parameter of the query, in order, empty ones too.
        body: Body of a POST.
        headers: Request headers in lower case; `host` is the archive's host, not the loopback address.
    """

    method: str
    path: str
    query: Mapping[str, list[str]] = field(default_factory=dict)
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    """What the server sends.

    Attributes:
        status: HTTP status.
        headers: Response headers; the server adds `Content-Length` and a strong `ETag` of the body itself. Addresses
            in headers and body may name the archive's own hosts: the client maps them to the loopback server.
        body: The body, before any content encoding.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True)
class Replay:
    """One table of a source as the loopback server plays it.

    Attributes:
        source: Name of the source on the command line.
        table: Name of its table.
        options: Options of the table that the build is asked with; the others have their default.
        answer: The archive: what it replies to a request. Status 404 for an address that it does not have.
        expected: All rows that a build must give, under the published columns' names, in the order of the archive;
            every column of the table is there, nulls as None. Provenance and `object_id` are not.
        changed_schema: Makes of a good reply one in which a column vanished or changed its unit; a reply without
            columns, such as a count, comes back as it is.
        error_page: This archive's own error with status 200.
    """

    source: str
    table: str
    options: Mapping[str, str]
    answer: Callable[[Asked], Reply]
    expected: list[dict[str, Any]]
    changed_schema: Callable[[Reply], Reply]
    error_page: Reply
