"""UniProtKB entries as the REST service's JSON: https://www.uniprot.org/help/api and the schema behind it."""

import json
import zlib
from collections.abc import Iterator
from typing import Any

from data_scripts.archives.protocols.delimited import open_plain
from data_scripts.archives.protocols.uniprot_entry import Activity, Entry, iso_day, plain_text
from data_scripts.harness.archive import Answer
from data_scripts.harness.errors import BadBodyError


__all__ = ["json_entries"]

GENE_NAMES = ("synonyms", "orderedLocusNames", "orfNames")


def json_entries(answer: Answer) -> Iterator[Entry]:
    """Read a page of a search, or a single entry.

    Raises:
        BadBodyError: If an entry lacks what every entry has.
    """
    try:
        # A download may be packed; pages of a search are not.
        with open_plain(answer) as body:
            page = json.loads(body.read())
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise BadBodyError(f"the page does not parse: {error}", again=True) from error
    entries = page.get("results", [page]) if isinstance(page, dict) else page
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise BadBodyError("a page must have a list of entries under results")
    for entry in entries:
        try:
            yield _entry(entry)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            name = entry.get("primaryAccession", "without accession")
            raise BadBodyError(
                f"entry {name} is not as UniProtKB writes it: {type(error).__name__} {error}"
            ) from error


def _entry(entry: dict[str, Any]) -> Entry:
    audit, sequence, organism = entry["entryAudit"], entry["sequence"], entry["organism"]
    comments = entry.get("comments", [])
    names = entry["proteinDescription"]
    main = names.get("recommendedName") or next(iter(names.get("submissionNames", [])), None)
    cells = {
        "accession": entry["primaryAccession"],
        "id": entry["uniProtkbId"],
        "secondary_accessions": entry.get("secondaryAccessions", []),
        "reviewed": "Swiss-Prot" in entry["entryType"],
        "protein_name": main["fullName"]["value"] if main else None,
        "gene_names": [name for gene in entry.get("genes", []) for name in _gene_names(gene)],
        "organism_name": organism["scientificName"],
        "organism_id": organism["taxonId"],
        "lineage": organism["lineage"],
        "ec": list(dict.fromkeys(_ec_numbers(names))),
        "protein_existence": int(entry["proteinExistence"][0]),
        "annotation_score": entry.get("annotationScore"),
        "keyword": [keyword["name"] for keyword in entry.get("keywords", [])],
        "go_id": [
            reference["id"] for reference in entry.get("uniProtKBCrossReferences", []) if reference["database"] == "GO"
        ],
        "cc_function": plain_text(
            text["value"]
            for comment in comments
            if comment["commentType"] == "FUNCTION"
            for text in comment.get("texts", [])
        ),
        "version": audit["entryVersion"],
        "date_created": iso_day(audit["firstPublicDate"]),
        "date_modified": iso_day(audit["lastAnnotationUpdateDate"]),
        "date_sequence_modified": iso_day(audit["lastSequenceUpdateDate"]),
        "sequence_version": audit["sequenceVersion"],
        "length": sequence["length"],
        "mass": sequence["molWeight"],
        "crc64": sequence.get("crc64"),
        "sequence": sequence["value"],
    }
    return Entry(cells, [_activity(c) for c in comments if c["commentType"] == "CATALYTIC ACTIVITY"])


def _gene_names(gene: dict[str, Any]) -> Iterator[str]:
    if "geneName" in gene:
        yield gene["geneName"]["value"]
    for kind in GENE_NAMES:
        yield from (name["value"] for name in gene.get(kind, []))


def _ec_numbers(names: Any) -> Iterator[str]:
    """Find the numbers wherever they stand: the names of a protein contain those of its chains."""
    if isinstance(names, dict):
        yield from (number["value"] for number in names.get("ecNumbers", []))
        for inner in names.values():
            yield from _ec_numbers(inner)
    elif isinstance(names, list):
        for inner in names:
            yield from _ec_numbers(inner)


def _activity(comment: dict[str, Any]) -> Activity:
    reaction = comment["reaction"]
    directions = comment.get("physiologicalReactions", [])
    return Activity(
        reaction=reaction["name"],
        references=[(item["database"], item["id"]) for item in reaction.get("reactionCrossReferences", [])],
        ec_number=reaction.get("ecNumber"),
        directions=[(item["directionType"], item.get("reactionCrossReference", {}).get("id")) for item in directions],
        molecule=comment.get("molecule"),
        evidence=[item["evidenceCode"] for part in (reaction, *directions) for item in part.get("evidences", [])],
    )
