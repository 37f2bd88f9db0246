"""Ensembl's REST service: from the name of a genome over its regions to its genes and their sequences.

Endpoints: https://rest.ensembl.org/documentation; limits: https://github.com/Ensembl/ensembl-rest/wiki. The divisions
of Ensembl Genomes are served there too.
"""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from data_scripts.archives.protocols.row_batches import row_batches
from data_scripts.archives.protocols.species_names import species_name
from data_scripts.archives.schemas.ensembl_genomes import GENES, GENOMES, SEQUENCES
from data_scripts.harness.archive import Answer, Request, Stage
from data_scripts.harness.errors import BadBodyError


__all__ = ["WALK", "division_request", "gene_rows", "genome_request", "genome_rows", "sequence_rows"]

REST = "https://rest.ensembl.org"
JSON = "application/json"
AS_JSON = (("content-type", JSON),)
# The most that the service takes: bases of a region, identifiers of a look-up, identifiers of a batch of sequences.
MOST_BASES, MOST_LOOKUPS, MOST_SEQUENCES = 5_000_000, 1000, 50


def division_request(division: str) -> Request:
    """Ask for the genomes of a division."""
    context = (("division", division),)
    return Request(f"{REST}/info/genomes/division/{division}", "genomes", params=AS_JSON, context=context)


def genome_request(name: str, sequence_type: str = "") -> Request:
    """Ask which taxon a genome is of; its assembly, regions and genes, or their sequences of a type, follow."""
    context = (("species", name), ("type", sequence_type))
    return Request(f"{REST}/info/genomes/{name}", "genome", params=AS_JSON, context=context)


def follow_genome(answer: Answer) -> list[Request]:
    """Ask for the assembly of a genome, and remember its taxa."""
    genome, asked = _json(answer, dict), dict(answer.request.context)
    if _needed(genome, "name") != asked["species"]:
        raise BadBodyError(f"the genome must be {asked['species']}; got {genome['name']}", again=True)
    taxa = tuple(
        (name, str(_needed(genome, name))) for name in ("taxonomy_id", "species_taxonomy_id", "scientific_name")
    )
    context = (*answer.request.context, *taxa)
    return [Request(f"{REST}/info/assembly/{asked['species']}", "assembly", params=AS_JSON, context=context)]


def follow_assembly(answer: Answer) -> list[Request]:
    """Ask for the genes of each stretch of each chromosome or scaffold."""
    asked = dict(answer.request.context)
    requests = []
    for region in _needed(_json(answer, dict), "top_level_region"):
        name, length = _needed(region, "name"), _needed(region, "length")
        for start in range(1, length + 1, MOST_BASES):
            stretch = f"{name}:{start}-{min(start + MOST_BASES - 1, length)}"
            requests.append(
                Request(
                    f"{REST}/overlap/region/{asked['species']}/{stretch}",
                    "region",
                    params=(("feature", "gene"), *AS_JSON),
                    context=(*answer.request.context, ("region", name), ("start", str(start))),
                )
            )
    return requests


def follow_region(answer: Answer) -> list[Request]:
    """Ask for the genes that begin in a stretch, in batches: those that begin before it were in the one before.

    Raises:
        BadBodyError: If a gene does not lie in the stretch: it is the answer to another question.
    """
    asked = dict(answer.request.context)
    start = int(asked["start"])
    genes = []
    for gene in _json(answer, list):
        first, last, region = (_needed(gene, name) for name in ("start", "end", "seq_region_name"))
        # On circular chromosomes a gene may end before it starts.
        if region != asked["region"] or (first <= last and not (first < start + MOST_BASES and last >= start)):
            raise BadBodyError(
                f"genes must lie on {asked['region']} from {start}; got {gene.get('id')} on {region}:{first}-{last}",
                again=True,
            )
        if first >= start or start == 1:
            genes.append(_needed(gene, "id"))
    # Identifiers of bacteria are not unique to a species.
    species = (("species", asked["species"]),)
    if not asked["type"]:
        return [_batch("/lookup/id", "lookup", species, ids, answer) for ids in _batches(genes, MOST_LOOKUPS)]
    kind = (("type", asked["type"]),)
    # A gene has one genomic sequence, and as many others as it has transcripts.
    several = (("multiple_sequences", "1"),) if asked["type"] != "genomic" else ()
    return [
        _batch("/sequence/id", "sequence", (*species, *kind, *several), ids, answer)
        for ids in _batches(genes, MOST_SEQUENCES)
    ]


def genome_rows(answer: Answer) -> Iterator[pa.Table]:
    """Read the genomes of a division.

    Raises:
        BadBodyError: If one is of another division.
    """
    rows = []
    division = dict(answer.request.context).get("division")
    for genome in _json(answer, list):
        row = {column.name: genome.get(column.name) for column in GENOMES}
        for cell in ("name", "division", "assembly_name", "species_taxonomy_id", "taxonomy_id"):
            _needed(genome, cell)
        if division is not None and genome["division"] != division:
            raise BadBodyError(f"division must be {division}; got {genome['division']}", again=True)
        row["species"] = species_name(_needed(genome, "scientific_name"))
        rows.append(_numbers(row, {column.name for column in GENOMES if pa.types.is_integer(column.dtype)}))
    yield from row_batches(rows, GENOMES)


def gene_rows(answer: Answer) -> Iterator[pa.Table]:
    """Read a look-up: of a batch by identifier, or of one gene alone.

    Raises:
        BadBodyError: If a gene is missing, or is none.
    """
    found = _json(answer, dict)
    genes = {found["id"]: found} if isinstance(found.get("id"), str) else found
    asked = json.loads(answer.request.body)["ids"] if answer.request.body else list(genes)
    missing = [name for name in asked if not isinstance(genes.get(name), dict)]
    if missing:
        raise BadBodyError(
            f"a look-up must find the {len(asked)} genes asked for; it lacks {len(missing)}: {', '.join(missing[:5])}",
            again=True,
        )
    others = [name for name in asked if genes[name].get("object_type") != "Gene"]
    if others:
        raise BadBodyError(f"a look-up must be of genes; {others[0]} is {genes[others[0]].get('object_type')!r}")
    for name in asked:
        for cell in ("species", "biotype", "seq_region_name", "start", "end", "strand", "assembly_name"):
            _needed(genes[name], cell)
    yield from row_batches(
        ({**genes[name], "gene_source": genes[name].get("source"), **_taxa(answer)} for name in asked), GENES
    )


def sequence_rows(answer: Answer) -> Iterator[pa.Table]:
    """Read a batch of sequences.

    Raises:
        BadBodyError: If one is of a gene that was not asked for, or a genomic one is missing: each gene has one.
    """
    context = dict(answer.request.context)
    sequences = _json(answer, list)
    asked, found = set(json.loads(answer.request.body)["ids"]), {_needed(item, "query") for item in sequences}
    if found - asked:
        raise BadBodyError(f"the sequence of {min(found - asked)} was not asked for", again=True)
    if context["type"] == "genomic" and asked - found:
        missing = asked - found
        raise BadBodyError(f"{len(missing)} sequences are missing, among them {min(missing)}", again=True)
    rows = (
        {
            "id": _needed(item, "id"),
            "query": _needed(item, "query"),
            "molecule": item.get("molecule"),
            "desc": item.get("desc"),
            "version": item.get("version"),
            "type": context["type"],
            "species": context["species"],
            "length": len(_needed(item, "seq")),
            "sequence": item["seq"],
            **_taxa(answer),
        }
        for item in sequences
    )
    yield from row_batches(rows, SEQUENCES)


def _batch(path: str, stage: str, params: tuple[tuple[str, str], ...], ids: list[str], answer: Answer) -> Request:
    return Request(
        REST + path,
        stage,
        params=params,
        method="POST",
        body=json.dumps({"ids": ids}).encode(),
        content_type=JSON,
        accept=JSON,
        context=answer.request.context,
    )


def _batches(ids: list[str], most: int) -> list[list[str]]:
    return [ids[start : start + most] for start in range(0, len(ids), most)]


def _taxa(answer: Answer) -> dict[str, Any]:
    context = dict(answer.request.context)
    return {
        "taxonomy_id": int(context["taxonomy_id"]) if "taxonomy_id" in context else None,
        "species_taxonomy_id": int(context["species_taxonomy_id"]) if "species_taxonomy_id" in context else None,
        "scientific_name": context.get("scientific_name"),
    }


def _json(answer: Answer, kind: type) -> Any:
    try:
        found = json.loads(answer.body)
    except ValueError as error:
        raise BadBodyError(f"the answer does not parse: {error}", again=True) from error
    if not isinstance(found, kind) or (isinstance(found, dict) and "error" in found):
        raise BadBodyError(f"the answer must be a {kind.__name__}; got {answer.text[:200]}")
    return found


def _needed(item: dict[str, Any], name: str) -> Any:
    if not isinstance(item, dict) or item.get(name) is None:
        raise BadBodyError(f"each of the answers must have {name}; got {str(item)[:200]}")
    return item[name]


def _numbers(row: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """Read the numbers that the service puts in quotes."""
    try:
        return {name: int(value) if name in names and value is not None else value for name, value in row.items()}
    except (TypeError, ValueError) as error:
        raise BadBodyError(f"a number of genome {row.get('name')} does not parse: {error}") from error


WALK = {
    "genome": Stage("json", follow=follow_genome),
    "assembly": Stage("json", follow=follow_assembly),
    "region": Stage("json", follow=follow_region),
}
