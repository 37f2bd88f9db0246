"""One identity of a star or species across archives, and the split that follows from it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet

from data_scripts.harness.errors import BuildError
from data_scripts.identifier_columns import names_objects
from data_scripts.identifiers import Identifier, parse_identifier
from data_scripts.splits import SplitName, split_of


__all__ = ["IDENTITY_SCHEMA", "UNNAMED", "Conflict", "IdentityTable", "split_rows"]

# The object of rows that name none, such as dark frames: one, so that at least they stay together.
UNNAMED = "unnamed"
# Catalogues that list a star once, as a rule: two of their entries in one object are worth a look.
_ONCE_PER_STAR = ("kic", "epic", "tic")
# An alias that stands beside more entries than this of one such catalogue is a placeholder and names nothing.
_MOST_ENTRIES_PER_ALIAS = 4
_HOST_RANKS = (0, 1)

IDENTITY_SCHEMA = pa.schema(
    [
        pa.field("object_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("value", pa.string(), nullable=False),
        pa.field("named_in", pa.list_(pa.string()), nullable=False),
        pa.field("conflict", pa.string()),
    ]
)


@dataclass(frozen=True)
class Conflict:
    """What archives say of one object, or of one alias, that cannot be true of one star.

    Attributes:
        object_id: The object, or the alias that was set aside.
        reason: The entries that exclude each other, and what was done.
    """

    object_id: str
    reason: str


class IdentityTable:
    """Aliases of stars and species, each with the object that it names.

    An object is a connected set of identifiers, joined where they stand in one row. Its label is the best of them:
    the host's name as the planet catalogues give it, then KIC, EPIC, TIC, Gaia DR3, HD, HIP, 2MASS, others; for
    organisms the species' taxon, another taxon, the species of GTDB, a name. Rows are split by the label.

    Where rows join two entries of a catalogue that lists a star once (KIC, EPIC, TIC), or two names of hosts, at least
    one of them is wrong or the star is a blend. They are kept as one object, so that no star of them can be on both
    sides of a split, and listed in `conflicts`. An alias beside more than four such entries is a placeholder: it is
    set aside, joins nothing, and is listed too.
    """

    def __init__(self, rows: pa.Table) -> None:
        """Take the rows of a table with `IDENTITY_SCHEMA`."""
        self._rows = rows
        kinds, values, objects = (rows[name].to_pylist() for name in ("kind", "value", "object_id"))
        self._objects = dict(zip(zip(kinds, values, strict=True), objects, strict=True))

    @classmethod
    def from_tables(cls, tables: Mapping[str, pa.Table]) -> "IdentityTable":
        """Join the identifiers of tables of archives.

        Args:
            tables: `source.table` to rows; columns that `names_objects` knows are read. Neither the order of tables
                nor that of rows matters.
        """
        named_in: dict[Identifier, set[str]] = defaultdict(set)
        best: dict[Identifier, Identifier] = {}
        alias_sets: set[frozenset[Identifier]] = set()
        for name, table in tables.items():
            columns = [column for column in table.column_names if names_objects(column)]
            for cells in _distinct_rows(table, columns):
                found = [(parse_identifier(cell, column), column) for cell, column in zip(cells, columns, strict=True)]
                aliases = [(alias, column) for alias, column in found if alias is not None]
                for alias, column in aliases:
                    named_in[alias].add(f"{name}.{column}")
                    if alias.order < best.setdefault(alias, alias).order:
                        best[alias] = alias
                alias_sets.add(frozenset(alias for alias, _ in aliases))
        placeholders = _placeholders(alias_sets)
        rows = []
        for members in _connected(best, alias_sets, placeholders):
            object_id = min((best[member] for member in members), key=lambda member: member.order).label
            conflict = _conflict([best[member] for member in members])
            for member in members:
                reason = placeholders.get(member, conflict)
                rows.append((object_id, member.kind, member.value, sorted(named_in[member]), reason))
        columns_of_rows = zip(*sorted(rows, key=lambda row: row[:3]), strict=True) if rows else [()] * 5
        arrays = [pa.array(column, field.type) for column, field in zip(columns_of_rows, IDENTITY_SCHEMA, strict=True)]
        return cls(pa.Table.from_arrays(arrays, schema=IDENTITY_SCHEMA))

    @property
    def rows(self) -> pa.Table:
        """All aliases, with `IDENTITY_SCHEMA`, sorted by object, kind and value."""
        return self._rows

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        """Every object or alias that the archives contradict each other about, sorted."""
        found = {
            (object_id, reason)
            for object_id, reason in zip(
                self._rows["object_id"].to_pylist(), self._rows["conflict"].to_pylist(), strict=True
            )
            if reason is not None
        }
        return tuple(Conflict(*conflict) for conflict in sorted(found))

    def knows(self, identifier: Identifier) -> bool:
        """Return whether the identifier is among the aliases."""
        return (identifier.kind, identifier.value) in self._objects

    def find(self, identifier: Identifier) -> str | None:
        """Return the label of the object that an identifier names, or None if the table does not know it.

        An unknown name is also tried as observers shorten and lengthen names: without the letter of a planet or of a
        binary's component, `WASP-107b` and `HD 80606 A`, and with the `A` of the brighter component.
        """
        spellings = [identifier, *_other_spellings(identifier)] if not self.knows(identifier) else [identifier]
        known = (self._objects.get((spelling.kind, spelling.value)) for spelling in spellings)
        return next((label for label in known if label is not None), None)

    def canonical(self, identifiers: Sequence[Identifier]) -> str:
        """Return the label of the object that a row names.

        The first identifier that the table knows decides, then the first that `find` knows in another spelling. If it
        knows none, the row's first identifier is its own label, a name in the one spelling that tables agree on.

        Args:
            identifiers: Of one row, the most authoritative first, at least one.
        """
        in_order = sorted(identifiers, key=lambda identifier: not self.knows(identifier))
        first = identifiers[0]
        unknown = first.value if first.kind == "name" else first.label
        return next(filter(None, map(self.find, in_order)), unknown)

    def save(self, path: str | Path) -> None:
        """Write the table as one Parquet file."""
        pyarrow.parquet.write_table(self._rows, path, compression="zstd")

    @classmethod
    def load(cls, path: str | Path) -> "IdentityTable":
        """Read a Parquet file that `save` wrote, or the folder of the data set `object_identity`.

        Raises:
            BuildError: If there is no such file, or it holds another table.
        """
        path = Path(path)
        files = sorted(path.glob("data/*.parquet")) if path.is_dir() else [path] if path.is_file() else []
        if not files:
            raise BuildError(
                f"identity must be the folder or the Parquet file of an object_identity data set; got {path}, which "
                "has none. Make it with python -m data_scripts build object_identity."
            )
        try:
            table = pyarrow.dataset.dataset(files, format="parquet").to_table()
        except (pa.ArrowInvalid, OSError) as error:
            raise BuildError(f"identity must be Parquet; got {path}: {error}. Build object_identity again.") from error
        missing = sorted(set(IDENTITY_SCHEMA.names) - set(table.column_names))
        if missing:
            raise BuildError(
                f"identity must have the columns {', '.join(IDENTITY_SCHEMA.names)}; got {path} without "
                f"{', '.join(missing)}. Pass the folder of object_identity."
            )
        rows = table.select(IDENTITY_SCHEMA.names).cast(IDENTITY_SCHEMA)
        return cls(rows.sort_by([(name, "ascending") for name in ("object_id", "kind", "value")]).combine_chunks())


def split_rows(
    table: pa.Table, objects: Sequence[str], identity: IdentityTable | None = None
) -> tuple[list[str], list[SplitName]]:
    """Name the object of each row and put it into a split.

    Without an identity a row's first identifier in the order of `objects` is its object: that column is the most
    authoritative one, so rows of one table that name one star agree, which the best label of each row would not
    give (a star has a planet's name in one row of the KOI table and none in the next).

    Args:
        table: Published rows.
        objects: Columns that name the object, the most authoritative first.
        identity: Aliases across archives.

    Returns:
        Labels, and `split_of(label)` of each; rows that name nothing are one object, `unnamed`.

    Raises:
        BuildError: If the table lacks a column of `objects`, or there are none.
    """
    missing = sorted(set(objects) - set(table.column_names))
    if missing or not objects:
        raise BuildError(
            f"objects must name at least one column, all of the table; got {list(objects)}, without "
            f"{missing} in {table.column_names}. Name columns of the table's schema."
        )
    labels: dict[tuple[object, ...], str] = {}
    object_ids = []
    for cells in zip(*(table[column].to_pylist() for column in objects), strict=True):
        label = labels.get(cells)
        if label is None:
            found = (parse_identifier(cell, column) for cell, column in zip(cells, objects, strict=True))
            named = (identifier for identifier in found if identifier is not None)
            if identity is None:
                label = next((identifier.label for identifier in named), UNNAMED)
            else:
                identifiers = list(named)
                label = identity.canonical(identifiers) if identifiers else UNNAMED
            labels[cells] = label
        object_ids.append(label)
    splits = {label: split_of(label) for label in set(object_ids)}
    return object_ids, [splits[label] for label in object_ids]


def _other_spellings(identifier: Identifier) -> Iterator[Identifier]:
    # Components of binaries are known by capitals.
    name = (identifier.value if identifier.kind == "name" else f"{identifier.kind} {identifier.value}").upper()
    names = [f"{name} A"] if name[-1].isdecimal() else []
    # A planet's letter and then its star's: `GJ 667 C c`.
    for _ in range(2):
        if name[-1:] in "ABCDEFGHI":
            name = name[:-1].rstrip()
            names.append(name)
    return filter(None, (parse_identifier(each, "") for each in names))


def _distinct_rows(table: pa.Table, columns: Sequence[str]) -> Iterable[tuple[str | int | float | None, ...]]:
    return dict.fromkeys(zip(*(table[column].to_pylist() for column in columns), strict=True))


def _placeholders(alias_sets: Iterable[frozenset[Identifier]]) -> dict[Identifier, str]:
    reasons: dict[Identifier, list[str]] = defaultdict(list)
    for kind in _ONCE_PER_STAR:
        neighbours: dict[Identifier, set[str]] = defaultdict(set)
        for aliases in alias_sets:
            entries = {alias.value for alias in aliases if alias.kind == kind}
            for alias in aliases if entries else ():
                neighbours[alias] |= entries
        for alias, values in neighbours.items():
            if len(values) > _MOST_ENTRIES_PER_ALIAS and alias.kind != kind:
                reasons[alias].append(f"stands beside {len(values)} entries of {kind.upper()}")
    return {alias: f"set aside: {', '.join(texts)}" for alias, texts in reasons.items()}


def _connected(
    identifiers: Iterable[Identifier],
    alias_sets: Iterable[frozenset[Identifier]],
    placeholders: Mapping[Identifier, str],
) -> Iterable[list[Identifier]]:
    parents = {identifier: identifier for identifier in identifiers}

    def root(identifier: Identifier) -> Identifier:
        while parents[identifier] != identifier:
            parents[identifier] = parents[parents[identifier]]
            identifier = parents[identifier]
        return identifier

    for aliases in alias_sets:
        joined = [alias for alias in aliases if alias not in placeholders]
        for alias in joined[1:]:
            parents[root(alias)] = root(joined[0])
    components: dict[Identifier, list[Identifier]] = defaultdict(list)
    for identifier in parents:
        components[root(identifier)].append(identifier)
    return components.values()


def _conflict(members: Sequence[Identifier]) -> str | None:
    found = []
    for rank in _HOST_RANKS:
        hosts = sorted({member.label for member in members if member.rank == rank})
        if len(hosts) > 1:
            found.append(f"hosts {', '.join(hosts)}")
    for kind in _ONCE_PER_STAR:
        values = sorted(
            {member.value for member in members if member.kind == kind}, key=lambda value: (len(value), value)
        )
        if len(values) > 1:
            found.append(f"{kind.upper()} {', '.join(values)}")
    return f"kept as one object: {'; '.join(found)}" if found else None
