"""Loss curves of 8-bit against 32-bit AdamW: the nano recipe, from the same weights on the same batches.

    python recipes/benchmarks/compare_optimizers.py [--steps 300] [--seeds 3] [--threads 1]

Writes results/compare_optimizers.json, after every run, and results/compare_optimizers.png.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from interleaved import RESULTS, write_benchmark
from matplotlib.figure import Figure
from nano_training import NanoTraining

from modeling_astrobio.training.optimizer_specs import measure_state_bytes
from modeling_astrobio.training.schedules import build_schedule
from modeling_astrobio.training.strategy import Strategy


REFERENCE = "AdamW, 32-bit averages"
# Name, strategy and dtype of the weights.
RIVALS: dict[str, tuple[Strategy, torch.dtype]] = {
    REFERENCE: (Strategy(optimizer="adamw"), torch.float32),
    "bitsandbytes, 8-bit": (Strategy(optimizer="adamw_bnb_8bit"), torch.float32),
    "torchao, 8-bit": (Strategy(optimizer="adamw_torchao_8bit"), torch.float32),
    "torchao, 8-bit, bfloat16 weights, stochastic rounding": (
        Strategy(optimizer="adamw_torchao_8bit", stochastic_rounding=True),
        torch.bfloat16,
    ),
}
COLOURS = ("#333333", "#1f4e8c", "#c8501e", "#2e8b57")
SMOOTHING = 15


def train(nano: NanoTraining, strategy: Strategy, dtype: torch.dtype, seed: int, steps: int) -> dict[str, Any]:
    """Train once; returns the loss of every step and the validation loss at the end, in nats per token."""
    training = nano.recipe.training
    model = nano.build_model(seed, dtype)
    optimizer = nano.build_optimizer(model, strategy, training["learning_rate"])
    schedule = build_schedule("cosine", optimizer, steps, max(1, round(training["warmup_steps"] * steps)))
    batches = nano.batches(seed)
    losses = []
    started = time.monotonic()
    for _ in range(steps):
        loss = model(**next(batches)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), training["max_grad_norm"])
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return {
        "seed": seed,
        "validation_loss": nano.validation_loss(model),
        "training_loss": losses,
        "state_bytes": measure_state_bytes(optimizer),
        "seconds": time.monotonic() - started,
    }


def summary(runs: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Mean and spread over seeds, and the difference from the reference within each seed."""
    reference = {run["seed"]: run["validation_loss"] for run in runs.get(REFERENCE, [])}
    found = {}
    for name, own in runs.items():
        values = [run["validation_loss"] for run in own]
        shifts = [run["validation_loss"] - reference[run["seed"]] for run in own if run["seed"] in reference]
        found[name] = {
            "validation_loss_mean": statistics.mean(values),
            "validation_loss_min": min(values),
            "validation_loss_max": max(values),
            "minus_reference_of_each_seed": shifts,
            "state_bytes": own[0]["state_bytes"],
        }
    return found


def plot(runs: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw the training loss, a line for each seed, and the validation loss at the end."""
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    curves, ends = figure.subplots(1, 2, width_ratios=(2, 1))
    for place, (colour, (name, own)) in enumerate(zip(COLOURS, runs.items(), strict=False)):
        for run in own:
            losses = torch.tensor(run["training_loss"]).unfold(0, SMOOTHING, 1).mean(1)
            label = name if run is own[0] else None
            curves.plot(range(SMOOTHING, SMOOTHING + len(losses)), losses, color=colour, linewidth=0.9, label=label)
        ends.plot([place] * len(own), [run["validation_loss"] for run in own], "o", color=colour, alpha=0.7)
    curves.set_xlabel(f"step (mean of {SMOOTHING})")
    curves.set_ylabel("training loss (nats per token)")
    curves.legend(fontsize=8)
    ends.set_xticks(range(len(runs)), [name.replace(", ", ",\n") for name in runs], fontsize=7, rotation=35)
    ends.set_ylabel("validation loss at the end (nats per token)")
    for axes in (curves, ends):
        axes.grid(alpha=0.25)
    figure.savefig(path, dpi=130)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parsed = parser.parse_args()
    if parsed.steps < SMOOTHING or parsed.seeds < 1:
        parser.error(f"--steps must be at least {SMOOTHING} and --seeds at least 1")
    torch.set_num_threads(parsed.threads)
    nano = NanoTraining.prepare()
    runs: dict[str, list[dict[str, Any]]] = {}
    for seed in range(parsed.seeds):
        for name, (strategy, dtype) in RIVALS.items():
            run = train(nano, strategy, dtype, seed, parsed.steps)
            runs.setdefault(name, []).append(run)
            done = sum(map(len, runs.values())) == parsed.seeds * len(RIVALS)
            path = write_benchmark(
                "compare_optimizers",
                {
                    "status": "finished" if done else "running",
                    "recipe": nano.recipe.to_dict(),
                    "steps": parsed.steps,
                    "strategies": {
                        rival: {**vars(strategy), "dtype": str(dtype)} for rival, (strategy, dtype) in RIVALS.items()
                    },
                    "summary": summary(runs),
                    "runs": runs,
                },
            )
            print(f"seed {seed} {name}: {run['validation_loss']:.4f} ({run['seconds']:.0f} s)", flush=True)
    plot(runs, RESULTS / "compare_optimizers.png")
    print(path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
