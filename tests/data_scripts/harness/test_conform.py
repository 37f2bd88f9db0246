"""conform does what a reader of one cell after another would do, and names what it refuses."""

import dataclasses
import json
import math
import re

import naive_conform
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from made_up_tables import config_of, nasty_config, nasty_table

from data_scripts.harness import conform as conform_module
from data_scripts.harness.archive import Column, Identity
from data_scripts.harness.conform import conform
from data_scripts.harness.errors import BadBodyError, BuildError
from data_scripts.harness.tallies import ColumnTally, IdentityTally, Tallies


NAME = Column("name", pa.string(), "name")


def one_column(values, dtype, source=None, **bounds):
    table = pa.table({"name": [f"t{place}" for place in range(len(values))], "value": pa.array(values, source)})
    return conform(table, config_of(NAME, Column("value", dtype, "value", **bounds)))


@pytest.mark.parametrize(("rows", "seed"), [(0, 0), (1, 1), (37, 2), (2003, 3)])
@pytest.mark.parametrize("slice_rows", [7, 1 << 16])
def test_equals_the_naive_reference(rows, seed, slice_rows, monkeypatch):
    monkeypatch.setattr(conform_module, "SLICE_ROWS", slice_rows)
    table, config = nasty_table(rows, seed), nasty_config()
    if rows > 1:
        table = pa.concat_tables([table.slice(0, rows // 3), table.slice(rows // 3)])
    expected_good, expected_rejected = naive_conform.naive_conform(table, config)
    conformed = conform(table, config)
    assert conformed.good.schema.names == [column.name for column in config.columns]
    assert conformed.good.to_pylist() == expected_good
    assert conformed.rejected["row_json"].to_pylist() == [row for row, _ in expected_rejected]
    for reason, (_, faults) in zip(conformed.rejected["reason"].to_pylist(), expected_rejected, strict=True):
        for fault in faults:
            assert fault in reason
        assert len(reason.split("; ")) == len(faults)
    assert conformed.tallies.rows == rows
    assert conformed.tallies.rejected == len(expected_rejected)
    assert sum(conformed.tallies.faults.values()) == sum(len(faults) for _, faults in expected_rejected)
    if rows > 1000:
        assert expected_good
        assert len({fault for _, faults in expected_rejected for fault in faults}) >= 10


@pytest.mark.parametrize(
    ("values", "source", "dtype", "expected"),
    [
        ([1, None, 2**53], pa.int64(), pa.float64(), [1.0, None, float(2**53)]),
        ([1.0, math.nan], pa.float64(), pa.int32(), [1, None]),
        ([1, 0, None], pa.int8(), pa.bool_(), [True, False, None]),
        ([None, None], pa.null(), pa.list_(pa.float64()), [None, None]),
        ([math.nan, math.nan], pa.float64(), pa.string(), [None, None]),
        ([7, None], pa.int64(), pa.string(), ["7", None]),
        (["a", "", None, "a"], pa.large_string(), pa.string(), ["a", None, None, "a"]),
        ([["1", ""], None, []], pa.list_(pa.string()), pa.list_(pa.int16()), [[1, None], None, []]),
        ([[1, 2], None], pa.list_(pa.int64()), pa.list_(pa.float32(), 2), [[1.0, 2.0], None]),
        ([[[math.nan, 1.0]], [[], None]], None, pa.list_(pa.list_(pa.float64())), [[[None, 1.0]], [[], None]]),
        ([b"\x00", None], pa.binary(), pa.binary(), [b"\x00", None]),
    ],
)
def test_types_that_archives_send(values, source, dtype, expected):
    conformed = one_column(values, dtype, source)
    assert conformed.good.schema.field("value").type == dtype
    assert conformed.good["value"].to_pylist() == expected
    assert conformed.rejected.num_rows == 0


def test_dictionary_is_read_as_its_values():
    table = pa.table({"name": ["a", "b", "c"], "value": pa.array(["1", "", "1"]).dictionary_encode()})
    good = conform(table, config_of(NAME, Column("value", pa.int8(), "value"))).good
    assert good["value"].to_pylist() == [1, None, 1]


@pytest.mark.parametrize(
    ("values", "source", "dtype", "fault"),
    [
        ([1, 300], pa.int64(), pa.int8(), "value is not int8: 300"),
        ([1.0, 2.5], pa.float64(), pa.int64(), "value is not int64: 2.5"),
        ([1.0, math.inf], pa.float64(), pa.int64(), "value is not int64: inf"),
        ([1.0, 1e300], pa.float64(), pa.float32(), r"value is infinite: 1e\+300"),
        ([1, 2], pa.int64(), pa.bool_(), "value is not bool: 2"),
        ([1, 2**53 + 1], pa.int64(), pa.float64(), "value is not double: 9007199254740993"),
        (
            [[1.0, 2.0], [1.0]],
            pa.list_(pa.float64()),
            pa.list_(pa.float64(), 2),
            r"value is not fixed_size.*: \[1.0\]",
        ),
        ([[1.0], [-math.inf]], pa.list_(pa.float64()), pa.list_(pa.float64()), r"value is infinite: \[-inf\]"),
        (["2020-01-02", "2020-01-02 03:00:00"], pa.string(), pa.date32(), "value is not date32.*03:00:00'"),
    ],
)
def test_second_cell_is_refused(values, source, dtype, fault):
    conformed = one_column(values, dtype, source)
    assert conformed.good["name"].to_pylist() == ["t0"]
    [reason] = conformed.rejected["reason"].to_pylist()
    assert re.fullmatch(fault, reason)
    assert json.loads(conformed.rejected["row_json"][0].as_py())["name"] == "t1"


def test_rejected_row_keeps_the_archives_own_values():
    table = pa.table(
        {
            "name": [None],
            "value": pa.array(["1,5"]),
            "extra": pa.array([float("nan")]),
            "raw": pa.array([b"\xff"]),
            "time": pa.array([0], pa.timestamp("s")),
        }
    )
    rejected = conform(table, config_of(NAME, Column("value", pa.float64(), "value"))).rejected
    assert json.loads(rejected["row_json"][0].as_py()) == {
        "name": None,
        "value": "1,5",
        "extra": "nan",
        "raw": "/w==",
        "time": "1970-01-01T00:00:00",
    }
    assert rejected["reason"][0].as_py() == "name is null and belongs to the key; value is not double: '1,5'"


def test_bounds_are_inclusive_and_null_is_within():
    conformed = one_column([0.0, 10.0, None, -0.001, 10.001], pa.float64(), minimum=0, maximum=10, unit="d")
    assert conformed.good["value"].to_pylist() == [0.0, 10.0, None]
    assert conformed.rejected["reason"].to_pylist() == ["value is below 0 d: -0.001", "value is above 10 d: 10.001"]
    assert conformed.tallies.columns["value"] == ColumnTally(cells=5, stated=4, unconverted=0, judged=4, outside=2)


def test_bounds_hold_for_every_element_of_nested_lists():
    values = [[[1, 2], []], [[1], [-1, 3]], None, [[None]]]
    conformed = one_column(values, pa.list_(pa.list_(pa.int32())), minimum=0)
    assert conformed.good["name"].to_pylist() == ["t0", "t2", "t3"]
    assert conformed.rejected["reason"].to_pylist() == ["value is below 0: [[1], [-1, 3]]"]
    assert conformed.tallies.columns["value"] == ColumnTally(cells=4, stated=3, unconverted=0, judged=3, outside=1)


def test_vanished_column_is_named():
    with pytest.raises(BadBodyError, match="no column period, flux for planets; it has name, seen, count, confirmed"):
        conform(nasty_table(3, 0).select(["name", "seen", "count", "confirmed"]), nasty_config())


def test_column_that_stands_twice_is_refused():
    table = pa.Table.from_arrays([pa.array(["a"])] * 2, names=["name", "name"])
    with pytest.raises(BadBodyError, match="has column name 2 times"):
        conform(table, config_of(NAME))


def test_changed_type_is_refused():
    table = pa.table({"name": ["a"], "value": [1.5]})
    with pytest.raises(BadBodyError, match="column value must hold string; the body has double: its type changed"):
        conform(table, config_of(NAME, Column("value", pa.string(), "value")))
    with pytest.raises(BadBodyError, match=r"must hold timestamp\[s\]; the body has double: its type changed"):
        conform(table, config_of(NAME, Column("value", pa.timestamp("s"), "value")))


@pytest.mark.parametrize(
    ("stated", "declared", "same"),
    [
        ("d", "d", True),
        ("day", "d", True),
        (" d ", "d", True),
        ("1000 m", "km", True),
        ("micron", "um", True),
        ("m.s**-1", "m/s", True),
        ("", None, True),
        ("BJD", "BJD", True),
        ("hour", "d", False),
        ("m", "km", False),
        ("jupiterMass", "earthMass", False),
        ("d", None, False),
        ("", "d", False),
        ("BJD", "d", False),
    ],
)
def test_units(stated, declared, same):
    field = pa.field("value", pa.float64(), metadata={"unit": stated})
    table = pa.table([["a"], [1.0]], schema=pa.schema([pa.field("name", pa.string()), field]))
    config = config_of(NAME, Column("value", pa.float64(), "value", unit=declared))
    if same:
        assert conform(table, config).good.num_rows == 1
    else:
        with pytest.raises(BadBodyError, match=r"column value must be in .*; the body states .*: its unit changed"):
            conform(table, config)


def test_body_that_states_no_unit_is_taken():
    assert one_column([1.0], pa.float64(), unit="d").good.num_rows == 1


def test_key_outside_the_schema_is_an_error_of_the_schema():
    with pytest.raises(BuildError, match="key of planets must name columns of its schema; got id"):
        conform(pa.table({"name": ["a"]}), config_of(NAME, key=("id",)))


def test_identities_are_counted_over_good_rows_where_they_can_be_judged():
    identity = Identity("value is 1", lambda table: pc.equal(table["value"], 1), "made up")
    table = pa.table({"name": ["a", "b", "c", None], "value": [1, 2, None, 1]})
    tallies = conform(table, config_of(NAME, Column("value", pa.int64(), "x"), identities=(identity,))).tallies
    assert tallies.identities == {"value is 1": IdentityTally(judged=2, held=1)}


def test_tallies_add_up_and_survive_as_json():

    table, config = nasty_table(101, 5), nasty_config()
    whole = conform(table, config).tallies
    parts = conform(table.slice(0, 40), config).tallies + conform(table.slice(40), config).tallies
    assert parts == whole
    assert Tallies.from_dict(json.loads(json.dumps(dataclasses.asdict(whole)))) == whole


def test_many_bad_words_stay_fast():
    values = ["--" if place % 2 else str(place) for place in range(200_000)]
    conformed = one_column(values, pa.float64())
    assert conformed.good.num_rows == conformed.rejected.num_rows == 100_000
