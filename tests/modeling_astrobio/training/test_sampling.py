"""Rows come in the order that one process alone would read, whatever follows them."""

import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler, prepare_data_loader, skip_first_batches
from torch.utils.data import DataLoader

from modeling_astrobio.training.continuation import Continuation, keep_rows_per_step
from modeling_astrobio.training.errors import CheckpointError
from modeling_astrobio.training.llm_recipe import LLMRecipe
from modeling_astrobio.training.recipe import recipe_from_dict
from modeling_astrobio.training.sampling import ShuffledFirst


def test_first_rows_are_shuffled_by_seed_and_epoch_and_the_rest_follow():
    sampler = ShuffledFirst(37, 40, seed=5)
    assert len(sampler) == 40
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        order = list(sampler)
        expected = SeedableRandomSampler(range(37), data_seed=5)
        expected.set_epoch(epoch)
        assert order[:37] == list(expected)
        assert order[37:] == [37, 38, 39]
        orders.append(order)
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize("skipped", [0, 3])
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_together_read_the_rows_of_one(processes, skipped):
    torch.manual_seed(3)
    total = 40 if processes > 1 else 37
    alone = SeedableRandomSampler(range(37))
    for epoch in (0, 1):
        alone.set_epoch(epoch)
        read = []
        for rank in range(processes):
            loader = prepare_data_loader(
                DataLoader(range(total), batch_size=2, shuffle=True),
                num_processes=processes,
                process_index=rank,
                put_on_device=False,
                use_seedable_sampler=True,
            )
            loader.set_sampler(ShuffledFirst(37, total))
            loader = skip_first_batches(loader, skipped)
            loader.set_epoch(epoch)
            read.append([batch.tolist() for batch in loader])
        together = [row for turn in zip(*read, strict=True) for batch in turn for row in batch]
        before = skipped * 2 * processes
        assert together == [*alone, *range(37, total)][before:]


def recipe(micro_batch: int) -> LLMRecipe:
    return recipe_from_dict(
        LLMRecipe,
        {"model": {"preset": "tiny"}, "training": {"per_device_train_batch_size": micro_batch}},
    )


@pytest.mark.parametrize(("processes", "micro_batch", "accumulation"), [(1, 2, 6), (2, 2, 3), (3, 1, 4), (1, 12, 1)])
def test_step_keeps_its_rows_on_other_processes(tmp_path, processes, micro_batch, accumulation):
    Continuation(processes=2, rows_per_step=12, losses=[1.5, 0.1]).write(tmp_path)
    assert Continuation.read(tmp_path) == Continuation(2, 12, [1.5, 0.1])
    changed = recipe(micro_batch)
    keep_rows_per_step(changed, tmp_path, processes)
    assert changed.training["gradient_accumulation_steps"] == accumulation


@pytest.mark.parametrize(("processes", "micro_batch"), [(5, 1), (1, 8), (4, 24)])
def test_rows_that_cannot_be_divided_are_refused(tmp_path, processes, micro_batch):
    Continuation(processes=2, rows_per_step=12).write(tmp_path)
    with pytest.raises(
        CheckpointError, match=rf"has 12 rows, which must be a multiple .* got {processes} x {micro_batch}"
    ):
        keep_rows_per_step(recipe(micro_batch), tmp_path, processes)
