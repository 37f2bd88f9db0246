"""An archive that does not exist: its declaration, and what it answers.

Its table `stars` is read in chains of pages, each with the number of all rows; its table `curves` from CSV files that
an index names.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
from replay import Asked, Reply

from data_scripts.harness.archive import (
    Answer,
    Archive,
    Column,
    Credential,
    Option,
    Request,
    Selection,
    Stage,
    TableConfig,
)


ORIGIN = "https://archive.test"
REGIONS = {"north": 23, "south": 17, "Ω": 8}
PAGE_ROWS = 5
CURVES = 13
SAMPLES = 37


def star(region: str, number: int) -> dict:
    """A row as the archive sends it."""
    return {
        "star": f"Test-{region} {number}",
        "mass": None if number % 11 == 3 else 0.25 + number / 8,
        "planets": number % 4,
        "note": "" if number % 5 == 2 else f'"é", {number}',
        "unasked": "x" * number,
    }


def stars(region: str) -> list[dict]:
    return [star(region, number) for number in range(REGIONS[region])]


def published(row: dict) -> dict:
    """The row of `stars` as it must be published."""
    return {
        name: row[name] or (row[name] if name == "planets" else None) for name in ("star", "mass", "planets", "note")
    }


def published_stars() -> list[dict]:
    """All rows of `stars` as they must be published, sorted by name."""
    return sorted((published(row) for region in REGIONS for row in stars(region)), key=lambda row: row["star"])


def published_curves() -> list[dict]:
    """All rows of `curves` as they must be published, sorted by name."""
    rows = [curve(number) for number in range(CURVES)]
    padded = [{**row, "flux": row["flux"] + [None] * (SAMPLES - len(row["flux"]))} for row in rows]
    return sorted(padded, key=lambda row: row["star"])


def curve(number: int) -> dict:
    return {
        "star": f"Test-{number}",
        "time": [0.1 * step for step in range(SAMPLES)],
        "flux": [1.0] * (SAMPLES - number),
    }


def answer(asked: Asked) -> Reply:
    """Reply as the archive would."""
    query = {name: values[0] for name, values in asked.query.items()}
    if asked.path == "/stars":
        region, page = query["region"], int(query["page"])
        rows = stars(region)[(page - 1) * PAGE_ROWS : page * PAGE_ROWS]
        more = page * PAGE_ROWS < REGIONS[region]
        body = {"total": REGIONS[region], "unit": "Msun", "rows": rows, "next": page + 1 if more else None}
        return Reply(headers={"Content-Type": "application/json"}, body=json.dumps(body).encode() + b"\n")
    if asked.path == "/index":
        return Reply(body=json.dumps(list(range(CURVES))).encode() + b"\n")
    if asked.path == "/curve":
        one = curve(int(query["id"]))
        lines = [f"# {one['star']}", "time,flux"]
        flux = [*map(str, one["flux"]), *[""] * (SAMPLES - len(one["flux"]))]
        lines += [f"{time!r},{value}" for time, value in zip(one["time"], flux, strict=True)]
        return Reply(body="\n".join(lines).encode() + b"\n")
    return Reply(404, body=b"no such thing")


def but_after(count: int, other: Callable[[Asked], Reply]) -> Callable[[Asked], Reply]:
    """Return an archive that answers as it should to the first so many addresses, and otherwise to all others."""
    known: set[str] = set()

    def answer_or(asked: Asked) -> Reply:
        address = f"{asked.path} {sorted(asked.query.items())}"
        if len(known) < count:
            known.add(address)
        return answer(asked) if address in known else other(asked)

    return answer_or


def _first_stars(selection: Selection) -> Iterator[Request]:
    for region in selection.options["regions"].split(","):
        yield _page(region, 1, selection)


def _page(region: str, page: int, selection: Selection | None = None, release: str = "") -> Request:
    params = [("region", region), ("page", str(page))]
    if selection is not None and selection.since is not None:
        params.append(("since", selection.since.isoformat()))
    release = release if selection is None else selection.release
    return Request(f"{ORIGIN}/stars", "page", tuple(params), release=release, context=(("region", region),))


def _next_page(reply: Answer) -> list[Request]:
    page = json.loads(reply.text)["next"]
    region = dict(reply.request.context)["region"]
    return [] if page is None else [_page(region, page, release=reply.request.release)]


def _star_rows(reply: Answer) -> Iterator[pa.Table]:
    body = json.loads(reply.text)
    table = pa.Table.from_pylist(body["rows"])
    if not body["rows"]:
        return
    fields = [item.with_metadata({"unit": body["unit"]}) if item.name == "mass" else item for item in table.schema]
    yield table.cast(pa.schema(fields))


def _curve_rows(reply: Answer) -> Iterator[pa.Table]:
    name, header, *lines = reply.text.splitlines()
    if header != "time,flux":
        raise ValueError(f"unexpected header {header}")
    cells = [line.split(",") for line in lines]
    row = {
        "star": [name.removeprefix("# ")],
        "time": [[float(time) for time, _ in cells]],
        "flux": [[float(flux) if flux else None for _, flux in cells]],
    }
    yield pa.table(row)


STARS = TableConfig(
    name="stars",
    description="Stars that do not exist.",
    columns=(
        Column("star", pa.string(), "Name", required=True),
        Column("mass", pa.float64(), "Mass", unit="Msun", minimum=0.0, maximum=100.0),
        Column("planets", pa.int32(), "Planets", required=True, minimum=0),
        Column("note", pa.string(), "Note"),
    ),
    key=("star",),
    objects=("star",),
    first=_first_stars,
    stages={
        "page": Stage(
            "json",
            rows=_star_rows,
            follow=_next_page,
            total=lambda reply: json.loads(reply.text)["total"],
        )
    },
    recognise=lambda name, head: "page" if head.startswith(b'{"total"') else None,
    options={"regions": Option(",".join(REGIONS), "Regions of the sky, joined by commas")},
)

CURVES_TABLE = TableConfig(
    name="curves",
    description="Light curves of stars that do not exist.",
    columns=(
        Column("star", pa.string(), "Name", required=True),
        Column("time", pa.list_(pa.float64()), "Time", unit="d", required=True),
        Column("flux", pa.list_(pa.float64()), "Flux, null where it was not measured"),
    ),
    key=("star",),
    objects=("star",),
    first=lambda selection: [Request(f"{ORIGIN}/index", "index", release=selection.release)],
    stages={
        "index": Stage(
            "json",
            follow=lambda reply: [
                Request(f"{ORIGIN}/curve", "curve", (("id", str(number)),), release=reply.request.release)
                for number in json.loads(reply.text)
            ],
        ),
        "curve": Stage("text", rows=_curve_rows),
    },
    recognise=lambda name, head: "curve" if b"\ntime,flux\n" in head else None,
    default=False,
)

ARCHIVE = Archive(
    name="made_up",
    title="Archive of Nothing",
    homepage="https://archive.test/",
    license="other",
    license_name="none",
    license_link="https://archive.test/terms",
    acknowledgement="Nobody is thanked.",
    citation="@misc{nothing, title = {Nothing}}",
    tables=(STARS, CURVES_TABLE),
    hosts=("archive.test",),
    requests_per_second=1000.0,
    burst=50,
    concurrency=3,
    credentials=(
        Credential(
            ("MADE_UP_TOKEN",),
            "nothing",
            headers=lambda values: {"Authorization": f"Bearer {values['MADE_UP_TOKEN']}"},
        ),
        Credential(
            ("MADE_UP_KEY", "MADE_UP_EMAIL"),
            "nothing",
            params=lambda values: {"key": values["MADE_UP_KEY"], "email": values["MADE_UP_EMAIL"]},
        ),
    ),
    probe=("stars", {"regions": "south"}),
    default_release="r7",
    size="61 rows",
)


def selection_of(*regions: str) -> Selection:
    """What a build of these regions asks for."""
    return Selection(release="r7", options={"regions": ",".join(regions)})


def answer_from(request: Request, path: Path) -> Answer:
    """A file as the answer of a request."""
    return Answer(request, path, hashlib.sha256(path.read_bytes()).hexdigest(), 200, {}, "2031-01-02T03:04:05Z")
