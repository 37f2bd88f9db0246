"""Sharded and whole models that are trained alike, for the tests of two processes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.tensor import DTensor

from modeling_astrobio import AstroLLMConfig, AstroLLMForCausalLM
from modeling_astrobio.training.optimizers import build_optimizer
from modeling_astrobio.training.strategy import Strategy


# Rows of even shards are whole blocks of 256 values, which torchao quantises together: 138 rows of 128. With 277 rows
# one process has 139, and half a block is left over.
EVEN, UNEVEN = 276, 277
# An 8-bit average of squares can be 0 where that of the gradient is not; 1e-8 would then blow up the difference that
# rounding makes.
EPS = 1e-6
# Vocabulary and dtype.
CHECKPOINTS = {"uneven_float32": (UNEVEN, torch.float32), "even_bfloat16": (EVEN, torch.bfloat16)}
STEPS = range(10)

Rows = list[tuple[torch.Tensor, torch.Tensor]]


def make_model(dtype: torch.dtype = torch.float64, vocab_size: int = EVEN, **overrides) -> AstroLLMForCausalLM:
    torch.manual_seed(0)
    config = AstroLLMConfig.from_preset(
        "tiny",
        **{
            "vocab_size": vocab_size,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "head_dim": 32,
            "initializer_range": 0.1,
            "loss_chunk_size": 5,
            **overrides,
        },
    )
    return AstroLLMForCausalLM(config).to(dtype).train()


def make_optimizer(model, name: str = "adamw", learning_rate: float = 1e-3, rounding: bool = False):
    return build_optimizer(
        Strategy(optimizer=name, stochastic_rounding=rounding),
        [{"params": list(model.parameters())}],
        learning_rate=learning_rate,
        betas=(0.9, 0.95),
        eps=EPS,
        weight_decay=0.1,
    )


def window(step: int, count: int) -> Rows:
    """Rows of different lengths, of which different shares are learned."""
    rows = []
    for index in range(count):
        generator = torch.Generator().manual_seed(100 * step + index)
        tokens = torch.randint(3, EVEN, (1, 13 + index), generator=generator)
        labels = tokens.clone()
        labels[:, : 2 + 3 * index % 7] = -100
        rows.append((tokens, labels))
    return rows


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def accumulate(model, rows: Rows, is_sharded: bool, on_row: Callable[[int, int], None] = lambda index, count: None):
    """Add up the gradients of a window whose rows the processes share; returns the loss of all rows."""
    items = sum(int((labels[:, 1:] != -100).sum()) for _, labels in rows)
    mine = rows[dist.get_rank() :: dist.get_world_size()] if is_sharded else rows
    total = torch.zeros((), dtype=torch.float64)
    for index, (tokens, labels) in enumerate(mine):
        on_row(index, len(mine))
        loss = model(tokens, labels=labels, num_items_in_batch=items, use_cache=False).loss
        # Gradients are averaged over the processes.
        (loss * (dist.get_world_size() if is_sharded else 1)).backward()
        total += loss.detach()
    if is_sharded:
        dist.all_reduce(total)
    return total.item()


def train(
    model, optimizer, is_sharded: bool, steps: range = STEPS, rows: int = 6, max_norm: float = 0.5
) -> list[tuple[float, float]]:
    """Train; returns loss and norm of the gradient, before it is clipped, of each step."""
    figures = []
    for step in steps:
        loss = accumulate(model, window(step, rows), is_sharded)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        optimizer.step()
        optimizer.zero_grad()
        figures.append((loss, whole(norm).item()))
    return figures


def weights(model) -> dict[str, torch.Tensor]:
    return {name: whole(value).detach().clone() for name, value in model.state_dict().items()}


def of_ranks(value: Any) -> list[Any]:
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def load_checkpoint(folder: Path, model, optimizer) -> None:
    """Load what `dcp.save` wrote, however many processes did."""
    of_model, of_optimizer = get_state_dict(model, optimizer)
    dcp.load({"model": of_model, "optimizer": of_optimizer}, checkpoint_id=folder)
    set_state_dict(model, optimizer, model_state_dict=of_model, optim_state_dict=of_optimizer)


def checkpointed_model(vocab_size: int, dtype: torch.dtype) -> AstroLLMForCausalLM:
    return make_model(dtype, vocab_size, num_hidden_layers=1)


def blank_model(vocab_size: int, dtype: torch.dtype) -> AstroLLMForCausalLM:
    """A model with nothing of the weights that a checkpoint must bring."""
    model = checkpointed_model(vocab_size, dtype)
    for parameter in model.parameters():
        parameter.data.zero_()
    return model
