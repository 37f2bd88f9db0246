"""Ask a replay in place of an archive, without a network: requests, answers and rows as the harness sees them."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from replay import Asked, Replay, Reply

from data_scripts.harness.archive import Answer, Archive, Request, Selection
from data_scripts.harness.body_formats import check_body
from data_scripts.harness.pages import read_page


__all__ = ["answer_of", "rows_of", "select", "walk"]


def select(archive: Archive, table: str, **options: str) -> Selection:
    """A selection of a table with the defaults of its other options."""
    defaults = {name: option.default for name, option in archive.table(table).options.items()}
    return Selection(release=archive.default_release, options={**defaults, **options})


def answer_of(request: Request, body: bytes, folder: Path) -> Answer:
    """An answer whose body lies in `folder`."""
    sha256 = hashlib.sha256(body).hexdigest()
    path = folder / sha256
    path.write_bytes(body)
    return Answer(request, path, sha256, 200, {}, "2020-01-01T00:00:00Z")


def walk(
    archive: Archive, replay: Replay, folder: Path, alter: Callable[[Reply], Reply] = lambda reply: reply
) -> list[Answer]:
    """All answers of a table, depth first, each checked by its format."""
    table = archive.table(replay.table)
    waiting = list(table.first(select(archive, replay.table, **replay.options)))[::-1]
    answers = []
    while waiting:
        request = waiting.pop()
        query: dict[str, list[str]] = {}
        for name, value in request.params:
            query.setdefault(name, []).append(value)
        parts = urlsplit(request.url)
        assert parts.hostname in archive.hosts
        reply = alter(replay.answer(Asked(request.method, unquote(parts.path), query, request.body, {})))
        assert reply.status == 200, request.url
        answer = answer_of(request, reply.body, folder)
        stage = table.stages[request.stage]
        check_body(answer.path, stage.body_format)
        answers.append(answer)
        if stage.follow is not None:
            waiting.extend(reversed(stage.follow(answer)))
    return answers


def rows_of(archive: Archive, table: str, answers: list[Answer]) -> tuple[list[dict[str, Any]], list[str]]:
    """Published rows without provenance, and the reasons of rejected ones."""
    config = archive.table(table)
    rows, reasons = [], []
    for answer in answers:
        if config.stages[answer.request.stage].rows is not None:
            page = read_page(config, answer, archive.name)
            rows += page.good.select([column.name for column in config.columns]).to_pylist()
            reasons += page.rejected["reason"].to_pylist()
    return rows, reasons
