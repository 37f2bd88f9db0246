"""UniProtKB: proteins with their annotation, and the reactions that they catalyse."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from data_scripts.archives.protocols.flat_files import plain_head
from data_scripts.archives.protocols.row_batches import row_batches
from data_scripts.archives.protocols.uniprot_entry import Entry, activity_rows, entry_row
from data_scripts.archives.protocols.uniprot_flat import flat_entries
from data_scripts.archives.protocols.uniprot_json import json_entries
from data_scripts.archives.protocols.uniprot_xml import xml_entries
from data_scripts.archives.schemas.uniprotkb import ACTIVITIES, ENTRIES, FIELDS
from data_scripts.harness.archive import (
    Answer,
    Archive,
    Column,
    Identity,
    Option,
    Request,
    Selection,
    Stage,
    TableConfig,
)
from data_scripts.harness.errors import BadBodyError


__all__ = ["ARCHIVE"]

SEARCH = "https://rest.uniprot.org/uniprotkb/search"
# The most entries that the service puts on a page.
MOST_PER_PAGE = 500
OPTIONS = {"query": Option("reviewed:true", "Query in UniProt's language")}


def first(selection: Selection) -> list[Request]:
    """Ask for the first page of a search."""
    query = selection.options["query"]
    if selection.since is not None:
        query = f"({query}) AND (date_modified:[{selection.since.isoformat()} TO *])"
    size = MOST_PER_PAGE if selection.limit is None else min(MOST_PER_PAGE, max(selection.limit, 1))
    params = (("query", query), ("format", "json"), ("fields", FIELDS), ("size", str(size)))
    return [Request(SEARCH, "search", params=params)]


def follow(answer: Answer) -> list[Request]:
    """Ask for the next page, which the Link header names by a cursor.

    Raises:
        BadBodyError: If the release is another one than that of the first page.
    """
    release = answer.headers.get("x-uniprot-release", "")
    started = dict(answer.request.context).get("release", release)
    if release != started:
        raise BadBodyError(
            f"release must be {started} on each page; got {release or 'none'}: UniProt published a new one meanwhile. "
            "Build with --max-age-days 0 to ask for all pages anew"
        )
    found = re.search(r'<([^>]+)>\s*;\s*rel="?next"?', answer.headers.get("link", ""))
    if found is None:
        return []
    address = urlsplit(found[1])
    return [
        Request(
            f"{address.scheme}://{address.netloc}{address.path}",
            "search",
            params=tuple(parse_qsl(address.query, keep_blank_values=True)),
            context=(("release", release),),
        )
    ]


def entries_found(answer: Answer) -> int | None:
    """Entries that the search found, stated once, on its first page."""
    stated = answer.headers.get("x-total-results", "")
    return int(stated) if stated.isdigit() and "cursor" not in dict(answer.request.params) else None


def recognise(name: str, head: bytes) -> str | None:
    """Recognise entries by what their first lines say; UniRef, RDF, FASTA and lists are not entries."""
    text = plain_head(head).decode("utf-8", errors="replace").lstrip("\ufeff \r\n")
    if re.match(r"ID   \S+\s+(Reviewed|Unreviewed|STANDARD|PRELIMINARY);", text):
        return "flat"
    if re.match(r"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<uniprot[\s>]", text, re.DOTALL):
        return "xml"
    if text.startswith("{") and '"primaryAccession"' in text and '"entryType"' in text:
        return "search"
    return None


def rows(
    answer: Answer,
    read: Callable[[Answer], Iterator[Entry]],
    rows_of: Callable[[Entry], list[dict[str, Any]]],
    columns: tuple[Column, ...],
) -> Iterator[pa.Table]:
    """Read entries of any format as rows of a table."""
    return row_batches((row for entry in read(answer) for row in rows_of(entry)), columns)


def lengths_agree(table: pa.Table) -> pa.BooleanArray:
    """Whether the length stated is that of the sequence."""
    return pc.equal(pc.utf8_length(table["sequence"]), table["length"]).combine_chunks()


def masses_agree(table: pa.Table) -> pa.BooleanArray:
    """Whether the mass can be that of a chain of this length: residues weigh 57 to 255 u, water is 18 u more."""
    per_residue = pc.divide(pc.cast(table["mass"], pa.float64()), pc.cast(table["length"], pa.float64()))
    return pc.and_(pc.greater(per_residue, 57.0), pc.less(per_residue, 255.3)).combine_chunks()


def _stages(
    rows_of: Callable[[Entry], list[dict[str, Any]]], columns: tuple[Column, ...], total: Callable | None = None
) -> dict[str, Stage]:
    made = {
        read: partial(rows, read=read, rows_of=rows_of, columns=columns)
        for read in (json_entries, flat_entries, xml_entries)
    }
    return {
        "search": Stage("json", rows=made[json_entries], follow=follow, total=total),
        "flat": Stage("embl", rows=made[flat_entries]),
        "xml": Stage("xml", rows=made[xml_entries]),
    }


ARCHIVE = Archive(
    name="uniprotkb",
    title="UniProt Knowledgebase",
    homepage="https://www.uniprot.org/",
    license="cc-by-4.0",
    license_link="https://www.uniprot.org/help/license",
    acknowledgement="Protein annotation is from UniProtKB of the UniProt Consortium, reactions from Rhea and ChEBI.",
    citation="""@article{uniprot2025,
  title = {UniProt: the Universal Protein Knowledgebase in 2025},
  author = {{The UniProt Consortium}},
  journal = {Nucleic Acids Research},
  volume = {53},
  number = {D1},
  pages = {D609--D617},
  year = {2025},
  doi = {10.1093/nar/gkae1010}
}""",
    tables=(
        TableConfig(
            name="entries",
            description="Proteins: names, organism, function and sequence.",
            columns=ENTRIES,
            key=("accession",),
            objects=("species", "organism_id"),
            first=first,
            stages=_stages(entry_row, ENTRIES, entries_found),
            recognise=recognise,
            options=OPTIONS,
            identities=(
                Identity("length", lengths_agree, "The length stated counts the letters of the sequence"),
                Identity("mass", masses_agree, "Mass over length is between the lightest and the heaviest residue"),
            ),
        ),
        TableConfig(
            name="catalytic_activities",
            description="Reactions that proteins catalyse, with the identifiers of Rhea and ChEBI.",
            columns=ACTIVITIES,
            key=("accession", "activity"),
            objects=("species", "organism_id"),
            first=first,
            stages=_stages(activity_rows, ACTIVITIES),
            recognise=recognise,
            options=OPTIONS,
        ),
    ),
    hosts=("rest.uniprot.org",),
    # UniProt states no rate; it asks for pages one after another.
    requests_per_second=3,
    concurrency=2,
    probe=("entries", {"query": "accession:P99999"}),
    size="Swiss-Prot: 573,000 entries in 1,150 pages, about 3 GB; TrEMBL is 400 times larger",
)
