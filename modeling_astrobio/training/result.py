"""The result of a run: one format for every model, written as JSON."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from .hardware import describe_hardware, package_versions
from .rollbacks import Rollback
from .run_folder import RECIPE_NAME
from .trainer import AstroTrainer
from .whole_files import write_json_whole


__all__ = ["RESULT_NAME", "describe_model", "describe_training", "run_result", "write_result"]


RESULT_NAME = "result.json"


def describe_model(model: nn.Module, start: str, dtype: str) -> dict[str, Any]:
    """Return what was trained; counted before training, since sharding changes what a process sees."""
    return {
        "start": start,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "trainable_parameters": sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        "dtype": dtype,
    }


def describe_training(trainer: AstroTrainer, *, resumed: bool, seconds: float) -> dict[str, Any]:
    """Return steps, tokens, time and last losses of a training; `seconds` are those of this process only."""
    last = next((row for row in reversed(trainer.state.log_history) if "loss" in row), {})
    terms = {name.removeprefix("loss_"): value for name, value in last.items() if name.startswith("loss_")}
    return {
        "steps": trainer.state.global_step,
        "resumed": resumed,
        "tokens_seen": trainer.state.num_input_tokens_seen,
        "seconds": seconds,
        "last_loss": last.get("loss"),
        **({"last_loss_terms": terms} if terms else {}),
    }


def run_result(
    *,
    command: str,
    model: dict[str, Any],
    training: dict[str, Any],
    plan: dict[str, Any],
    rollbacks: list[Rollback],
    task: dict[str, Any],
) -> dict[str, Any]:
    """Put a finished run's result together.

    Args:
        command: How it was started.
        model: Of `describe_model`.
        training: Of `describe_training`.
        plan: What the planner predicted.
        rollbacks: Steps that did not stand.
        task: What only this kind of model has: "data", "evaluation", "samples" and the like.
    """
    return {
        "status": "finished",
        "command": command,
        "recipe": RECIPE_NAME,
        "model": model,
        "training": training,
        "plan": plan,
        "rollbacks": [asdict(rollback) for rollback in rollbacks],
        **task,
        "hardware": describe_hardware(),
        "versions": package_versions(),
    }


def write_result(result: dict[str, Any], path: Path) -> None:
    """Write a result as JSON, whole or not at all."""
    write_json_whole(path, result)
