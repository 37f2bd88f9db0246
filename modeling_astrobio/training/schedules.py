"""Schedules of the learning rate: transformers', and torch's one-cycle schedule."""

import math
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from transformers import get_scheduler

from .errors import RecipeError


__all__ = ["SCHEDULE_NAMES", "build_schedule"]


# Each with its options, which are those of the function of transformers or torch behind it.
_OPTIONS: dict[str, tuple[str, ...]] = {
    "cosine": ("num_cycles",),
    "linear": (),
    "constant": (),
    "constant_with_warmup": (),
    "wsd": ("decay_type", "min_lr_ratio", "num_decay_steps", "warmup_type"),
    "one_cycle": ("anneal_strategy", "div_factor", "final_div_factor"),
}
SCHEDULE_NAMES = tuple(_OPTIONS)
# Share of the steps in which "wsd" decays, after Hägele et al. 2024, arXiv:2405.18392.
_DECAY_SHARE = 0.2


class _OneCycle(OneCycleLR):
    """Torch's, whose length is that of this run even if the checkpoint to resume from was made for another."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state without what follows from the number of steps."""
        state = super().state_dict()
        return {key: value for key, value in state.items() if key not in ("total_steps", "_schedule_phases")}


def build_schedule(
    name: str, optimizer: torch.optim.Optimizer, steps: int, warmup_steps: int, **options: Any
) -> LRScheduler:
    """Make the schedule of the learning rate, which every group of the optimizer states at its highest.

    "cosine" and "linear" rise and fall to 0; "wsd" rises, stays and falls over `num_decay_steps`, by default the last
    fifth; "one_cycle" rises from 1/25 of the rate and falls to 1/250,000 of it, both along cosines; "constant" has no
    warm-up. Momentum stays as it is.

    Args:
        name: One of "cosine", "linear", "constant", "constant_with_warmup", "wsd", "one_cycle".
        optimizer: Wrapped by Accelerate or not.
        steps: Optimizer steps of the whole run.
        warmup_steps: Steps in which the rate rises; it is at its highest in the step after them.
        **options: Of "cosine": `num_cycles`; of "wsd": `num_decay_steps`, `min_lr_ratio`, `warmup_type` and
            `decay_type`; of "one_cycle": `div_factor`, `final_div_factor` and `anneal_strategy`.

    Raises:
        RecipeError: If the name or an option is unknown, or the parts are longer than the whole.
    """
    if name not in _OPTIONS:
        raise RecipeError(f"schedule must be one of {SCHEDULE_NAMES}; got {name!r}.")
    unknown = sorted(set(options) - set(_OPTIONS[name]))
    if unknown:
        raise RecipeError(
            f"training.lr_scheduler_kwargs of schedule={name!r} may be {_OPTIONS[name]}; got {unknown}. Remove them."
        )
    if steps < 1 or warmup_steps < 0:
        raise RecipeError(
            f"a schedule needs at least 1 step and 0 warm-up steps; got steps={steps}, warmup_steps={warmup_steps}."
        )
    try:
        if name == "one_cycle":
            return _one_cycle(optimizer, steps, warmup_steps, options)
        if name == "wsd":
            return _wsd(optimizer, steps, warmup_steps, options)
        return get_scheduler(name, optimizer, warmup_steps, steps, options)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        if isinstance(error, RecipeError):
            raise
        raise RecipeError(
            f"training.lr_scheduler_kwargs={options} does not do for schedule={name!r}: {error}"
        ) from error


def _wsd(optimizer, steps: int, warmup_steps: int, options: dict[str, Any]) -> LRScheduler:
    default = min(math.ceil(_DECAY_SHARE * steps), max(0, steps - warmup_steps))
    options = {"num_decay_steps": default, **options}
    decay = options["num_decay_steps"]
    if decay < 0 or warmup_steps + decay > steps:
        raise RecipeError(
            f"schedule='wsd' needs warm-up and decay that fit into {steps} steps; got {warmup_steps} and {decay}. "
            "Set training.warmup_steps, or num_decay_steps in training.lr_scheduler_kwargs."
        )
    return get_scheduler("warmup_stable_decay", optimizer, warmup_steps, steps, options)


def _one_cycle(optimizer, steps: int, warmup_steps: int, options: dict[str, Any]) -> LRScheduler:
    if not 1 <= warmup_steps < steps - 1:
        raise RecipeError(
            f"schedule='one_cycle' rises and falls, so training.warmup_steps must be at least 1 and less than "
            f"{steps - 1}; got {warmup_steps} of {steps} steps."
        )
    return _OneCycle(
        optimizer,
        max_lr=[float(group["lr"]) for group in optimizer.param_groups],
        total_steps=steps,
        pct_start=(warmup_steps + 1) / steps,
        # Beta1 stays the recipe's; and torchao's step, compiled for one, would be compiled again in every step.
        cycle_momentum=False,
        **options,
    )
