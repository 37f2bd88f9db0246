"""Columns of an archive's table as labelled text: value, uncertainties and limit together, with their unit."""

import dataclasses
import datetime
import html
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import pyarrow as pa

from data_scripts.derived.decimal_text import plain_text
from data_scripts.harness.archive import Column, TableConfig


__all__ = ["TextField", "number_text", "text_fields"]

# Column to label, where the schema's description is none.
_LABELS = {
    "access": "Access",
    "cTOI author": "First reporter",
    "cc_function": "Function",
    "class": "Class",
    "collection_date": "Collection date",
    "definition": "Definition",
    "domain": "Domain",
    "ec": "EC numbers",
    "ec_number": "EC number",
    "family": "Family",
    "genebuild": "Annotation",
    "genus": "Genus",
    "geo_loc_name": "Place",
    "go_id": "Gene Ontology terms",
    "gtdb_species": "GTDB species",
    "gtdb_type_designation_ncbi_taxa_sources": "Source of the type designation",
    "isolation_source": "Isolation source",
    "lineage": "Lineage",
    "molecule": "Isoform or chain",
    "molecule_type": "Molecule",
    "ncbi_isolation_source": "Isolation source",
    "order": "Order",
    "organism": "Organism",
    "organism_name": "Organism",
    "phylum": "Phylum",
    "pl_bmasse": "Planet mass",
    "pl_bmassj": "Planet mass",
    "pl_bmassprov": "Kind of planet mass",
    "position": "Position",
    "protein_name": "Protein name",
    "reaction": "Reaction",
    "sci_status": "Access",
    "species": "Species",
    "taxonomy": "Lineage",
    "topology": "Topology",
    "type": "Type",
}
# Not for reading: addresses, checksums, outlines, and references under the archive's own abbreviations.
_NOT_TEXT = re.compile(
    r"Address|Checksum|ISO 3309|MD5|URI|IVO|Path of|Media type|Outline|Number of the row|Mean of the upper|"
    r"Reference of [A-Z]"
)
# A description that only lists the values, such as `STAR or EXTENDED`; the column's name says more.
_VALUES = re.compile(
    r"\d+ .*|\d+|[A-Z0-9]{2,}|.|[\w-]+(, [\w-]+)*,? or [\w-]+|[A-Z][\w ]*(, [A-Z]\w*)+ or [A-Z]\w*|"
    r"[\w-]+(, [\w -]+)+, \.\.\."
)
_VALUES_AFTER_COLON = re.compile(r",| or |\d|[A-Z]{2}")
_UNITS = {
    "0.07957747154594767 solLum / AU2": "S⊕",
    "%": "%",
    "1e-6": "ppm",
    "AU": "au",
    "M_jup": "Jupiter masses",
    "M_sun": "M☉",
    "R_jup": "Jupiter radii",
    "R_sun": "R☉",
    "d": "days",
    "earthMass": "M⊕",
    "earthRad": "R⊕",
    "h": "hours",
    "hourangle": "h",
    "jupiterMass": "Jupiter masses",
    "jupiterRad": "Jupiter radii",
    "percent": "%",
    "solLum": "L☉",
    "solMass": "M☉",
    "solRad": "R☉",
    "yr": "years",
}
_PROPER_NAMES = frozenset(
    {"APEX", "Gaia", "Gemini", "Gene", "Henry", "Hipparcos", "Johnson", "Julian", "Kepler", "Tycho"}
)
# Such a label is a statement or a question and stands before a colon only.
_NO_NOUN = re.compile(r"(Whether|How|What|Who|When|Where|In|Found|Known|A|The|More than|Not|Origin if) ")
_HEAD = re.compile(r" (?:of|in|at|by|on|to|from|with|that|for|as)\b|,")
_PLURAL = re.compile(r"\b(?!Hipparcos|[Ss]pecies|times)\w{3,}(?<![SsUuIi'])s\b")
_FLAG = " (1: yes, 0: no)"
_MOST_WORDS_OF_LIST = 24
# Beyond these powers of ten a number is written with an exponent: zeros in a row are misread.
_SMALLEST_PLAIN, _LARGEST_PLAIN = -7, 15

Kind = Literal["number", "text", "flag", "list"]


@dataclass(frozen=True)
class TextField:
    """A column that is written as text, with the columns that belong to it.

    Attributes:
        column: Name in the archive.
        label: What it is, as a label before a value.
        unit: Unit as it is written after a value; empty if it has none.
        kind: What a cell holds.
        upper: Column of the upper uncertainty, or None.
        lower: Column of the lower uncertainty; the same as `upper` if there is one for both.
        limit: Column that is 1 if the value is an upper limit and -1 if it is a lower one, or None.
        phrase: Label within a sentence, or None if it cannot stand there.
        plural: Whether the label names several things.
        shared: Whether another field of the table has the same label.
    """

    column: str
    label: str
    unit: str
    kind: Kind
    upper: str | None = None
    lower: str | None = None
    limit: str | None = None
    phrase: str | None = None
    plural: bool = False
    shared: bool = False

    @property
    def topic(self) -> str:
        """What fields have in common that tell the same in other words: the label up to a comma or parenthesis."""
        return re.split(r",| \(", self.label)[0]

    @property
    def asked(self) -> str | None:
        """The phrase as a question has it: with the unit where another field has the same label."""
        return f"{self.phrase} in {self.unit}" if self.phrase and self.shared and self.unit else self.phrase

    def value(self, row: Mapping[str, Any]) -> str | None:
        """Return the cell with its unit, digit by digit as in the table, or None if it is null or a limit."""
        return None if self.limit and row[self.limit] else self._value(row)

    def whole(self, row: Mapping[str, Any]) -> str | None:
        """Return the cell with uncertainties and unit, or None if it is null."""
        text = self._value(row)
        if text is None:
            return None
        if self.limit and row[self.limit]:
            return f"{'at most' if row[self.limit] > 0 else 'at least'} {text}"
        errors = self._errors(row)
        if errors is None:
            return text
        number = number_text(row[self.column])
        return f"{number} {errors} {self.unit}".rstrip()

    def _value(self, row: Mapping[str, Any]) -> str | None:
        cell = row[self.column]
        if cell is None:
            return None
        if self.kind == "flag":
            return "yes" if cell else "no"
        if self.kind == "number":
            return f"{number_text(cell)} {self.unit}".rstrip()
        if self.kind == "text":
            return _words(cell) or None
        words = [word for word in map(_words, filter(None, cell)) if word]
        if len(words) > _MOST_WORDS_OF_LIST:
            words = [*words[:_MOST_WORDS_OF_LIST], f"and {len(words) - _MOST_WORDS_OF_LIST} more"]
        return "; ".join(words) or None

    def _errors(self, row: Mapping[str, Any]) -> str | None:
        if self.upper is None or self.lower is None:
            return None
        upper, lower = row[self.upper], row[self.lower]
        # Some fits write -1 where they have no uncertainty.
        if upper is None or lower is None or upper < 0:
            return None
        if abs(lower) == upper:
            return f"± {number_text(upper)}"
        return f"(+{number_text(upper)} −{number_text(abs(lower))})"


def text_fields(config: TableConfig) -> tuple[TextField, ...]:
    """Return the fields of a table in the order of its columns.

    Numeric lists, sequences, addresses and checksums are no text and are left out.
    """
    names = {column.name for column in config.columns if pa.types.is_floating(column.dtype)}
    limits = {column.name for column in config.columns}
    companions = {name: _uncertainties(name, names) for name in names}
    used = {name for pair in companions.values() if pair for name in pair}
    used |= {f"{name}lim" for name in names if f"{name}lim" in limits}
    fields = []
    for column in config.columns:
        kind = _kind(column)
        if kind is None or column.name in used or column.name == "sequence" or _NOT_TEXT.search(column.description):
            continue
        upper, lower = companions.get(column.name) or (None, None)
        limit = f"{column.name}lim" if f"{column.name}lim" in used else None
        label, phrase = _label(column), _phrase(_label(column))
        plural = not pa.types.is_floating(column.dtype) and _PLURAL.search(_HEAD.split(label)[0]) is not None
        fields.append(TextField(column.name, label, _unit(column), kind, upper, lower, limit, phrase, plural))
    labels = Counter(field.label for field in fields)
    return tuple(dataclasses.replace(field, shared=labels[field.label] > 1) for field in fields)


def number_text(value: float | int) -> str:
    """Return the shortest digits that give the number again, without exponent where that can be read."""
    if isinstance(value, int):
        return str(value)
    decimal = Decimal(repr(value))
    if decimal and not _SMALLEST_PLAIN <= decimal.adjusted() < _LARGEST_PLAIN:
        return repr(value)
    return plain_text(decimal)


def _uncertainties(name: str, names: set[str]) -> tuple[str, str] | None:
    """Name the columns of the uncertainties; archives name them in these ways."""
    for upper, lower in (("err1", "err2"), ("_err1", "_err2"), ("UPPER", "LOWER")):
        if f"{name}{upper}" in names and f"{name}{lower}" in names:
            return f"{name}{upper}", f"{name}{lower}"
    stem = name.removesuffix(" Value")
    for both in (f"{name}_err", f"e_{name}", f"{name} err", f"{stem} Error", f"{stem} Uncertainty"):
        if both in names and both != name:
            return both, both
    return None


def _kind(column: Column) -> Kind | None:
    types = pa.types
    if types.is_boolean(column.dtype) or column.description.endswith(_FLAG):
        return "flag"
    if types.is_list(column.dtype):
        return "list" if types.is_string(column.dtype.value_type) else None
    if types.is_integer(column.dtype) or types.is_floating(column.dtype):
        return "number"
    return "text"


def _label(column: Column) -> str:
    if column.name in _LABELS:
        return _LABELS[column.name]
    label, _, rest = column.description.removesuffix(_FLAG).split("; ")[0].partition(": ")
    if rest and not _VALUES_AFTER_COLON.search(rest):
        label = f"{label}, {rest}"
    label = label.split(", such as ")[0]
    if _VALUES.fullmatch(label):
        words = column.name.replace("_", " ").strip()
        return words[0].upper() + words[1:]
    return label


def _phrase(label: str) -> str | None:
    if _NO_NOUN.match(label):
        return None
    first = re.split(r"[ ,-]", label)[0]
    named = first in _PROPER_NAMES or len(first) < 3 or not first[1:].islower()
    return label if named else label[0].lower() + label[1:]


def _unit(column: Column) -> str:
    # A whole number of years is a calendar year, and a date's days are no duration.
    is_year = column.unit == "yr" and pa.types.is_integer(column.dtype)
    is_date = column.unit == "d" and re.search(r"\bM?JD|Julian|\bBJD\b(?! -)", column.description)
    if column.unit is None or is_year or is_date:
        return ""
    return _UNITS.get(column.unit, column.unit.replace(" / ", "/"))


def _words(cell: Any) -> str:
    if isinstance(cell, datetime.date):
        return cell.isoformat()
    if isinstance(cell, float) and not math.isfinite(cell):
        return ""
    text = html.unescape(re.sub(r"</?\w[^<>]*>", "", str(cell)))
    text = " ".join(text.split())
    return "" if re.match(r"https?://", text) else text
