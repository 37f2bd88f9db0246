"""Task and trainer of a recipe in this process, built as a run builds them."""

from pathlib import Path

import torch
from accelerate import PartialState

from ..hardware import use_cpu_threads
from ..launch import resolve_strategy
from ..run_setup import training_arguments
from ..task import TrainingTask
from ..trainer import AstroTrainer
from .source import Source


__all__ = ["build", "prepare", "without_dropout"]


def prepare(source: Source, folder: Path) -> TrainingTask:
    """Return the task with its data open and its strategy as launched.

    Args:
        source: What is examined.
        folder: In place of the run's; what one task has put there the next one finds.
    """
    task = source.load()
    # Joins the processes that were launched.
    arguments = training_arguments(task.recipe)
    if PartialState().num_processes == 1 and arguments.device.type == "cpu":
        use_cpu_threads(task.recipe.cpu_threads)
    task.recipe.strategy = resolve_strategy(task.recipe.strategy, PartialState().num_processes)
    folder.mkdir(parents=True, exist_ok=True)
    task.prepare(folder)
    return task


def build(task: TrainingTask) -> AstroTrainer:
    """Return the trainer of a prepared task."""
    trainer = task.build_trainer(training_arguments(task.recipe))
    assert isinstance(trainer.model, torch.nn.Module)
    return trainer


def without_dropout(model: torch.nn.Module) -> None:
    """Make a model in training mode compute what it computes in evaluation mode."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.dropout._DropoutNd):
            module.p = 0.0
        for name, value in vars(module).items():
            if "dropout" in name and isinstance(value, float):
                setattr(module, name, 0.0)
