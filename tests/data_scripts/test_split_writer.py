"""Rows on their way to disk."""

import numpy as np
import pytest
from datasets import Features, List, Value

from data_scripts.derived import split_writer
from data_scripts.derived.split_writer import SplitWriter


FEATURES = Features({"name": Value("string"), "values": List(Value("float32"))})


def test_rows_come_back_in_order_and_empty_splits_are_there(monkeypatch):
    # Batches end at this many values, so that some rows are written before others are made.
    monkeypatch.setattr(split_writer, "_VALUES_PER_BATCH", 10)
    rows = [{"name": f"row {n}", "values": np.arange(n) / 2} for n in range(7)] + [{"name": None, "values": None}]
    with SplitWriter(FEATURES, ("train", "test", "other")) as writer:
        for number, row in enumerate(rows):
            writer.write("test" if number == 3 else "train", [row])
        splits = writer.finish()
    assert {name: len(part) for name, part in splits.items()} == {"train": 7, "test": 1, "other": 0}
    assert all(part.features == FEATURES for part in splits.values())
    assert splits["train"]["name"] == [row["name"] for number, row in enumerate(rows) if number != 3]
    assert splits["train"]["values"][5] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert len(splits["train"].data.column("name").chunks) > 1


def test_a_row_without_a_column_or_of_another_split_is_refused():
    with SplitWriter(FEATURES, ("train",)) as writer:
        with pytest.raises(KeyError, match="test"):
            writer.write("test", [{"name": "a", "values": []}])
        writer.write("train", [{"name": "a"}])
        with pytest.raises(KeyError, match="values"):
            writer.finish()
