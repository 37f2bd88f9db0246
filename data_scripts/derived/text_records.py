"""Text records: what an archive's table says about one row, as lines, as sentences, or as the table's own template."""

import random
from collections.abc import Callable, Mapping
from typing import Any

from data_scripts.derived.text_tables import TextRow


__all__ = ["SHOWN_LETTERS", "shown_sequence", "text_record"]

# Letters of a sequence that are shown; the rest is counted.
SHOWN_LETTERS = 1000
_MOST_FEATURES = 64
_RANKS = ("domain", "phylum", "class", "order", "family", "genus")


def text_record(row: TextRow, rng: random.Random) -> str:
    """Return a row as text.

    Numbers stand as in the table, digit by digit, with uncertainties and units; what is null is left out.

    Args:
        row: A row of a table.
        rng: Chooses lines or sentences where the table has no template of its own.
    """
    template = _TEMPLATES.get(row.table.name)
    if template is not None:
        return template(row)
    return _lines(row) if rng.random() < 0.5 else _sentences(row, rng)


def shown_sequence(letters: str, most: int = SHOWN_LETTERS) -> str:
    """Return a sequence, or its first letters and how many there are."""
    if len(letters) <= most:
        return letters
    return f"{letters[:most]} (first {most} of {len(letters)})"


def _lines(row: TextRow) -> str:
    lines = [row.title]
    lines += [f"{field.label}: {text}" for field in row.table.fields if (text := field.whole(row.cells)) is not None]
    return "\n".join(lines)


def _sentences(row: TextRow, rng: random.Random) -> str:
    sentences = [
        rng.choice(
            (
                f"This is what {row.table.title} says about {row.name} ({row.table.noun}).",
                f"{row.table.noun} {row.name}, in {row.table.title}.",
                f"{row.table.title} lists {row.name} ({row.table.noun}).",
            )
        )
    ]
    # One for the whole text: rows that say the same must not be told apart by it.
    article = rng.choice(("Its", "The"))
    for field in row.table.fields:
        text = field.whole(row.cells)
        if text is None:
            continue
        if field.kind in ("flag", "list") or field.phrase is None or field.plural:
            sentences.append(f"{field.label}: {text}.")
        else:
            sentences.append(f"{article} {field.phrase} is {text}.")
    return " ".join(sentences)


def _paragraph(parts: list[str | None]) -> str:
    return "\n".join(part for part in parts if part)


def _filled(template: str, value: Any) -> str | None:
    if value is None or value == [] or value == "":
        return None
    return template.format("; ".join(map(str, value)) if isinstance(value, list) else value)


def _protein(row: TextRow) -> str:
    cells = row.cells
    species = f"{cells['organism_name']} (NCBI taxon {cells['organism_id']})"
    curated = "a curator has read the entry" if cells["reviewed"] else "no curator has read the entry"
    return _paragraph(
        [
            f"{row.title} ({cells['accession']}), {cells['protein_name']}",
            f"A protein of {species}, {cells['length']} residues long, with a mass of {cells['mass']} u; {curated}.",
            _filled("Genes: {}", cells["gene_names"]),
            _filled("EC numbers: {}", cells["ec"]),
            _filled("Function: {}", row.values.get("cc_function")),
            _filled("Lineage: {}", cells["lineage"]),
            _filled("Keywords: {}", cells["keyword"]),
            _filled("Gene Ontology terms: {}", row.values.get("go_id")),
            f"Sequence: {shown_sequence(cells['sequence'])}",
        ]
    )


def _activity(row: TextRow) -> str:
    cells = row.cells
    return _paragraph(
        [
            f"{row.title} ({cells['accession']})",
            f"A protein of {cells['organism_name']} (NCBI taxon {cells['organism_id']}) catalyses the reaction "
            f"{cells['reaction']}",
            _filled("Part of the protein: {}", cells["molecule"]),
            _filled("EC number: {}", cells["ec_number"]),
            _filled("Reaction in Rhea: {}", cells["rhea_id"]),
            _filled("Participants in ChEBI: {}", cells["chebi_ids"]),
            _filled("Directions seen: {}", cells["direction"]),
        ]
    )


def _taxonomy(row: TextRow) -> str:
    ranks = [f"the {rank} {row.cells[rank]}" for rank in _RANKS if row.cells[rank]]
    species = _filled("the species {}", row.cells["gtdb_species"])
    return f"In GTDB the genome {row.name} belongs to {', '.join([*ranks, species] if species else ranks)}."


def _annotated(row: TextRow) -> str:
    lines = [row.title]
    lines += [
        f"{field.label}: {text}"
        for field in row.table.fields
        if not field.column.startswith("feature_") and (text := field.whole(row.cells)) is not None
    ]
    columns = ("feature_type", "feature_location", "feature_gene", "feature_product", "feature_protein_id")
    features = list(zip(*(row.cells[column] or [] for column in columns), strict=True))
    lines += [" ".join(("-", *filter(None, feature))) for feature in features[:_MOST_FEATURES]]
    if len(features) > _MOST_FEATURES:
        lines.append(f"and {len(features) - _MOST_FEATURES} more features")
    return "\n".join(lines)


def _sequence(row: TextRow) -> str:
    cells = row.cells
    lines = [row.title]
    lines += [f"{field.label}: {text}" for field in row.table.fields if (text := field.whole(cells)) is not None]
    return _paragraph([*lines, _filled("Letters: {}", cells["sequence"] and shown_sequence(cells["sequence"]))])


_TEMPLATES: Mapping[str, Callable[[TextRow], str]] = {
    "ensembl_genomes.records": _annotated,
    "ensembl_genomes.sequences": _sequence,
    "gtdb.taxonomy": _taxonomy,
    "ncbi_genbank.records": _annotated,
    "ncbi_genbank.sequences": _sequence,
    "uniprotkb.catalytic_activities": _activity,
    "uniprotkb.entries": _protein,
}
