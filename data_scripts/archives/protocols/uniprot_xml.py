"""UniProtKB entries as XML: https://www.uniprot.org/docs/uniprot.xsd, also in the form that it had before 2018."""

import gzip
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast
from xml.etree import ElementTree

from data_scripts.archives.protocols.uniprot_entry import Activity, Entry, iso_day, plain_text
from data_scripts.harness.archive import Answer
from data_scripts.harness.errors import BadBodyError


__all__ = ["xml_entries"]

EXISTENCE = (
    "evidence at protein level",
    "evidence at transcript level",
    "inferred from homology",
    "predicted",
    "uncertain",
)


def xml_entries(answer: Answer) -> Iterator[Entry]:
    """Read the entries of a document one after another.

    Raises:
        BadBodyError: If the document is damaged, or an entry lacks what every entry has.
    """
    with answer.path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with cast(BinaryIO, gzip.open(answer.path, "rb")) if packed else answer.path.open("rb") as body:
        try:
            events = ElementTree.iterparse(body, events=("start", "end"))
            root = next(events)[1]
            for event, element in events:
                _drop_namespace(element)
                if event == "end" and element.tag == "entry":
                    yield _checked(element)
                    root.clear()
        except (ElementTree.ParseError, StopIteration, EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise BadBodyError(f"the XML of UniProtKB does not parse: {error}") from error


def _drop_namespace(element: ElementTree.Element) -> None:
    # UniProt changed its namespace from http to https in 2021.
    element.tag = element.tag.rpartition("}")[2]


def _checked(element: ElementTree.Element) -> Entry:
    try:
        return _entry(element)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        name = element.findtext("accession", "without accession")
        raise BadBodyError(f"entry {name} is not as UniProtKB writes it: {type(error).__name__} {error}") from error


def _entry(entry: ElementTree.Element) -> Entry:
    accessions = _texts(entry, "accession")
    organism, sequence = entry.find("organism"), entry.find("sequence")
    if organism is None or sequence is None or not accessions:
        raise ValueError("it must have accession, organism and sequence")
    names = [
        name.text or ""
        for path in ("recommendedName", "submittedName")
        for name in entry.iterfind(f"protein/{path}/fullName")
    ]
    existence = entry.find("proteinExistence")
    functions = [text for comment in _comments(entry, "function") for text in _texts(comment, "text")]
    cells = {
        "accession": accessions[0],
        "id": _texts(entry, "name")[0],
        "secondary_accessions": accessions[1:],
        "reviewed": entry.attrib["dataset"] == "Swiss-Prot",
        "protein_name": next(iter(names), None),
        "gene_names": _texts(entry, "gene/name"),
        "organism_name": organism.findtext("name[@type='scientific']"),
        "organism_id": int(organism.find("dbReference[@type='NCBI Taxonomy']").attrib["id"]),  # type: ignore[union-attr]
        "lineage": _texts(organism, "lineage/taxon"),
        "ec": list(dict.fromkeys(_texts(entry, "protein//ecNumber") or _references(entry, "EC"))),
        "protein_existence": None if existence is None else EXISTENCE.index(existence.attrib["type"].lower()) + 1,
        "keyword": _texts(entry, "keyword"),
        "go_id": _references(entry, "GO"),
        "cc_function": plain_text(functions),
        "version": int(entry.attrib["version"]),
        "date_created": iso_day(entry.attrib["created"]),
        "date_modified": iso_day(entry.attrib["modified"]),
        "date_sequence_modified": iso_day(sequence.attrib["modified"]),
        "sequence_version": int(sequence.attrib["version"]),
        "length": int(sequence.attrib["length"]),
        "mass": int(sequence.attrib["mass"]),
        "crc64": sequence.get("checksum"),
        "sequence": "".join((sequence.text or "").split()),
    }
    codes = {item.attrib["key"]: item.attrib["type"] for item in entry.iterfind("evidence")}
    return Entry(cells, [_activity(comment, codes) for comment in _comments(entry, "catalytic activity")])


def _comments(entry: ElementTree.Element, kind: str) -> Iterator[ElementTree.Element]:
    return entry.iterfind(f"comment[@type='{kind}']")


def _texts(element: ElementTree.Element, path: str) -> list[str]:
    return [(found.text or "").strip() for found in element.iterfind(path)]


def _references(entry: ElementTree.Element, database: str) -> list[str]:
    # Until 2011 numbers of enzymes were cross references.
    return [reference.attrib["id"] for reference in entry.iterfind(f"dbReference[@type='{database}']")]


def _activity(comment: ElementTree.Element, codes: dict[str, str]) -> Activity:
    reaction = comment.find("reaction")
    if reaction is None:
        # Until 2018 an activity was a text.
        return Activity(reaction=plain_text(_texts(comment, "text")) or "")
    references = [(item.attrib["type"], item.attrib["id"]) for item in reaction.iterfind("dbReference")]
    directions = comment.findall("physiologicalReaction")
    keys = [key for part in (reaction, *directions) for key in part.get("evidence", "").split()]
    return Activity(
        reaction=_texts(reaction, "text")[0],
        references=[reference for reference in references if reference[0] != "EC"],
        ec_number=next((name for kind, name in references if kind == "EC"), None),
        directions=[(part.attrib["direction"], _rhea(part)) for part in directions],
        molecule=comment.findtext("molecule"),
        evidence=[codes[key] for key in keys],
    )


def _rhea(part: ElementTree.Element) -> str | None:
    reference = part.find("dbReference[@type='Rhea']")
    return None if reference is None else reference.attrib["id"]
