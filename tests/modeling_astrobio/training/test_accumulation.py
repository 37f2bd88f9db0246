"""Windows of accumulated micro-batches, on one process and on two, train as one batch of all their rows."""

import accumulation_worker
import pytest
import torch
from accumulation_worker import (
    LEARNING_RATE,
    PAD,
    ROWS,
    RUNS,
    TERM_WEIGHT,
    make_model,
    ragged_rows,
    record_run,
)
from datasets import Dataset
from process_launcher import run_two_processes

from modeling_astrobio.training.errors import DataError
from modeling_astrobio.training.llm_data import fill_rows


# float64: sums of thousands of terms in another order.
TOLERANCE = 1e-10
# Steps of the first epoch and the rows of all processes in each. Two processes share 78 rows, one of them a filler.
WINDOWS = {1: [32, 32, 13], 2: [64, 14]}


@pytest.fixture(scope="module")
def on_two(tmp_path_factory):
    """What two processes under torchrun recorded."""
    return run_two_processes("accumulation_worker.py", tmp_path_factory.mktemp("accumulation"))


@pytest.fixture(scope="module")
def recorded(on_two, tmp_path_factory):
    """Return the run of a name on one or two processes."""
    folder = tmp_path_factory.mktemp("one")
    found = {}

    def get(name: str, processes: int) -> dict:
        if processes == 2:
            return on_two[name]
        if name not in found:
            found[name] = record_run(folder, **RUNS[name])
        return found[name]

    return get


def concatenated(numbers: list[int]) -> dict[str, torch.Tensor]:
    """The rows of a window as one batch, padded at the end; each padding is a document of its own."""
    rows = [row for row in ragged_rows(ROWS) if row["number"] in numbers]
    longest = max(len(row["input_ids"]) for row in rows)
    batch = {
        key: torch.full((len(rows), longest), value)
        for key, value in (("input_ids", PAD), ("labels", -100), ("position_ids", 0))
    }
    for index, row in enumerate(rows):
        size = len(row["input_ids"])
        for key, values in batch.items():
            values[index, :size] = torch.tensor(row[key])
        batch["position_ids"][index, size:] = torch.arange(longest - size)
    return batch


def window_loss(model, numbers: list[int], has_term: bool) -> tuple[torch.Tensor, int]:
    """The sum of the cross-entropies of all tokens over their number, in one forward pass, and that number."""
    batch = concatenated(numbers)
    logits = model(batch["input_ids"], position_ids=batch["position_ids"], use_cache=False).logits[:, :-1]
    targets = batch["labels"][:, 1:]
    count = int((targets != -100).sum())
    total = torch.nn.functional.cross_entropy(logits.transpose(1, 2), targets, reduction="sum", ignore_index=-100)
    loss = total / count
    if has_term:
        embedding = model.get_input_embeddings()
        terms = [
            embedding(torch.tensor(row["input_ids"])).square().mean()
            for row in ragged_rows(ROWS)
            if row["number"] in numbers
        ]
        loss = loss + TERM_WEIGHT * torch.stack(terms).mean()
    return loss, count


def assert_trained_as_whole_batches(run: dict, max_grad_norm: float = 1e9, has_term: bool = False) -> None:
    """Train on each window as one batch and compare every gradient, norm, loss and weight on the way."""
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    assert len(run["windows"]) == len(run["gradients"]) == len(run["log"]) > 0
    for index, window in enumerate(run["windows"]):
        numbers = [number for number in window if number >= 0]
        loss, count = window_loss(model, numbers, has_term)
        assert run["items"][index] == count
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
        for name, parameter in model.named_parameters():
            scale = parameter.grad.abs().max().item()
            torch.testing.assert_close(
                run["gradients"][index][name],
                parameter.grad,
                rtol=0,
                atol=TOLERANCE * scale,
                msg=lambda text, n=name, i=index: f"window {i}, {n}: {text}",
            )
        assert run["log"][index]["grad_norm"] == pytest.approx(norm.item(), rel=TOLERANCE)
        # transformers adds up the logged loss in float32.
        assert run["log"][index]["loss"] == pytest.approx(loss.item(), rel=1e-5)
        optimizer.step()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(run["weights"][name], parameter.detach(), rtol=0, atol=TOLERANCE, msg=name)


def test_two_processes_ran(on_two):
    assert on_two["world_size"] == 2
    assert on_two["backend"] == "gloo"
    assert on_two["rank_gradients_equal"]


@pytest.mark.parametrize("processes", [1, 2])
def test_window_gradients_are_those_of_one_batch(recorded, processes):
    run = recorded("plain", processes)
    assert run["world_size"] == processes
    assert [len(window) for window in run["windows"]] == 2 * WINDOWS[processes]
    # Each epoch has every row once; the one that learns nothing is among them.
    steps = len(WINDOWS[processes])
    for epoch in (run["windows"][:steps], run["windows"][steps:]):
        assert sorted(number for window in epoch for number in window if number >= 0) == list(range(ROWS))
    assert run["windows"][:steps] != run["windows"][steps:]
    assert all(float(items).is_integer() for items in run["items"])
    assert_trained_as_whole_batches(run)


@pytest.mark.parametrize("processes", [1, 2])
def test_clipped_window_gradients_are_those_of_one_batch(recorded, processes):
    run = recorded("clipped", processes)
    limit = RUNS["clipped"]["max_grad_norm"]
    assert min(row["grad_norm"] for row in run["log"]) > limit
    clipped = torch.cat([value.flatten() for value in run["gradients"][0].values()])
    assert clipped.norm().item() == pytest.approx(limit, rel=1e-5)
    assert_trained_as_whole_batches(run, max_grad_norm=limit)


@pytest.mark.parametrize("processes", [1, 2])
def test_term_of_the_loss_is_the_mean_over_the_window(recorded, processes):
    # A term has no tokens to leave out, so here the rows that do not go round are dropped.
    run = recorded("with_a_term", processes)
    expected = {1: [32, 32, 13], 2: [64, 12]}[processes]
    assert [len(window) for window in run["windows"]] == expected
    assert_trained_as_whole_batches(run, has_term=True)


def test_without_filling_a_row_counts_twice(recorded):
    run = recorded("not_filled", 2)
    numbers = [number for window in run["windows"][:2] for number in window]
    assert len(numbers) == ROWS + 1
    assert sorted(set(numbers)) == list(range(ROWS))
    # Accelerate begins the epoch again for the process that has no row left.
    repeated = next(number for number in numbers if numbers.count(number) == 2)
    assert repeated == run["windows"][0][0]
    assert repeated in run["windows"][1]


def test_two_processes_train_with_adam_as_one_that_accumulates_twice_as_much(on_two, tmp_path):
    two, options = on_two["adam"], RUNS["adam"]
    # The same filler, or the rows would be shuffled into another order.
    one = record_run(tmp_path, **{**options, "accumulation": 2 * options["accumulation"], "processes": 2})
    assert (one["world_size"], two["world_size"]) == (1, 2)
    assert [sorted(window) for window in one["windows"]] == [sorted(window) for window in two["windows"]]
    assert len(one["log"]) == len(two["log"]) == 10
    assert len(one["windows"][-1]) == 6
    for of_one, of_two in zip(one["log"], two["log"], strict=True):
        assert of_two["learning_rate"] == of_one["learning_rate"]
        assert of_two["loss"] == pytest.approx(of_one["loss"], rel=1e-5)
        assert of_two["grad_norm"] == pytest.approx(of_one["grad_norm"], rel=1e-4)
    start = make_model().float()
    for name, parameter in start.named_parameters():
        # float32 sums in another order, which Adam's division carries into the weights; steps are of 1e-3.
        torch.testing.assert_close(two["weights"][name], one["weights"][name], rtol=0, atol=2e-5, msg=name)
        assert not torch.equal(two["weights"][name], parameter), name


@pytest.mark.parametrize(("count", "multiple", "expected"), [(77, 2, 78), (77, 7, 77), (3, 8, 8), (5, 1, 5)])
def test_rows_are_filled_to_a_multiple(count, multiple, expected):
    rows = Dataset.from_list(ragged_rows(77)[:count] if count > 5 else ragged_rows(77)[70 : 70 + count])
    filled = fill_rows(rows, multiple, PAD)
    assert len(filled) == expected
    assert filled[:count] == rows[:count]
    assert filled.features == rows.features
    for row in list(filled)[count:]:
        assert set(row["labels"]) == {-100}
        assert set(row["input_ids"]) == {PAD}
        assert len(row["input_ids"]) == len(row["labels"]) == len(row["position_ids"])


def test_filler_has_a_gradient_of_zero_in_every_parameter():
    rows = fill_rows(Dataset.from_list(ragged_rows(77)), 2, PAD)
    model = make_model()
    batch = accumulation_worker.collate_packed([rows[77]])
    batch.pop("number")
    loss = model(**batch, num_items_in_batch=9, use_cache=False).loss
    loss.backward()
    assert loss.item() == 0
    # No parameter is left out: DDP waits for each.
    assert all(value.grad is not None and not value.grad.any() for value in model.parameters())


@pytest.mark.parametrize(("count", "multiple"), [(0, 2), (3, 0), (3, -2)])
def test_rows_that_cannot_be_filled_are_refused(count, multiple):
    rows = Dataset.from_list(ragged_rows(77)).select(range(count))
    with pytest.raises(DataError, match=f"at least 1; got {count} rows and {multiple}"):
        fill_rows(rows, multiple, PAD)
