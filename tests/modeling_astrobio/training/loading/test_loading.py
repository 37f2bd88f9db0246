"""Rows in a shuffled order: none lost or doubled, also by a stop; arrays as they were written."""

import os
import pickle
import threading

import datasets
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from modeling_astrobio.training.loading import (
    ArrowRows,
    ParquetRows,
    ResumableLoader,
    SizeBatches,
    TableBatches,
    row_order,
    size_batches,
)


SHAPE = (2, 3, 5)
ROWS = 23


def cubes(rows: int = ROWS) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, *SHAPE)).astype(np.float32)


def table(values: np.ndarray) -> pa.Table:
    flat = pa.array(values.reshape(-1))
    return pa.table(
        {
            "name": [f"cube {row}" for row in range(len(values))],
            "cube": pa.FixedSizeListArray.from_arrays(flat, int(np.prod(values.shape[1:]))),
            "cube_shape": [list(values.shape[1:])] * len(values),
            "years": pa.array([None if row % 4 == 0 else [row, row + 1] for row in range(len(values))]),
        }
    )


def numbers(batch: list[dict]) -> list[int]:
    return [int(row["name"].split()[1]) for row in batch]


def collate(rows: list[dict]) -> list[dict]:
    return rows


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[str]:
    """23 rows in two files, in row groups of four, the last of a file smaller."""
    folder = tmp_path_factory.mktemp("parquet")
    whole = table(cubes())
    paths = []
    for name, part in (("a", whole.slice(0, 10)), ("b", whole.slice(10))):
        paths.append(str(folder / f"{name}.parquet"))
        pq.write_table(part, paths[-1], row_group_size=4, use_dictionary=["name"])
    return paths


@pytest.fixture(params=["arrow", "parquet"])
def rows(request, files):
    if request.param == "parquet":
        return ParquetRows(files)
    return ArrowRows(datasets.Dataset(table(cubes())))


def test_order_is_a_permutation_that_keeps_groups_together():
    sizes = [4, 1, 7, 3]
    group_of_row = np.repeat(np.arange(4), sizes)
    orders = [row_order(sizes, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    for order in orders:
        assert sorted(order) == list(range(15))
        # Each group is met once: one run of equal numbers a group.
        assert (np.diff(group_of_row[order]) != 0).sum() == 3
    assert len({tuple(order) for order in orders}) == 4
    assert (row_order(sizes, 0, 1) == orders[1]).all()
    # Of 400 orders of single rows, each row comes first about equally often.
    firsts = np.bincount([row_order([1] * 4, 0, epoch)[0] for epoch in range(400)], minlength=4)
    assert firsts.min() > 60


def test_arrays_are_those_written(rows):
    expected = cubes()
    for row in (0, 3, 9, 10, 22):
        cells = rows[row]
        assert cells["name"] == f"cube {row}"
        assert cells["cube"].dtype == np.float32
        np.testing.assert_array_equal(cells["cube"], expected[row])
        assert "cube_shape" not in cells
        if row % 4 == 0:
            assert cells["years"] is None
        else:
            np.testing.assert_array_equal(cells["years"], [row, row + 1])
    with pytest.raises(IndexError):
        rows[ROWS]


def test_columns_can_be_chosen(files):
    assert set(ParquetRows(files, columns=["name"])[12]) == {"name"}
    assert set(ArrowRows(datasets.Dataset(table(cubes())), columns=["cube", "cube_shape"])[12]) == {"cube"}


def test_nulls_in_an_array_are_refused():
    holed = datasets.Dataset(pa.table({"flux": [[2.0], [1.0, None, 3.0], None]}))
    with pytest.raises(ValueError, match=r"flux of row 1 holds 1\. Write NaN and a mask"):
        ArrowRows(holed)[1]
    assert ArrowRows(holed)[0]["flux"].tolist() == [2.0]
    assert ArrowRows(holed)[2]["flux"] is None


@pytest.mark.parametrize("start", [0, 3])
@pytest.mark.parametrize("values", [[[1, 2], None, [], [5], [6, 7, 8]], [[True], [False, True], None, [], [True]]])
@pytest.mark.parametrize("make", [pa.list_, pa.large_list])
def test_lists_of_any_length_in_chunks_and_slices(values, make, start):
    dtype = make(pa.bool_() if values[0][0] is True else pa.int16())
    whole = pa.chunked_array([pa.array(values, dtype), pa.array([], dtype), pa.array(values[::-1], dtype)])
    part = whole.slice(start)
    rows = ArrowRows(datasets.Dataset(pa.table({"values": part})))
    for row, expected in enumerate((values + values[::-1])[start:]):
        got = rows[row]["values"]
        assert (got if got is None else got.tolist()) == expected
        assert got is None or got.dtype == dtype.value_type.to_pandas_dtype()


def test_columns_of_a_table_are_gathered():
    numbers_and_texts = pa.table({"period": [1.5, None, 3.5], "planets": [1, None, 3], "name": ["a", None, "ü"]})
    rows = TableBatches(datasets.Dataset(numbers_and_texts))
    batch = next(iter(ResumableLoader(rows, 3, lambda columns: columns, seed=4)))
    order = row_order([1, 1, 1], 4, 0)
    np.testing.assert_array_equal(batch["period"], np.array([1.5, np.nan, 3.5])[order])
    np.testing.assert_array_equal(batch["planets"], np.array([1, np.nan, 3])[order])
    assert batch["name"] == [["a", None, "ü"][row] for row in order]


def test_an_epoch_has_each_row_once_and_the_next_another_order(rows):
    loader = ResumableLoader(rows, 1, collate, seed=3)
    first = [number for batch in loader for number in numbers(batch)]
    second = [number for batch in loader for number in numbers(batch)]
    assert sorted(first) == sorted(second) == list(range(ROWS))
    assert first != second
    state = loader.state_dict()
    assert (state["epoch"], state["rows_seen"], state["rows"], state["seed"]) == (2, 0, ROWS, 3)


@pytest.mark.parametrize("workers", [0, 2])
def test_resumes_at_any_batch_on_two_ranks(files, workers):
    def run(rank: int, state: dict | None, batches: int, num_workers: int) -> tuple[list[list[int]], dict]:
        loader = ResumableLoader(
            ParquetRows(files), 2, collate, seed=5, rank=rank, world_size=2, num_workers=num_workers
        )
        if state is not None:
            loader.load_state_dict(state)
        seen: list[list[int]] = []
        while len(seen) < batches:
            for batch in loader:
                seen.append(numbers(batch))
                if len(seen) == batches:
                    break
        return seen, loader.state_dict()

    whole = {rank: run(rank, None, 12, 0)[0] for rank in (0, 1)}
    # Five steps are an epoch: the ranks share no row within it, and twenty of the 23 come.
    of_epoch = [number for rank in (0, 1) for batch in whole[rank][:5] for number in batch]
    assert len(set(of_epoch)) == len(of_epoch) == 20
    for stop in (0, 1, 4, 5, 6) if workers == 0 else (3, 5):
        for rank in (0, 1):
            before, state = run(rank, None, stop, workers)
            after, _ = run(rank, pickle.loads(pickle.dumps(state)), 12 - stop, workers)
            assert before + after == whole[rank], (stop, rank)


def test_state_holds_for_another_number_of_ranks(rows):
    loader = ResumableLoader(rows, 4, collate, seed=1)
    order = row_order(rows.group_sizes, 1, 0).tolist()
    batches = iter(loader)
    assert numbers(next(batches)) + numbers(next(batches)) == order[:8]
    parts = []
    for rank in (0, 1):
        other = ResumableLoader(rows, 2, collate, seed=1, rank=rank, world_size=2)
        other.load_state_dict(loader.state_dict())
        parts.append(numbers(next(iter(other))))
    assert parts[0] + parts[1] == order[8:12]


def test_wrong_states_and_sizes_are_refused(rows):
    loader = ResumableLoader(rows, 4, collate)
    with pytest.raises(ValueError, match="rows of the state must be that of this loader, 23; got 24"):
        loader.load_state_dict(loader.state_dict() | {"rows": 24})
    with pytest.raises(ValueError, match="seed of the state"):
        loader.load_state_dict(loader.state_dict() | {"seed": 9})
    with pytest.raises(ValueError, match="groups of the state"):
        loader.load_state_dict(loader.state_dict() | {"groups": "of other files"})
    with pytest.raises(ValueError, match="rows must fill a step of 12 rows on 2 ranks; got 23"):
        ResumableLoader(rows, 12, collate, world_size=2)
    with pytest.raises(ValueError, match="rank must be from 0 to world_size - 1 = 1; got 2"):
        ResumableLoader(rows, 1, collate, rank=2, world_size=2)
    with pytest.raises(ValueError, match="at least one Parquet file"):
        ParquetRows([])


def test_memory_is_bounded_by_the_row_groups(tmp_path):
    """240 MB in groups of 4 MB are read through with two groups in memory."""
    path, group = tmp_path / "large.parquet", np.zeros((4, 250_000), dtype=np.float32)
    schema = pa.schema({"cube": pa.list_(pa.float32(), 250_000)})
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for part in range(60):
            values = pa.array((group + part).reshape(-1))
            writer.write_table(pa.table({"cube": pa.FixedSizeListArray.from_arrays(values, 250_000)}, schema=schema))
    rows = ParquetRows([str(path)])
    assert len(rows) == 240
    process, most = psutil.Process(os.getpid()), 0
    loader = ResumableLoader(rows, 4, collate)
    next(iter(loader))
    before = process.memory_full_info().uss
    for batch in loader:
        assert batch[0]["cube"].shape == (250_000,)
        most = max(most, process.memory_full_info().uss - before)
    assert most < 60e6


@pytest.mark.parametrize("workers", [0, 3])
def test_an_error_reaches_the_loop_and_an_early_end_waits_for_nothing(files, workers):
    def refuse(rows: list[dict]) -> list[int]:
        if 7 in numbers(rows):
            raise ValueError("row 7 is of no use")
        return numbers(rows)

    loader = ResumableLoader(ParquetRows(files), 1, refuse, num_workers=workers)
    seen = []
    with pytest.raises(ValueError, match="row 7 is of no use"):
        seen.extend(batch[0] for batch in loader)
    order = row_order(ParquetRows(files).group_sizes, 0, 0).tolist()
    # What comes before it came, and is counted.
    assert seen == order[: order.index(7)]
    assert loader.state_dict()["rows_seen"] == order.index(7)
    before = threading.active_count()
    for _ in ResumableLoader(ParquetRows(files), 1, collate, num_workers=workers):
        break
    assert threading.active_count() <= before


SIZES = np.random.default_rng(7).integers(0, 9, ROWS).tolist()


def test_batches_of_like_size_are_bounded_full_and_have_each_row_once():
    batches = size_batches(SIZES, 13, seed=2)
    assert sorted(np.concatenate(batches).tolist()) == list(range(ROWS))
    largest = [max(SIZES[row] for row in batch) for batch in batches]
    for number, batch in enumerate(batches):
        assert len(batch) * max(largest[number], 1) <= 13
        if number + 1 < len(batches):
            # The next row would have been too much, and is no smaller.
            following = min(SIZES[row] for row in batches[number + 1])
            assert following >= largest[number]
            assert (len(batch) + 1) * max(following, 1) > 13
    assert size_batches([], 4, seed=0) == []
    assert [batch.tolist() for batch in size_batches([0], 1, seed=0)] == [[0]]


def test_rows_of_like_size_are_shuffled_by_the_seed_alone():
    def lists(seed: int) -> list[list[int]]:
        return [batch.tolist() for batch in size_batches(SIZES, 20, seed)]

    assert lists(3) == lists(3)
    assert lists(3) != lists(4)
    # Equal sizes: each row is as often in the first batch of two.
    first = np.bincount(np.concatenate([size_batches([5] * 6, 10, seed)[0] for seed in range(300)]), minlength=6)
    assert first.sum() == 600
    assert first.min() > 60


def test_rows_of_one_size_are_sorted_by_the_next_size():
    sizes = np.random.default_rng(1).integers(1, 7, (97, 3))
    batches = size_batches(sizes, 60, seed=5)
    order = np.concatenate(batches)
    assert sorted(order) == list(range(97))
    assert sizes[order].tolist() == sorted(sizes.tolist())
    # The bound is of the first size alone.
    assert [len(batch) for batch in batches] == [len(batch) for batch in size_batches(sizes[:, 0], 60, seed=5)]


def test_sizes_that_cannot_be_are_refused(rows):
    with pytest.raises(ValueError, match="most must be at least the size of every row; got 4, and 9 in row 1"):
        size_batches([2, 9], 4, seed=0)
    with pytest.raises(ValueError, match=r"sizes must be 0 or more; got -1 in row 2"):
        size_batches([2, 9, -1], 9, seed=0)
    with pytest.raises(ValueError, match="sizes must have one entry a row, 23; got 22"):
        SizeBatches(rows, SIZES[1:], 13)


def one_batch(batches: list[list[dict]]) -> list[int]:
    (batch,) = batches
    return numbers(batch)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_like_size_resume_at_any_step_on_two_ranks(rows, workers):
    def loader(rank: int) -> ResumableLoader:
        batches = SizeBatches(rows, SIZES, 13, seed=2)
        return ResumableLoader(batches, 1, one_batch, seed=4, rank=rank, world_size=2, num_workers=workers)

    whole: dict[int, list[list[int]]] = {}
    for rank in (0, 1):
        ranked = loader(rank)
        whole[rank] = [*ranked, *ranked]
    steps = len(whole[0]) // 2
    epochs = [[rows for rank in (0, 1) for rows in whole[rank][part]] for part in (slice(steps), slice(steps, None))]
    for epoch in epochs:
        batches = [tuple(batch) for batch in epoch]
        assert len({row for batch in batches for row in batch}) == sum(map(len, batches))
        # An odd batch is left over on all ranks.
        assert len(batches) == len(SizeBatches(rows, SIZES, 13, seed=2)) // 2 * 2
    assert epochs[0] != epochs[1]
    for stop in (0, 1, steps - 1, steps, steps + 1):
        for rank in (0, 1):
            before = loader(rank)
            seen = []
            while len(seen) < stop:
                for batch in before:
                    seen.append(batch)
                    if len(seen) == stop:
                        break
            after = loader(rank)
            after.load_state_dict(pickle.loads(pickle.dumps(before.state_dict())))
            while len(seen) < 2 * steps:
                seen.extend(after)
            assert seen == whole[rank], (stop, rank)


@pytest.mark.parametrize("other", [{"most": 14}, {"seed": 3}])
def test_a_state_holds_for_no_other_batches(rows, other):
    def loader(most: int = 13, seed: int = 2) -> ResumableLoader:
        return ResumableLoader(SizeBatches(rows, SIZES, most, seed), 1, one_batch)

    loader().load_state_dict(loader().state_dict())
    with pytest.raises(ValueError, match=r"(rows|groups) of the state must be that of this loader"):
        loader(**other).load_state_dict(loader().state_dict())
