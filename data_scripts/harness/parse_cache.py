"""Parsed bodies on disk, so that each is parsed once for as long as parser and schema stay the same."""

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

import data_scripts
from data_scripts.harness.archive import Answer, TableConfig
from data_scripts.harness.disk_cache import DIGEST_BYTES, DiskCache
from data_scripts.harness.links import Links, read_links
from data_scripts.harness.pages import Page, page_schema, read_page
from data_scripts.harness.tallies import Tallies


__all__ = ["ParseCache", "page_key"]

# Libraries that turn bodies into tables and tables into files; another version may make something else.
LIBRARIES = ("pyarrow", "numpy", "pandas", "astropy", "biopython", "datasets")
SMALL_BYTES = 1 << 16  # bodies that are parsed sooner than a file with their links is found

# By identity: tables hold functions and dictionaries, which have no hash of their content.
_digests: dict[int, tuple[TableConfig, str]] = {}


class ParseCache(DiskCache):
    """Pages and links by everything that they depend on: body, request, schema, code and libraries."""

    def read(self, config: TableConfig, answer: Answer, source: str) -> Page:
        """Return the page of an answer, from disk if it was parsed before.

        Raises:
            BadBodyError: If the body is not what its stage needs.
        """
        key = page_key(config, answer, source)
        path = self.find(key)
        if path is not None:
            with contextlib.suppress(FileNotFoundError):  # another process made room
                return _load(path)
        page = read_page(config, answer, source)
        self.store(key, functools.partial(_save, page))
        return page

    def links(self, config: TableConfig, answer: Answer, source: str) -> Links:
        """Return where an answer leads, from disk if it was parsed before and is not small.

        Raises:
            BadBodyError: If the body is not what its stage needs.
        """
        stage = config.stages[answer.request.stage]
        if (stage.follow is None and stage.total is None) or answer.path.stat().st_size < SMALL_BYTES:
            return read_links(config, answer)
        key = hashlib.sha256(f"links {page_key(config, answer, source)}".encode()).hexdigest()
        path = self.find(key)
        if path is not None:
            with contextlib.suppress(FileNotFoundError):  # another process made room
                return Links.from_json(path.read_bytes()[:-DIGEST_BYTES].decode())
        links = read_links(config, answer)
        self.store(key, lambda file: file.write(links.to_json().encode()))
        return links


def page_key(config: TableConfig, answer: Answer, source: str) -> str:
    """SHA-256 (hex) of everything that a page depends on."""
    request = answer.request
    of_answer = [answer.sha256, answer.retrieved_at, sorted(answer.headers.items())]
    of_request = [request.key, request.release, request.stage, request.context]
    parts = [source, config.name, of_answer, of_request, _of_table(config)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _save(page: Page, file: BinaryIO) -> None:
    counts = json.dumps({"sha256": page.sha256, "tallies": dataclasses.asdict(page.tallies)})
    # Two streams, one behind the other.
    for table in (page.good.replace_schema_metadata({"page": counts}), page.rejected):
        with pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)


def _load(path: Path) -> Page:
    with pa.memory_map(str(path)) as file:
        good = pa.ipc.open_stream(file).read_all()
        rejected = pa.ipc.open_stream(file).read_all()
    counts = json.loads(good.schema.metadata[b"page"])
    tallies = Tallies.from_dict(counts["tallies"])
    return Page(good.replace_schema_metadata(None), rejected, tallies, counts["sha256"])


def _of_table(config: TableConfig) -> str:
    """SHA-256 (hex) of everything but the answer that a page depends on; made once a table, which has many answers."""
    known = _digests.get(id(config))
    if known is None or known[0] is not config:
        known = _digests[id(config)] = (config, _digest_of(config))
    return known[1]


def _digest_of(config: TableConfig) -> str:
    columns = [(each.name, str(each.dtype), each.unit, each.minimum, each.maximum) for each in config.columns]
    identities = [(each.name, _code_of(each.holds)) for each in config.identities]
    parsers = [each for stage in config.stages.values() for each in (stage.rows, stage.follow, stage.total)]
    code = [_code_of(parser) for parser in parsers if parser is not None]
    parts = [_code_of_package(), columns, str(page_schema(config)), config.key, identities, code]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _code_of(function: Callable[..., Any]) -> str:
    """SHA-256 of the module that a function is from; archives need not lie in this package."""
    while isinstance(function, functools.partial):
        function = function.func
    return _sha256_of_module(getattr(function, "__module__", None) or type(function).__module__)


@functools.cache
def _sha256_of_module(name: str) -> str:
    file = getattr(sys.modules.get(name), "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else name


@functools.cache
def _code_of_package() -> str:
    """SHA-256 of the sources of this package and of the versions of the libraries."""
    digest = hashlib.sha256()
    for path in sorted(Path(data_scripts.__path__[0]).rglob("*.py")):
        digest.update(path.read_bytes())
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            digest.update(f"{name}={importlib.metadata.version(name)};".encode())
    return digest.hexdigest()
