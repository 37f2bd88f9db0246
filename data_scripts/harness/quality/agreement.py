"""Whether two archives state the same values for the same objects, within the errors that they state."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset

from data_scripts.splits import normalise_object_name


__all__ = ["Agreement", "Quantity", "ValueAgreement", "compare", "compare_planets"]


@dataclass(frozen=True)
class Quantity:
    """A value with its errors in one table.

    Attributes:
        value: Column.
        upper: Column of the upper error, of either sign.
        lower: Column of the lower error, of either sign.
        limit: Column that is not 0 where the value is only a limit, or None.
    """

    value: str
    upper: str
    lower: str
    limit: str | None = None

    @property
    def columns(self) -> list[str]:
        """Columns that it needs."""
        return [name for name in (self.value, self.upper, self.lower, self.limit) if name]


@dataclass(frozen=True)
class ValueAgreement:
    """Outcome for one pair of columns.

    Attributes:
        left: Column of the one table.
        right: Column of the other.
        judged: Objects for which both state a value and at least one its error.
        agree: Of those, objects whose values differ by no more than the bound.
        examples: The objects that differ most, with both values and the difference in standard errors.
    """

    left: str
    right: str
    judged: int
    agree: int
    examples: tuple[tuple[str, float, float, float], ...] = ()


@dataclass(frozen=True)
class Agreement:
    """Outcome for two tables.

    Attributes:
        left: Name of the one table.
        right: Name of the other.
        matched: Objects that are in both under one normalised name.
        only_left: Objects of the first alone.
        only_right: Objects of the second alone.
        sigmas: Bound, in combined standard errors.
        values: Outcome by pair of columns.
    """

    left: str
    right: str
    matched: int
    only_left: int
    only_right: int
    sigmas: float
    values: tuple[ValueAgreement, ...]

    @property
    def judged(self) -> int:
        """Values judged."""
        return sum(value.judged for value in self.values)

    @property
    def agree(self) -> int:
        """Values that agree."""
        return sum(value.agree for value in self.values)


# The same quantity in pscomppars of the NASA Exoplanet Archive and in the file of exoplanets.org, in the same unit.
PLANET_QUANTITIES = tuple(
    (Quantity(nasa, f"{nasa}err1", f"{nasa}err2", f"{nasa}lim"), Quantity(other, f"{other}UPPER", f"{other}LOWER"))
    for nasa, other in [
        ("pl_orbper", "PER"),
        ("pl_orbsmax", "A"),
        ("pl_orbeccen", "ECC"),
        ("pl_radj", "R"),
        ("pl_bmassj", "MASS"),
        ("st_teff", "TEFF"),
    ]
)


def compare_planets(pscomppars: Path, exoplanets_org: Path) -> Agreement:
    """Compare the folders of two published tables: `pscomppars` of the one archive, `planets` of the other.

    Quantities of which a table lacks a column are left out.
    """
    tables = [pyarrow.dataset.dataset(sorted(folder.glob("*.parquet"))) for folder in (pscomppars, exoplanets_org)]
    names = [set(table.schema.names) for table in tables]
    both = [
        (left, right)
        for left, right in PLANET_QUANTITIES
        if set(left.columns) <= names[0] and set(right.columns) <= names[1]
    ]
    keys = ("pl_name", "NAME")
    left, right = (
        table.to_table(columns=[key, *{name for pair in both for name in pair[side].columns}])
        for side, (table, key) in enumerate(zip(tables, keys, strict=True))
    )
    return compare(left, right, keys, both, names=("nasa_exoplanet_archive", "exoplanets_org"))


def compare(
    left: pa.Table,
    right: pa.Table,
    keys: tuple[str, str],
    values: Sequence[tuple[Quantity, Quantity]],
    *,
    names: tuple[str, str] = ("left", "right"),
    sigmas: float = 3.0,
) -> Agreement:
    """Match the rows of two tables by name and compare their values.

    Two values agree if they differ by at most `sigmas` times the root of the sum of their squared errors, each on the
    side of the other value. An error that is absent or 0 adds nothing; without any the pair is not judged. A name that
    stands in several rows of a table is matched to none.

    Args:
        left: One table; numbers of both in the same unit.
        right: The other.
        keys: Name columns of the two.
        values: Pairs of quantities.
        names: Names of the two for the report.
        sigmas: Bound.
    """
    places = [_places(table[key]) for table, key in zip((left, right), keys, strict=True)]
    shared = sorted(places[0].keys() & places[1].keys())
    rows = [pa.array([place[name] for name in shared], pa.int64()) for place in places]
    left, right = left.take(rows[0]), right.take(rows[1])
    return Agreement(
        *names,
        matched=len(shared),
        only_left=len(places[0]) - len(shared),
        only_right=len(places[1]) - len(shared),
        sigmas=sigmas,
        values=tuple(_compare_values(left, right, pair, shared, sigmas) for pair in values),
    )


def _places(names: pa.ChunkedArray) -> dict[str, int]:
    places: dict[str, int] = {}
    repeated = set()
    for row, name in enumerate(names.to_pylist()):
        if name is None or not name.strip():
            continue
        name = normalise_object_name(name)
        if name in places:
            repeated.add(name)
        places[name] = row
    return {name: row for name, row in places.items() if name not in repeated}


def _compare_values(
    left: pa.Table, right: pa.Table, pair: tuple[Quantity, Quantity], objects: Sequence[str], sigmas: float
) -> ValueAgreement:
    (one, one_up, one_down), (other, other_up, other_down) = (
        _numbers(table, quantity) for table, quantity in zip((left, right), pair, strict=True)
    )
    above = one > other
    error = np.hypot(np.where(above, one_down, one_up), np.where(above, other_up, other_down))
    judged = np.isfinite(one) & np.isfinite(other) & (error > 0)
    away = np.abs(one - other)[judged] / error[judged]
    worst = np.argsort(-away, kind="stable")[:5]
    places = np.flatnonzero(judged)
    return ValueAgreement(
        pair[0].value,
        pair[1].value,
        judged=int(judged.sum()),
        agree=int((away <= sigmas).sum()),
        examples=tuple(
            (objects[places[each]], float(one[places[each]]), float(other[places[each]]), float(away[each]))
            for each in worst
            if away[each] > sigmas
        ),
    )


def _numbers(table: pa.Table, quantity: Quantity) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    value, upper, lower = (
        pc.cast(table[name], pa.float64()).to_numpy() for name in (quantity.value, quantity.upper, quantity.lower)
    )
    if quantity.limit is not None:
        value = np.where(np.nan_to_num(pc.cast(table[quantity.limit], pa.float64()).to_numpy()) == 0, value, np.nan)
    return value, np.abs(np.nan_to_num(upper)), np.abs(np.nan_to_num(lower))
