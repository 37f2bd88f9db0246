"""The file of metrics: whole rows, torn ones, rows that come again."""

import json
import math

import numpy as np
import pytest
import torch

from modeling_astrobio.training.monitoring.metrics_file import METRICS_NAME, MetricsFile, read_metrics, row_kind


def test_rows_are_there_as_soon_as_they_are_written(tmp_path):
    metrics = MetricsFile(tmp_path)
    metrics.append(3, {"loss": 1.5, "epoch": 0.25})
    (row,) = read_metrics(tmp_path)
    assert row["time"] > 1.7e9
    assert {key: row[key] for key in ("step", "loss", "epoch")} == {"step": 3, "loss": 1.5, "epoch": 0.25}
    metrics.close()


def test_no_file_has_no_rows(tmp_path):
    assert read_metrics(tmp_path) == []


def test_the_last_row_of_a_step_and_kind_counts(tmp_path):
    metrics = MetricsFile(tmp_path)
    metrics.append(1, {"loss": 5.0})
    metrics.append(2, {"loss": 4.0})
    metrics.append(2, {"eval_loss": 4.5})
    metrics.append(3, {"loss": 3.0})
    metrics.close()
    resumed = MetricsFile(tmp_path)
    resumed.append(2, {"loss": 4.25})
    resumed.append(3, {"loss": 3.25})
    resumed.append(3, {"train_runtime": 7.0, "train_loss": 4.0})
    resumed.close()
    rows = read_metrics(tmp_path)
    assert [(row["step"], row_kind(row)) for row in rows] == [
        (1, "training"),
        (2, "training"),
        (2, "evaluation"),
        (3, "training"),
        (3, "other"),
    ]
    assert [row.get("loss", row.get("eval_loss")) for row in rows[:4]] == [5.0, 4.25, 4.5, 3.25]


def test_half_a_line_is_passed_over_and_does_not_swallow_the_next(tmp_path, caplog):
    metrics = MetricsFile(tmp_path)
    metrics.append(1, {"loss": 5.0})
    metrics.append(2, {"loss": 4.0})
    metrics.close()
    path = tmp_path / METRICS_NAME
    path.write_bytes(path.read_bytes()[:-9])
    with caplog.at_level("WARNING"):
        assert [row["step"] for row in read_metrics(tmp_path)] == [1]
    # While a run writes, its last line may not be whole yet.
    assert not caplog.records
    resumed = MetricsFile(tmp_path)
    resumed.append(2, {"loss": 4.0})
    resumed.close()
    with caplog.at_level("WARNING"):
        assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]
    assert "line 2" in caplog.text


@pytest.mark.parametrize("line", ["17", '"text"', "[1, 2]", '{"loss": 3.0}', '{"step": null}', "\x00\x00"])
def test_what_is_no_row_is_passed_over(tmp_path, line):
    (tmp_path / METRICS_NAME).write_text(line + '\n{"step": 4, "loss": 1.0}\n', encoding="utf-8")
    assert [row["step"] for row in read_metrics(tmp_path)] == [4]


def test_numbers_of_all_kinds_become_json(tmp_path):
    metrics = MetricsFile(tmp_path)
    values = {"a": torch.tensor(1.5), "b": np.float32(0.5), "c": math.nan, "d": math.inf, "e": True, "f": "text"}
    metrics.append(1, {"loss": 2, **values, "g": None, "h": torch.tensor([1.0, 2.0])})
    metrics.close()
    (line,) = (tmp_path / METRICS_NAME).read_text(encoding="utf-8").splitlines()
    row = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    expected = {"a": 1.5, "b": 0.5, "c": None, "d": None, "e": True, "f": "text", "g": None, "h": "tensor([1., 2.])"}
    assert {key: row[key] for key in expected} == expected


def test_a_full_disk_loses_rows_and_not_the_run(tmp_path, caplog):
    full = "/dev/full"
    try:
        open(full, "ab").close()
    except OSError:
        pytest.skip("there is no /dev/full on this platform")
    metrics = MetricsFile(tmp_path)
    metrics.append(1, {"loss": 5.0})
    whole = metrics._file
    with open(full, "ab", buffering=0) as metrics._file, caplog.at_level("WARNING"):
        metrics.append(2, {"loss": 4.0})
        metrics.append(3, {"loss": 3.5})
    assert [record.message.split(":")[0] for record in caplog.records] == ["a row of metrics.jsonl is lost"]
    metrics._file = whole
    metrics.append(4, {"loss": 3.0})
    metrics.close()
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 4]
