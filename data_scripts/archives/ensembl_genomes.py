"""Ensembl and Ensembl Genomes: genomes, genes and sequences from the REST service, records from EMBL flat files."""

import re
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from data_scripts.archives.protocols.ensembl_rest import (
    WALK,
    division_request,
    gene_rows,
    genome_request,
    genome_rows,
    sequence_rows,
)
from data_scripts.archives.protocols.flat_files import plain_head, record_rows
from data_scripts.archives.protocols.row_batches import row_batches
from data_scripts.archives.schemas.ensembl_genomes import GENES, GENOMES, SEQUENCES
from data_scripts.archives.schemas.sequence_records import RECORDS
from data_scripts.harness.archive import Answer, Archive, Identity, Option, Request, Selection, Stage, TableConfig
from data_scripts.harness.errors import BuildError


__all__ = ["ARCHIVE"]

FLAT_FILES = "https://ftp.ensemblgenomes.ebi.ac.uk/"
DIVISIONS = (
    "EnsemblVertebrates",
    "EnsemblMetazoa",
    "EnsemblPlants",
    "EnsemblFungi",
    "EnsemblProtists",
    "EnsemblBacteria",
)
SPECIES = Option("saccharomyces_cerevisiae", "Genomes by their names in the table genomes, separated by commas")
SEQUENCE_TYPES = ("genomic", "cdna", "cds", "protein")


def first_genomes(selection: Selection) -> list[Request]:
    """Ask for the genomes of each division."""
    divisions = _words(selection.options["divisions"])
    if not divisions or not set(divisions) <= set(DIVISIONS):
        raise BuildError(f"divisions must be among {','.join(DIVISIONS)}; got {selection.options['divisions']!r}.")
    return [division_request(division) for division in divisions]


def first_species(selection: Selection) -> list[Request]:
    """Ask which taxon each genome is of; its assembly, regions and genes follow."""
    species = _words(selection.options["species"])
    if not species or not all(re.fullmatch(r"[a-z0-9_]+", name) for name in species):
        raise BuildError(f"species must be names such as escherichia_coli_k_12; got {selection.options['species']!r}.")
    kind = selection.options.get("type", "")
    if kind and kind not in SEQUENCE_TYPES:
        raise BuildError(f"type must be one of {', '.join(SEQUENCE_TYPES)}; got {kind!r}.")
    return [genome_request(name, kind) for name in species]


def first_records(selection: Selection) -> list[Request]:
    """Ask for flat files by their addresses."""
    files = _words(selection.options["files"])
    if not files:
        raise BuildError(
            "files must name flat files, such as pub/release-60/fungi/embl/.../x.dat.gz; got none. "
            "Look for them at https://ftp.ensemblgenomes.ebi.ac.uk/pub/, or give files you have with --from."
        )
    return [
        Request(FLAT_FILES + file.removeprefix(FLAT_FILES), "packed" if file.endswith(".gz") else "flat")
        for file in files
    ]


def flat_rows(answer: Answer) -> Iterator[pa.Table]:
    """Read the records of a flat file."""
    yield from row_batches(record_rows(answer, "embl"), RECORDS)


def recognise_genes(name: str, head: bytes) -> str | None:
    """Recognise look-ups of genes, alone or in a batch, also expanded; other answers of the service are JSON too."""
    text = head.decode("utf-8", errors="replace").lstrip()
    types = set(re.findall(r'"object_type"\s*:\s*"(\w+)"', text))
    is_gene = "Gene" in types and types <= {"Gene", "Transcript", "Translation", "Exon"}
    return "lookup" if text.startswith("{") and is_gene and '"seq_region_name"' in text else None


def recognise_genomes(name: str, head: bytes) -> str | None:
    """Recognise lists of genomes."""
    text = head.decode("utf-8", errors="replace").lstrip()
    wanted = ('"species_taxonomy_id"', '"scientific_name"', '"division"')
    return "genomes" if text.startswith("[") and all(key in text for key in wanted) else None


def recognise_records(name: str, head: bytes) -> str | None:
    """Recognise EMBL flat files, which begin like those of UniProt but count in BP."""
    return "flat" if re.match(rb"ID   [^\n]*\bBP\.\r?\n", plain_head(head)) else None


def ends_follow_starts(table: pa.Table) -> pa.BooleanArray:
    """Whether a gene ends after it starts."""
    return pc.greater_equal(table["end"], table["start"]).combine_chunks()


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[\s,]+", text) if word]


ARCHIVE = Archive(
    name="ensembl_genomes",
    title="Ensembl and Ensembl Genomes",
    homepage="https://ensemblgenomes.org/",
    license="other",
    license_name="embl-ebi-terms-of-use",
    license_link="https://www.ensembl.org/info/about/legal/disclaimer.html",
    acknowledgement="Genomes and genes are from Ensembl and Ensembl Genomes at EMBL-EBI.",
    citation="""@article{yates2022ensembl,
  title = {Ensembl Genomes 2022: an expanding genome resource for non-vertebrates},
  author = {Yates, Andrew D. and Allen, James and Amode, Ridwan M. and others},
  journal = {Nucleic Acids Research},
  volume = {50},
  number = {D1},
  pages = {D996--D1003},
  year = {2022},
  doi = {10.1093/nar/gkab1007}
}""",
    tables=(
        TableConfig(
            name="genomes",
            description="Genomes of the divisions, with taxon and assembly; made from documentation.",
            columns=GENOMES,
            key=("name",),
            objects=("species_taxonomy_id", "species"),
            first=first_genomes,
            stages={"genomes": Stage("json", rows=genome_rows)},
            recognise=recognise_genomes,
            options={"divisions": Option(",".join(DIVISIONS[1:]), "Divisions, separated by commas")},
        ),
        TableConfig(
            name="genes",
            description="Genes of chosen genomes: place, class and description.",
            columns=GENES,
            key=("species", "id"),
            objects=("species_taxonomy_id", "species"),
            first=first_species,
            stages={**WALK, "lookup": Stage("json", rows=gene_rows)},
            recognise=recognise_genes,
            options={"species": SPECIES},
            identities=(Identity("extent", ends_follow_starts, "The last base is not before the first"),),
        ),
        TableConfig(
            name="sequences",
            description="Sequences of the genes of chosen genomes; made from documentation.",
            columns=SEQUENCES,
            key=("species", "type", "id"),
            objects=("species_taxonomy_id", "species"),
            first=first_species,
            stages={**WALK, "sequence": Stage("json", rows=sequence_rows)},
            options={"species": SPECIES, "type": Option("genomic", f"One of {', '.join(SEQUENCE_TYPES)}")},
            default=False,
        ),
        TableConfig(
            name="records",
            description="Annotated records of EMBL flat files: organism, origin of the sample, and the features.",
            columns=RECORDS,
            key=("accession_version",),
            objects=("species", "taxid"),
            first=first_records,
            stages={"flat": Stage("embl", rows=flat_rows), "packed": Stage("gzip", rows=flat_rows)},
            recognise=recognise_records,
            options={"files": Option("", f"Addresses below {FLAT_FILES}, separated by commas")},
            default=False,
        ),
    ),
    hosts=("rest.ensembl.org", "ftp.ensemblgenomes.ebi.ac.uk"),
    # 15 a second, and 55,000 an hour, which the headers X-RateLimit count down.
    requests_per_second=15,
    burst=5,
    concurrency=4,
    unverified=("genomes", "sequences"),
    probe=("genes", {"species": "saccharomyces_cerevisiae"}),
    size="33,000 genomes, 30 MB; the genes of one: bacteria 2 MB, vertebrates 30 MB",
)
