"""The data set `embedded_planets`: text records and questions about the planets of the embedded table."""

import random
from typing import Any

from datasets import Dataset, DatasetDict, Features, List, Value

from data_scripts.derived.planet_questions import PlanetQuestion, planet_questions
from data_scripts.derived.planet_records import RECORD_LAYOUTS, planet_record
from data_scripts.embedded.planets import Planet, load_planets
from data_scripts.harness.hub_folder import DatasetCard
from data_scripts.splits import SPLIT_NAMES, SplitName, split_of


__all__ = ["EMBEDDED_PLANETS_CARD", "EMBEDDED_PLANETS_FEATURES", "SOURCE", "build_embedded_planets"]

SOURCE = "nasa_exoplanet_archive:pscomppars"
# Joins the names of the two planets, and of their stars, in a row that compares two planets.
NAME_SEPARATOR = "; "

TRAIN_QUESTIONS_PER_PLANET = 16
HELD_OUT_QUESTIONS_PER_PLANET = 8
TRAIN_REPEATS = 8
HELD_OUT_REPEATS = 2

EMBEDDED_PLANETS_FEATURES = Features(
    {
        "text": Value("string"),
        "messages": List({"role": Value("string"), "content": Value("string")}),
        "kind": Value("string"),
        "planet_name": Value("string"),
        "host_star_name": Value("string"),
        "source": Value("string"),
    }
)

EMBEDDED_PLANETS_CARD = DatasetCard(
    name="embedded_planets",
    pretty_name="Embedded planets: records and questions",
    summary=(
        "Text records of confirmed exoplanets with measured mass and radius, and questions about them whose answers "
        "are computed from the context that precedes the question."
    ),
    columns={
        "text": "a record as text, numbers digit by digit as in the archive's table; null in questions",
        "messages": "user: context, blank line, question; assistant: answer; null in records",
        "kind": "`record`, `value`, `comparison`, `class`, `unit_conversion` or `unanswerable`",
        "planet_name": "the planet; two names joined by `; ` where two planets are compared",
        "host_star_name": "the host star, by which the splits are made; two names where two planets are compared",
        "source": "archive and table",
    },
    source=(
        "NASA Exoplanet Archive, Planetary Systems Composite Parameters (`pscomppars`), DOI 10.26133/NEA13, export of "
        "2021-11-04. This research has made use of the NASA Exoplanet Archive, which is operated by the California "
        "Institute of Technology, under contract with the National Aeronautics and Space Administration under the "
        "Exoplanet Exploration Program."
    ),
    method=(
        "Planets with a measured true mass, a radius, and values that agree with each other; a planet belongs to the "
        "split of its host star (80/10/10 by SHA-256 of the star's name), and two planets are compared only within a "
        "split. Contexts show a random choice of fields in random order, rounded to 4 significant digits. A "
        "conversion is rounded to the digits that its question asks for, ties to even, with the IAU's nominal "
        "constants. Size classes end at 1.25, 1.8, 4 and 6 Earth radii, spectral classes at 3700, 5200, 6000, 7500 "
        "and 10,000 K. What the context does not show is answered with `The record does not say.`"
    ),
    limits=(
        "The selection favours large planets on short orbits, as transit surveys and mass measurements do: few are as "
        "small or as cool as Earth, and questions on those repeat the same planets with other contexts. The archive's "
        "table combines publications, so a row need not be one consistent solution. Values are those of 2021."
    ),
    license="other",
    license_name="nasa-exoplanet-archive",
    license_link="https://exoplanetarchive.ipac.caltech.edu/docs/acknowledge.html",
    license_note=(
        "The archive's data are public; it asks for the acknowledgement above and for the citation of the table's DOI."
    ),
    citation=(
        "@misc{nasa_exoplanet_archive_pscomppars,\n"
        "  author    = {{NASA Exoplanet Archive}},\n"
        "  title     = {Planetary Systems Composite Parameters},\n"
        "  publisher = {NExScI-Caltech/IPAC},\n"
        "  year      = {2021},\n"
        "  note      = {Accessed 2021-11-04},\n"
        "  doi       = {10.26133/NEA13}\n"
        "}"
    ),
    task_categories=("text-generation", "question-answering"),
    count_by="kind",
)


def build_embedded_planets(seed: int = 0) -> DatasetDict:
    """Build the data set from the table that ships with the package; needs neither network nor other files.

    Train has every record layout of each planet and about 16 questions per planet; validation and test have one
    record and about 8 questions per planet. Rows are in random order.

    Args:
        seed: Chooses phrasings, fields, pairs and order. The splits do not depend on it.

    Returns:
        Splits `train`, `validation` and `test` with `EMBEDDED_PLANETS_FEATURES`.
    """
    planets: dict[SplitName, list[Planet]] = {split: [] for split in SPLIT_NAMES}
    for planet in load_planets():
        planets[split_of(planet.host_star_name)].append(planet)
    return DatasetDict({split: _build_split(split, planets[split], seed) for split in SPLIT_NAMES})


def _build_split(split: SplitName, planets: list[Planet], seed: int) -> Dataset:
    train = split == "train"
    rng = random.Random(f"embedded_planets:{seed}:{split}")
    rows = [
        _record_row(planet, layout, seed)
        for planet in planets
        for layout in (RECORD_LAYOUTS if train else (rng.choice(RECORD_LAYOUTS),))
    ]
    rows += [
        _question_row(question)
        for question in planet_questions(
            planets,
            TRAIN_QUESTIONS_PER_PLANET if train else HELD_OUT_QUESTIONS_PER_PLANET,
            seed=f"{seed}:{split}",
            most_repeats=TRAIN_REPEATS if train else HELD_OUT_REPEATS,
        )
    ]
    rng.shuffle(rows)
    return Dataset.from_list(rows, features=EMBEDDED_PLANETS_FEATURES)


def _record_row(planet: Planet, layout: str, seed: int) -> dict[str, Any]:
    return {
        "text": planet_record(planet, layout, seed),
        "messages": None,
        "kind": "record",
        "planet_name": planet.planet_name,
        "host_star_name": planet.host_star_name,
        "source": SOURCE,
    }


def _question_row(question: PlanetQuestion) -> dict[str, Any]:
    return {
        "text": None,
        "messages": [
            {"role": "user", "content": f"{question.context}\n\n{question.question}"},
            {"role": "assistant", "content": question.answer},
        ],
        "kind": question.kind,
        "planet_name": NAME_SEPARATOR.join(planet.planet_name for planet in question.planets),
        # Two planets of one star name the star once.
        "host_star_name": NAME_SEPARATOR.join(dict.fromkeys(planet.host_star_name for planet in question.planets)),
        "source": SOURCE,
    }
