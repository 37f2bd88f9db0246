"""The card of an archive's data set states what a user must know before they use it."""

import dataclasses
from dataclasses import replace

import pyarrow as pa
import yaml
from made_up_tables import archive_of, config_of

from data_scripts.harness.archive import Column
from data_scripts.harness.archive_card import archive_card
from data_scripts.harness.assemble import ADDED_COLUMNS, TableQuality
from data_scripts.harness.quality.report import QualityReport, TableReport
from data_scripts.harness.tallies import ColumnTally, Tallies


PLANETS = config_of(
    Column("name", pa.string(), "Name | of the planet", required=True),
    Column("period", pa.float64(), "Orbital period", unit="d", minimum=0),
)
STARS = dataclasses.replace(PLANETS, name="stars")
EMPTY = dataclasses.replace(PLANETS, name="empty")


def report_of(*, rejected=0, missing=()):
    tallies = Tallies(
        rows=1234, rejected=rejected, columns={name: ColumnTally(1234, 1234) for name in ("name", "period")}
    )
    rows = {"train": 1000, "validation": 134, "test": 100}
    tables = (
        TableReport(EMPTY, TableQuality("empty", Tallies(), split_rows=dict.fromkeys(rows, 0))),
        TableReport(PLANETS, TableQuality("planets", tallies, split_rows=rows)),
        TableReport(STARS, TableQuality("stars", tallies, split_rows=rows | {"test": 0})),
    )
    return QualityReport("test_archive", tables, missing=missing)


def card_of(archive=None, report=None, **options):
    return archive_card(archive or archive_of(PLANETS, STARS, EMPTY), report or report_of(), **options)


def header_of(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_header_offers_every_split_with_rows():
    header = header_of(card_of())
    assert header["pretty_name"] == "The Test Archive: 100 %"
    assert (header["license"], header["license_name"]) == ("other", "test-terms")
    assert header["configs"] == [
        {
            "config_name": "planets",
            "default": True,
            "data_files": [
                {"split": split, "path": f"planets/{split}-*.parquet"} for split in ("train", "validation", "test")
            ],
        },
        {
            "config_name": "stars",
            "data_files": [{"split": split, "path": f"stars/{split}-*.parquet"} for split in ("train", "validation")],
        },
    ]


def test_known_licence_needs_no_name():
    header = header_of(card_of(archive_of(PLANETS, license="cc-by-4.0")))
    assert header["license"] == "cc-by-4.0"
    assert "license_name" not in header


def test_note_on_a_licence_stands_beside_it():
    card = card_of(archive_of(PLANETS, license_note="Ask the authors."))
    assert "test-terms. See https://archive.example/terms. Ask the authors.\n" in card


def test_columns_with_units_and_the_harness_own():
    card = card_of()
    assert "| `period` | `double` | d | 0 to | Orbital period |" in card
    assert "| `name` | `string` |  |  | Name \\| of the planet |" in card
    assert "Key: `name`. Required: `name`." in card
    for name in ADDED_COLUMNS:
        assert f"| `{name}` | `string` |" in card


def test_quality_counts_licence_and_thanks():
    card = card_of(release="r7")
    for said in (
        "| `planets` | 1,000 | 134 | 100 | Invented planets. |",
        "| `planets` | 1.0000 | 1.0000 |",
        "A split without rows is an empty file",
        "quality/quality.png",
        "Release: r7.",
        "We thank nobody.",
        "test-terms. See https://archive.example/terms.",
        "@misc{nobody",
    ):
        assert said in card
    assert "Warning" not in card
    assert "not verified" not in card


def test_unverified_archive_says_so():
    card = card_of(archive_of(PLANETS, unverified=("planets",)))
    assert "Reader: documented, not verified against a recorded answer." in card
    stars = replace(PLANETS, name="stars")
    card = card_of(archive_of(PLANETS, stars, unverified=("stars",)))
    assert "but stars: documented, not verified against a recorded answer." in card


def test_failed_gate_and_missing_request_stand_first():
    card = card_of(report=report_of(rejected=200, missing=("https://archive.example/gone: 500",)))
    assert "- Gate failed: planets: validity must be above 0.98; got 0.8379" in card
    assert "- No answer: https://archive.example/gone: 500" in card
    assert card.index("## Warning") < card.index("## Configurations")
