"""GTDB's files of a release: metadata and taxonomy of archaea and bacteria, packed."""

import gzip
from typing import Any

from made_up_rows import made_up_row
from replay import Asked, Replay, Reply

from data_scripts.archives.schemas.gtdb import METADATA


RANKS = ("domain", "phylum", "class", "order", "family", "genus", "gtdb_species")
PREFIXES = ("d", "p", "c", "o", "f", "g", "s")
COUNTED = ("genome_size", "gc_count", "gc_percentage", "ambiguous_bases", "total_gap_length", "coding_bases")


def genome(number: int) -> dict[str, Any]:
    row = made_up_row(METADATA, number, always=(*RANKS, *COUNTED))
    domain = "Archaea" if number < 5 else "Bacteria"
    genus = f"Testella_{'AB'[number % 2]}"
    names = (domain, "Testota", "Testia", "Testales", "Testaceae", genus, f"{genus} sp{number:09}")
    size, gaps, ambiguous, gc, coding = 1_000_003 + number, 13 * number, number, 400_001, 850_007
    row.update(
        zip(RANKS, names, strict=True),
        accession=f"{'GB_GCA' if number % 2 else 'RS_GCF'}_{number:09}.1",
        gtdb_taxonomy=";".join(f"{prefix}__{name}" for prefix, name in zip(PREFIXES, names, strict=True)),
        genome_size=size,
        total_gap_length=gaps,
        ambiguous_bases=ambiguous,
        gc_count=gc,
        gc_percentage=100 * gc / (size - gaps - ambiguous),
        coding_bases=coding,
        coding_density=100 * coding / size,
    )
    return row


GENOMES = [genome(number) for number in range(13)]
TAXONOMY = [{name: row[name] for name in ("accession", "gtdb_taxonomy", *RANKS)} for row in GENOMES]


def answer(asked: Asked) -> Reply:
    folder, _, name = asked.path.rpartition("/")
    files = {"ar53": GENOMES[:5], "bac120": GENOMES[5:]}
    set_name, _, rest = name.partition("_")
    if folder != "/releases/release220/220.0" or set_name not in files:
        return Reply(status=404)
    if rest == "metadata_r220.tsv.gz":
        return _packed(metadata_file(files[set_name]))
    if rest == "taxonomy_r220.tsv.gz":
        return _packed("".join(f"{row['accession']}\t{row['gtdb_taxonomy']}\n" for row in files[set_name]))
    return Reply(status=404)


def metadata_file(rows: list[dict[str, Any]]) -> str:
    names = sorted({column.name for column in METADATA} - set(RANKS) | {"ssu_silva_taxonomy"})
    lines = ["\t".join(names)]
    lines += ["\t".join(_cell(row.get(name)) for name in names) for row in rows]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return "none"
    return ("f", "t")[value] if isinstance(value, bool) else str(value)


def _packed(text: str) -> Reply:
    return Reply(headers={"content-type": "application/gzip"}, body=gzip.compress(text.encode(), mtime=0))


def changed_schema(reply: Reply) -> Reply:
    text = gzip.decompress(reply.body).decode().replace("genome_size", "assembly_size").replace(";s__", ";t__")
    return _packed(text)


ERROR_PAGE = Reply(
    headers={"content-type": "text/html"},
    body=b"<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>\r\n<body></body>\r\n</html>\r\n",
)

REPLAYS = [
    Replay("gtdb", "metadata", {}, answer, GENOMES, changed_schema, ERROR_PAGE),
    Replay("gtdb", "taxonomy", {}, answer, TAXONOMY, changed_schema, ERROR_PAGE),
]
