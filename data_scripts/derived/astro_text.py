"""The data set `astro_text`: text records and questions from the tables of all archives."""

import hashlib
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, DatasetDict, Features, List, Value

from data_scripts.derived.near_duplicates import SHINGLE_WORDS, near_duplicates
from data_scripts.derived.source_rows import MOST_ROWS_PER_TABLE, SourceTable, source_tables
from data_scripts.derived.split_writer import SplitWriter
from data_scripts.derived.text_questions import TextQuestion, text_questions
from data_scripts.derived.text_records import text_record
from data_scripts.derived.text_tables import TextRow
from data_scripts.harness.errors import BuildError
from data_scripts.harness.hub_folder import DatasetCard
from data_scripts.identity import IdentityTable
from data_scripts.splits import SPLIT_NAMES


__all__ = [
    "ASTRO_TEXT_CARD",
    "ASTRO_TEXT_FEATURES",
    "ASTRO_TEXT_SOURCES",
    "NEAR_DUPLICATE",
    "AstroText",
    "build_astro_text",
    "make_astro_text",
]

ASTRO_TEXT_SOURCES = (
    "ensembl_genomes",
    "eso_vlt",
    "exoplanets_org",
    "gemini",
    "gtdb",
    "jwst_mast",
    "keck_koa",
    "kepler_k2",
    "nasa_exoplanet_archive",
    "ncbi_genbank",
    "planet_hunters",
    "subaru_smoka",
    "tess",
    "uniprotkb",
    "object_identity",
)
# Least Jaccard index of two texts' runs of words that makes them near duplicates.
NEAR_DUPLICATE = 0.8
# Joins what differs between the rows that a comparison is made from.
_SEPARATOR = "; "

ASTRO_TEXT_FEATURES = Features(
    {
        "text": Value("string"),
        "messages": List({"role": Value("string"), "content": Value("string")}),
        "kind": Value("string"),
        "object_id": Value("string"),
        "source": Value("string"),
        "source_release": Value("string"),
        "source_sha256": Value("string"),
        "license": Value("string"),
    }
)

ASTRO_TEXT_CARD = DatasetCard(
    name="astro_text",
    pretty_name="Astro text: records and questions from archives of astronomy and biology",
    summary=(
        "Rows of public archives of exoplanets, stars, observations, genomes and proteins as text, and questions on "
        "them whose answers stand in the context that precedes the question."
    ),
    columns={
        "text": "a record as text, numbers digit by digit as in the archive's table; null in questions",
        "messages": "user: context, blank line, question; assistant: answer; null in records",
        "kind": (
            "`record`, `value`, `comparison`, `unanswerable`; of biology also `taxonomy`, `organism`, `enzyme`, "
            "`function`"
        ),
        "object_id": "star or species, by which the splits are made; two joined by `; ` where two are compared",
        "source": "archive and table",
        "source_release": "release of the archive, empty where it has none",
        "source_sha256": "SHA-256 of the body that the row was read from; two joined by `; ` where they differ",
        "license": "licence of the archive: the Hub's identifier, or the name of its terms",
    },
    source=(
        "The archives named in `source`, from folders that `python -m data_scripts build` wrote; each folder's card "
        "has the archive's acknowledgement and citation, which hold for the rows that are from it."
    ),
    method=(
        f"At most {MOST_ROWS_PER_TABLE:,} rows of each table, chosen by hash of their key. One record and about four "
        "questions of each row. Contexts show a random choice of fields in random order; what the context does not "
        "show is answered with `The record does not say.` A star or species is in one split under all its names and "
        "in every other data set of this project (`object_identity`), two rows are compared only within a split, and "
        "a cell that names a known star of another split is left out. Repeated texts are removed. A text of "
        "validation that nearly repeats one of test is removed, and a text of train that nearly repeats one of "
        f"either: the Jaccard index of their sets of {SHINGLE_WORDS} words in a row is {NEAR_DUPLICATE} or more."
    ),
    limits=(
        "Values are the archives' own, with their errors; tables of several publications contradict each other. "
        "Verdicts about candidates (`koi_disposition` and the like) stand in the texts of each split about the stars "
        "of that split. Stars are kept apart by the aliases and positions that `object_identity` knows: an "
        "observer's own name for a target is not resolved. Questions ask for what one row says, so they train reading "
        "and not knowledge."
    ),
    license="other",
    license_name="terms-of-the-archives",
    license_link="https://exoplanetarchive.ipac.caltech.edu/docs/acknowledge.html",
    license_note=(
        "Each row is under the licence in its column `license`; rows of `planet_hunters` have none and may not be "
        "published without leave of their authors; rows of `gtdb` are CC BY-SA 4.0, and what is made of them must be "
        "shared alike."
    ),
    citation=(
        "@article{akeson2013,\n"
        "  author  = {Akeson, R. L. and Chen, X. and Ciardi, D. and others},\n"
        "  title   = {The NASA Exoplanet Archive: Data and Tools for Exoplanet Research},\n"
        "  journal = {Publications of the Astronomical Society of the Pacific},\n"
        "  volume  = {125}, number = {930}, pages = {989}, year = {2013}, doi = {10.1086/672273}\n"
        "}"
    ),
    task_categories=("text-generation", "question-answering"),
    count_by="kind",
)


@dataclass(frozen=True)
class AstroText:
    """The data set and what was left out of it.

    Attributes:
        splits: Those of `train`, `validation` and `test` that have rows.
        near_duplicates: Rows removed because they nearly repeat a row of another split, by split.
        repeated: Rows removed because they repeat a row of their own split, by split.
        cells_left_out: Cells that name a star of another split.
    """

    splits: DatasetDict
    near_duplicates: Mapping[str, int]
    repeated: Mapping[str, int]
    cells_left_out: int


def build_astro_text(inputs: Mapping[str, Path], seed: int = 0) -> DatasetDict:
    """Build the data set from folders that were built from archives; the card says what was left out.

    Args:
        inputs: Source to folder, any of `ASTRO_TEXT_SOURCES`; `object_identity` is needed for more than one table.
        seed: Chooses layouts, phrasings, fields, pairs and order. The splits do not depend on it.

    Returns:
        Those of `train`, `validation` and `test` that have rows, with `ASTRO_TEXT_FEATURES`.

    Raises:
        BuildError: If there is no archive's folder, one is of another source or lacks columns, `object_identity` is
            absent or does not know an object of a table that it is made from, or no row is in train.
    """
    made = make_astro_text(inputs, seed)
    near, repeated = (
        ", ".join(f"{counts[split]:,} of {split}" for split in SPLIT_NAMES)
        for counts in (made.near_duplicates, made.repeated)
    )
    for rows in made.splits.values():
        rows.info.description = (
            f"Removed as near duplicates of another split: {near}. Removed as repetitions: {repeated}. Cells left out "
            f"because they name a star of another split: {made.cells_left_out:,}."
        )
    return made.splits


def make_astro_text(inputs: Mapping[str, Path], seed: int = 0) -> AstroText:
    """Build the data set and count what was left out; see `build_astro_text`."""
    unknown = sorted(set(inputs) - set(ASTRO_TEXT_SOURCES))
    folders = {source: folder for source, folder in sorted(inputs.items()) if source != "object_identity"}
    if unknown or not folders:
        raise BuildError(
            f"from-folder must name at least one archive, of {', '.join(ASTRO_TEXT_SOURCES)}; got "
            f"{', '.join(unknown or inputs) or 'none'}. Pass --from-folder SOURCE=DIR."
        )
    identity = IdentityTable.load(inputs["object_identity"]) if "object_identity" in inputs else None
    repeated: Counter[str] = Counter(dict.fromkeys(SPLIT_NAMES, 0))
    seen: dict[str, set[bytes]] = {split: set() for split in SPLIT_NAMES}
    cells_left_out = 0
    with SplitWriter(ASTRO_TEXT_FEATURES, SPLIT_NAMES) as writer:
        for table in source_tables(folders, identity):
            for split in SPLIT_NAMES:
                rng = random.Random(f"astro_text:{seed}:{table.text_table.name}:{split}")
                rows = list(_rows(table, table.rows[split], rng))
                new = [row for row in rows if _is_new(row, seen[split])]
                repeated[split] += len(rows) - len(new)
                writer.write(split, new)
            cells_left_out += table.cells_left_out
        splits = writer.finish()
    # The split that comes first keeps all its rows.
    order = tuple(reversed(SPLIT_NAMES))
    marks = near_duplicates([_texts(splits[split]) for split in order], NEAR_DUPLICATE)
    removed = {str(split): int(marked.sum()) for split, marked in zip(order, marks, strict=True)}
    kept = {split: np.flatnonzero(~marked).tolist() for split, marked in zip(order, marks, strict=True)}
    if not kept["train"]:
        raise BuildError(
            f"from-folder must hold rows whose objects are in train; got none in "
            f"{', '.join(map(str, folders.values()))}. Build larger tables."
        )
    for split, places in kept.items():
        random.Random(f"astro_text:{seed}:{split}").shuffle(places)
    return AstroText(
        DatasetDict({split: splits[split].select(kept[split]) for split in SPLIT_NAMES if kept[split]}),
        removed,
        dict(repeated),
        cells_left_out,
    )


def _rows(table: SourceTable, rows: Sequence[TextRow], rng: random.Random) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield {"text": text_record(row, rng), "messages": None, "kind": "record"} | _origin(table, (row,))
    for question in text_questions(rows, rng):
        yield {"text": None, "messages": _messages(question), "kind": question.kind} | _origin(table, question.rows)


def _messages(question: TextQuestion) -> list[dict[str, str]]:
    return [
        {"role": "user", "content": f"{question.context}\n\n{question.question}"},
        {"role": "assistant", "content": question.answer},
    ]


def _origin(table: SourceTable, rows: Sequence[TextRow]) -> dict[str, str]:
    def joined(texts: Iterator[str]) -> str:
        return _SEPARATOR.join(dict.fromkeys(texts))

    return {
        "object_id": joined(row.object_id for row in rows),
        "source": table.text_table.name.replace(".", ":"),
        "source_release": joined(row.provenance["source_release"] for row in rows),
        "source_sha256": joined(row.provenance["source_sha256"] for row in rows),
        "license": table.license,
    }


def _whole_text(row: Mapping[str, Any]) -> str:
    return row["text"] or "\n".join(message["content"] for message in row["messages"])


def _texts(rows: Dataset) -> Iterator[str]:
    return map(_whole_text, rows.select_columns(["text", "messages"]))


def _is_new(row: Mapping[str, Any], seen: set[bytes]) -> bool:
    digest = hashlib.blake2b(_whole_text(row).encode(), digest_size=16).digest()
    if digest in seen:
        return False
    seen.add(digest)
    return True
