"""GenBank and RefSeq at NCBI: annotated sequences by a query, from the E-utilities or from flat files."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from data_scripts.archives.protocols.entrez import asked_accessions, search_follow, search_request, search_total
from data_scripts.archives.protocols.flat_files import plain_head, record_rows
from data_scripts.archives.protocols.row_batches import row_batches
from data_scripts.archives.schemas.sequence_records import RECORDS, SEQUENCES
from data_scripts.harness.archive import (
    Answer,
    Archive,
    Column,
    Credential,
    Identity,
    Option,
    Request,
    Selection,
    Stage,
    TableConfig,
)
from data_scripts.harness.errors import BadBodyError, BuildError


__all__ = ["ARCHIVE"]

OPTIONS = {
    "db": Option("nuccore", "Entrez database: nuccore or protein"),
    # The 16S ribosomal RNA of type strains: https://www.ncbi.nlm.nih.gov/refseq/targetedloci/16S_process/.
    "term": Option("33175[BioProject] OR 33317[BioProject]", "Query in Entrez's language"),
    "batch": Option("200", "Records asked for at once; 1 where they are genomes"),
}


def first(selection: Selection) -> list[Request]:
    """Search for the accessions."""
    options = selection.options
    if options["db"] not in ("nuccore", "protein"):
        raise BuildError(f"db must be nuccore or protein; got {options['db']!r}.")
    if not options["batch"].isdigit() or not 1 <= int(options["batch"]) <= 10_000:
        raise BuildError(f"batch must be 1 to 10000; got {options['batch']!r}.")
    return [search_request(options["db"], options["term"], int(options["batch"]), selection.limit, selection.since)]


def recognise(name: str, head: bytes) -> str | None:
    """Recognise flat files by their first line; FASTA and XML of NCBI are not read."""
    return "records" if plain_head(head).startswith(b"LOCUS ") else None


def lengths_agree(table: pa.Table) -> pa.BooleanArray:
    """Whether the length stated is that of the sequence."""
    return pc.equal(pc.utf8_length(table["sequence"]), table["length"]).combine_chunks()


def rows(answer: Answer, columns: Sequence[Column]) -> Iterator[pa.Table]:
    """Read a batch of records.

    Raises:
        BadBodyError: If they are not the records that were asked for: EFetch leaves out what it cannot find.
    """
    found: set[str] = set()

    def noted() -> Iterator[dict[str, Any]]:
        for row in record_rows(answer, "genbank"):
            found.add(row["accession_version"])
            yield row

    yield from row_batches(noted(), columns)
    asked = set(asked_accessions(answer))
    if asked and asked != found:
        missing, other = sorted(asked - found), sorted(found - asked)
        raise BadBodyError(
            f"EFetch must send the {len(asked)} records asked for; {len(missing)} are missing "
            f"({', '.join(missing[:5])}), {len(other)} were not asked for ({', '.join(other[:5])})",
            again=True,
        )


def _table(
    name: str,
    description: str,
    columns: tuple[Column, ...],
    identities: tuple[Identity, ...] = (),
    default: bool = True,
) -> TableConfig:
    return TableConfig(
        name=name,
        description=description,
        columns=columns,
        key=("accession_version",),
        objects=("species", "taxid"),
        first=first,
        stages={
            "search": Stage("xml", follow=search_follow, total=search_total),
            "records": Stage("genbank", rows=partial(rows, columns=columns)),
        },
        recognise=recognise,
        options=OPTIONS,
        identities=identities,
        default=default,
    )


ARCHIVE = Archive(
    name="ncbi_genbank",
    title="GenBank and RefSeq",
    homepage="https://www.ncbi.nlm.nih.gov/genbank/",
    license="other",
    license_name="ncbi-data-usage-policies",
    license_link="https://www.ncbi.nlm.nih.gov/home/about/policies/",
    acknowledgement="Sequences are from GenBank and RefSeq at the National Center for Biotechnology Information.",
    citation="""@article{sayers2024genbank,
  title = {GenBank 2024 Update},
  author = {Sayers, Eric W. and Cavanaugh, Mark and Clark, Karen and Pruitt, Kim D. and Sherry, Stephen T. and
            Yankie, Linda and Karsch-Mizrachi, Ilene},
  journal = {Nucleic Acids Research},
  volume = {52},
  number = {D1},
  pages = {D134--D137},
  year = {2024},
  doi = {10.1093/nar/gkad903}
}""",
    tables=(
        _table("records", "Annotated records: organism, origin of the sample, and the features.", RECORDS),
        _table(
            "sequences",
            "Letters of the records, with their organism.",
            SEQUENCES,
            identities=(
                Identity("length", lengths_agree, "The length on the LOCUS line counts the letters of the sequence"),
            ),
            default=False,
        ),
    ),
    hosts=("eutils.ncbi.nlm.nih.gov",),
    # With a key NCBI allows 10.
    requests_per_second=3,
    burst=1,
    concurrency=2,
    credentials=(
        Credential(
            ("NCBI_API_KEY",),
            "10 instead of 3 requests a second",
            params=lambda values: {"api_key": values["NCBI_API_KEY"]},
            requests_per_second=10.0,
        ),
        Credential(
            ("NCBI_EMAIL",),
            "an address that NCBI can write to before it blocks a client",
            params=lambda values: {"email": values["NCBI_EMAIL"]},
        ),
    ),
    probe=("records", {"term": "NR_074334.1[accn]", "batch": "1"}),
    size="The default query: about 27,000 records, 100 MB; all of GenBank is above 20 TB",
)
