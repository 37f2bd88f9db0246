"""The outer loop of a few-shot adapter: over tasks, through the inner loop of each."""

import copy
import time
from collections.abc import Sequence
from typing import Any

import torch

from ..graph_few_shot import GraphFewShotAdapter
from ..loss_gaussian import gaussian_loss
from .few_shot_tasks import FewShotTasks, TaskBatch


__all__ = ["task_loss", "train_adapter"]

_VALIDATION_TASKS = 48


def task_loss(adapter: GraphFewShotAdapter, tokens: torch.Tensor, batch: TaskBatch) -> torch.Tensor:
    """Return the negative log-likelihood of the query labels after the inner loop, in units of the support, nats.

    Args:
        adapter: What is trained.
        tokens: Of all molecules, shape (N, T, D).
        batch: Tasks on these molecules.
    """
    mean, variance = adapter(tokens[batch.support], batch.support_labels, tokens[batch.query])
    scale = batch.support_labels.std(1, keepdim=True)
    return gaussian_loss(mean / scale, variance / scale.square(), batch.query_labels / scale)


def train_adapter(
    adapter: GraphFewShotAdapter,
    tokens: torch.Tensor,
    tasks: FewShotTasks,
    validation_tasks: FewShotTasks,
    *,
    steps: int,
    support_sizes: Sequence[int] = (16, 32, 64, 128),
    query_size: int = 64,
    tasks_per_step: int = 4,
    learning_rate: float = 1e-3,
    evaluate_every: int = 100,
) -> dict[str, Any]:
    """Train an adapter and leave it with the weights of the best validation.

    Args:
        adapter: Trained in place.
        tokens: Of the molecules that both kinds of tasks draw from, shape (N, T, D); no gradient is needed.
        tasks: Of the training families.
        validation_tasks: Of the validation families; a fixed set of them is drawn at the start.
        steps: Of the outer optimizer, Adam with a cosine to 0.
        support_sizes: A step draws tasks of one of these.
        query_size: Query molecules of a task.
        tasks_per_step: Tasks of a step.
        learning_rate: At the start.
        evaluate_every: Steps between validations.

    Returns:
        `steps`, `seconds`, `training_loss` and `validation_loss` by step, and `best_step`.
    """
    started = time.monotonic()
    adapter.set_token_scale(tokens)
    optimizer = torch.optim.Adam(adapter.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    per_size = max(1, _VALIDATION_TASKS // len(support_sizes))
    held_out = [validation_tasks.draw(per_size, size, query_size) for size in support_sizes]

    @torch.no_grad()
    def validation_loss() -> float:
        return sum(float(task_loss(adapter, tokens, batch)) for batch in held_out) / len(held_out)

    validation: dict[int, float] = {0: validation_loss()}
    training: dict[int, float] = {}
    best, best_weights = 0, copy.deepcopy(adapter.state_dict())
    recent: list[float] = []
    for step in range(1, steps + 1):
        size = support_sizes[int(tasks.rng.integers(len(support_sizes)))]
        loss = task_loss(adapter, tokens, tasks.draw(tasks_per_step, size, query_size))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(adapter.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        recent.append(float(loss.detach()))
        if step % evaluate_every == 0 or step == steps:
            training[step], validation[step] = sum(recent) / len(recent), validation_loss()
            recent.clear()
            if validation[step] < validation[best]:
                best, best_weights = step, copy.deepcopy(adapter.state_dict())
    adapter.load_state_dict(best_weights)
    return {
        "steps": steps,
        "seconds": time.monotonic() - started,
        "training_loss": training,
        "validation_loss": validation,
        "best_step": best,
    }
