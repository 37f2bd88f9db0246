"""From an archive to a folder that `load_dataset` opens: ask, read, put together, judge, write."""

import contextlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from data_scripts.harness.archive import Archive, TableConfig
from data_scripts.harness.archive_card import archive_card
from data_scripts.harness.assemble import assemble
from data_scripts.harness.build_options import BuildOptions
from data_scripts.harness.crawl_tree import Crawl, Failure, Node, wrong_total
from data_scripts.harness.disk_cache import cache_bytes
from data_scripts.harness.errors import BadBodyError, BuildError, RequestFailedError
from data_scripts.harness.executors import check_engine, read_pages
from data_scripts.harness.gather import gather_answers
from data_scripts.harness.new_folder import new_folder, refuse_used_folder
from data_scripts.harness.pages import Page
from data_scripts.harness.parse_cache import ParseCache
from data_scripts.harness.quality.agreement import Agreement, compare_planets
from data_scripts.harness.quality.report import QualityReport, RefusedBody, TableReport
from data_scripts.harness.quality.write import write_quality
from data_scripts.harness.selection import chosen_tables
from data_scripts.harness.snapshot import Snapshot
from data_scripts.harness.table_cache import TableCache, table_key
from data_scripts.identity import IdentityTable, split_rows


__all__ = ["BuildOptions", "BuildReport", "build_archive"]

# Table that another archive is compared with: both list confirmed planets.
COMPARED = ("nasa_exoplanet_archive", "pscomppars")


@dataclass(frozen=True)
class BuildReport:
    """What was built.

    Attributes:
        folder: The data set.
        quality: Its quality report.
        fetched: Bodies that the archive sent.
        kept: Bodies that were in the snapshot.
    """

    folder: Path
    quality: QualityReport
    fetched: int
    kept: int


def build_archive(archive: Archive, out: Path, options: BuildOptions) -> BuildReport:
    """Build a data set from an archive.

    What is written depends on the bodies in the snapshot alone, so that building again gives the same bytes.

    Args:
        archive: The archive.
        out: New or empty folder; it appears whole or not at all.
        options: How to build.

    Raises:
        FileExistsError: If `out` has content.
        RequestFailedError: If a request got no usable answer.
        BuildError: If an option does not fit the archive, a body cannot be used, or a quality gate failed.
    """
    refuse_used_folder(out)
    tables = chosen_tables(archive, options.configs)
    _check_comparison(archive, tables, options.compare_with)
    if options.max_age_days is not None and not 0 <= options.max_age_days < float("inf"):
        raise BuildError(f"max_age_days must be 0 or more; got {options.max_age_days}. Leave it out for any age.")
    check_engine(archive, options.engine, options.processes)
    identity = None if options.identity is None else IdentityTable.load(options.identity)
    most_bytes = cache_bytes(options.environment)
    # One folder, so that both kinds of files are bounded together.
    cache, finished = (
        ParseCache(options.store / "parsed", most_bytes),
        TableCache(options.store / "parsed", most_bytes),
    )
    snapshot = Snapshot(options.store / archive.name, max_age_days=options.max_age_days)
    with new_folder(out) as folder:
        gathered = gather_answers(archive, tables, snapshot, cache, options)
        crawls = gathered.crawls
        failures = [failure for found in crawls.values() for failure in found.failures]
        reports = []
        for name, found in crawls.items():
            table = archive.table(name)
            key = table_key(table, found.answers, archive.name, identity, options.limit)
            quality = finished.load(key, folder)
            if quality is None:
                before = len(failures)
                split = partial(split_rows, objects=table.objects, identity=identity)
                with contextlib.closing(_pages(archive, table, found, snapshot, cache, options, failures)) as pages:
                    quality = assemble(pages, table, split, folder, options.limit)
                if len(failures) == before:
                    finished.save(key, table, folder, quality)
            reports.append(TableReport(table, quality, _agreement(archive, name, folder, options.compare_with)))
        report = QualityReport(
            archive.name,
            tuple(reports),
            tuple(_refused(snapshot, [node for found in crawls.values() for node in found.nodes], failures)),
            tuple(f"{failure.url}: {failure.reason}" for failure in failures),
        )
        if not any(each.table.rows for each in reports):
            raise BuildError(
                f"{archive.name} must have rows for {', '.join(crawls)}; got {len(failures)} failed requests and "
                f"no row.{_faults(reports)} Choose other options."
            )
        if report.failed_gates and not options.allow_below_gate:
            raise BuildError(
                f"{archive.name} must pass its quality gates; got {'; '.join(report.failed_gates)}.{_faults(reports)} "
                "See why, or build with --allow-below-gate and read quality/quality.md."
            )
        write_quality(report, folder)
        card = archive_card(archive, report, gathered.release)
        (folder / "README.md").write_text(card, encoding="utf-8", newline="\n")
    cache.trim()
    return BuildReport(out.absolute(), report, gathered.fetched, gathered.kept)


def _pages(
    archive: Archive,
    table: TableConfig,
    found: Crawl,
    snapshot: Snapshot,
    cache: ParseCache,
    options: BuildOptions,
    failures: list[Failure],
) -> Generator[Page, None, None]:
    """Read the answers that have rows; a body that cannot be read ends the build, or is left out and named."""
    online = not options.offline and not options.from_files
    nodes = [node for node in found.nodes if table.stages[node.request.stage].rows is not None]
    answers = [node.answer for node in nodes if node.answer is not None]
    before = len(failures)
    pages = read_pages(archive, table.name, answers, cache, processes=options.processes, engine=options.engine)
    for node, answer, page in zip(nodes, answers, pages, strict=True):
        if isinstance(page, BadBodyError):
            reason = f"{answer.request.url}: {page}"
            if online:
                snapshot.withdraw(answer, str(page))
                reason += ". The body was kept by an earlier build; it is asked for again next time."
            if not options.allow_below_gate:
                raise RequestFailedError(reason) from page
            failures.append(Failure(answer.request.url, str(page), answer.request.key))
            continue
        node.rows = page.tallies.rows
        yield page
    wrong = wrong_total(found.nodes) if found.whole and options.limit is None and len(failures) == before else None
    if wrong is not None:
        below, reason = wrong
        if online:
            for node in below:
                if node.answer is not None:
                    snapshot.withdraw(node.answer, reason)
        if not options.allow_below_gate:
            raise RequestFailedError(f"{below[0].request.url}: {reason}. Run the same command again.")
        failures.append(Failure(below[0].request.url, reason, below[0].request.key))


def _agreement(archive: Archive, table: str, folder: Path, other: Path | None) -> Agreement | None:
    if other is None or (archive.name, table) != COMPARED:
        return None
    return compare_planets(folder / table, other / "planets")


def _check_comparison(archive: Archive, tables: Sequence[TableConfig], other: Path | None) -> None:
    if other is None:
        return
    if COMPARED not in [(archive.name, table.name) for table in tables]:
        raise BuildError(
            f"--compare-with is for {' '.join(COMPARED)} alone; got a build of {archive.name} without it."
        )
    if not any((other / "planets").glob("*.parquet")):
        raise BuildError(f"--compare-with must be a built folder of exoplanets_org; got {other}. Build that first.")


def _refused(snapshot: Snapshot, nodes: Sequence[Node], failures: Sequence[Failure]) -> list[RefusedBody]:
    """Return the bodies refused for the requests of this build, of other builds of the store none."""
    keys = {node.request.key for node in nodes} | {failure.key for failure in failures}
    refused = (RefusedBody(each.url, each.reason, each.sha256) for each in snapshot.rejections if each.key in keys)
    return list(dict.fromkeys(refused))


def _faults(reports: Sequence[TableReport]) -> str:
    """Say what most of the rejected rows were rejected for."""
    faults = {f"{each.config.name}: {fault}": n for each in reports for fault, n in each.table.tallies.faults.items()}
    most = sorted(faults.items(), key=lambda item: (-item[1], item[0]))[:3]
    return f" Most rows were rejected for {'; '.join(f'{fault} ({n})' for fault, n in most)}." if most else ""
