"""Training that is given time, not steps, so that rivals have equally much of it."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from modeling_astrobio.training.errors import TrainingFault


__all__ = ["rate_share", "train_for"]

_WARMUP_SHARE = 0.02
_LOGGED = 50


def rate_share(elapsed: float) -> float:
    """Return the learning rate as a share of its peak: a straight rise in the first 2 % of the time, then a cosine.

    Args:
        elapsed: Share of the time that is over, 0 to 1.
    """
    if elapsed < _WARMUP_SHARE:
        return elapsed / _WARMUP_SHARE
    return 0.5 * (1 + math.cos(math.pi * (elapsed - _WARMUP_SHARE) / (1 - _WARMUP_SHARE)))


def train_for(
    seconds: float,
    model: nn.Module,
    batches: Iterator[Any],
    loss_of: Callable[[Any, float], torch.Tensor],
    *,
    learning_rate: float,
    weight_decay: float = 0.0,
    max_grad_norm: float = 1.0,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Train a model with AdamW until the time is over; making the batches counts.

    Args:
        seconds: Time by `clock`; the step during which it ends is the last.
        model: Its parameters are trained; it is left in evaluation mode.
        batches: Without end.
        loss_of: Takes a batch and the share of the time that is over; returns the loss.
        learning_rate: At its peak, see `rate_share`.
        weight_decay: Of matrices; vectors have none.
        max_grad_norm: Longer gradients are cut to this norm.
        clock: Gives seconds: `time.monotonic`, or `time.process_time`, which stands while others have the processor
            and counts the seconds of all threads.

    Returns:
        `seconds` by the clock on the wall and `cpu_seconds` that it took, `steps`, and `losses`: the seconds, by
        `clock`, at which each fiftieth of the time ended, with the mean loss in it.

    Raises:
        TrainingFault: If a loss is not finite.
    """
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() < 2]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.99))
    model.train()
    steps = 0
    losses: list[tuple[float, float]] = []
    recent: list[float] = []
    started, wall_started, cpu_started = clock(), time.monotonic(), time.process_time()
    while (elapsed := (clock() - started) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * rate_share(elapsed)
        loss = loss_of(next(batches), elapsed)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
        optimizer.step()
        steps += 1
        recent.append(float(loss.detach()))
        if not math.isfinite(recent[-1]):
            raise TrainingFault(f"the loss must be finite; got {recent[-1]} in step {steps}. Lower the learning rate.")
        now = clock() - started
        if now * _LOGGED >= seconds * (len(losses) + 1):
            losses.append((now, sum(recent) / len(recent)))
            recent.clear()
            print(f"{now:7.0f} s, step {steps}: loss {losses[-1][1]:.4f}", flush=True)
    model.eval()
    return {
        "seconds": time.monotonic() - wall_started,
        "cpu_seconds": time.process_time() - cpu_started,
        "steps": steps,
        "losses": losses,
    }
