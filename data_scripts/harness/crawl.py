"""Walks from the first requests of a table to the last page, over what is kept and what the archive sends."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from data_scripts.harness.archive import Answer, Request, Selection, TableConfig
from data_scripts.harness.call_parser import call_parser
from data_scripts.harness.crawl_tree import (
    Crawl,
    Failure,
    Identity,
    Node,
    has_rows,
    in_order,
    repeated_nodes,
    same_rows,
    wrong_total,
)
from data_scripts.harness.errors import BadBodyError, BuildError, RequestFailedError
from data_scripts.harness.links import Links, read_links
from data_scripts.harness.pages import Page
from data_scripts.harness.partial_body import PartialBody
from data_scripts.harness.snapshot import Snapshot
from data_scripts.harness.transport import Transport


__all__ = ["crawl"]

ATTEMPTS = 3  # bodies asked for, where each is well-formed and yet cannot be right


async def crawl(
    table: TableConfig,
    selection: Selection,
    snapshot: Snapshot,
    transport: Transport | None,
    *,
    read: Callable[[Answer], Page],
    links: Callable[[Answer], Links] | None = None,
    concurrency: int = 1,
    keep_going: bool = False,
    on_answer: Callable[[Answer, bool], None] = lambda answer, fetched: None,
) -> Crawl:
    """Answer a table's first requests and, depth first, those that the bodies ask for.

    The order of the result is the order of the requests, whatever came first. With a limit the walk itself is in that
    order and ends when enough rows are read, so that it ends at the same request each time.

    Args:
        table: The table.
        selection: What is wanted of it.
        snapshot: Where bodies are looked for, and kept.
        transport: Way to the archive; None to use nothing but the snapshot.
        read: Reads an answer's rows. What was fetched is read at once, so that a wrong body is asked again or ends the
            walk, and is not found hours later.
        links: Reads where an answer leads; `read_links` if it is not given.
        concurrency: Requests under way at once.
        keep_going: Go on where a request fails, and list it.
        on_answer: Called with each answer and whether it was fetched now.

    Raises:
        RequestFailedError: If a request has no usable answer.
        BuildError: If a body asks for a stage that the table lacks.
    """
    counted: dict[tuple[Identity, str], tuple[int, int]] = {}
    for attempt in range(1, ATTEMPTS + 1):
        async with contextlib.AsyncExitStack() as resources:
            walk = _Walk(
                table,
                snapshot,
                transport,
                read_page=read,
                read_links=links or partial(read_links, table),
                counted=counted,
                count_all=selection.limit is not None,
                keep_going=keep_going,
                resources=resources,
            )
            found = await _walk_all(walk, selection, concurrency, on_answer if attempt == 1 else lambda *_: None)
        wrong, reason = repeated_nodes(table, found.nodes), "the archive sent one body for several pages"
        if not wrong and selection.limit is None and found.whole:
            wrong, reason = wrong_total(found.nodes) or ([], "")
        if not wrong:
            return found
        if transport is not None:
            for node in wrong:
                if node.answer is not None:
                    snapshot.withdraw(node.answer, reason)
        if transport is None or attempt == ATTEMPTS:
            break
    asked = "; ".join(f"{node.request.url} {dict(node.request.params)}" for node in wrong[:3])
    raise RequestFailedError(f"{reason}: {asked}. Build again later.")


async def _walk_all(
    walk: "_Walk", selection: Selection, concurrency: int, on_answer: Callable[[Answer, bool], None]
) -> Crawl:
    limit = selection.limit
    roots = [Node(request) for request in walk.table.first(selection)]
    waiting = roots[::-1]
    done: set[asyncio.Task[Node]] = set()
    running: set[asyncio.Task[Node]] = set()
    rows = 0
    at_once = concurrency if limit is None else 1
    try:
        while (waiting or running) and (limit is None or rows < limit):
            while waiting and len(running) < at_once:
                running.add(asyncio.create_task(walk.visit(waiting.pop())))
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                node = task.result()
                waiting.extend(reversed(node.children))
                if node.answer is not None:
                    on_answer(node.answer, node.fetched)
                    rows += node.good_rows
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, *done, return_exceptions=True)
    return Crawl(in_order(roots, walk.expanded), walk.failures, whole=not waiting and not walk.failures)


@dataclass
class _Walk:
    """What all visits of one walk share."""

    table: TableConfig
    snapshot: Snapshot
    transport: Transport | None
    read_page: Callable[[Answer], Page]
    read_links: Callable[[Answer], Links]
    counted: dict[tuple[Identity, str], tuple[int, int]]
    count_all: bool
    keep_going: bool
    # Closed when the walk ends: it releases the claim and ends the thread of the parsers.
    resources: contextlib.AsyncExitStack
    failures: list[Failure] = field(default_factory=list)
    expanded: dict[Identity, Node] = field(default_factory=dict)
    first_with: dict[tuple[str, str], Answer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._claiming = asyncio.Lock()
        self._claimed = False
        # Parsers run beside the event loop, so that no download times out meanwhile, and one at a time: the modules
        # that they use change the process's list of warnings.
        self._parser = self.resources.enter_context(ThreadPoolExecutor(1))

    async def visit(self, node: Node) -> Node:
        """Answer a node's request and hang the requests that follow below it."""
        if node.request.stage not in self.table.stages:
            raise BuildError(
                f"stage must be one of {', '.join(self.table.stages)} in {self.table.name}; got "
                f"{node.request.stage!r}, asked for by {node.request.url}. Add the stage to the table."
            )
        try:
            async with self._locks.setdefault(node.request.key, asyncio.Lock()):
                await self._answer_and_read(node)
        except (RequestFailedError, BadBodyError) as error:
            node.answer, node.children = None, []
            reason = str(error)
            if not self.keep_going:
                raise RequestFailedError(_named(node.request, reason)) from error
            self.failures.append(Failure(node.request.url, reason, node.request.key))
        return node

    async def _answer_and_read(self, node: Node) -> None:
        """Answer and read a request; a body that cannot be read is asked for again."""
        loop = asyncio.get_running_loop()
        for attempt in range(1, ATTEMPTS + 1):
            node.answer = await self._answer(node)
            try:
                await loop.run_in_executor(self._parser, self._read, node)
                break
            except BadBodyError as error:
                if self.transport is None:
                    raise
                self.snapshot.withdraw(node.answer, str(error))
                node.refused = node.answer.sha256
                if attempt == ATTEMPTS:
                    raise BadBodyError(f"{error} (asked {ATTEMPTS} times)") from error
        # The same question asked from two places would lead to the same pages again.
        if self.expanded.setdefault(node.identity, node) is not node:
            node.children = []

    async def _answer(self, node: Node) -> Answer:
        found = await asyncio.to_thread(self.snapshot.find, node.request, withdrawn_too=self.transport is None)
        if found is not None:
            return found
        if self.transport is None:
            reasons = [item.reason for item in self.snapshot.rejections if item.key == node.request.key]
            why = f" (its last body was refused: {reasons[-1]})" if reasons else ""
            raise RequestFailedError(f"the snapshot has no answer{why}. Build once without --offline.")
        await self._claim()
        # The process that fetched meanwhile may have asked this.
        found = await asyncio.to_thread(self.snapshot.find, node.request)
        if found is not None:
            return found
        answer = await self._fetch(node.request)
        node.fetched = True
        return answer

    async def _fetch(self, request: Request) -> Answer:
        assert self.transport is not None
        partial = self.snapshot.partial(request)
        received = await self.transport.fetch(
            request,
            self.table.stages[request.stage].body_format,
            partial,
            lambda path, reason: self.snapshot.reject(request, path, reason),
        )
        answer = self.snapshot.put(request, received)
        PartialBody.discard_at(partial)
        return answer

    async def _claim(self) -> None:
        async with self._claiming:
            if not self._claimed:
                await self.resources.enter_async_context(self.snapshot.claim())
                self._claimed = True

    def _read(self, node: Node) -> None:
        answer, stage = node.answer, self.table.stages[node.request.stage]
        assert answer is not None
        earlier = node.pages.get(answer.sha256)
        if earlier is not None and (stage.rows is None or has_rows(stage, answer)):
            raise BadBodyError(f"the archive sent page {earlier} again")
        other = self.first_with.setdefault((node.request.stage, answer.sha256), answer)
        # If it comes again, the other page may have the wrong one, which shows at the end of the walk.
        if node.fetched and not node.confirmed and same_rows(stage, answer, other):
            raise BadBodyError(f"the archive sent the body of {other.request.url} {dict(other.request.params)}")
        what = node.identity, answer.sha256
        if stage.rows is None:
            node.rows = 0
        elif what not in self.counted and (node.fetched or self.count_all):
            page = call_parser(self.read_page, answer)
            self.counted[what] = page.tallies.rows, page.good.num_rows
        if what in self.counted:
            node.rows, node.good_rows = self.counted[what]
        links = self.read_links(answer)
        node.total, requests = links.total, links.requests
        alike = [request for request in requests if request.stage == node.request.stage]
        for request in alike:
            earlier = node.number if request.key == node.request.key else node.pages.get(request.key)
            if earlier is not None:
                raise BadBodyError(f"page {node.number} asks for page {earlier} again")
        # A chain without branches shares one record of its pages: copies would need quadratic time.
        pages = node.pages if len(alike) == 1 else dict(node.pages)
        pages[answer.sha256] = pages[node.request.key] = node.number
        node.children = [
            Node(request, node, pages, node.number + 1) if request.stage == node.request.stage else Node(request, node)
            for request in requests
        ]


def _named(request: Request, reason: str) -> str:
    return reason if request.url in reason else f"{request.url}: {reason}"
