"""Read pages in this process, in several, or on a cluster; the pages come in the order of the answers either way."""

import importlib
import itertools
import multiprocessing
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from data_scripts.harness.archive import Answer, Archive
from data_scripts.harness.call_parser import call_parser
from data_scripts.harness.errors import BadBodyError, BuildError
from data_scripts.harness.pages import Page
from data_scripts.harness.parse_cache import ParseCache


__all__ = ["Engine", "PageReader", "check_engine", "read_pages"]

Engine = Literal["processes", "ray", "dask"]
# Packages that each needs.
ENGINES: dict[str, tuple[str, ...]] = {"processes": (), "ray": ("ray",), "dask": ("dask", "distributed")}


@dataclass(frozen=True)
class PageReader:
    """Reads answers of one table; it can be sent to another process, which imports the archive itself.

    Attributes:
        module: Module whose `ARCHIVE` is the archive.
        table: Name of the table.
        cache: Parsed pages.
    """

    module: str
    table: str
    cache: ParseCache

    @classmethod
    def of(cls, archive: Archive, table: str, cache: ParseCache) -> "PageReader":
        """Make the reader of an archive that is some imported module's `ARCHIVE`.

        Raises:
            BuildError: If it is none's.
        """
        for name, module in list(sys.modules.items()):
            if name != "__main__" and getattr(module, "ARCHIVE", None) is archive:
                return cls(name, table, cache)
        raise BuildError(
            f"archive must be the attribute ARCHIVE of a module for other processes to import it; got "
            f"{archive.name}, which is none's. Put it into a module, or build with one process."
        )

    def __call__(self, answer: Answer) -> Page | BadBodyError:
        """Read an answer; an error of the body is returned, not raised, for the build to name its request."""
        archive = importlib.import_module(self.module).ARCHIVE
        return _read(self.cache, archive, self.table, answer)


def check_engine(archive: Archive, engine: Engine, processes: int) -> None:
    """See whether an engine can read an archive before anything is asked for.

    Raises:
        BuildError: If the engine is unknown or not installed, `processes` is not positive, or another process could
            not import the archive.
    """
    if processes < 1:
        raise BuildError(f"processes must be at least 1; got {processes}.")
    if engine not in ENGINES:
        raise BuildError(f"engine must be one of {', '.join(ENGINES)}; got {engine!r}.")
    for name in ENGINES[engine]:
        _engine_module(name)
    if processes > 1 or engine != "processes":
        PageReader.of(archive, archive.tables[0].name, ParseCache(Path(), 0))


def read_pages(
    archive: Archive, table: str, answers: Iterable[Answer], cache: ParseCache, *, processes: int = 1, engine: Engine
) -> Iterator[Page | BadBodyError]:
    """Read answers in order, holding no more pages than are read at once.

    Args:
        archive: The archive.
        table: Name of its table.
        answers: Answers of stages that have rows.
        cache: Parsed pages; on a cluster, a folder that every machine has.
        processes: Pages read at once.
        engine: `processes` on this machine; `ray` and `dask` use the cluster that `RAY_ADDRESS` or
            `DASK_SCHEDULER_ADDRESS` names, and start one on this machine if there is none.

    Raises:
        BuildError: As `check_engine`, or if a process died.
    """
    check_engine(archive, engine, processes)
    if engine == "processes" and processes == 1:
        return (_read(cache, archive, table, answer) for answer in answers)
    run = {"processes": _in_processes, "ray": _on_ray, "dask": _on_dask}[engine]
    return run(PageReader.of(archive, table, cache), answers, processes)


def _read(cache: ParseCache, archive: Archive, table: str, answer: Answer) -> Page | BadBodyError:
    try:
        return call_parser(cache.read, archive.table(table), answer, archive.name)
    except BadBodyError as error:
        return error


def _in_order(
    submit: Callable[[Answer], Any], result: Callable[[Any], Any], answers: Iterable[Answer], ahead: int
) -> Iterator[Any]:
    """Yield results in order while `ahead` more are made."""
    answers = iter(answers)
    waiting = deque(submit(answer) for answer in itertools.islice(answers, ahead))
    while waiting:
        yield result(waiting.popleft())
        waiting.extend(submit(answer) for answer in itertools.islice(answers, 1))


def _in_processes(reader: PageReader, answers: Iterable[Answer], processes: int) -> Iterator[Any]:
    # A forked child would inherit locks that threads of this process hold.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        try:
            yield from _in_order(
                lambda answer: pool.submit(reader, answer), lambda future: future.result(), answers, 2 * processes
            )
        except BrokenProcessPool as error:
            raise BuildError(
                f"{processes} processes must fit into memory; got one that died. Build with fewer --processes."
            ) from error


def _on_ray(reader: PageReader, answers: Iterable[Answer], processes: int) -> Iterator[Any]:
    ray = _engine_module("ray")
    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False, include_dashboard=False)
    try:
        read = ray.remote(max_retries=3)(_call)
        yield from _in_order(lambda answer: read.remote(reader, answer), ray.get, answers, 2 * processes)
    finally:
        if started:
            ray.shutdown()


def _on_dask(reader: PageReader, answers: Iterable[Answer], processes: int) -> Iterator[Any]:
    distributed = _engine_module("distributed")
    dask = _engine_module("dask")
    here: dict[str, Any] = {"n_workers": processes, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.Client(**({} if dask.config.get("scheduler-address", None) else here)) as client:
        # The same answer in a second build must be read again, not taken from the cluster's memory.
        yield from _in_order(
            lambda answer: client.submit(reader, answer, pure=False),
            lambda future: future.result(),
            answers,
            2 * processes,
        )


def _call(reader: PageReader, answer: Answer) -> Page | BadBodyError:
    return reader(answer)


def _engine_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        extra = "ray" if name == "ray" else "dask"
        raise BuildError(
            f"engine {extra} needs the package {name}, which cannot be imported ({error}). "
            f"Install modeling_astrobio[{extra}], or leave --engine out."
        ) from error
