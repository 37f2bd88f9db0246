"""UniProtKB entries as flat text: https://web.expasy.org/docs/userman.html, also as it was in older releases."""

import datetime
import re
import zlib
from collections.abc import Iterator
from typing import Any

from Bio import SwissProt

from data_scripts.archives.protocols.flat_files import open_text
from data_scripts.archives.protocols.uniprot_entry import Activity, Entry, plain_text
from data_scripts.harness.archive import Answer
from data_scripts.harness.errors import BadBodyError


__all__ = ["flat_entries"]

GENE_NAMES = ("Name", "Synonyms", "OrderedLocusNames", "ORFNames")
EVIDENCE = re.compile(r"\s*\{(ECO:[^{}]*)\}")


def flat_entries(answer: Answer) -> Iterator[Entry]:
    """Read the entries of a flat file one after another.

    Raises:
        BadBodyError: If an entry does not parse, or lacks what every entry has.
    """
    with open_text(answer) as handle:
        records = SwissProt.parse(handle)
        while True:
            try:
                record = next(records, None)
                if record is None:
                    return
                entry = _entry(record)
            except (ValueError, AssertionError, IndexError, TypeError, EOFError, zlib.error) as error:
                raise BadBodyError(f"the flat file of UniProtKB does not parse: {error}") from error
            yield entry


def _entry(record: SwissProt.Record) -> Entry:
    comments = [_unbroken(comment) for comment in record.comments]
    functions = [text.partition(": ")[2] for text in comments if text.startswith("FUNCTION: ")]
    activities = [text.partition(": ")[2] for text in comments if text.startswith("CATALYTIC ACTIVITY:")]
    description = _bare(record.description)
    if not record.accessions or not record.sequence or not record.seqinfo or not record.organism:
        raise ValueError(f"entry {record.entry_name} must have the lines AC, OS and SQ")
    cells: dict[str, Any] = {
        "accession": record.accessions[0],
        "id": record.entry_name,
        "secondary_accessions": record.accessions[1:],
        "reviewed": record.data_class in ("Reviewed", "STANDARD"),
        "protein_name": _protein_name(description),
        "gene_names": _gene_names(record.gene_name),
        "organism_name": _organism(record.organism),
        "organism_id": int(record.taxonomy_id[0]) if record.taxonomy_id else None,
        "lineage": record.organism_classification,
        "ec": list(dict.fromkeys(re.findall(r"\bEC[= ](\d+\.[\d-]+\.[\d-]+\.(?:n?\d+|-))", description))),
        # The line came in 2007, after STANDARD became Reviewed; Biopython says 5 where it is absent.
        "protein_existence": record.protein_existence if record.data_class.endswith("eviewed") else None,
        "keyword": [_bare(word) for word in record.keywords if word],
        "go_id": [reference[1] for reference in record.cross_references if reference[0] == "GO"],
        "cc_function": plain_text(functions),
        "version": record.annotation_update[1] or None,
        "date_created": _day(record.created[0]),
        "date_modified": _day(record.annotation_update[0]),
        "date_sequence_modified": _day(record.sequence_update[0]),
        "sequence_version": record.sequence_update[1] or None,
        "length": record.seqinfo[0],
        "mass": record.seqinfo[1],
        "crc64": record.seqinfo[2],
        "sequence": record.sequence,
    }
    return Entry(cells, [_activity(text) for text in activities])


def _bare(text: str) -> str:
    return EVIDENCE.sub("", text)


def _unbroken(text: str) -> str:
    """Close the gap that a line break after a hyphen left; a hyphen before "and" and "or" stands for a word."""
    return re.sub(r"(?<=[^\s-])- (?!(?:and|or|to)\b)", "-", " ".join(text.split()))


def _protein_name(description: str) -> str:
    found = re.search(r"(?:RecName|SubName): Full=(.*?);(?:\s|$)", description)
    # Before 2008 the line was the name itself, with others in brackets.
    return found[1] if found else re.split(r"\s[(\[]|\.$", description)[0]


def _gene_names(genes: Any) -> list[str]:
    if isinstance(genes, str):
        # Before 2004: "GEN1 OR GEN2."
        return [name for name in re.split(r"\s+(?:OR|AND)\s+", genes.strip(" .()")) if name]
    found = []
    for gene in genes:
        for kind in GENE_NAMES:
            names = gene.get(kind, [])
            found += [_bare(name) for name in ([names] if isinstance(names, str) else names)]
    return found


def _organism(text: str) -> str:
    """Return the scientific name; strains stand in brackets of their own, the common name in the last ones."""
    name = text.rstrip(".")
    groups = re.findall(r" \((?:[^()]|\([^()]*\))*\)", name)
    for group in reversed(groups):
        if not name.endswith(group) or re.match(r" \((strain|isolate|subsp|serotype|serovar|biovar|pv)\b", group):
            break
        name = name.removesuffix(group)
    return name


def _day(text: str) -> datetime.date:
    return datetime.datetime.strptime(text, "%d-%b-%Y").date()


def _activity(text: str) -> Activity:
    if "Reaction=" not in text:
        # Until 2018 an activity was a text.
        return Activity(reaction=plain_text([text]) or "")
    molecule = re.match(r"\[(.*?)\]:\s", text)
    evidence = [code for group in re.findall(r"Evidence=\{([^{}]*)\}", text) for code in re.findall(r"ECO:\d+", group)]
    parts = re.split(
        r";\s*(?=(?:Reaction|PhysiologicalDirection|Xref|EC|Evidence)=|$)", text[text.index("Reaction=") :]
    )
    activity = Activity(reaction="", molecule=molecule[1] if molecule else None, evidence=evidence)
    for part in parts:
        key, _, value = part.partition("=")
        if key == "Reaction":
            activity.reaction = value.strip()
        elif key == "EC":
            activity.ec_number = value.strip()
        elif key == "PhysiologicalDirection":
            activity.directions.append((value.strip(), None))
        elif key == "Xref":
            references = [_reference(item) for item in value.split(", ")]
            if activity.directions:
                activity.directions[-1] = (activity.directions[-1][0], references[0][1])
            else:
                activity.references = references
    return activity


def _reference(text: str) -> tuple[str, str]:
    """Split "Rhea:RHEA:13065" and "ChEBI:CHEBI:15377"; "Rhea:RHEA-COMP:9613" is of a participant."""
    database, _, identifier = text.strip().partition(":")
    return database, identifier
