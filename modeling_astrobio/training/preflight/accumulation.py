"""A step in several micro-batches against the same rows in one: losses, gradients and weights must agree."""

import gc
import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback

from ..llm_data import IGNORE_INDEX
from ..strategy import Strategy
from ..trainer import AstroTrainer
from .building import build, prepare, without_dropout
from .outcome import NotTestable, Outcome, failed, passed
from .source import Source


__all__ = ["check_accumulation"]


_STEPS = 3
_MOST_ROWS = 4
# Relative. The same sums in another order: float32 rounds at 6e-8, a loss sums some thousand terms, and a gradient has
# cancellations, also in what they do to the next step. Sixteen bits round at 4e-3 (bfloat16) in each of many layers;
# an error of accumulation is a factor of two at least, or the spread of documents' lengths.
_TOLERANCES = {"float32": (1e-5, 1e-3), "16 bit": (2e-2, 1e-1)}
# Norms below this share of the largest are sums that cancel.
_SMALL_NORM = 1e-3


@dataclass
class _Trace:
    """What a short training does.

    Attributes:
        losses: Of each step.
        norms: Of each step: norm of the gradient of each parameter.
    """

    losses: list[float] = field(default_factory=list)
    norms: list[dict[str, float]] = field(default_factory=list)


class _Norms(TrainerCallback):
    def __init__(self, trainer: AstroTrainer) -> None:
        self.trainer = trainer
        self.norms: list[dict[str, float]] = []

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        self.norms.append(
            {name: _norm(p.grad) for name, p in model.named_parameters() if p.requires_grad and p.grad is not None}
        )


def check_accumulation(source: Source, folder: Path) -> Outcome:
    """Train three steps twice, on the same rows in the same order, and compare; the second one closes an epoch.

    Args:
        source: What is examined.
        folder: For what the trainings write.
    """
    task = source.load()
    recipe = task.recipe
    _refuse(recipe.strategy)
    rows = min(_MOST_ROWS, max(2, recipe.training["per_device_train_batch_size"]))
    try:
        parts, whole = (_train(source, folder, size, rows // size) for size in (1, rows))
    except torch.OutOfMemoryError as error:
        raise NotTestable(
            f"a micro-batch of {rows} rows does not fit into memory, so there is nothing to compare with"
        ) from error
    step = task.step()
    is_wide = step.dtype == "float32" and step.mixed_precision == "no"
    least, most = _TOLERANCES["float32" if is_wide else "16 bit"]
    worst_loss = max(_relative(a, b) for a, b in zip(parts.losses, whole.losses, strict=True))
    worst_norm, where = _worst_norm(parts, whole)
    what = f"{_STEPS} steps of {rows} rows, as micro-batches of 1 and of {rows}"
    text = (
        f"{what}: losses differ by at most {worst_loss:.1e} (allowed {least:g}), norms of gradients by "
        f"{worst_norm:.1e} (allowed {most:g})"
    )
    evidence = {
        "rows": rows,
        "losses_of_one_row": parts.losses,
        "losses_of_all_rows": whole.losses,
        "worst_loss": worst_loss,
        "worst_norm": worst_norm,
        "worst_parameter": where,
    }
    if not (worst_loss <= least and worst_norm <= most):
        return failed(f"{text}; the worst parameter is {where}. Accumulation changes what is learned", **evidence)
    return passed(text, **evidence)


def _refuse(strategy: Strategy) -> None:
    for name in ("optimizer_in_backward", "gradient_offload"):
        if getattr(strategy, name):
            raise NotTestable(f"strategy.{name} allows no accumulation")
    if strategy.sharding == "zero3":
        raise NotTestable("DeepSpeed keeps gradients in partitions of its own")


def _train(source: Source, folder: Path, rows: int, accumulation: int) -> _Trace:
    changes = {
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": accumulation,
        "max_steps": _STEPS,
        "save_strategy": "no",
        "eval_strategy": "no",
        "logging_strategy": "steps",
        "logging_steps": 1,
        "report_to": "none",
        # Never clipped: a clipped gradient hides its size.
        "max_grad_norm": 1e30,
        "warmup_steps": 0,
        "lr_scheduler_kwargs": None,
    }
    overrides = [f"training.{key}={json.dumps(value)}" for key, value in changes.items()]
    out = folder / f"accumulation-{accumulation}"
    task = prepare(source.with_overrides("schedule=constant", *overrides, f"output_dir={out}"), folder)
    trainer = build(task)
    # Random numbers are drawn for a micro-batch, so that no two sizes of it have the same.
    assert trainer.model is not None
    without_dropout(trainer.model)
    data: Any = trainer.train_dataset
    if hasattr(data, "select") and trainer.args.world_size == 1:
        # One row short of two windows: the second one is closed by the end of the epoch.
        kept = itertools.islice(_rows_to_learn(data), 2 * rows * accumulation - 1)
        trainer.train_dataset = data.select(list(kept))
    norms = _Norms(trainer)
    trainer.add_callback(norms)
    trainer.train()
    trace = _Trace([row["loss"] for row in trainer.state.log_history if "loss" in row], norms.norms)
    if len(trace.losses) != _STEPS:
        raise NotTestable(
            f"the data gives {len(trace.losses)} steps of {rows * accumulation} rows with something to learn; "
            f"{_STEPS} are needed"
        )
    del trainer, task, norms
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return trace


def _rows_to_learn(rows: Any) -> Iterator[int]:
    """Yield the places of rows in which something is learned; a step without any would not count."""
    for index, row in enumerate(rows):
        labels = row.get("labels")
        if not isinstance(labels, list) or any(label != IGNORE_INDEX for label in labels):
            yield index


def _worst_norm(parts: _Trace, whole: _Trace) -> tuple[float, str]:
    worst, where = 0.0, ""
    for one, other in zip(parts.norms, whole.norms, strict=True):
        if one.keys() != other.keys():
            return math.inf, f"{sorted(one.keys() ^ other.keys())[0]} (has a gradient in one of them only)"
        least = _SMALL_NORM * max(other.values())
        for name, norm in one.items():
            found = abs(norm - other[name]) / max(other[name], least)
            if not found <= worst:
                worst, where = found, name
    return worst, where


def _relative(one: float, other: float) -> float:
    if not (math.isfinite(one) and math.isfinite(other)):
        return math.inf
    return abs(one - other) / max(abs(other), 1e-30)


def _norm(gradient: torch.Tensor) -> float:
    norm = gradient.detach().float().norm()
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
