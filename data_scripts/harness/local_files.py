"""Files that a person downloaded: recognised by content, and kept in the snapshot like an archive's answers."""

from collections.abc import Sequence
from pathlib import Path

from data_scripts.harness.archive import Archive, BodyFormat, Request, TableConfig
from data_scripts.harness.body_formats import check_body
from data_scripts.harness.crawl import Crawl, Node
from data_scripts.harness.errors import BadBodyError, BuildError
from data_scripts.harness.snapshot import Snapshot, sha256_of


__all__ = ["import_files"]

HEAD_BYTES = 65536


def import_files(
    archive: Archive, tables: Sequence[TableConfig], files: Sequence[Path], snapshot: Snapshot, *, release: str = ""
) -> dict[str, Crawl]:
    """Keep files, each as the answer of the first table that recognises it.

    Args:
        archive: The archive that they are from.
        tables: Tables that are asked, in order.
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
    nodes: dict[str, dict[str, Node]] = {}
    for path in files:
        table, stage = _recognised(archive, tables, path)
        sha256 = sha256_of(path)
        # Parsers may need the name: some archives state the year of a log nowhere else.
        request = Request(f"file:{sha256}", stage, release=release, context=(("file_name", path.name),))
        # A file that is kept was whole when it was taken in.
        if snapshot.find(request, withdrawn_too=True) is None:
            _check(path, table.stages[stage].body_format)
        # A file given twice has its rows once.
        of_table = nodes.setdefault(table.name, {})
        if sha256 not in of_table:
            of_table[sha256] = Node(request, answer=snapshot.import_file(request, path))
    return {name: Crawl(list(of_table.values()), [], whole=True) for name, of_table in nodes.items()}


def _check(path: Path, body_format: BodyFormat) -> None:
    try:
        check_body(path, body_format)
    except BadBodyError as error:
        raise BuildError(f"{path} must be a whole {body_format} file; {error}") from error


def _recognised(archive: Archive, tables: Sequence[TableConfig], path: Path) -> tuple[TableConfig, str]:
    if not path.is_file():
        raise BuildError(f"--from must name files; got {path}, which is none.")
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    for table in tables:
        stage = table.recognise(path.name, head)
        if stage is not None and table.stages[stage].rows is not None:
            return table, stage
    names = ", ".join(table.name for table in tables)
    raise BuildError(
        f"--from must name files of {archive.name} as the archive sends them, for {names}; got {path}, which none of "
        "these recognises. Leave it out, or see whether it is another archive's."
    )
