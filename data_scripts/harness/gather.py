"""Gather the answers that a data set is made from."""

import asyncio
import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from tqdm import tqdm

from data_scripts.harness.archive import Answer, Archive, Selection, TableConfig
from data_scripts.harness.build_options import BuildOptions
from data_scripts.harness.crawl import crawl
from data_scripts.harness.crawl_tree import Crawl
from data_scripts.harness.errors import BuildError
from data_scripts.harness.local_files import import_files
from data_scripts.harness.parse_cache import ParseCache
from data_scripts.harness.selection import select_rows
from data_scripts.harness.snapshot import Snapshot
from data_scripts.harness.transport import Transport


__all__ = ["Gathered", "gather_answers"]


@dataclass
class Gathered:
    """What a data set is made from.

    Attributes:
        crawls: By table, the requests and their answers.
        release: Release of the archive; empty where it has none.
        fetched: Answers that the archive sent.
        kept: Answers that were in the snapshot, or are files.
    """

    crawls: dict[str, Crawl] = field(default_factory=dict)
    release: str = ""
    fetched: int = 0
    kept: int = 0


def gather_answers(
    archive: Archive, tables: Sequence[TableConfig], snapshot: Snapshot, cache: ParseCache, options: BuildOptions
) -> Gathered:
    """Take the answers from files, from the snapshot, or from the archive.

    Raises:
        RequestFailedError: If a request got no usable answer.
        BuildError: If an option does not fit the archive, or a file cannot be used.
    """
    if options.from_files:
        given = {
            "--since": options.since,
            "--set": options.options,
            "--max-age-days": options.max_age_days,
            "--mirror": options.mirrors,
        }
        if refused := [name for name, value in given.items() if value]:
            raise BuildError(f"--from must stand without {', '.join(refused)}: no request is made. Leave that out.")
        crawls = import_files(archive, options.configs, options.from_files, snapshot, release=options.release or "")
        return Gathered(crawls, options.release or "", kept=sum(len(found.nodes) for found in crawls.values()))
    selections = select_rows(
        archive,
        tables,
        limit=options.limit,
        since=options.since,
        release=options.release,
        options=options.options,
    )
    return asyncio.run(_crawl_all(archive, tables, selections, snapshot, cache, options))


async def _crawl_all(
    archive: Archive,
    tables: Sequence[TableConfig],
    selections: Mapping[str, Selection],
    snapshot: Snapshot,
    cache: ParseCache,
    options: BuildOptions,
) -> Gathered:
    gathered = Gathered(release=next(iter(selections.values())).release)
    # One bar a source; nothing where nobody looks.
    with tqdm(desc=archive.name, unit=" requests", file=sys.stderr, disable=None) as bar:
        received = 0

        def on_bytes(size: int) -> None:
            nonlocal received
            received += size
            bar.set_postfix_str(f"{received / 1e6:.1f} MB", refresh=False)

        def on_answer(answer: Answer, fetched: bool) -> None:
            gathered.fetched += fetched
            gathered.kept += not fetched
            bar.update()

        async with contextlib.AsyncExitStack() as resources:
            transport = None
            if not options.offline:
                transport = await resources.enter_async_context(
                    Transport(
                        archive,
                        environment=options.environment,
                        mirrors=options.mirrors,
                        attempts=options.attempts,
                        timeout_seconds=options.timeout_seconds,
                        progress=on_bytes,
                    )
                )
            for table in tables:
                gathered.crawls[table.name] = await crawl(
                    table,
                    selections[table.name],
                    snapshot,
                    transport,
                    read=partial(cache.read, table, source=archive.name),
                    links=partial(cache.links, table, source=archive.name),
                    concurrency=archive.concurrency,
                    keep_going=options.allow_below_gate,
                    on_answer=on_answer,
                )
    return gathered
