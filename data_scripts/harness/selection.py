"""What of an archive a build is asked for: its tables, and what is wanted of each."""

import datetime
from collections.abc import Mapping, Sequence

from data_scripts.harness.archive import Archive, Selection, TableConfig
from data_scripts.harness.errors import BuildError


__all__ = ["chosen_tables", "select_rows"]


def chosen_tables(archive: Archive, names: Sequence[str]) -> list[TableConfig]:
    """Return the named tables in the order of the archive, or those built by default.

    Raises:
        BuildError: If there is none of a name.
    """
    named = {archive.table(name).name for name in names}
    return [table for table in archive.tables if (table.name in named if named else table.default)]


def select_rows(
    archive: Archive,
    tables: Sequence[TableConfig],
    *,
    limit: int | None,
    since: datetime.date | None,
    release: str | None,
    options: Mapping[str, str],
) -> dict[str, Selection]:
    """Make the selection of each table.

    Args:
        archive: The archive.
        tables: The tables that are built.
        limit: Most rows of each, or None.
        since: Day of the oldest change that is wanted, or None.
        release: Release, or None for the archive's default.
        options: Chosen values of the tables' options.

    Returns:
        Selections by the table's name.

    Raises:
        BuildError: If the archive or one of the tables has no use for a choice.
    """
    if limit is not None and limit < 1:
        raise BuildError(f"limit must be at least 1; got {limit}. Leave it out for all rows.")
    if release is not None and not archive.default_release:
        raise BuildError(f"release must be left out for {archive.name}, which has no releases; got {release!r}.")
    declared = sorted({name for table in tables for name in table.options})
    unknown = sorted(set(options) - set(declared))
    if unknown:
        raise BuildError(
            f"--set must name an option of {', '.join(table.name for table in tables)}: "
            f"{', '.join(declared) or 'they have none'}; got {', '.join(unknown)}."
        )
    selections = {}
    for table in tables:
        values = {name: options.get(name, option.default) for name, option in table.options.items()}
        selection = Selection(limit, since, archive.default_release if release is None else release, values)
        everything = Selection(limit, None, selection.release, values)
        if since is not None and list(table.first(selection)) == list(table.first(everything)):
            raise BuildError(
                f"since must be left out for {table.name} of {archive.name}: the archive is asked the same with it; "
                f"got {since}."
            )
        selections[table.name] = selection
    return selections
