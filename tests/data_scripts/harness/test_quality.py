"""Scores are shares of what was judged; gates and report say what they are made of."""

import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_up_tables import config_of

from data_scripts.harness.archive import Column, Identity
from data_scripts.harness.assemble import TableQuality
from data_scripts.harness.quality.agreement import Quantity, compare, compare_planets
from data_scripts.harness.quality.gates import GATES, failed_gates, grade_of
from data_scripts.harness.quality.report import QualityReport, RefusedBody, TableReport
from data_scripts.harness.quality.scores import score_table, share_text
from data_scripts.harness.quality.write import write_quality
from data_scripts.harness.tallies import ColumnTally, IdentityTally, Tallies


LAW = Identity("Kepler's third law", lambda table: None, "a^3 = M P^2")
CONFIG = config_of(
    Column("name", pa.string(), "x", required=True),
    Column("period", pa.float64(), "x", required=True, minimum=0),
    Column("note", pa.string(), "x"),
    identities=(LAW,),
)
TALLIES = Tallies(
    rows=100,
    rejected=4,
    columns={
        "name": ColumnTally(cells=100, stated=100),
        "period": ColumnTally(cells=100, stated=90, unconverted=2, judged=88, outside=2),
        "note": ColumnTally(cells=100, stated=10),
    },
    identities={LAW.name: IdentityTally(judged=50, held=49)},
    faults={"period is not double": 2, "period is below 0": 2},
)
TABLE = TableQuality("planets", TALLIES, duplicates=6, split_rows={"train": 80, "validation": 0, "test": 10}, bodies=3)
QUANTITIES = [(Quantity("p", "p_up", "p_low", "p_limit"), Quantity("q", "q_up", "q_low"))]


def left_of(names, values, upper, lower, limits=None):
    limits = limits or [0] * len(names)
    return pa.table({"n": names, "p": values, "p_up": upper, "p_low": lower, "p_limit": limits})


def right_of(names, values, upper, lower):
    return pa.table({"m": names, "q": values, "q_up": upper, "q_low": lower})


def test_scores_are_the_documented_shares():
    scores = score_table(TABLE, CONFIG)
    assert scores.completeness.value == pytest.approx(190 / 200)
    assert scores.consistency.value == pytest.approx((90 / 96 + 198 / 200) / 2)
    assert scores.accuracy.value == pytest.approx((86 / 88 + 49 / 50) / 2)
    assert scores.validity.value == pytest.approx(96 / 100)
    assert scores.overall == pytest.approx(np.mean([score.value for score in scores.all]))


def test_what_cannot_be_judged_is_no_score():
    config = config_of(Column("name", pa.string(), "x"))
    tallies = Tallies(rows=3, columns={"name": ColumnTally(cells=3, stated=3)})
    scores = score_table(TableQuality("planets", tallies), config)
    assert scores.completeness.value is None
    assert scores.accuracy.value is None
    assert scores.overall == 1.0
    nothing = score_table(TableQuality("planets", Tallies()), CONFIG)
    assert [score.value for score in nothing.all] == [None] * 4
    assert nothing.overall is None
    assert grade_of(nothing.overall) == "not judged"
    assert failed_gates(nothing) == []


def test_gates_must_be_exceeded():
    assert failed_gates(score_table(TABLE, CONFIG)) == [
        "completeness must be above 0.95; got 0.9500",
        "validity must be above 0.98; got 0.9600",
    ]
    assert GATES == {"completeness": 0.95, "consistency": 0.90, "accuracy": 0.95, "validity": 0.98}


@pytest.mark.parametrize(
    ("overall", "grade"), [(1.0, "A+"), (0.95, "A+"), (0.9499, "A"), (0.8, "B"), (0.7, "C"), (0.6, "D"), (0.1, "F")]
)
def test_grades(overall, grade):
    assert grade_of(overall) == grade


@pytest.mark.parametrize(
    ("share", "text"), [(1.0, "1.0000"), (0.99999, "0.9999"), (0.57, "0.5700"), (None, "not judged")]
)
def test_shares_are_cut(share, text):
    assert share_text(share) == text


def test_agreement_by_hand():
    left = left_of(
        ["Test-1 b", "TEST-2  b", "Test-3 b", "Test-4 b", "Test-5 b", "alone", None],
        [10.0, 10.0, 10.0, 10.0, None, 1.0, 1.0],
        [1.0, 1.0, None, None, 1.0, 1.0, 1.0],
        [-0.1, -0.1, None, None, -1.0, -1.0, -1.0],
    )
    right = right_of(
        ["test-1 b", "Test-2 b", "Test-3 b", "Test-4 b", "Test-5 b", "other"],
        [12.0, 9.0, 10.5, 10.0, 1.0, 1.0],
        [9.0, 0.2, 0.2, None, 1.0, 1.0],
        [0.2, 9.0, 0.2, None, 1.0, 1.0],
    )
    agreement = compare(left, right, ("n", "m"), QUANTITIES, names=("one", "other"))
    # Test-1: 2 apart, errors towards each other 1.0 and 0.2. Test-2: 1 apart, 0.1 and 0.2. Test-3: one error, 0.2.
    [value] = agreement.values
    assert (agreement.matched, agreement.only_left, agreement.only_right) == (5, 1, 1)
    assert (value.judged, value.agree) == (3, 2)
    [(name, one, other, away)] = value.examples
    assert (name, one, other) == ("test-2 b", 10.0, 9.0)
    assert away == pytest.approx(1 / np.hypot(0.1, 0.2))
    assert (agreement.judged, agreement.agree) == (3, 2)


def test_limits_and_repeated_names_are_not_judged():
    left = left_of(["a", "b", "c", "c"], [1.0] * 4, [0.1] * 4, [0.1] * 4, [0, 1, 0, 0])
    right = right_of(["a", "b", "c"], [1.0] * 3, [0.1] * 3, [0.1] * 3)
    agreement = compare(left, right, ("n", "m"), QUANTITIES)
    assert (agreement.matched, agreement.judged) == (2, 1)


def test_planets_of_two_archives(tmp_path):
    nasa = {"pl_name": ["Test-1 b", "Test-2 b"], "pl_orbper": [3.0, 5.0]}
    nasa |= {
        "pl_orbpererr1": [0.1, 0.1],
        "pl_orbpererr2": [-0.1, -0.1],
        "pl_orbperlim": [0, None],
        "pl_radj": [1.0, 1.0],
    }
    other = {"NAME": ["Test-2 b", "TEST-1 b"], "PER": [9.0, 3.1], "PERUPPER": [0.1, None], "PERLOWER": [0.1, None]}
    for name, table in (("pscomppars", nasa), ("planets", other)):
        (tmp_path / name).mkdir()
        pq.write_table(pa.table(table), tmp_path / name / "train-00000-of-00001.parquet")
    agreement = compare_planets(tmp_path / "pscomppars", tmp_path / "planets")
    assert [(value.left, value.right, value.judged, value.agree) for value in agreement.values] == [
        ("pl_orbper", "PER", 2, 1)
    ]


def test_agreement_counts_into_consistency_only_where_judged():
    left, right = left_of(["a"], [1.0], [0.1], [0.1]), right_of(["a"], [9.0], [0.1], [0.1])
    agreement = compare(left, right, ("n", "m"), QUANTITIES)
    with_it, without = score_table(TABLE, CONFIG, agreement), score_table(TABLE, CONFIG)
    assert with_it.consistency.value == pytest.approx(without.consistency.value * 2 / 3)
    apart = compare(left, right_of(["b"], [9.0], [0.1], [0.1]), ("n", "m"), QUANTITIES)
    assert score_table(TABLE, CONFIG, apart).consistency.value == without.consistency.value


def report_of(**changes):
    other = dataclasses.replace(CONFIG, name="empty")
    tables = (TableReport(CONFIG, TABLE), TableReport(other, TableQuality("empty", Tallies())))
    refused = (RefusedBody("https://archive.example/table", "an HTML page | in place\nof a table", "0" * 64),)
    return QualityReport("test_archive", tables, refused=refused, **changes)


def test_report_names_everything(tmp_path):
    write_quality(report_of(missing=("https://archive.example/gone: 500",)), tmp_path)
    content = json.loads((tmp_path / "quality" / "quality.json").read_text(encoding="utf-8"))
    assert content["failed_gates"] == [
        "planets: completeness must be above 0.95; got 0.9500",
        "planets: validity must be above 0.98; got 0.9600",
    ]
    planets = content["configs"]["planets"]
    assert planets["rows"] == {
        "read": 100,
        "rejected": 4,
        "duplicate": 6,
        "beyond_limit": 0,
        "published": 90,
        "by_split": {"train": 80, "validation": 0, "test": 10},
    }
    assert planets["scores"]["validity"] == {
        "value": 0.96,
        "gate": 0.98,
        "parts": [{"name": "rows that pass the schema", "right": 96, "judged": 100, "share": 0.96}],
    }
    assert planets["identities"][LAW.name] == {"source": LAW.source, "judged": 50, "held": 49}
    assert content["configs"]["empty"]["scores"]["accuracy"]["value"] is None
    assert content["refused_bodies"][0]["sha256"] == "0" * 64
    text = (tmp_path / "quality" / "quality.md").read_text(encoding="utf-8")
    for said in (
        "- planets: validity must be above 0.98; got 0.9600",
        "| `planets` | 0.9500 | 0.9637 | 0.9786 | 0.9600 | 0.9630 | A+ | failed |",
        "| `empty` | not judged | not judged | not judged | not judged | not judged | not judged | passed |",
        "| period is below 0 | 2 |",
        "an HTML page \\| in place of a table",
        "- https://archive.example/gone: 500",
    ):
        assert said in text


def test_same_report_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_quality(report_of(), tmp_path / name)
    for suffix in ("json", "md", "png"):
        one, two = ((tmp_path / name / "quality" / f"quality.{suffix}").read_bytes() for name in ("one", "two"))
        assert one == two
    assert b"atplotlib" not in one


def test_agreement_is_reported(tmp_path):
    left, right = left_of(["a|b"], [1.0], [0.1], [0.1]), right_of(["a|b"], [9.0], [0.1], [0.1])
    agreement = compare(left, right, ("n", "m"), QUANTITIES, names=("one", "other"))
    write_quality(QualityReport("test_archive", (TableReport(CONFIG, TABLE, agreement),)), tmp_path)
    text = (tmp_path / "quality" / "quality.md").read_text(encoding="utf-8")
    assert "1 objects are in both" in text
    assert "| a\\|b | `p` | 1 | 9 | 56.6 |" in text
    content = json.loads((tmp_path / "quality" / "quality.json").read_text(encoding="utf-8"))
    assert content["configs"]["planets"]["agreement"]["matched"] == 1


def test_low_scores_are_plotted(tmp_path):
    bad = dataclasses.replace(TABLE, tallies=dataclasses.replace(TALLIES, rejected=99), duplicates=1)
    write_quality(QualityReport("test_archive", (TableReport(CONFIG, bad),)), tmp_path)
    assert (tmp_path / "quality" / "quality.png").read_bytes().startswith(b"\x89PNG")
