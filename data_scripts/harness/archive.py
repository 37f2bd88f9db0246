"""What an archive is to the harness: requests, bodies that answer them, and the tables that are read from them."""

import datetime
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa

from data_scripts.harness.errors import BadBodyError, BuildError


__all__ = [
    "NO_LICENSE",
    "Answer",
    "Archive",
    "BodyFormat",
    "Column",
    "Credential",
    "Identity",
    "Login",
    "Option",
    "Request",
    "Selection",
    "Stage",
    "TableConfig",
]

BodyFormat = Literal[
    "csv", "embl", "fasta", "fits", "genbank", "gzip", "ipac", "json", "text", "tsv", "votable", "xml", "zip"
]


NO_LICENSE = "no-licence-stated"
"""`license_name` of what nobody has stated a licence for."""


@dataclass(frozen=True)
class Request:
    """One question to an archive, without credentials.

    Attributes:
        url: Absolute address without query, as the archive documents it.
        stage: Name of the stage of the table's `stages` that understands the answer.
        params: Query, in the order sent.
        method: HTTP method.
        body: Body of a POST.
        content_type: Media type of that body.
        accept: Media type asked for, if the archive decides by it.
        release: Release of the archive that answers; a body of another release is another request.
        context: What the parser has to know and the body does not say, such as the star that was asked for.
    """

    url: str
    stage: str
    params: tuple[tuple[str, str], ...] = ()
    method: Literal["GET", "POST"] = "GET"
    body: bytes = b""
    content_type: str | None = None
    accept: str | None = None
    release: str = ""
    context: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        """SHA-256 (hex) of everything that can change the answer."""
        asked = [self.url, self.params, self.method, self.body.hex(), self.content_type, self.accept, self.release]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


@dataclass(frozen=True)
class Answer:
    """The body that answered a request, as the snapshot keeps it.

    Attributes:
        request: The question.
        path: File with the body, as received.
        sha256: SHA-256 (hex) of the body.
        status: HTTP status.
        headers: Response headers in lower case that later requests depend on.
        retrieved_at: Time of the answer, ISO 8601, UTC, whole seconds.
    """

    request: Request
    path: Path
    sha256: str
    status: int
    headers: Mapping[str, str]
    retrieved_at: str

    @property
    def body(self) -> bytes:
        """The body in memory; open `path` instead where it may be large."""
        return self.path.read_bytes()

    @property
    def text(self) -> str:
        """The body as UTF-8.

        Raises:
            BadBodyError: If it is not.
        """
        try:
            return self.body.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise BadBodyError(f"the body is not UTF-8: {error}") from error


@dataclass(frozen=True)
class Option:
    """A choice of the person who builds, given as `--set name=value`."""

    default: str
    description: str


@dataclass(frozen=True)
class Selection:
    """What of a table is wanted.

    Attributes:
        limit: Most rows, or None for all.
        since: Only what the archive added or changed from this day on, or None.
        release: Release asked for; the archive's `default_release` if none was.
        options: Value of every option that the table declares.
    """

    limit: int | None = None
    since: datetime.date | None = None
    release: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """What is done with one kind of answer.

    Attributes:
        body_format: Format that the body must have; anything else is refused before it is kept.
        rows: Reads the body as tables under the archive's own column names; a field's metadata may state `unit`, which
            is then compared with the column's. None for bodies that only lead to others.
        follow: Requests that the body asks for, in order: the next page, the products of an observation.
        total: Rows that the archive says the whole selection has, if the body says so.
    """

    body_format: BodyFormat
    rows: Callable[[Answer], Iterable[pa.Table]] | None = None
    follow: Callable[[Answer], Sequence[Request]] | None = None
    total: Callable[[Answer], int | None] | None = None


@dataclass(frozen=True)
class Column:
    """A column of a published table.

    Attributes:
        name: The archive's own name.
        dtype: Arrow type in the published table; lists for arrays.
        description: What it is.
        unit: Unit as `astropy.units` reads it, or None.
        required: Whether null counts against completeness.
        minimum: Least value physically possible, or None.
        maximum: Greatest value physically possible, or None.
    """

    name: str
    dtype: pa.DataType
    description: str
    unit: str | None = None
    required: bool = False
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True)
class Identity:
    """A relation that values of one row keep, such as Kepler's third law.

    Attributes:
        name: Name in the report.
        holds: Takes the table of published columns, returns a boolean array with null where it cannot be judged.
        source: Formula and where it is from.
    """

    name: str
    holds: Callable[[pa.Table], pa.BooleanArray]
    source: str


@dataclass(frozen=True)
class TableConfig:
    """A table that is published as one configuration of a data set.

    Attributes:
        name: Configuration's name for `load_dataset`.
        description: One sentence.
        columns: Schema; the query asks for these columns and no others where the archive lets one choose.
        key: Columns that no two rows share.
        objects: Columns that name the star, organism or planet, the most authoritative first; rows are split by it.
        first: The first requests of a selection, in order, independent of one another.
        stages: What is done with each kind of answer, by the stage's name.
        recognise: Takes the name and the first 65,536 bytes of a downloaded file; the stage that reads it, or None.
        options: Choices of this table.
        identities: Relations within a row.
        default: Whether it is built when none is named.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    objects: tuple[str, ...]
    first: Callable[[Selection], Iterable[Request]]
    stages: Mapping[str, Stage]
    recognise: Callable[[str, bytes], str | None] = lambda name, head: None
    options: Mapping[str, Option] = field(default_factory=dict)
    identities: tuple[Identity, ...] = ()
    default: bool = True


@dataclass(frozen=True)
class Login:
    """How a name and a password become a token, which is then sent as `Authorization: Bearer`.

    Attributes:
        url: Address that gives it by GET; it need not be on the archive's hosts.
        params: Query parameters made from the values of the credential's variables.
        token: Name of the token in the JSON document that answers.
    """

    url: str
    params: Callable[[Mapping[str, str]], Mapping[str, str]]
    token: str


@dataclass(frozen=True)
class Credential:
    """How a secret from the environment reaches an archive; it is added when a request is sent and kept nowhere.

    Attributes:
        variables: Environment variables, all of which must be set for the credential to be used.
        headers: Headers made from their values.
        params: Query parameters made from their values.
        purpose: What it is good for, for example "10 instead of 3 requests a second".
        requests_per_second: Rate that the archive allows with it, or None if it is the same.
        login: How a token is asked for, if it is sent instead; not used where a header already has one.
    """

    variables: tuple[str, ...]
    purpose: str
    headers: Callable[[Mapping[str, str]], Mapping[str, str]] = lambda values: {}
    params: Callable[[Mapping[str, str]], Mapping[str, str]] = lambda values: {}
    requests_per_second: float | None = None
    login: Login | None = None


@dataclass(frozen=True)
class Archive:
    """A public archive.

    Attributes:
        name: Name of the source on the command line.
        title: Its own name.
        homepage: Page for people.
        license: Licence identifier of the Hub; `other` needs the next one.
        license_name: What to call a licence without identifier.
        license_link: Address of the terms.
        license_note: What a user of the data must know of them besides.
        acknowledgement: The sentence that the archive asks for.
        citation: BibTeX.
        tables: What is published of it.
        hosts: Hosts that requests, redirects and links to further pages may name.
        requests_per_second: Rate that the archive allows, or a polite one where it states none.
        burst: Requests that may start at once.
        concurrency: Requests under way at once.
        credentials: Secrets that can be used; all are optional for public data.
        probe: The small question of `python -m data_scripts check`: a table's name and the options to ask it with.
        unverified: Tables whose parsers were made from documentation, and not run on a recorded answer.
        default_release: Release asked for if none is named; empty for archives without releases.
        size: Full size, in words, for `list`.
    """

    name: str
    title: str
    homepage: str
    license: str
    license_link: str
    acknowledgement: str
    citation: str
    tables: tuple[TableConfig, ...]
    hosts: tuple[str, ...]
    requests_per_second: float
    probe: tuple[str, Mapping[str, str]]
    size: str
    license_name: str = ""
    license_note: str = ""
    burst: int = 1
    concurrency: int = 2
    credentials: tuple[Credential, ...] = ()
    unverified: tuple[str, ...] = ()
    default_release: str = ""

    @property
    def verified(self) -> bool:
        """Whether a table that is built by default was read from recorded answers."""
        return any(table.default and table.name not in self.unverified for table in self.tables)

    def table(self, name: str) -> TableConfig:
        """Return a table.

        Raises:
            BuildError: If there is none of this name.
        """
        for table in self.tables:
            if table.name == name:
                return table
        names = ", ".join(table.name for table in self.tables)
        raise BuildError(f"config must be one of {names} for {self.name}; got {name!r}.")
