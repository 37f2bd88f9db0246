"""Ensembl's REST service: divisions, assemblies, regions, and batches of genes and sequences."""

import json
from typing import Any

from replay import Asked, Replay, Reply


SPECIES = "testella_prima_gca_999999"
LIMITS = {"x-ratelimit-limit": "55000", "x-ratelimit-remaining": "54999", "x-ratelimit-reset": "3000"}
TAXA = {"scientific_name": "Testella prima str. 37", "species_taxonomy_id": 900001, "taxonomy_id": 900037}
# Two windows of five million bases on the first region, one on the others; the last has no genes.
REGIONS = {"Chromosome": 7_000_037, "pTest": 130_013, "scaffold_empty": 613}


def gene(number: int) -> dict[str, Any]:
    region = "pTest" if number >= 9 else "Chromosome"
    start = 101 + (number - 9) * 7001 if number >= 9 else 300 + number * 810_000
    # The sixth begins in the first window and ends in the second.
    return {
        "id": f"TEST_{number:05}",
        "species": SPECIES,
        **TAXA,
        "display_name": None if number % 3 == 0 else f"tst{number}\u03b1",
        "description": f"testase {number}" if number % 2 else None,
        "biotype": "protein_coding" if number % 4 else "rRNA",
        "assembly_name": "ASM99v1",
        "seq_region_name": region,
        "start": start,
        "end": start + 1_000_000 if number == 5 else start + 37 * (number + 1) - 1,
        "strand": 1 if number % 2 else -1,
        "gene_source": "ena",
        "logic_name": "genes",
        "db_type": "core",
        "version": 1 if number % 2 else None,
        "canonical_transcript": f"TEST_{number:05}-1.1" if number % 2 else None,
    }


GENES = [gene(number) for number in range(13)]


def sequence(row: dict[str, Any]) -> dict[str, Any]:
    letters = "".join("ACGTN"[(at * at + row["start"]) % 5] for at in range(37 + row["start"] % 13))
    return {
        "id": row["id"],
        "query": row["id"],
        "species": SPECIES,
        **TAXA,
        "type": "genomic",
        "molecule": "dna",
        "desc": f"primary_assembly:ASM99v1:{row['seq_region_name']}:{row['start']}:{row['end']}:{row['strand']}",
        "version": row["version"],
        "length": len(letters),
        "sequence": letters,
    }


SEQUENCES = [sequence(row) for row in GENES]


def genome(number: int) -> dict[str, Any]:
    return {
        "name": f"testella_nr_{number}",
        "scientific_name": f"Testella prima str. {number}",
        "species": "Testella prima",
        "species_taxonomy_id": 900001,
        "taxonomy_id": 900100 + number,
        "display_name": f"Testella prima str. {number} (GCA_{number:09})",
        "strain": None if number % 3 == 0 else f"{number}",
        "serotype": None,
        "division": "EnsemblBacteria" if number < 7 else "EnsemblProtists",
        "assembly_name": f"ASM{number}v1",
        "assembly_accession": f"GCA_{number:09}.1" if number % 4 else None,
        "assembly_level": "chromosome",
        "base_count": 1_000_003 + number,
        "genebuild": "2015-03-\u00e9" if number % 2 else None,
    }


GENOMES = [genome(number) for number in range(13)]


def as_sent(row: dict[str, Any]) -> dict[str, Any]:
    sent = {name: str(value) if isinstance(value, int) else value for name, value in row.items() if name != "species"}
    return {**sent, "dbname": "bacteria_1_collection_core", "has_variations": "0"}


def answer(asked: Asked) -> Reply:
    parts = asked.path.strip("/").split("/")
    if parts[:3] == ["info", "genomes", "division"]:
        return _json([as_sent(row) for row in GENOMES if row["division"] == parts[3]])
    if asked.path == f"/info/genomes/{SPECIES}":
        return _json({"name": SPECIES, **{name: str(value) for name, value in TAXA.items()}})
    if asked.path == f"/info/assembly/{SPECIES}":
        regions = [{"name": name, "length": length, "coord_system": "primary"} for name, length in REGIONS.items()]
        return _json({"assembly_name": "ASM99v1", "karyotype": [], "top_level_region": regions})
    if parts[:3] == ["overlap", "region", SPECIES]:
        name, _, span = parts[3].partition(":")
        start, end = (int(number) for number in span.split("-"))
        assert end <= REGIONS[name]
        assert end - start < 5_000_000
        found = [
            row for row in GENES if row["seq_region_name"] == name and row["start"] <= end and row["end"] >= start
        ]
        return _json([{**row, "feature_type": "gene", "external_name": row["display_name"]} for row in found])
    if asked.method == "POST" and asked.path in ("/lookup/id", "/sequence/id"):
        ids = json.loads(asked.body)["ids"]
        assert asked.query["species"] == [SPECIES]
        if asked.path == "/lookup/id":
            rows = {row["id"]: row for row in GENES}
            return _json({name: looked_up(rows[name]) if name in rows else None for name in ids})
        sequences = {row["id"]: row for row in SEQUENCES}
        keys = ("id", "query", "molecule", "desc", "version")
        return _json([{**{k: sequences[n][k] for k in keys}, "seq": sequences[n]["sequence"]} for n in ids])
    return Reply(status=404)


def looked_up(row: dict[str, Any]) -> dict[str, Any]:
    sent = {name: value for name, value in row.items() if value is not None and name not in TAXA}
    sent["source"] = sent.pop("gene_source")
    return {**sent, "object_type": "Gene"}


def _json(content: Any) -> Reply:
    return Reply(headers={"content-type": "application/json", **LIMITS}, body=json.dumps(content).encode())


def changed_schema(reply: Reply) -> Reply:
    body = reply.body
    for old, new in ((b'"assembly_name"', b'"assembly"'), (b'"seq":', b'"sequence":')):
        if b'"top_level_region"' not in body:
            body = body.replace(old, new)
    return Reply(reply.status, reply.headers, body)


ERROR_PAGE = Reply(headers={"content-type": "application/json"}, body=b'{"error":"No connection to the database"}')

REPLAYS = [
    Replay("ensembl_genomes", "genes", {"species": SPECIES}, answer, GENES, changed_schema, ERROR_PAGE),
    Replay("ensembl_genomes", "sequences", {"species": SPECIES}, answer, SEQUENCES, changed_schema, ERROR_PAGE),
    Replay(
        "ensembl_genomes",
        "genomes",
        {"divisions": "EnsemblBacteria,EnsemblProtists"},
        answer,
        GENOMES,
        changed_schema,
        ERROR_PAGE,
    ),
]
