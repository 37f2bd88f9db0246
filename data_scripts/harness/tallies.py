"""Counts of one table that the quality scores are made from; counts of pages add up."""

from dataclasses import dataclass, field, fields
from typing import Any


__all__ = ["ColumnTally", "IdentityTally", "Tallies"]


@dataclass(frozen=True)
class ColumnTally:
    """Cells of a column over all rows read, rejected ones included.

    Attributes:
        cells: All.
        stated: Not null.
        unconverted: Stated, but not of the column's type.
        judged: Stated and compared with a minimum or a maximum, or tested for infinity.
        outside: Of those, outside the bounds or infinite.
    """

    cells: int = 0
    stated: int = 0
    unconverted: int = 0
    judged: int = 0
    outside: int = 0

    def __add__(self, other: "ColumnTally") -> "ColumnTally":
        return _added(self, other)


@dataclass(frozen=True)
class IdentityTally:
    """Rows in which a relation could be judged, and in which it held."""

    judged: int = 0
    held: int = 0

    def __add__(self, other: "IdentityTally") -> "IdentityTally":
        return _added(self, other)


@dataclass(frozen=True)
class Tallies:
    """Counts of a table.

    Attributes:
        rows: Rows read.
        rejected: Of those, rows that the schema refused.
        columns: By published column.
        identities: By the relation's name.
        faults: Rows by fault, such as "koi_period is not double"; a row may have several.
    """

    rows: int = 0
    rejected: int = 0
    columns: dict[str, ColumnTally] = field(default_factory=dict)
    identities: dict[str, IdentityTally] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)

    def __add__(self, other: "Tallies") -> "Tallies":
        return Tallies(
            self.rows + other.rows,
            self.rejected + other.rejected,
            _merged(self.columns, other.columns, ColumnTally()),
            _merged(self.identities, other.identities, IdentityTally()),
            _merged(self.faults, other.faults, 0),
        )

    @classmethod
    def from_dict(cls, counts: dict[str, Any]) -> "Tallies":
        """Read what `dataclasses.asdict` wrote."""
        return cls(
            counts["rows"],
            counts["rejected"],
            {name: ColumnTally(**tally) for name, tally in counts["columns"].items()},
            {name: IdentityTally(**tally) for name, tally in counts["identities"].items()},
            counts["faults"],
        )


def _added(left: Any, right: Any) -> Any:
    return type(left)(**{each.name: getattr(left, each.name) + getattr(right, each.name) for each in fields(left)})


def _merged(left: dict[str, Any], right: dict[str, Any], nothing: Any) -> dict[str, Any]:
    return {name: left.get(name, nothing) + right.get(name, nothing) for name in {**left, **right}}
