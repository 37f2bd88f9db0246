"""Read the identifiers of stars and organisms out of the cells of archive tables."""

import math
import re
from dataclasses import dataclass, field
from functools import lru_cache

from data_scripts.identifier_columns import (
    BARE_NUMBER_KINDS,
    GTDB_COLUMNS,
    HOST_COLUMNS,
    PLANET_COLUMNS,
    SKY_COLUMN,
    SPECIES_COLUMNS,
    STAR_COLUMNS,
    TAXON_COLUMNS,
    column_key,
)
from data_scripts.object_names import normalise_species, normalise_star_name, plain_text, star_of_planet
from data_scripts.splits import normalise_object_name


__all__ = ["Identifier", "parse_identifier"]

# Kind to how well it names an object, 0 best; the names of hosts and planet catalogues stand between.
_CATALOGUE_NAME_RANK = 2
_RANKS = {"kic": 3, "epic": 4, "tic": 5, "gaia dr3": 6, "hd": 7, "hip": 8, "2mass": 9, "gtdb species": 2, "species": 3}
_OTHER_RANK = 10
_COMPONENT = r"(?:\s*([A-D]{1,2}|[A-D][a-d]))?"
_CANDIDATE = r"(?:\.\d{1,2})?"
# Kind, pattern of the whole text; groups joined by a space are the value, so components of binaries stay apart.
_CATALOGUES = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("kic", rf"(?i:KIC|KepID)[ -]*0*(\d+){_CANDIDATE}"),
        ("kic", r"(?i:kplr)0*(\d{1,9})(?:[- ].*)?"),
        ("epic", rf"(?i:EPIC)[ -]*0*(\d+){_CANDIDATE}"),
        ("epic", r"(?i:ktwo)0*(\d{1,9})(?:[- ].*)?"),
        ("tic", rf"(?i:TIC)[ -]*0*(\d+){_CANDIDATE}{_COMPONENT}"),
        ("koi", rf"(?i:KOI)[ -]*0*(\d+){_CANDIDATE}{_COMPONENT}"),
        ("koi", r"K(?=\d{5}(?:\.\d\d)?$)0*(\d+)(?:\.\d\d)?"),
        ("toi", rf"(?i:TOI)[ -]*0*(\d+){_CANDIDATE}{_COMPONENT}"),
        ("hd", rf"(?i:HDE?)[ -]*0*(\d+){_COMPONENT}"),
        ("hip", rf"(?i:HIP)[ -]*0*(\d+){_COMPONENT}"),
        ("gj", rf"(?i:GJ|Gl|Gliese)[ -]*0*(\d+(?:\.\d+)?){_COMPONENT}"),
        ("2mass", rf"(?i:2MAS[SX]\s*)?J?(\d{{8}}[+-]\d{{7}}){_COMPONENT}"),
        ("tyc", rf"(?i:TYC)\s*(\d{{1,4}}-\d{{1,5}}-\d){_COMPONENT}"),
        ("taxon", r"(?i:taxon|txid|NCBITaxon)[: ]*0*(\d+)"),
    )
)
# Most names are of no catalogue: one pattern tells them at the price of one.
_ANY_CATALOGUE = re.compile("|".join(f"(?:{pattern.pattern})" for _, pattern in _CATALOGUES))
_GAIA = re.compile(r"(?i:Gaia)\s*(?i:(E?DR[123]))\s*0*(\d+)")
_BARE_NUMBER = re.compile(r"0*(\d+)(?:\.\d+)?")
_NO_VALUE = frozenset({"", "nan", "none", "null", "n/a", "na", "-", "--", "0", "<na>"})
# A double holds whole numbers exactly only up to here; a longer identifier in a float column is not the one meant.
_LARGEST_EXACT_FLOAT = 2**53


@dataclass(frozen=True)
class Identifier:
    """One name of an object in one catalogue.

    Attributes:
        kind: Catalogue, such as `kic`, `tic`, `gaia dr3`, `hd`, `name`, `taxon`, `species`, `gtdb species`.
        value: The object in it, spelled in one way.
        rank: How well it serves as the object's label, 0 best; not part of the identity.
        label: Text that the object is called by if this identifier labels it; not part of the identity.
    """

    kind: str
    value: str
    rank: int = field(compare=False)
    label: str = field(compare=False)

    @property
    def order(self) -> tuple[int, float, str]:
        """Key that sorts better labels first: numbered catalogues by number, names by text."""
        return self.rank, int(self.value) if self.value.isdecimal() else math.inf, self.label


def parse_identifier(cell: str | int | float | None, column: str) -> Identifier | None:
    """Read the object that a cell names.

    Args:
        cell: The archive's value.
        column: The column's name in the archive, which says what a bare number means, and whether the cell names a
            planet, whose letter or candidate number is then left out: the object is the star.

    Returns:
        The identifier, or None if the cell is empty or names nothing.
    """
    if cell is None or isinstance(cell, bool):
        return None
    if isinstance(cell, float):
        if not math.isfinite(cell) or abs(cell) > _LARGEST_EXACT_FLOAT:
            return None
        cell = int(cell) if cell.is_integer() else repr(cell)
    return _parse(str(cell), column_key(column))


@lru_cache(maxsize=100_000)
def _parse(cell: str, column: str) -> Identifier | None:
    text = plain_text(cell)
    if text.casefold() in _NO_VALUE:
        return None
    if column == column_key(SKY_COLUMN):
        return _identifier("sky", text)
    if column in GTDB_COLUMNS or re.match(r"(?:d__.*;)?s__", cell.strip()):
        # The underscore of `coli_D` tells two of GTDB's species apart.
        species = " ".join(cell.rpartition("s__")[2].casefold().split())
        return _identifier("gtdb species", species, f"s__{species}") if species else None
    if column in SPECIES_COLUMNS and not text.isdecimal():
        name = normalise_species(text)
        return _identifier("species", name, name) if name else None
    number = _BARE_NUMBER.fullmatch(text)
    if number and column in TAXON_COLUMNS:
        return Identifier("taxon", number[1], TAXON_COLUMNS[column], f"taxon {number[1]}")
    if number and column in BARE_NUMBER_KINDS:
        return _identifier(BARE_NUMBER_KINDS[column], number[1])
    if column == "tyc" and text[0].isdecimal():
        text = f"TYC {text}"
    found = _parse_star(text, column)
    # Other archives use a column like `id` for names of their own; a target's name may be anything.
    is_number_column = column in BARE_NUMBER_KINDS and column != "targetname"
    return None if is_number_column and found and found.kind == "name" else found


def _parse_star(text: str, column: str) -> Identifier | None:
    if column in PLANET_COLUMNS:
        text = star_of_planet(text)
    found = _catalogue_entry(text)
    if column in HOST_COLUMNS:
        # The catalogue's own spelling: builders that know no aliases split by it.
        kind, value = found or ("name", normalise_star_name(text))
        return Identifier(kind, value, HOST_COLUMNS[column], normalise_object_name(text))
    if found:
        return _identifier(*found)
    value = normalise_star_name(text)
    rank = _CATALOGUE_NAME_RANK if column in PLANET_COLUMNS | STAR_COLUMNS else _OTHER_RANK
    return Identifier("name", value, rank, normalise_object_name(text)) if value else None


def _catalogue_entry(text: str) -> tuple[str, str] | None:
    gaia = _GAIA.fullmatch(text)
    if gaia:
        # Early data release 3 and data release 3 share their source identifiers.
        return f"gaia {gaia[1].casefold().replace('edr3', 'dr3')}", gaia[2]
    for kind, pattern in _CATALOGUES if _ANY_CATALOGUE.fullmatch(text) else ():
        match = pattern.fullmatch(text)
        if match:
            value = " ".join(group for group in match.groups() if group)
            return kind, "-".join(str(int(part)) for part in value.split("-")) if kind == "tyc" else value
    return None


def _identifier(kind: str, value: str, label: str | None = None) -> Identifier:
    if label is None:
        label = f"{kind}-{value}" if kind in ("koi", "toi") else f"{kind} {'j' if kind == '2mass' else ''}{value}"
        label = label.casefold()
    return Identifier(kind, value, _RANKS.get(kind, _OTHER_RANK), label)
