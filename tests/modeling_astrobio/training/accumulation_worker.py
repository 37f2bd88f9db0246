"""Training whose every window of accumulated micro-batches is recorded, on one process or on two under torchrun.

Usage: torchrun --nproc-per-node 2 accumulation_worker.py FOLDER
"""

import itertools
import random
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from datasets import Dataset
from transformers import TrainerCallback, TrainingArguments

from modeling_astrobio import AstroLLMConfig, AstroLLMForCausalLM
from modeling_astrobio.training.llm_data import collate_packed, fill_rows
from modeling_astrobio.training.loss_terms import LossTerm
from modeling_astrobio.training.strategy import Strategy
from modeling_astrobio.training.trainer import AstroTrainer


ROWS = 77
VOCAB_SIZE = 97
ACCUMULATION = 32
PAD = 0
LEARNING_RATE = 0.1
TERM_WEIGHT = 0.3
# What `record_run` is called with, by name.
RUNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "clipped": {"max_grad_norm": 0.5, "epochs": 1},
    "with_a_term": {"terms": True, "fill": False, "drop_last": True, "epochs": 1},
    "not_filled": {"fill": False, "epochs": 1},
    "adam": {"optimizer": "adamw", "dtype": torch.float32, "accumulation": 4, "max_grad_norm": 1.0, "epochs": 1},
}


def ragged_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Packed rows of one to three documents and 2 to 33 tokens, with different shares learned; one learns nothing."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        row: dict[str, Any] = {"input_ids": [], "labels": [], "position_ids": [], "number": number}
        for _ in range(rng.randrange(1, 4)):
            size = rng.randrange(2, 12)
            tokens = [rng.randrange(3, VOCAB_SIZE) for _ in range(size)]
            prompt = rng.randrange(1, size)
            row["input_ids"] += tokens
            row["labels"] += [-100] * prompt + tokens[prompt:]
            row["position_ids"] += range(size)
        rows.append(row)
    rows[5]["labels"] = [-100] * len(rows[5]["labels"])
    return rows


def make_model() -> AstroLLMForCausalLM:
    torch.manual_seed(0)
    config = AstroLLMConfig.from_preset(
        "tiny", vocab_size=VOCAB_SIZE, initializer_range=0.15, loss_chunk_size=5, use_qk_norm=True
    )
    return AstroLLMForCausalLM(config).double().train()


def size_of_embeddings(model, inputs, outputs) -> torch.Tensor:
    """A term of the loss that is the mean over a micro-batch, as a residual of physics would be."""
    module = getattr(model, "module", model)
    return module.get_input_embeddings()(inputs["input_ids"]).square().mean()


class RecordGradients(TrainerCallback):
    """Keeps what the optimizer is about to use."""

    def __init__(self) -> None:
        self.gradients: list[dict[str, torch.Tensor]] = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.gradients.append({name: value.grad.clone() for name, value in model.named_parameters()})


class RecordingTrainer(AstroTrainer):
    """Keeps, for each step, the numbers of this rank's rows (-1 of a filler) and the tokens it is divided by."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.windows: list[dict[str, Any]] = []

    def training_step(self, model, inputs, num_items_in_batch=None):
        number = inputs.pop("number").item()
        if self.state.global_step == len(self.windows):
            self.windows.append({"numbers": [], "items": num_items_in_batch.item()})
        is_filler = (inputs["input_ids"] == PAD).all()
        self.windows[-1]["numbers"].append(-1 if is_filler else number)
        return super().training_step(model, inputs, num_items_in_batch)


def record_run(
    folder: Path,
    *,
    fill: bool = True,
    processes: int | None = None,
    drop_last: bool = False,
    max_grad_norm: float = 1e9,
    terms: bool = False,
    accumulation: int = ACCUMULATION,
    epochs: int = 2,
    dtype: torch.dtype = torch.float64,
    optimizer: str = "descent",
) -> dict[str, Any]:
    """Train and return the windows, the rows of all ranks in each, the gradients used, the log and the weights.

    Args:
        folder: For the trainer's output.
        fill: Whether rows of padding are appended until the epoch can be shared.
        processes: Among which; `None` means those that run.
        drop_last: Whether the trainer leaves out rows that cannot be shared.
        max_grad_norm: As the trainer's.
        terms: Whether the loss has a second term.
        accumulation: Micro-batches of one row in a step of a process.
        epochs: Passes over the rows.
        dtype: Of the weights.
        optimizer: "descent", or what the strategy names.
    """
    arguments = TrainingArguments(
        output_dir=str(folder / "run"),
        use_cpu=True,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=epochs,
        learning_rate=1e-3,
        max_grad_norm=max_grad_norm,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        dataloader_drop_last=drop_last,
        disable_tqdm=True,
    )
    rows = Dataset.from_list(ragged_rows(ROWS))
    if fill:
        rows = fill_rows(rows, processes or arguments.world_size, PAD)
    model = make_model().to(dtype)
    # Of the trainer's own making, but for plain descent.
    optimizers: tuple[Any, Any] = (None, None)
    if optimizer == "descent":
        descent = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
        optimizers = (descent, torch.optim.lr_scheduler.LambdaLR(descent, lambda step: 1.0))
    recorder = RecordGradients()
    trainer = RecordingTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=collate_packed,
        callbacks=[recorder],
        optimizers=optimizers,
        strategy=None if optimizer == "descent" else Strategy(optimizer=optimizer),
        loss_terms=[LossTerm("size", size_of_embeddings, TERM_WEIGHT)] if terms else (),
    )
    trainer.train()
    windows = [window["numbers"] for window in trainer.windows]
    if arguments.world_size > 1:
        of_ranks: list[Any] = [None] * arguments.world_size
        dist.all_gather_object(of_ranks, windows)
        windows = [list(itertools.chain(*parts)) for parts in zip(*of_ranks, strict=True)]
    return {
        "world_size": arguments.world_size,
        "windows": windows,
        "items": [window["items"] for window in trainer.windows],
        "gradients": recorder.gradients,
        "log": [row for row in trainer.state.log_history if "loss" in row],
        "weights": {name: value.detach().clone() for name, value in model.named_parameters()},
    }


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    found: dict[str, Any] = {name: record_run(folder, **options) for name, options in RUNS.items()}
    found["world_size"], found["backend"] = dist.get_world_size(), dist.get_backend()
    found["rank_gradients_equal"] = _equal_on_all_ranks(found["plain"]["gradients"])
    if dist.get_rank() == 0:
        torch.save(found, folder / "found.pt")
    dist.barrier()
    dist.destroy_process_group()


def _equal_on_all_ranks(gradients: list[dict[str, torch.Tensor]]) -> bool:
    flat = torch.cat([value.flatten() for window in gradients for value in window.values()])
    lowest, highest = flat.clone(), flat.clone()
    dist.all_reduce(lowest, op=dist.ReduceOp.MIN)
    dist.all_reduce(highest, op=dist.ReduceOp.MAX)
    return torch.equal(lowest, highest)


if __name__ == "__main__":
    main()
