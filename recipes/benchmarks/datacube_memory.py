"""Peak memory of a training step of AstroDatacube against the size of its input, plain and with checkpointing.

    python recipes/benchmarks/datacube_memory.py

The preset `nano` with its variables on levels, one cube, float32, on the CPU; each size in a process of its own, as
measured and as `trace_step` of the planner says. Writes results/datacube_memory.json.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from interleaved import peak_memory, run_in_fresh_process, write_benchmark

from modeling_astrobio import AstroDatacubeForForecasting
from modeling_astrobio.training.datacube_recipe import DatacubeRecipe
from modeling_astrobio.training.datacube_step import datacube_step
from modeling_astrobio.training.memory_trace import trace_step
from modeling_astrobio.training.recipe import load_recipe
from modeling_astrobio.training.training_step import TrainingStep


RECIPES = Path(__file__).resolve().parents[1] / "datacube"
# Levels, latitudes, longitudes.
SHAPES = ((10, 32, 64), (10, 64, 128), (13, 91, 180), (13, 181, 360))


def step_of(shape: tuple[int, ...]) -> TrainingStep:
    changes = ["model.preset=nano", "data.folder=files", "training.per_device_train_batch_size=1"]
    recipe = load_recipe(DatacubeRecipe, RECIPES / "tiny.yaml", [*changes, "forecast.constraints=[]"])
    return datacube_step(recipe, shape)


def model_of(step: TrainingStep, checkpointing: bool) -> AstroDatacubeForForecasting:
    model = step.make_model().train()
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def measured_bytes(shape: tuple[int, ...], checkpointing: bool) -> int:
    """Peak of forward and backward pass beyond the weights, gradients included."""
    step = step_of(shape)
    torch.set_num_threads(1)
    model, small = model_of(step, checkpointing), step_of(SHAPES[0]).make_batch()
    # Libraries make their own buffers in the first step.
    model(**small).loss.backward()
    model.zero_grad(set_to_none=True)
    batch = step.make_batch()
    return peak_memory(lambda: model(**batch).loss.backward())


def planned_bytes(shape: tuple[int, ...], checkpointing: bool) -> int:
    step = step_of(shape)
    trace = trace_step(lambda: model_of(step, checkpointing), step.make_batch, gradients_kept=False, device="cpu")
    return trace.peak_bytes - trace.components["parameters"] - trace.components.get("buffers", 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--checkpointing", action="store_true", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.shape:
        shape = tuple(parsed.shape)
        planned = planned_bytes(shape, parsed.checkpointing)
        measured = measured_bytes(shape, parsed.checkpointing)
        print(json.dumps({"measured_bytes": measured, "planned_bytes": planned}))
        return 0
    rows = []
    for shape in SHAPES:
        for extra in ([], ["--checkpointing"]):
            found = run_in_fresh_process(Path(__file__).resolve(), "--shape", *map(str, shape), *extra)
            row = {"levels_latitudes_longitudes": shape, "checkpointing": bool(extra), **found}
            rows.append(row)
            print(row)
    write_benchmark("datacube_memory", {"preset": "nano", "rows": rows})
    return 0 if all(row["status"] == "finished" for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
