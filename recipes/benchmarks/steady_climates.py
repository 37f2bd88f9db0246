"""Steady climates of held-out planets: mean of the planets, nearest planet, ridge regression, and AstroDatacube.

    python recipes/benchmarks/steady_climates.py [--folder FOLDER --states 4] [--seed 0] [--minutes 0.7] [--clock cpu]

Planets are the embedded ones of ExoPlaSim, means of the last months of a model year on a coarse grid, or those of
FOLDER (`python -m data_scripts.climate.make_cubes --years 1 --set mldepth=2 --set obliquity=0`), of whose files a
climate is the mean of the last 4 of 12 means over time; those before are spin-up. Every
planet is held out once, in one of 5 folds. Each run of a seed is added to results/steady_climates.json, beside the
planets and the baselines, which need no training; `astro_and_ridge` is the mean of what these two predict. Whether a
climate is in equilibrium is said of each planet, by the mean flux into it.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from interleaved import RESULTS
from result_runs import add_run
from timed_training import train_for

from data_scripts.climate.cube_file import read_cube
from data_scripts.climate.trajectories import cube_trajectory
from data_scripts.embedded.climates import EMBEDDED_CLIMATES
from modeling_astrobio import AstroDatacubeConfig, AstroDatacubeForSteadyState
from modeling_astrobio.training.datacube_data import ClimateTrajectory, collate_climates
from modeling_astrobio.training.hardware import describe_hardware, package_versions
from modeling_astrobio.training.steady_baselines import steady_baselines
from modeling_astrobio.training.steady_changes import changed_at_random
from modeling_astrobio.training.steady_data import (
    SteadyRows,
    field_spread,
    field_variables,
    radiation_residual_w_m2,
    steady_climate,
    steady_statistics,
)
from modeling_astrobio.training.steady_evaluation import Predictor, mean_errors, model_climate, relative_errors


FOLDS, BATCH = 5, 4
# W m-2: mean flux into the planet within which a climate is said to be in equilibrium.
EQUILIBRIUM_W_M2 = 1.0
RIDGE_STRENGTHS = (1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0)
SETTINGS = ("seed", "minutes", "learning_rate", "weight_decay", "dropout", "mirror", "mixing", "turning")
# Half of the preset's: with so few planets more steps are worth more than more weights.
WIDTHS = {"hidden_sizes": [16, 32, 48], "num_attention_heads": [2, 4, 6]}
VARIABLES = {
    "level_variables": ["ta", "ua", "va", "hus"],
    "surface_variables": ["ts", "tas", "ps", "pr", "clt", "rst", "rlut"],
    "forcing_variables": ["lsm", "sg"],
}


def read_planets(folder: Path, states: int) -> tuple[list[ClimateTrajectory], list[dict[str, Any]]]:
    """Return steady climates, and of each its settings, residual and label."""
    config = AstroDatacubeConfig(**VARIABLES)
    climates, described = [], []
    for path in sorted(folder.glob("*.nc")):
        cube = read_cube(path)
        climate = steady_climate(cube_trajectory(cube, config, step_s=1.0), states)
        residual = radiation_residual_w_m2(climate, config.surface_variables)
        assert residual is not None
        climates.append(climate)
        described.append(
            {
                "name": cube.name,
                "settings": json.loads(cube.attributes["settings"]),
                "residual_w_m2": residual,
                "label": "equilibrium" if abs(residual) < EQUILIBRIUM_W_M2 else "non-equilibrium",
            }
        )
    return climates, described


def folds_of(number: int) -> list[list[int]]:
    """Return the places of the planets that each fold holds out."""
    order = torch.randperm(number, generator=torch.Generator().manual_seed(0)).tolist()
    return [sorted(order[fold::FOLDS]) for fold in range(FOLDS)]


def trained_model(climates: Sequence[ClimateTrajectory], parsed: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """Train a model on climates; return it with what the training took."""
    config = AstroDatacubeConfig.from_preset("nano", **VARIABLES, **WIDTHS, hidden_dropout=parsed.dropout)
    config.statistics = steady_statistics(climates, config)
    torch.manual_seed(parsed.seed)
    model = AstroDatacubeForSteadyState(config)
    rows = SteadyRows(climates)

    def batches():
        while True:
            for part in torch.randperm(len(rows)).split(BATCH):
                if len(part) == BATCH:
                    batch = collate_climates([rows[place] for place in part.tolist()])
                    yield changed_at_random(batch, config, parsed.mirror, parsed.mixing, parsed.turning)

    training = train_for(
        60 * parsed.minutes,
        model,
        batches(),
        lambda batch, share: model(**batch).loss,
        learning_rate=parsed.learning_rate,
        weight_decay=parsed.weight_decay,
        clock=time.process_time if parsed.clock == "cpu" else time.monotonic,
    )
    return model, {name: training[name] for name in ("seconds", "cpu_seconds", "steps")}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=EMBEDDED_CLIMATES)
    parser.add_argument("--states", type=int, default=1, help="the last ones of a file, whose mean is the climate")
    parser.add_argument("--seed", type=int, default=0, help="of the model; folds are the same")
    parser.add_argument("--minutes", type=float, default=0.7, help="of training, for each fold")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--mirror", type=float, default=0.0, help="share of the rows with north and south exchanged")
    parser.add_argument("--mixing", type=float, default=0.5, help="share of the rows mixed with another planet")
    parser.add_argument("--turning", type=float, default=1.0, help="share of the rows turned about the axis")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--out", type=Path, default=RESULTS / "steady_climates.json")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    climates, planets = read_planets(parsed.folder, parsed.states)
    if len(climates) < 2 * FOLDS:
        parser.error(f"--folder must hold at least {2 * FOLDS} planets; it has {len(climates)}")
    errors: dict[str, list[dict[str, float]]] = {}
    of_folds = []
    for fold, held_out in enumerate(folds_of(len(climates))):
        known = [climate for place, climate in enumerate(climates) if place not in held_out]
        baselines = steady_baselines(known, RIDGE_STRENGTHS)
        ridge = baselines["ridge"]
        model, training = trained_model(known, parsed)
        rivals: dict[str, Predictor] = {
            **baselines,
            "model": partial(model_climate, model),
            "model and ridge": lambda climate, model=model, ridge=ridge: (
                (model_climate(model, climate) + ridge(climate)) / 2
            ),
        }
        spread, names = field_spread(known), field_variables(model.config, len(climates[0].levels))
        for place in held_out:
            for name, predict in rivals.items():
                found = relative_errors(predict, climates[place], spread, names)
                errors.setdefault(name, []).append(found)
        of_folds.append(
            {"held_out": [planets[place]["name"] for place in held_out], "ridge_strength": ridge.strength, **training}
        )
        print(f"fold {fold}", {name: round(mean_errors(of)["mean"], 3) for name, of in errors.items()}, flush=True)
    held_out_names = [name for fold in of_folds for name in fold["held_out"]]
    shared = {
        "steady_states": parsed.states,
        "grid": [len(axis) for axis in (climates[0].levels, climates[0].latitude_deg, climates[0].longitude_deg)],
        "equilibrium_w_m2": EQUILIBRIUM_W_M2,
        "planets": planets,
        "baselines": {name: mean_errors(errors[name]) for name in baselines},
    }
    run = {
        **{name: vars(parsed)[name] for name in SETTINGS},
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "folds": of_folds,
        "relative_rmse": {name: mean_errors(errors[name]) for name in ("model", "model and ridge")},
        "of_planets": {
            rival: {name: mean_errors([each])["mean"] for name, each in zip(held_out_names, several, strict=True)}
            for rival, several in errors.items()
        },
        "hardware": describe_hardware(),
        "versions": package_versions(),
    }
    add_run(parsed.out, shared, run, same=["planets"])
    for name, figures in {**shared["baselines"], **run["relative_rmse"]}.items():
        print(f"{name:20}", {variable: round(value, 3) for variable, value in figures.items()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
