"""Every source against every fault, through the real client: no row lost, none doubled, none wrong.

Each replay in `replays/` is served by a loopback server that misbehaves in one way, and built. A fault that passes
must leave no trace in the rows. A body that is wrong by itself, without a column or with the rows of the page before,
must be refused with its request's name, or not matter. The table of all cells stands at the end of the tests' output.
By default each source plays one table; `-m slow` plays the others.
"""

import importlib
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from loopback import FAULTS, Fault, loopback_of
from replay import Replay

from data_scripts.harness.archive import TableConfig
from data_scripts.harness.build import BuildOptions, BuildReport, build_archive
from data_scripts.harness.errors import BuildError


REPLAYS = {
    f"{replay.source}/{replay.table}": replay
    for path in sorted((Path(__file__).parent / "replays").glob("*.py"))
    for replay in importlib.import_module(f"replays.{path.stem}").REPLAYS
}
# One table of each source, of several pages where it has such.
QUICK = {
    "ensembl_genomes/genes",
    "eso_vlt/obscore",
    "exoplanets_org/planets",
    "gemini/observations",
    "gtdb/metadata",
    "jwst_mast/observations",
    "keck_koa/kpf",
    "kepler_k2/observations",
    "nasa_exoplanet_archive/toi",
    "ncbi_genbank/records",
    "planet_hunters/tce_dr25",
    "subaru_smoka/suprime_cam",
    "tess/tic",
    "uniprotkb/entries",
}
CASES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in REPLAYS]
PASSING = [name for name in FAULTS if name not in {"changed schema", "page repeats"}]
# Not whole seconds, to be quick; Ensembl too sends fractions.
RETRY_AFTER_SECONDS = 0.2
Record = Callable[[str, str, str], None]


@pytest.fixture
def record(record_property) -> Record:
    """Keep a cell of the table for the end of the output; the last of a test counts."""
    return lambda replay, fault, outcome: record_property("fault_matrix", (replay, fault, outcome))


def table_of(replay: Replay) -> TableConfig:
    return importlib.import_module(f"data_scripts.archives.{replay.source}").ARCHIVE.table(replay.table)


def play(replay: Replay, folder: Path, fault: Fault | None, **options: object) -> tuple[BuildReport, Any]:
    """Build the table of a replay from a server with a fault; return the report and the server, which has stopped."""
    archive = importlib.import_module(f"data_scripts.archives.{replay.source}").ARCHIVE
    # Its own rate would take minutes; tests of the transport see that a rate is kept.
    archive = replace(archive, requests_per_second=1000.0, burst=100)
    server = loopback_of(replay, archive.hosts, fault, retry_after=str(RETRY_AFTER_SECONDS), **options)
    with server:
        report = build_archive(
            archive,
            folder / "out",
            BuildOptions(
                store=folder / "store",
                configs=(replay.table,),
                options=replay.options,
                mirrors=server.mirrors,
                environment={},
                # Short where it has to run out; long where a busy machine must not make it run out.
                timeout_seconds=60.0 if fault is None else 0.5 if fault.name == "slow drip" else 5.0,
                attempts=20 if fault is not None and fault.name == "slow drip" else 6,
            ),
        )
    return report, server


def key_of(row: dict[str, Any], table: TableConfig) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in table.key)


def plain(value: Any) -> Any:
    """Return a value in a form that compares equal where the published value is: NaN is null, a list is a list."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def assert_rows(replay: Replay, folder: Path) -> None:
    """Compare what was built with what the archive has: every row once, in its order, with its values."""
    table = table_of(replay)
    names = [column.name for column in table.columns]
    expected = {key_of(row, table): {name: plain(row[name]) for name in names} for row in replay.expected}
    assert len(expected) == len(replay.expected)
    places = {key: place for place, key in enumerate(expected)}
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for split in ("train", "validation", "test"):
        shards = sorted((folder / "out" / replay.table).glob(f"{split}-*.parquet"))
        assert shards, f"no file of {split}"
        rows = [row for shard in shards for row in pq.read_table(shard, columns=names).to_pylist()]
        keys = [key_of(row, table) for row in rows]
        assert not set(keys) & set(found), "a row is in two splits"
        assert len(set(keys)) == len(keys), "a row is doubled"
        assert set(keys) <= set(expected), "a row is not the archive's"
        assert [places[key] for key in keys] == sorted(places[key] for key in keys), "rows changed their order"
        found |= {key: {name: plain(row[name]) for name in names} for key, row in zip(keys, rows, strict=True)}
    assert sorted(found) == sorted(expected), "rows are lost"
    for key, row in expected.items():
        assert found[key] == row, key


def test_every_source_has_a_replay():
    from data_scripts.registry import ARCHIVES

    assert len(ARCHIVES) == 14
    assert {REPLAYS[name].source for name in QUICK} == set(ARCHIVES)


@pytest.mark.parametrize("name", CASES)
def test_an_archive_that_behaves(name, tmp_path, record):
    replay = REPLAYS[name]
    record(name, "none", "FAILED")
    report, server = play(replay, tmp_path, None)
    assert_rows(replay, tmp_path)
    addresses = {
        (each.asked.method, each.asked.path, repr(each.asked.query), each.asked.body) for each in server.served
    }
    assert len(addresses) == len(server.served) == report.fetched, "something was asked twice"
    record(name, "none", f"{len(replay.expected)} rows, {report.fetched} requests")


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("name", CASES)
def test_a_fault_that_passes_leaves_no_trace(name, fault, tmp_path, record):
    replay = REPLAYS[name]
    record(name, fault, "FAILED")
    # These take their time at each address.
    every = 4 if fault in {"429 with Retry-After", "slow drip"} else 1
    _, server = play(
        replay, tmp_path, Fault(fault, every=every), gzipped=fault in {"reset in the body", "wrong length"}
    )
    assert_rows(replay, tmp_path)
    suffered = sum(served.fault is not None for served in server.served)
    assert suffered
    if fault == "429 with Retry-After":
        first = next(served for served in server.served if served.status == 429)
        # Those under way at the same time do not know of it yet.
        at_once = sum(
            served.at < first.at + RETRY_AFTER_SECONDS - 0.01 for served in server.served if served.at >= first.at
        )
        archive = importlib.import_module(f"data_scripts.archives.{replay.source}").ARCHIVE
        assert at_once <= archive.concurrency
    record(name, fault, f"whole ({suffered})")


@pytest.mark.parametrize(("fault", "times"), [("changed schema", None), ("page repeats", 1), ("page repeats", None)])
@pytest.mark.parametrize("name", CASES)
def test_a_wrong_body_is_refused_or_does_not_matter(name, fault, times, tmp_path, record):
    replay = REPLAYS[name]
    title = f"{fault}, {'always' if times is None else 'once'}"
    record(name, title, "FAILED")
    refusal = ""
    try:
        _, server = play(replay, tmp_path, Fault(fault, times))
    except BuildError as error:
        refusal = str(error)
    if refusal:
        assert re.search("https?://", refusal), "the request is not named"
        assert not (tmp_path / "out").exists()
        record(name, title, "refused")
        return
    assert_rows(replay, tmp_path)
    suffered = sum(served.fault is not None for served in server.served)
    # What vanished cannot be made up again, nor a page that never came.
    assert times is not None or not suffered
    record(name, title, f"whole ({suffered})" if suffered else "no such page")
