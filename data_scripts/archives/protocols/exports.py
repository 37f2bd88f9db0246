"""Files of a table that a person downloaded: which table one is, and how it is made to have the schema's columns."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from data_scripts.archives.protocols.delimited import comment_lines, csv_head, csv_rows, with_units
from data_scripts.archives.protocols.ipac import ipac_head, ipac_rows
from data_scripts.archives.protocols.nexsci_units import unit_in_brackets
from data_scripts.archives.protocols.tap import votable_rows
from data_scripts.harness.archive import Answer, Column, Stage
from data_scripts.harness.errors import BadBodyError


__all__ = ["Exports"]


@dataclass(frozen=True)
class Exports:
    """Reads downloaded files of a table; columns that not every export has are null where they are absent.

    Attributes:
        table: Name of the table.
        columns: Its schema.
        marks: Columns by which the archive's tables are told from one another, the narrowest table first.
        core: Columns that every export has had, beside the required ones: without them a file is refused, not filled.
        unit: Turns a unit as the archive writes it into one that `astropy.units` reads.
    """

    table: str
    columns: tuple[Column, ...]
    marks: Mapping[str, tuple[str, ...]]
    core: tuple[str, ...]
    unit: Callable[[str], str | None] = lambda text: text

    def stages(self) -> dict[str, Stage]:
        """Stages by name, which begins with the format."""
        return {
            "csv export": Stage("csv", rows=self.csv_rows),
            "ipac export": Stage("ipac", rows=self.ipac_rows),
            "votable export": Stage("votable", rows=self.votable_rows),
        }

    def recognise(self, name: str, head: bytes) -> str | None:
        """Stage that reads a file, told by its format and its columns."""
        if b"<VOTABLE" in head[:2000]:
            names = re.findall(r"<FIELD[^>]*?\sname=[\"']([^\"']+)", head.decode("utf-8", errors="replace"))
            return "votable export" if self.table_with(names, None) == self.table else None
        for stage, table in (("ipac export", ipac_head(head)), ("csv export", csv_head(head, comment="#"))):
            if table is not None and table.num_columns > 1:
                return stage if self.table_with(table.column_names, table) == self.table else None
        return None

    def csv_rows(self, answer: Answer) -> Iterator[pa.Table]:
        """Read an export of the interactive table, whose comment lines state the units, or TAP's CSV."""
        with answer.path.open("rb") as file:
            lines = comment_lines(file.read(65_536), "#")
        labels = (re.match(r"COLUMN\s+(\w+):\s*(.*)", line) for line in lines)
        units = {found[1]: unit_in_brackets(found[2]) for found in labels if found}
        stated = {name: unit for name, unit in units.items() if unit}
        for table in csv_rows(answer, comment="#"):
            yield self.fit(with_units(table, stated))

    def ipac_rows(self, answer: Answer) -> Iterator[pa.Table]:
        """Read an answer of nstedAPI."""
        return (self.fit(table) for table in ipac_rows(answer))

    def votable_rows(self, answer: Answer) -> Iterator[pa.Table]:
        """Read an answer of TAP that has columns of a person's choice."""
        return (self.fit(table) for table in votable_rows(answer, self.unit))

    def queried_rows(self, answer: Answer) -> Iterator[pa.Table]:
        """Read an answer of TAP that must have all columns of the schema."""
        return (self.bare_flags(table) for table in votable_rows(answer, self.unit))

    def fit(self, table: pa.Table) -> pa.Table:
        """Add the optional columns that are absent.

        Raises:
            BadBodyError: If a column that every export has is absent.
        """
        required = {column.name for column in self.columns if column.required}
        absent = [name for name in sorted({*required, *self.core}) if name not in table.column_names]
        if absent:
            raise BadBodyError(
                f"the export has no column {', '.join(absent)}, which every export of {self.table} has: was it "
                "renamed? Download the table again with the archive's own column names."
            )
        for column in self.columns:
            if column.name not in table.column_names:
                table = table.append_column(column.name, pa.nulls(table.num_rows, pa.string()))
        return self.bare_flags(table)

    def table_with(self, names: list[str], rows: pa.Table | None) -> str | None:
        """Name of the archive's table that has these columns and, as far as they are known, first rows."""
        return next((table for table, marks in self.marks.items() if set(marks) <= set(names)), None)

    def bare_flags(self, table: pa.Table) -> pa.Table:
        """Take the unit off columns that have none in the schema: labels of flags repeat that of their quantity."""
        units = {column.name: column.unit for column in self.columns}
        fields = [field if units.get(field.name) else field.remove_metadata() for field in table.schema]
        return table.cast(pa.schema(fields))
