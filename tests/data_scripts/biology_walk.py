"""Walk a replay with the response headers that pages of UniProt hang on."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from replay import Asked, Replay, Reply
from walk_replay import answer_of, select

from data_scripts.harness.archive import Answer, Archive, Request, Selection
from data_scripts.harness.body_formats import check_body


__all__ = ["file_answer", "walk_with_headers"]


def file_answer(path: Path, stage: str) -> Answer:
    """A downloaded file as the harness gives it to a stage."""
    return Answer(Request("file:0", stage), path, "0" * 64, 200, {}, "2020-01-01T00:00:00Z")


def walk_with_headers(
    archive: Archive,
    replay: Replay,
    folder: Path,
    alter: Callable[[Reply], Reply] = lambda reply: reply,
    selection: Selection | None = None,
) -> list[Answer]:
    """All answers of a table, depth first, each checked by its format."""
    table = archive.table(replay.table)
    waiting = list(table.first(selection or select(archive, replay.table, **replay.options)))[::-1]
    answers = []
    while waiting:
        request = waiting.pop()
        parts = urlsplit(request.url)
        assert parts.hostname in archive.hosts
        query = {name: [value] for name, value in request.params}
        reply = alter(replay.answer(Asked(request.method, unquote(parts.path), query, request.body, {})))
        assert reply.status == 200, request.url
        headers = {name.lower(): value for name, value in reply.headers.items()}
        answer = dataclasses.replace(answer_of(request, reply.body, folder), headers=headers)
        stage = table.stages[request.stage]
        check_body(answer.path, stage.body_format)
        if stage.rows is not None:
            list(stage.rows(answer))
        answers.append(answer)
        if stage.follow is not None:
            waiting.extend(reversed(stage.follow(answer)))
    return answers
