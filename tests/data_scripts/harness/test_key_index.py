"""The index finds the first row of every key, also where hashes share half their bits."""

import datetime

import numpy as np
import pyarrow as pa
import pytest

from data_scripts.harness.errors import BuildError
from data_scripts.harness.key_index import KeyIndex, hash_keys


def naive_first(keys, seen):
    answer = []
    for key in keys:
        answer.append(seen.get(key, -1))
        seen.setdefault(key, seen["rows"])
        seen["rows"] += 1
    return answer


@pytest.mark.parametrize("kinds", [3, 50, 10_000])
def test_equals_a_dictionary(kinds):
    rng = np.random.default_rng(kinds)
    index, seen = KeyIndex(), {"rows": 0}
    for size in (0, 1, 37, 500, 2, 1300, 0, 7):
        keys = rng.integers(0, kinds, size)
        # Few different first halves: most keys collide in them.
        hashes = np.stack([keys % 5, keys], axis=1).astype(np.uint64)
        assert index.add(hashes).tolist() == naive_first(keys.tolist(), seen)
    assert index.rows == seen["rows"]


def test_memory_is_24_bytes_a_key():
    index = KeyIndex()
    rng = np.random.default_rng(0)
    for _ in range(10):
        assert (index.add(rng.integers(0, 2**64, (10_000, 2), dtype=np.uint64)) == -1).all()
    arrays = [array for run in index._runs for array in (run.high, run.low, run.row)]
    assert sum(array.nbytes for array in arrays) == 24 * 100_000


def test_lengths_keep_joined_keys_apart():
    table = pa.table({"one": ["a", "a b", "a", "1:a"], "two": ["b c", "c", "b c", "b"]})
    first = KeyIndex().add(hash_keys(table, ("one", "two")))
    assert first.tolist() == [-1, -1, 0, -1]


def test_keys_of_every_plain_type():
    table = pa.table(
        {
            "text": pa.array(["ä", "ä", "b"]),
            "number": pa.array([0.1, 0.1, 0.1]),
            "flag": pa.array([True, True, False]),
            "day": pa.array([datetime.date(2020, 1, 2)] * 3),
            "bytes": pa.array([b"\xff", b"\xff", b"\x00"]),
        }
    )
    for name in table.column_names:
        values = table[name].to_pylist()
        expected = [values.index(value) if values.index(value) < place else -1 for place, value in enumerate(values)]
        assert KeyIndex().add(hash_keys(table, (name,))).tolist() == expected
    assert KeyIndex().add(hash_keys(table, tuple(table.column_names))).tolist() == [-1, 0, -1]


def test_hash_does_not_depend_on_chunks():
    table = pa.table({"key": ["a", "b", "c"]})
    parts = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    assert (hash_keys(parts, ("key",)) == hash_keys(table, ("key",))).all()


def test_list_is_no_key():
    with pytest.raises(BuildError, match="key column flux must hold plain values; got list"):
        hash_keys(pa.table({"flux": [[1.0]]}), ("flux",))
