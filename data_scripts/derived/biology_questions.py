"""Questions that belong to tables of organisms, genomes, sequences and proteins."""

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from data_scripts.derived.text_records import shown_sequence
from data_scripts.derived.text_tables import TextRow


__all__ = ["BIOLOGY_KINDS", "BIOLOGY_TOPICS", "BiologyQuestion", "Topic"]

BIOLOGY_KINDS = ("taxonomy", "organism", "enzyme", "function")
_RANKS = {
    "domain": "domain",
    "phylum": "phylum",
    "class": "class",
    "order": "order",
    "family": "family",
    "genus": "genus",
    "gtdb_species": "species",
}
_DOMAINS = frozenset({"Archaea", "Bacteria", "Eukaryota"})
_LETTERS_IN_CONTEXT = 96
_MOST_WORDS = 60
_FIRST_SENTENCE = re.compile(r"(.{20,}?\.)\s+(?=[A-Z])")


@dataclass(frozen=True)
class BiologyQuestion:
    """A question and its answer, with what the context must show.

    Attributes:
        kind: One of `BIOLOGY_KINDS`.
        columns: Fields that the context must show.
        lines: Further lines of the context.
        question: The question.
        answer: The answer, which stands in the fields or lines.
    """

    kind: str
    columns: tuple[str, ...]
    lines: tuple[str, ...]
    question: str
    answer: str


Topic = Callable[[TextRow, random.Random], BiologyQuestion | None]


def _rank(row: TextRow, rng: random.Random) -> BiologyQuestion | None:
    ranks = [column for column in _RANKS if row.cells[column]]
    if not ranks:
        return None
    column = rng.choice(ranks)
    question = rng.choice(
        ("Which {rank} does the genome {name} belong to?", "What is the {rank} of the genome {name} in GTDB?")
    ).format(rank=_RANKS[column], name=row.name)
    return BiologyQuestion("taxonomy", (column,), (), question, row.values[column])


def _lineage(organism: str, lineage: str) -> Topic:
    def ask(row: TextRow, rng: random.Random) -> BiologyQuestion | None:
        taxa, name = row.cells[lineage], row.values.get(organism)
        # A lineage that is cut where it is shown does not show its last taxon.
        if not taxa or name is None or not row.values[lineage].endswith(taxa[-1]):
            return None
        domain = next((taxon for taxon in taxa[:2] if taxon in _DOMAINS), None)
        if domain is not None and rng.random() < 0.5:
            question, answer = f"Which domain of life does {name} belong to?", domain
        else:
            question, answer = f"Which taxon stands directly above {name} in its lineage?", taxa[-1]
        return BiologyQuestion("taxonomy", (organism, lineage), (), question, answer)

    return ask


def _organism(organism: str, sequence: str | None = None) -> Topic:
    def ask(row: TextRow, rng: random.Random) -> BiologyQuestion | None:
        name = row.values.get(organism)
        if name is None:
            return None
        letters = row.cells[sequence] if sequence else None
        lines = (f"Letters: {shown_sequence(letters, _LETTERS_IN_CONTEXT)}",) if letters else ()
        noun = row.table.noun.lower()
        question = rng.choice(
            (f"Which organism is the {noun} {row.name} from?", f"What organism has the {noun} {row.name}?")
        )
        return BiologyQuestion("organism", (organism,), lines, question, name)

    return ask


def _ec_numbers(row: TextRow, rng: random.Random) -> BiologyQuestion | None:
    numbers = row.values.get("ec")
    if numbers is None:
        return None
    one = len(row.cells["ec"]) == 1
    question = f"What is the EC number of {row.name}?" if one else f"Which EC numbers does {row.name} have?"
    return BiologyQuestion("enzyme", ("ec",), (), question, numbers)


def _reaction(row: TextRow, rng: random.Random) -> BiologyQuestion | None:
    protein = row.cells["id"]
    asked = {
        "reaction": (f"Which reaction does {protein} catalyse?", f"What does the enzyme {protein} catalyse?"),
        "ec_number": (f"What is the EC number of the reaction that {protein} catalyses?",),
        "rhea_id": (f"Which number has the reaction of {protein} in Rhea?",),
    }
    column = rng.choice([column for column in asked if column in row.values])
    return BiologyQuestion("enzyme", (column,), (), rng.choice(asked[column]), row.values[column])


def _function(row: TextRow, rng: random.Random) -> BiologyQuestion | None:
    text = row.values.get("cc_function")
    if text is None:
        return None
    if len(text.split()) > _MOST_WORDS:
        sentence = _FIRST_SENTENCE.match(text)
        if sentence is None or len(sentence[1].split()) > _MOST_WORDS:
            return None
        question, answer = (
            f"What is the first thing that the record says about the function of {row.name}?",
            sentence[1],
        )
    else:
        question = rng.choice((f"What does the protein {row.name} do?", f"What is the function of {row.name}?"))
        answer = text
    return BiologyQuestion("function", ("cc_function",), (), question, answer)


BIOLOGY_TOPICS: Mapping[str, tuple[Topic, ...]] = {
    "ensembl_genomes.records": (_lineage("organism", "taxonomy"), _organism("organism")),
    "ensembl_genomes.sequences": (_organism("scientific_name", "sequence"),),
    "gtdb.metadata": (_rank, _rank),
    "gtdb.taxonomy": (_rank, _rank),
    "ncbi_genbank.records": (_lineage("organism", "taxonomy"), _organism("organism")),
    "ncbi_genbank.sequences": (_organism("organism", "sequence"),),
    "uniprotkb.catalytic_activities": (_reaction, _organism("organism_name")),
    "uniprotkb.entries": (
        _lineage("organism_name", "lineage"),
        _organism("organism_name", "sequence"),
        _ec_numbers,
        _function,
    ),
}
