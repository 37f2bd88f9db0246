"""Tables, answers and schemas with invented content."""

import numpy as np
import pyarrow as pa

from data_scripts.harness.archive import Answer, Archive, Column, Request, Stage, TableConfig


__all__ = [
    "answer_of",
    "archive_of",
    "config_of",
    "nasty_config",
    "nasty_table",
    "typed_config",
    "typed_table",
]

NUMBERS = ["1.5", " -2 ", "+3", "", "  ", "nan", " NaN", "inf", "-Infinity", "1e400", "x", "1,5", "0x10", "1e-3", None]
INTEGERS = [
    "7",
    " 8 ",
    "+9",
    "3.0",
    "3.5",
    "0x10",
    "",
    "nan",
    "9223372036854775807",
    "9223372036854775808",
    "-5",
    None,
]
FLAGS = ["true", "F", "1", "0", "yes", " No ", "2", "maybe", "", None]
TIMES = [
    "2020-02-03",
    "2020-02-03T04:05:06Z",
    "2020-02-03 04:05:06.1230000",
    "2020-02-03T04:05:06.1234567",
    "2020-02-03T04:05:06+01:00",
    "2020-02-31",
    "soon",
    "",
    None,
]
TEXTS = ["β Pic b", "naïve ☉", "", "   ", " kept ", "NaN", 'a "quoted", cell', None]


def no_requests(selection):
    return ()


def config_of(*columns, key=None, name="planets", rows=None, identities=()):
    return TableConfig(
        name=name,
        description="Invented planets.",
        columns=columns,
        key=key or (columns[0].name,),
        objects=(columns[0].name,),
        first=no_requests,
        stages={"page": Stage("csv", rows=rows), "index": Stage("json")},
        identities=identities,
    )


def archive_of(*tables, **changes):
    facts = {
        "name": "test_archive",
        "title": "The Test Archive: 100 %",
        "homepage": "https://archive.example",
        "license": "other",
        "license_name": "test-terms",
        "license_link": "https://archive.example/terms",
        "acknowledgement": "We thank nobody.",
        "citation": "@misc{nobody, title = {Nothing}}",
        "hosts": ("archive.example",),
        "requests_per_second": 5.0,
        "probe": (tables[0].name, {}),
        "size": "3 rows",
    }
    return Archive(tables=tables, **{**facts, **changes})


def answer_of(path, body=b"x", sha256="ab" * 32, stage="page", release="r7"):
    path.write_bytes(body)
    request = Request("https://archive.example/table", stage, release=release)
    return Answer(request, path, sha256, 200, {}, "2024-05-06T07:08:09Z")


def nasty_config():
    return config_of(
        Column("name", pa.string(), "name"),
        Column("period", pa.float64(), "period", unit="d", required=True, minimum=0.0, maximum=1000.0),
        Column("count", pa.int64(), "number", minimum=-4),
        Column("confirmed", pa.bool_(), "flag"),
        Column("seen", pa.timestamp("us", "UTC"), "time"),
        Column("flux", pa.list_(pa.float64()), "flux", minimum=-1.0),
    )


def nasty_table(rows, seed):
    """Return a table of text, and lists of numbers, with everything that archives get wrong."""
    rng = np.random.default_rng(seed)

    def pick(words):
        return pa.array([words[place] for place in rng.integers(0, len(words), rows)], pa.string())

    elements = [0.5, -0.5, -2.0, None, float("nan"), float("inf")]
    weights = [0.4, 0.35, 0.03, 0.1, 0.1, 0.02]
    flux = [
        None if rng.random() < 0.2 else [elements[place] for place in rng.choice(6, rng.integers(0, 4), p=weights)]
        for _ in range(rows)
    ]
    return pa.table(
        {
            "unasked": pick(["extra"]),
            "seen": pick(TIMES),
            "name": pick(TEXTS),
            "period": pick(NUMBERS),
            "count": pick(INTEGERS),
            "confirmed": pick(FLAGS),
            "flux": pa.array(flux, pa.list_(pa.float64())),
        }
    )


def typed_config(name="kinds", rows=None):
    return config_of(
        Column("name", pa.string(), "name", required=True),
        Column("star", pa.string(), "star"),
        Column("period", pa.float64(), "period", unit="d", minimum=0.0),
        Column("radius", pa.float32(), "radius", unit="earthRad"),
        Column("number", pa.int32(), "number"),
        Column("flag", pa.bool_(), "flag"),
        Column("seen", pa.timestamp("us"), "time"),
        Column("until", pa.timestamp("ms", "UTC"), "time"),
        Column("day", pa.date32(), "day"),
        Column("flux", pa.list_(pa.float32()), "fluxes"),
        Column("image", pa.list_(pa.list_(pa.int16())), "pixels"),
        Column("corner", pa.list_(pa.float64(), 2), "place"),
        Column("tags", pa.list_(pa.string()), "tags"),
        Column("raw", pa.binary(), "bytes"),
        name=name,
        rows=rows,
    )


def typed_table(rows, start=0):
    """Return `rows` invented rows in the published types, with nulls in every column but the name."""
    numbers = range(start, start + rows)

    def some(make, every):
        return [None if number % every == 0 else make(number) for number in numbers]

    columns = {
        "name": [f"Test-{number // 3} {'bcd'[number % 3]}" for number in numbers],
        "star": some(lambda n: f"Test-{n // 3} ☉", 11),
        "period": some(lambda n: n / 7, 5),
        "radius": some(lambda n: n / 8, 4),
        "number": some(lambda n: n - 10, 3),
        "flag": some(lambda n: n % 2 == 0, 7),
        "seen": some(lambda n: n * 1_000_003, 6),
        "until": some(lambda n: n * 1009, 6),
        "day": some(lambda n: n, 6),
        "flux": some(lambda n: [None if i == 1 else n + i / 2 for i in range(n % 4)], 5),
        "image": some(lambda n: [[n, None], [], [n + 1]][: n % 4], 5),
        "corner": some(lambda n: [n / 2, None], 5),
        "tags": some(lambda n: ["ä", None][: n % 3], 5),
        "raw": some(lambda n: bytes([n % 256, 0]), 5),
    }
    schema = pa.schema([(column.name, column.dtype) for column in typed_config().columns])
    return pa.table({name: pa.array(values, schema.field(name).type) for name, values in columns.items()})
