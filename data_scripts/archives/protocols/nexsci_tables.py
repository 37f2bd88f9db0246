"""How TAP and nstedAPI are asked for the tables of the NASA Exoplanet Archive, and its Kepler objects told apart."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from data_scripts.archives.protocols.exports import Exports
from data_scripts.archives.protocols.tap_windows import TapWindows
from data_scripts.harness.archive import Column, Request, Selection
from data_scripts.harness.errors import BadBodyError, BuildError


__all__ = ["KoiExports", "NstedTable", "TapTable"]

NSTED = "https://exoplanetarchive.ipac.caltech.edu/cgi-bin/nstedAPI/nph-nstedAPI"


@dataclass(frozen=True)
class KoiExports(Exports):
    """Files of the Kepler objects: one name the cumulative table's delivery alone, others mix the deliveries."""

    def table_with(self, names: list[str], rows: pa.Table | None) -> str | None:
        """Name of the table that has these columns; `cumulative` if the rows are all of that delivery."""
        found = super().table_with(names, rows)
        return "cumulative" if found == "koi" and rows is not None and not _other_deliveries(rows) else found

    def fit(self, table: pa.Table) -> pa.Table:
        """Add the optional columns that are absent.

        Raises:
            BadBodyError: If a column that every export has is absent, or the cumulative table has other rows too.
        """
        if self.table == "cumulative" and "koi_delivname" in table.column_names and _other_deliveries(table):
            others = ", ".join(_other_deliveries(table))
            raise BadBodyError(f"the export has rows of {others} beside the cumulative table")
        return super().fit(table)


@dataclass(frozen=True)
class TapTable:
    """Asks TAP for a table; `dated` tables can be asked for what changed since a day."""

    windows: TapWindows
    dated: bool

    def first(self, selection: Selection) -> Iterator[Request]:
        """First requests."""
        if selection.since is None:
            return self.windows.first(selection)
        if not self.dated:
            raise BuildError(
                f"since must be absent for {self.windows.table}; got {selection.since}. Its rows carry no date of "
                "change: build the whole table."
            )
        return self.windows.first(selection, f"rowupdate >= '{selection.since}'")


@dataclass(frozen=True)
class NstedTable:
    """Asks nstedAPI for a table, in ranges of the Kepler number where it is large."""

    table: str
    columns: tuple[Column, ...]
    ranges: tuple[tuple[int, int], ...] = ()

    def first(self, selection: Selection) -> Iterator[Request]:
        """First requests."""
        if selection.since is not None:
            raise BuildError(f"since must be absent for {self.table}; got {selection.since}. The table is frozen.")
        asked = (
            ("table", self.table),
            ("select", ",".join(column.name for column in self.columns)),
            ("format", "ipac"),
        )
        for low, high in self.ranges:
            where = (("where", f"kepid>={low} and kepid<{high}"),)
            yield Request(NSTED, "ipac export", (*asked, *where), release=selection.release)
        if not self.ranges:
            yield Request(NSTED, "ipac export", asked, release=selection.release)


def _other_deliveries(table: pa.Table) -> list[str]:
    return sorted(set(pc.unique(table.column("koi_delivname")).to_pylist()) - {"cumulative", None, ""})
