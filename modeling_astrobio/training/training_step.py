"""One training step as the planner and the rules see it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .recipe import Recipe
from .strategy import Strategy
from .strategy_rules import StepSettings


__all__ = ["TrainingStep"]


@dataclass(frozen=True)
class TrainingStep:
    """How to build one micro-batch of a recipe, and what surrounds it. Nothing is allocated until it is built.

    Attributes:
        name: Of the model, such as a preset.
        identity: A text that differs wherever `make_model` or `make_batch` build something else.
        make_model: Builds the model as it is trained: adapter added, frozen weights frozen, checkpointing off.
        make_batch: Builds one micro-batch of the longest rows.
        strategy: See `Strategy`.
        dtype: Precision of the weights.
        mixed_precision: "no", "bf16" or "fp16".
        accumulation_steps: Micro-batches in an optimizer step.
        max_grad_norm: Norm to which gradients are clipped; 0 does not clip.
        micro_batch: Rows in a micro-batch.
        items: Items, such as tokens, in a micro-batch.
        item: What is counted: "token", "graph", "cube".
        is_adapted: Whether only an adapter is trained.
        quantization: "4bit", "8bit" or `None`, of frozen weights; `make_model` builds them unquantised.
        attn_implementation: Kernel of the attention, or `None` for transformers' choice.
        checkpoints_kept: Checkpoints that lie on the disk at one time.
        is_averaged: Whether an average of the trained weights is kept.
    """

    name: str
    identity: str
    make_model: Callable[[], nn.Module]
    make_batch: Callable[[], Mapping[str, torch.Tensor]]
    strategy: Strategy
    dtype: str
    mixed_precision: str
    accumulation_steps: int
    max_grad_norm: float
    micro_batch: int
    items: int
    item: str = "token"
    is_adapted: bool = False
    quantization: str | None = None
    attn_implementation: str | None = None
    checkpoints_kept: int = 2
    is_averaged: bool = False

    @classmethod
    def of(cls, recipe: Any, **fields: Any) -> "TrainingStep":
        """Return a step with what every recipe of a model says the same way, and the other fields as given."""
        return cls(
            strategy=recipe.strategy,
            dtype=recipe.model.dtype,
            mixed_precision=_mixed_precision(recipe),
            accumulation_steps=recipe.training.get("gradient_accumulation_steps", 1),
            max_grad_norm=recipe.training["max_grad_norm"],
            attn_implementation=recipe.model.attn_implementation,
            checkpoints_kept=recipe.training["save_total_limit"] or 1,
            is_averaged=recipe.ema_decay > 0,
            **fields,
        )

    def settings(
        self,
        device: str,
        processes: int,
        compute_capability: tuple[int, int] | None = None,
        **changes: Any,
    ) -> StepSettings:
        """Return what the rules judge, on a device and a number of processes."""
        return StepSettings(
            strategy=self.strategy,
            device=device,
            processes=processes,
            dtype=self.dtype,
            mixed_precision=self.mixed_precision,
            accumulation_steps=self.accumulation_steps,
            max_grad_norm=self.max_grad_norm,
            items=self.items,
            quantization=self.quantization,
            is_adapted=self.is_adapted,
            attn_implementation=self.attn_implementation,
            compute_capability=compute_capability,
            is_averaged=self.is_averaged,
            **changes,
        )


def _mixed_precision(recipe: Recipe) -> str:
    """Return "bf16", "fp16" or "no" as the training section says."""
    return next((name for name in ("bf16", "fp16") if recipe.training.get(name)), "no")
