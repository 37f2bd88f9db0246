"""Genome Taxonomy Database: genomes of bacteria and archaea with quality, origin and taxonomy, by release."""

import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from data_scripts.archives.protocols.delimited import open_plain
from data_scripts.archives.protocols.flat_files import plain_head
from data_scripts.archives.schemas.gtdb import GROUPS, METADATA, RANKS, RENAMED, TAXONOMY
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
from data_scripts.harness.errors import BadBodyError, BuildError


__all__ = ["ARCHIVE"]

RELEASES = "https://data.gtdb.ecogenomic.org/releases/"
# Folder, archaeal marker set, and endings of the metadata and of the taxonomy of each release.
FILES = {
    "89": ("release89/89.0", "ar122", ".tsv", ".tsv"),
    "95": ("release95/95.0", "ar122", ".tar.gz", ".tsv.gz"),
    "202": ("release202/202.0", "ar122", ".tar.gz", ".tsv.gz"),
    "207": ("release207/207.0", "ar53", ".tar.gz", ".tsv.gz"),
    "214": ("release214/214.1", "ar53", ".tsv.gz", ".tsv.gz"),
    "220": ("release220/220.0", "ar53", ".tsv.gz", ".tsv.gz"),
    "226": ("release226/226.0", "ar53", ".tsv.gz", ".tsv.gz"),
}
OPTIONS = {"domains": Option("archaea,bacteria", "Domains, separated by commas")}
# GTDB writes null as none.
NULL = "none"


def first(selection: Selection, kind: str) -> list[Request]:
    """Ask for the files of a release."""
    release = selection.release.lower().removeprefix("r")
    if release not in FILES:
        raise BuildError(f"release must be one of {', '.join(FILES)} for gtdb; got {selection.release!r}.")
    folder, archaea, *endings = FILES[release]
    sets = {"archaea": archaea, "bacteria": "bac120"}
    domains = [domain.strip() for domain in selection.options["domains"].split(",")]
    if not domains or not set(domains) <= set(sets):
        raise BuildError(f"domains must be among archaea,bacteria; got {selection.options['domains']!r}.")
    ending = endings[kind == "taxonomy"]
    packed = ending != ".tsv"
    return [
        Request(
            f"{RELEASES}{folder}/{sets[domain]}_{kind}_r{release}{ending}",
            f"{kind}_packed" if packed else kind,
            release=release,
            context=(("domain", domain.capitalize()),),
        )
        for domain in domains
    ]


@contextmanager
def open_table(answer: Answer) -> Iterator[BinaryIO]:
    """Open a table, out of its gzip or the tar file in which old releases have it."""
    with open_plain(answer) as plain:
        tarred = _is_tar(plain.read(512))
    if not tarred:
        with open_plain(answer) as plain:
            yield plain
        return
    with tarfile.open(answer.path, "r|*") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.endswith(".tsv") else None
            if file is not None:
                yield cast(BinaryIO, file)
                return
    raise BadBodyError("the tar file must hold a .tsv file; it holds none")


def read_table(answer: Answer, names: list[str] | None) -> Iterator[pa.Table]:
    """Read a table in blocks, every column as text, null where GTDB writes `none`.

    Args:
        answer: The body.
        names: Column names; None if the first line has them.

    Raises:
        BadBodyError: If the file is damaged or has rows of another length.
    """
    try:
        with open_table(answer) as body:
            if names is None:
                names = body.readline().decode().rstrip("\r\n").split("\t")
            reader = arrow_csv.open_csv(
                body,
                read_options=arrow_csv.ReadOptions(column_names=names, block_size=1 << 24),
                parse_options=arrow_csv.ParseOptions(delimiter="\t", quote_char=False),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), null_values=["", NULL], strings_can_be_null=True
                ),
            )
            for batch in reader:
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, UnicodeDecodeError, OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise BadBodyError(f"the table of GTDB cannot be read: {error}") from error


def metadata_rows(answer: Answer) -> Iterator[pa.Table]:
    """Read genomes; columns that a release has under an older name, or not yet, come under the published names."""
    for table in read_table(answer, None):
        table = table.rename_columns([RENAMED.get(name, name) for name in table.column_names])
        for group in GROUPS:
            if not set(group) & set(table.column_names):
                for name in group:
                    table = table.append_column(name, pa.nulls(len(table), pa.string()))
        if "gtdb_taxonomy" not in table.column_names:
            raise BadBodyError(
                f"metadata must have a column gtdb_taxonomy; got {', '.join(table.column_names[:9])}, ..."
            )
        yield _with_ranks(table, answer)


def taxonomy_rows(answer: Answer) -> Iterator[pa.Table]:
    """Read a taxonomy file, which has no header."""
    for table in read_table(answer, ["accession", "gtdb_taxonomy"]):
        yield _with_ranks(table, answer)


def recognise(name: str, head: bytes, kind: str) -> str | None:
    """Recognise the files of a release, packed or not, by header or first line."""
    packed = head.startswith(b"\x1f\x8b")
    head = plain_head(head)
    while _is_tar(head[:512]) and not head[:100].rstrip(b"\0").endswith(b".tsv"):
        # A folder or another file comes first: its size is written in octal digits, its content fills blocks.
        size = int(head[124:136].strip(b"\0 ") or b"0", 8)
        head = head[512 + -(-size // 512) * 512 :]
    if _is_tar(head[:512]):
        head, packed = head[512:], True
    line = head.partition(b"\n")[0].decode("utf-8", errors="replace").rstrip("\r")
    names = set(line.split("\t"))
    found = None
    if {"accession", "gtdb_taxonomy", "gtdb_representative"} <= names:
        found = "metadata"
    elif re.fullmatch(r"\S+\td__[^\t]*;s__[^\t;]*", line):
        found = "taxonomy"
    if found != kind:
        return None
    return f"{kind}_packed" if packed else kind


def gc_agrees(table: pa.Table) -> pa.BooleanArray:
    """Whether the share of G and C is that of the counts; files round it to two digits at least."""
    known = pc.subtract(pc.subtract(table["genome_size"], table["total_gap_length"]), table["ambiguous_bases"])
    return _agrees(table["gc_percentage"], table["gc_count"], known)


def coding_agrees(table: pa.Table) -> pa.BooleanArray:
    """Whether the coding density is that of the counts."""
    return _agrees(table["coding_density"], table["coding_bases"], table["genome_size"])


def _agrees(percentage: pa.ChunkedArray, part: pa.ChunkedArray, whole: pa.ChunkedArray) -> pa.BooleanArray:
    computed = pc.divide(pc.multiply(pc.cast(part, pa.float64()), 100.0), pc.cast(whole, pa.float64()))
    return pc.less(pc.abs(pc.subtract(percentage, computed)), 0.0051).combine_chunks()


def _is_tar(block: bytes) -> bool:
    return block[257:262] == b"ustar"


def _with_ranks(table: pa.Table, answer: Answer) -> pa.Table:
    pattern = (
        "^" + ";".join(f"{letter}__(?P<{rank}>[^;]*)" for letter, rank in zip("dpcofgs", RANKS, strict=True)) + "$"
    )
    ranks = pc.extract_regex(table["gtdb_taxonomy"], pattern).combine_chunks()
    other = pc.filter(table["gtdb_taxonomy"], pc.and_(ranks.is_null(), table["gtdb_taxonomy"].is_valid()))
    if len(other):
        raise BadBodyError(f"a taxonomy must have the seven ranks d__ to s__; got {other[0].as_py()!r}")
    asked = dict(answer.request.context).get("domain")
    found = set(pc.unique(ranks.field("domain")).to_pylist()) - {None}
    if asked is not None and found - {asked}:
        raise BadBodyError(f"the file must be of {asked}; got {', '.join(sorted(found))}", again=True)
    for rank, values in zip(RANKS, ranks.flatten(), strict=True):
        table = table.append_column(rank, values)
    return table


def _table(
    kind: str,
    description: str,
    columns: tuple[Column, ...],
    objects: tuple[str, ...],
    rows: Callable[[Answer], Iterator[pa.Table]],
    identities: tuple[Identity, ...] = (),
) -> TableConfig:
    return TableConfig(
        name=kind,
        description=description,
        columns=columns,
        key=("accession",),
        objects=objects,
        first=partial(first, kind=kind),
        stages={kind: Stage("tsv", rows=rows), f"{kind}_packed": Stage("gzip", rows=rows)},
        recognise=partial(recognise, kind=kind),
        options=OPTIONS,
        identities=identities,
    )


ARCHIVE = Archive(
    name="gtdb",
    title="Genome Taxonomy Database",
    homepage="https://gtdb.ecogenomic.org/",
    license="cc-by-sa-4.0",
    license_link="https://gtdb.ecogenomic.org/about",
    acknowledgement="Taxonomy and metadata of genomes are from the Genome Taxonomy Database.",
    citation="""@article{parks2022gtdb,
  title = {GTDB: an ongoing census of bacterial and archaeal diversity through a phylogenetically consistent, rank
           normalized and complete genome-based taxonomy},
  author = {Parks, Donovan H. and Chuvochina, Maria and Rinke, Christian and Mussig, Aaron J. and
            Chaumeil, Pierre-Alain and Hugenholtz, Philip},
  journal = {Nucleic Acids Research},
  volume = {50},
  number = {D1},
  pages = {D785--D794},
  year = {2022},
  doi = {10.1093/nar/gkab776}
}""",
    tables=(
        _table(
            "metadata",
            "Genomes with quality, size, origin and taxonomy.",
            METADATA,
            ("gtdb_species", "ncbi_species_taxid"),
            metadata_rows,
            (
                Identity("gc", gc_agrees, "gc_percentage = 100 gc_count / (size - gaps - ambiguous bases)"),
                Identity("coding", coding_agrees, "coding_density = 100 coding_bases / genome_size"),
            ),
        ),
        _table("taxonomy", "Seven ranks of each genome.", TAXONOMY, ("gtdb_species",), taxonomy_rows),
    ),
    hosts=("data.gtdb.ecogenomic.org",),
    # A mirror of files; two at once is polite.
    requests_per_second=1,
    concurrency=2,
    probe=("taxonomy", {"domains": "archaea"}),
    default_release="220",
    size="Release 220: 596,859 genomes; metadata 220 MB, taxonomy 8 MB, packed",
)
