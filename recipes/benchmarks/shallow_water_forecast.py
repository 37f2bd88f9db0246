"""Forecasts of shallow water on held-out planets: persistence, climatology, ridge, a U-Net, and AstroDatacube.

    python recipes/benchmarks/shallow_water_forecast.py --row ROW [--seed 0] [--minutes 4] [--clock cpu]

ROW is `unet`, `astro`, or `astro_free`, AstroDatacube without its constraints. All have about as many parameters, the
same time, stem, head, loss, roll-outs and symmetric copies of the rows; learning rate and the U-Net's patches are to
be chosen by the validation worlds. Each run, with the baselines that need no training beside it, is added to
results/shallow_water_forecast.json.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch
from interleaved import RESULTS
from result_runs import add_run
from timed_training import train_for
from unet_trunk import unet_of_size

from data_scripts.climate.trajectories import shallow_water_worlds
from modeling_astrobio import AstroDatacubeConfig, AstroDatacubeForForecasting
from modeling_astrobio.modeling_astro_datacube_heads import next_window
from modeling_astrobio.training.datacube_data import ForecastRows, climate_statistics, collate_climates
from modeling_astrobio.training.datacube_evaluation import best_ridge, forecast_figures
from modeling_astrobio.training.datacube_step import SHALLOW_WATER
from modeling_astrobio.training.hardware import describe_hardware, package_versions
from modeling_astrobio.training.sphere_symmetries import symmetric_copies


ROWS = ("unet", "astro", "astro_free")
WORLDS, GRID_ROWS, STATES, STEP_S, BATCH, ROLLOUT, LEADS = 60, 16, 40, 21600.0, 16, 3, 20


def batches(rows: ForecastRows, config: AstroDatacubeConfig, seed: int):
    generator = torch.Generator().manual_seed(seed)
    while True:
        for part in torch.randperm(len(rows), generator=generator).split(BATCH):
            if len(part) == BATCH:
                yield symmetric_copies(collate_climates([rows[place] for place in part.tolist()]), config)


def rolled_loss(model: Any, batch: dict[str, torch.Tensor], share: float) -> torch.Tensor:
    """Mean loss of a roll-out of one step at first, and of all from seven tenths of the time on."""
    steps = min(ROLLOUT, 1 + int(share / 0.7 * ROLLOUT))
    labels = batch["surface_labels"]
    others = {name: value for name, value in batch.items() if name not in ("surface_labels", "surface_fields")}
    window, losses, ledger = (None, batch["surface_fields"]), [], None
    for step in range(steps):
        output = model(surface_fields=window[1], surface_labels=labels[:, :, step], ledger=ledger, **others)
        losses.append(output.loss)
        ledger, window = output.ledger, next_window(window, output)
    return torch.stack(losses).mean()


def build(row: str, statistics: dict[str, Any], patch_size: int) -> Any:
    constraints = [] if row == "astro_free" else ["shallow_water"]
    config = AstroDatacubeConfig.from_preset(
        "nano", **SHALLOW_WATER, num_latent_levels=1, is_closed_system=True, constraints=constraints
    )
    config.statistics = statistics
    ours = AstroDatacubeForForecasting(config)
    if row != "unet":
        return ours
    wanted = sum(parameter.numel() for parameter in ours.parameters())
    return unet_of_size(AstroDatacubeForForecasting, ours.config, wanted, patch_size)


@torch.no_grad()
def validation_loss(model: Any, rows: ForecastRows) -> float:
    losses = [rolled_loss(model, collate_climates([rows[place]]), 1.0).item() for place in range(0, len(rows), 5)]
    return sum(losses) / len(losses)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", choices=ROWS, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--patch-size", type=int, default=2, help="of the U-Net, cells")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--out", type=Path, default=RESULTS / "shallow_water_forecast.json")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    planet_parameters = AstroDatacubeConfig.planet_parameters
    worlds = shallow_water_worlds(WORLDS, GRID_ROWS, STATES, STEP_S, 0, planet_parameters)
    base = AstroDatacubeConfig.from_preset("nano", **SHALLOW_WATER)
    torch.manual_seed(parsed.seed)
    model = build(parsed.row, climate_statistics(worlds["train"], base), parsed.patch_size)
    rows = {split: ForecastRows(worlds[split], 1, ROLLOUT) for split in ("train", "validation")}
    training = train_for(
        60 * parsed.minutes,
        model,
        batches(rows["train"], model.config, parsed.seed),
        lambda batch, share: rolled_loss(model, batch, share),
        learning_rate=parsed.learning_rate,
        weight_decay=0.01,
        clock=time.process_time if parsed.clock == "cpu" else time.monotonic,
    )
    ridge, strength = best_ridge(worlds["train"], worlds["validation"], [1, 2], [1e-6, 1e-4, 1e-2, 1.0], LEADS)
    run = {
        "row": parsed.row,
        "seed": parsed.seed,
        "minutes": parsed.minutes,
        "learning_rate": parsed.learning_rate,
        "patch_size": model.config.patch_size,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training": training,
        "validation_loss": validation_loss(model, rows["validation"]),
        "ridge_strength": strength,
        "figures": forecast_figures(model, worlds["test"], ridge, LEADS, 4),
        "hardware": describe_hardware(),
        "versions": package_versions(),
    }
    add_run(parsed.out, {"step_s": STEP_S}, run)
    print(parsed.row, parsed.seed, run["parameters"], training["steps"], f"validation {run['validation_loss']:.4f}")
    for variable in ("h", "u", "v"):
        errors = run["figures"]["relative_rmse"]["model"][variable]
        print(variable, [round(errors[lead - 1], 3) for lead in (1, 2, 4, 8, 16, 20)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
