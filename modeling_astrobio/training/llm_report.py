"""What a run leaves for its reader: loss plot and model card."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from .model_card import write_card


__all__ = ["plot_losses", "write_model_card"]


def plot_losses(log_history: list[dict[str, Any]], path: Path, label: str = "loss (nats per learned token)") -> None:
    """Draw training and validation loss over steps.

    Args:
        log_history: `TrainerState.log_history`.
        path: PNG to write.
        label: Of the axis of the loss.
    """
    matplotlib.use("agg")
    training = [(row["step"], row["loss"]) for row in log_history if "loss" in row]
    validation = [(row["step"], row["eval_loss"]) for row in log_history if "eval_loss" in row]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    if training:
        axes.plot(*zip(*training, strict=True), color="#9db7d5", linewidth=0.8, label="training, each step")
        window = max(1, len(training) // 40)
        smooth = [
            (training[end - 1][0], sum(loss for _, loss in training[end - window : end]) / window)
            for end in range(window, len(training) + 1)
        ]
        axes.plot(
            *zip(*smooth, strict=True), color="#1f4e8c", linewidth=1.6, label=f"training, mean of {window} steps"
        )
    if validation:
        axes.plot(*zip(*validation, strict=True), color="#c8501e", marker="o", markersize=4, label="validation")
    axes.set_xlabel("step")
    axes.set_ylabel(label)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)


def write_model_card(result: dict[str, Any], template: Path, path: Path) -> None:
    """Write the card of a language model, see `write_card`."""
    tags = ("exoplanets",)
    write_card(result, template, path, pipeline_tag="text-generation", tags=tags, language="en")
