"""An entry of UniProtKB, however it was written down, as rows of its two tables."""

import datetime
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from data_scripts.archives.protocols.species_names import species_name


__all__ = ["Activity", "Entry", "activity_rows", "entry_row", "plain_text"]


@dataclass
class Activity:
    """One catalytic activity.

    Attributes:
        reaction: The reaction in words.
        references: Database and identifier of each cross reference.
        ec_number: Enzyme Commission number.
        directions: Physiological directions, each with its reaction in Rhea.
        molecule: Isoform or chain.
        evidence: Evidence codes.
    """

    reaction: str
    references: list[tuple[str, str]] = field(default_factory=list)
    ec_number: str | None = None
    directions: list[tuple[str, str | None]] = field(default_factory=list)
    molecule: str | None = None
    evidence: list[str] = field(default_factory=list)


@dataclass
class Entry:
    """Cells of an entry by column name, and its activities."""

    cells: dict[str, Any]
    activities: list[Activity]


def entry_row(entry: Entry) -> list[dict[str, Any]]:
    """The entry's row."""
    cells = entry.cells
    return [{**cells, "species": species_name(cells["organism_name"], cells["lineage"])}]


def activity_rows(entry: Entry) -> list[dict[str, Any]]:
    """One row for each activity of the entry."""
    (shared,) = entry_row(entry)
    return [
        {
            **{
                name: shared[name]
                for name in ("accession", "id", "reviewed", "organism_name", "organism_id", "species")
            },
            "activity": number,
            "reaction": activity.reaction,
            # UniProt lists generic and polymer participants under Rhea too, as RHEA-COMP.
            "rhea_id": next(iter(_of(activity, "Rhea", "RHEA:")), None),
            "chebi_ids": _of(activity, "ChEBI", ""),
            "rhea_compounds": _of(activity, "Rhea", "RHEA-COMP:"),
            "ec_number": activity.ec_number,
            "direction": [direction for direction, _ in activity.directions],
            "direction_rhea_id": [identifier for _, identifier in activity.directions],
            "molecule": activity.molecule,
            "evidence": list(dict.fromkeys(activity.evidence)),
        }
        for number, activity in enumerate(entry.activities)
    ]


def plain_text(texts: Iterable[str]) -> str | None:
    """Join the paragraphs of a comment, without the evidence in braces that flat files put behind them."""
    joined = " ".join(re.sub(r"\s*\{ECO:[^{}]*\}", "", text).strip() for text in texts)
    return joined.strip().rstrip(".") or None


def iso_day(text: str) -> datetime.date:
    """Read a day such as 2015-01-07."""
    return datetime.date.fromisoformat(text)


def _of(activity: Activity, database: str, prefix: str) -> list[str]:
    return [name for kind, name in activity.references if kind == database and name.startswith(prefix)]
