"""Annotated sequences as GenBank and EMBL flat files.

Format: https://www.ncbi.nlm.nih.gov/genbank/release/current/ and
https://ena-docs.readthedocs.io/en/latest/submit/fileprep/flat-file-example.html.
"""

import datetime
import gzip
import re
import warnings
import zlib
from collections.abc import Iterator
from typing import Any, Literal, TextIO, cast

from Bio import BiopythonWarning, SeqIO
from Bio.SeqFeature import CompoundLocation, SeqFeature
from Bio.SeqRecord import SeqRecord

from data_scripts.archives.protocols.species_names import species_name
from data_scripts.harness.archive import Answer
from data_scripts.harness.errors import BadBodyError


__all__ = ["location_text", "open_text", "plain_head", "record_rows"]

GZIP_MAGIC = b"\x1f\x8b"
# Qualifiers that every feature may have; the others are too many for a table.
FEATURE_QUALIFIERS = ("gene", "locus_tag", "product", "protein_id")
# Qualifiers of the source; GenBank renamed country to geo_loc_name in 2024.
SOURCE_QUALIFIERS = {
    "strain": ("strain",),
    "isolation_source": ("isolation_source",),
    "geo_loc_name": ("geo_loc_name", "country"),
    "lat_lon": ("lat_lon",),
    "collection_date": ("collection_date",),
    "organelle": ("organelle",),
    "plasmid": ("plasmid",),
}


def open_text(answer: Answer) -> TextIO:
    """Open a body as text, uncompressed; archives of sequences write ASCII, some old comments Latin-1."""
    with answer.path.open("rb") as file:
        packed = file.read(2) == GZIP_MAGIC
    opener = gzip.open if packed else open
    return cast(TextIO, opener(answer.path, "rt", encoding="utf-8", errors="surrogateescape"))


def plain_head(head: bytes) -> bytes:
    """First bytes of a file, uncompressed if they are of a gzip file."""
    if not head.startswith(GZIP_MAGIC):
        return head
    try:
        return zlib.decompressobj(wbits=31).decompress(head)
    except zlib.error:
        return b""


def record_rows(answer: Answer, format: Literal["genbank", "embl"]) -> Iterator[dict[str, Any]]:
    """Read the records of a flat file one after another, under the columns of `archives.schemas.sequence_records`.

    Raises:
        BadBodyError: If a record does not parse, or lacks a line that every record has.
    """
    with open_text(answer) as handle, warnings.catch_warnings():
        # Biopython warns of spelling; what is missing or damaged raises.
        warnings.simplefilter("ignore", BiopythonWarning)
        records = SeqIO.parse(handle, format)
        while True:
            try:
                record = next(records, None)
            except (ValueError, AssertionError, IndexError, EOFError, zlib.error) as error:
                raise BadBodyError(f"the {format} flat file does not parse: {error}") from error
            if record is None:
                return
            yield _row(record, format)


def location_text(feature: SeqFeature) -> str:
    """Write a location as flat files do: one-based, both ends included, such as `complement(join(1..5,9..>20))`."""
    location = feature.location
    if location is None:
        return ""
    parts = location.parts
    if isinstance(location, CompoundLocation):
        backwards = all(part.strand == -1 for part in parts)
        texts = [_span(part, plain=backwards) for part in (reversed(parts) if backwards else parts)]
        joined = f"{location.operator}({','.join(texts)})"
        return f"complement({joined})" if backwards else joined
    return _span(location)


def _span(part: Any, plain: bool = False) -> str:
    start = re.sub(r"\d+", lambda number: str(int(number[0]) + 1), str(part.start))
    end = str(part.end)
    between = part.start == part.end
    text = f"{end}^{start}" if between else end if start == end else f"{start}..{end}"
    text = f"{part.ref}:{text}" if part.ref else text
    return f"complement({text})" if part.strand == -1 and not plain else text


def _row(record: SeqRecord, format: str) -> dict[str, Any]:
    # What kind of value each annotation has is Biopython's knowledge, and in no type.
    notes: dict[str, Any] = dict(record.annotations)
    organism = notes.get("organism")
    # Biopython takes the accession for the version where there is none, as in proteins of PDB and Swiss-Prot.
    versioned = "sequence_version" in notes or "db_source" in notes
    lines = {
        "accession": notes.get("accessions"),
        "version": format == "embl" or versioned,
        "organism": organism and organism != ".",
        "taxonomy": "taxonomy" in notes,
    }
    missing = [name for name, there in lines.items() if not there]
    if missing:
        raise BadBodyError(f"record {record.name} must state {', '.join(lines)}; it lacks {', '.join(missing)}")
    lineage = [taxon for taxon in notes.get("taxonomy", []) if taxon]
    source: dict[str, Any] = next((feature.qualifiers for feature in record.features if feature.type == "source"), {})
    features = record.features
    letters = record.seq
    assert letters is not None
    sequence = _clean(str(letters)) if letters.defined else None
    return {
        "accession_version": record.id,
        "locus": record.name,
        "definition": _clean(record.description),
        "organism": _clean(organism),
        "species": species_name(organism, lineage),
        "taxid": _taxon(source),
        "taxonomy": [_clean(taxon) for taxon in lineage],
        "length": len(letters),
        "molecule_type": notes.get("molecule_type"),
        "topology": notes.get("topology"),
        "division": notes.get("data_file_division"),
        "date": _date(notes.get("date")),
        "keywords": [_clean(word) for word in notes.get("keywords", []) if word],
        "dblinks": list(record.dbxrefs),
        **{name: _first(source, *names) for name, names in SOURCE_QUALIFIERS.items()},
        "feature_type": [feature.type for feature in features],
        "feature_location": [location_text(feature) for feature in features],
        **{
            f"feature_{name}": [_first(feature.qualifiers, name) for feature in features]
            for name in FEATURE_QUALIFIERS
        },
        "sequence": sequence,
    }


def _first(qualifiers: dict[str, list[str]], *names: str) -> str | None:
    return next((_clean(str(qualifiers[name][0])) for name in names if qualifiers.get(name)), None)


def _clean(text: str | None) -> str | None:
    """Make Latin-1 bytes that UTF-8 does not know readable; Parquet takes nothing but UTF-8."""
    return text and "".join(chr(ord(c) - 0xDC00) if 0xDC80 <= ord(c) <= 0xDCFF else c for c in text)


def _taxon(source: dict[str, list[str]]) -> int | None:
    for reference in source.get("db_xref", []):
        database, _, number = reference.partition(":")
        if database == "taxon" and number.isdigit():
            return int(number)
    return None


def _date(text: str | None) -> datetime.date | None:
    # GenBank writes "19-JAN-2000"; Ensembl writes dates with a time after it.
    try:
        return datetime.datetime.strptime(text or "", "%d-%b-%Y").date()
    except ValueError:
        return None
