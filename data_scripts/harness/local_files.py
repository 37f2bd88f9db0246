"""Files that a person downloaded: recognised by content, and kept in the snapshot like an archive's answers."""

from collections.abc import Sequence
from pathlib import Path

from data_scripts.harness.archive import Archive, BodyFormat, Request, TableConfig
from data_scripts.harness.body_formats import check_body
from data_scripts.harness.crawl import Crawl, Node
from data_scripts.harness.errors import BadBodyError, BuildError
from data_scripts.harness.selection import chosen_tables
from data_scripts.harness.snapshot import Snapshot, sha256_of


__all__ = ["import_files"]

HEAD_BYTES = 65536


def import_files(
    archive: Archive, names: Sequence[str], files: Sequence[Path], snapshot: Snapshot, *, release: str = ""
) -> dict[str, Crawl]:
    """Keep files, each as an answer of every wanted table that recognises it.

    Without names, the tables that are built by default are wanted; a file that none of these recognises goes to the
    first other one that does.

    Args:
        archive: The archive that they are from.
        names: Names of the tables that are wanted, if only some are.
        files: The files, in the order of their rows.
        snapshot: Where they are kept.
        release: Release of the archive that they are of, if that is known.

    Returns:
        By table, what was found for it; only tables that a file is for.

    Raises:
        BuildError: If a file is absent, damaged, or none that a table knows.
    """
    if release and not archive.default_release:
        raise BuildError(f"release must be left out for {archive.name}, which has no releases; got {release!r}.")
    wanted = chosen_tables(archive, names)
    others = [] if names else [table for table in archive.tables if table not in wanted]
    nodes: dict[str, dict[str, Node]] = {}
    for path in files:
        recognised = _recognised(archive, wanted, others, path)
        sha256 = sha256_of(path)
        for table, stage in recognised:
            # Parsers may need the name: some archives state the year of a log nowhere else.
            request = Request(f"file:{sha256}", stage, release=release, context=(("file_name", path.name),))
            answer = snapshot.find(request, withdrawn_too=True)
            if answer is None:
                # A file that is kept was whole when it was taken in.
                _check(path, table.stages[stage].body_format)
                answer = snapshot.import_file(request, path)
            # A file given twice has its rows once.
            nodes.setdefault(table.name, {}).setdefault(sha256, Node(request, answer=answer))
    # In the order of the archive, whatever the files' order.
    return {
        table.name: Crawl(list(nodes[table.name].values()), [], whole=True)
        for table in archive.tables
        if table.name in nodes
    }


def _check(path: Path, body_format: BodyFormat) -> None:
    try:
        check_body(path, body_format)
    except BadBodyError as error:
        raise BuildError(f"{path} must be a whole {body_format} file; {error}") from error


def _recognised(
    archive: Archive, wanted: Sequence[TableConfig], others: Sequence[TableConfig], path: Path
) -> list[tuple[TableConfig, str]]:
    """Return the tables that a file is for, each with the stage that reads it."""
    if not path.is_file():
        raise BuildError(f"--from must name files; got {path}, which is none.")
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)

    def among(tables: Sequence[TableConfig]) -> list[tuple[TableConfig, str]]:
        stages = [(table, table.recognise(path.name, head)) for table in tables]
        return [
            (table, stage) for table, stage in stages if stage is not None and table.stages[stage].rows is not None
        ]

    found = among(wanted) or among(others)[:1]
    if not found:
        names = ", ".join(table.name for table in [*wanted, *others])
        raise BuildError(
            f"--from must name files of {archive.name} as the archive sends them, for {names}; got {path}, which none "
            "of these recognises. Leave it out, or see whether it is another archive's."
        )
    return found
