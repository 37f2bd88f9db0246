"""Measure builds of an archive's table from bodies that are on the disk.

    python recipes/benchmarks/archive_build.py --json recipes/benchmarks/results/archive_build.json

A made-up export of the Kepler table in the archive's CSV format is built with `python -m data_scripts`' own code: the
first build takes the file into a new snapshot and reads it, later ones find the snapshot and the pages that were read.
The same bytes must come out. A build from the network is slower than the first one by the time of its requests, which
depends on the archive's rate and is not measured here.
"""

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa

from data_scripts.harness.archive import Column
from data_scripts.harness.build import BuildOptions, build_archive
from data_scripts.registry import archive_named


ARCHIVE, TABLE = "nasa_exoplanet_archive", "cumulative"


def write_export(path: Path, rows: int) -> None:
    rng = np.random.default_rng(0)
    columns = {column.name: values(column, rows, rng) for column in archive_named(ARCHIVE).table(TABLE).columns}
    pd.DataFrame(columns).to_csv(path, index=False)


def values(column: Column, rows: int, rng: np.random.Generator) -> Any:
    if column.name == "kepid":
        return np.arange(rows) + 1
    if column.name == "kepoi_name":
        return [f"K{number:08}.01" for number in range(rows)]
    if column.name == "koi_disposition":
        return rng.choice(["CONFIRMED", "FALSE POSITIVE", "CANDIDATE"], rows)
    low = 0.0 if column.minimum is None else column.minimum
    high = low + 100.0 if column.maximum is None else column.maximum
    if pa.types.is_integer(column.dtype):
        return rng.integers(int(low), int(min(high, low + 50)) + 1, rows)
    if pa.types.is_floating(column.dtype):
        return np.round(rng.uniform(low, high, rows), 5)
    return rng.choice(["", "a text of some words", "another"], rows)


def digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=15)
    parsed = parser.parse_args()
    seconds: dict[str, list[float]] = {"first": [], "again": [], "load": [], "load again": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export = folder / "cumulative.csv"
        write_export(export, parsed.rows)

        def build(store: Path, out: Path) -> float:
            started = time.perf_counter()
            # Numbers drawn at random keep no law between them.
            options = BuildOptions(store=store, configs=(TABLE,), from_files=(export,), allow_below_gate=True)
            report = build_archive(archive_named(ARCHIVE), out, options)
            took = time.perf_counter() - started
            published = sum(table.table.tallies.rows for table in report.quality.tables)
            assert published == parsed.rows, published
            return took

        def load(out: Path, cache: Path) -> float:
            started = time.perf_counter()
            rows = datasets.load_dataset(str(out), TABLE, cache_dir=str(cache))
            assert sum(map(len, rows.values())) == parsed.rows
            return time.perf_counter() - started

        for number in range(parsed.rounds):
            store, cache = folder / f"store{number}", folder / f"cache{number}"
            first, again = folder / f"first{number}", folder / f"again{number}"
            seconds["first"].append(build(store, first))
            seconds["again"].append(build(store, again))
            assert digest(first) == digest(again)
            seconds["load"].append(load(first, cache))
            seconds["load again"].append(load(first, cache))
        size = export.stat().st_size
    median = {name: statistics.median(values) for name, values in seconds.items()}
    result = {
        "rows": parsed.rows,
        "columns": len(archive_named(ARCHIVE).table(TABLE).columns),
        "body_bytes": size,
        "rounds": parsed.rounds,
        "rows_per_second": {name: parsed.rows / value for name, value in median.items()},
        "megabytes_per_second": {name: size / 1e6 / median[name] for name in ("first", "again")},
        "build_again_is_faster_by": statistics.median(
            one / other for one, other in zip(seconds["first"], seconds["again"], strict=True)
        ),
        "load_again_is_faster_by": statistics.median(
            one / other for one, other in zip(seconds["load"], seconds["load again"], strict=True)
        ),
        "seconds": seconds,
    }
    print(json.dumps({name: value for name, value in result.items() if name != "seconds"}, indent=1))
    if parsed.json:
        parsed.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
