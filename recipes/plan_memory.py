"""Say what a recipe needs before anything is bought or allocated.

    python recipes/plan_memory.py 13b --strategy fsdp2_torchao_8bit --gpus 2 --gpu a6000 --ram 128 --disk 500

Prints the memory of each GPU by component, host memory, disk, and an estimate of time; with --all, every strategy of
recipes/strategies from fastest to slowest. With --out, the same as plan.json, plan.md and plan.png.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers.utils.logging import set_verbosity_error

from modeling_astrobio.training.climate_recipe import ClimateRecipe
from modeling_astrobio.training.datacube_recipe import DatacubeRecipe
from modeling_astrobio.training.datacube_step import climate_step, datacube_step, diffusion_step
from modeling_astrobio.training.diffusion_recipe import DiffusionRecipe
from modeling_astrobio.training.errors import RecipeError, UserError
from modeling_astrobio.training.gpu_specs import Hardware, parse_hardware
from modeling_astrobio.training.graph_recipe import GraphRecipe
from modeling_astrobio.training.graph_step import graph_step
from modeling_astrobio.training.llm_recipe import LLMRecipe
from modeling_astrobio.training.llm_step import llm_step
from modeling_astrobio.training.metabolic_recipe import MetabolicRecipe
from modeling_astrobio.training.metabolic_step import metabolic_step
from modeling_astrobio.training.plan_report import plan_table, plot_plans, strategy_table
from modeling_astrobio.training.plan_search import (
    PlannedStrategy,
    TraceCache,
    plan_one,
    plan_strategies,
    smallest_change,
)
from modeling_astrobio.training.recipe import Recipe, lay_over, load_recipe, read_yaml, recipe_from_dict
from modeling_astrobio.training.training_step import TrainingStep


HERE = Path(__file__).resolve().parent
# Each kind of model: its recipe and how a step is made of it.
KINDS: dict[str, tuple[type[Recipe], Callable[[Any], TrainingStep]]] = {
    "climate": (ClimateRecipe, climate_step),
    "datacube": (DatacubeRecipe, datacube_step),
    "diffusion": (DiffusionRecipe, diffusion_step),
    "graph_vae": (GraphRecipe, graph_step),
    "llm": (LLMRecipe, llm_step),
    "metabolic": (MetabolicRecipe, metabolic_step),
}
MOST_BARS = 16


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="name in recipes/KIND, or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="what differs from the recipe")
    parser.add_argument("--kind", choices=sorted(KINDS), default="llm", help="of model")
    parser.add_argument("--preset", help="plan this shape in place of the recipe's checkpoint")
    parser.add_argument("--strategy", help="name in recipes/strategies, or a file: laid over the recipe")
    parser.add_argument("--gpus", help="number of GPUs, by default 1; 0 trains on the CPU")
    parser.add_argument("--vram", help="memory of each GPU as sold, GB")
    parser.add_argument("--ram", help="host memory, GB")
    parser.add_argument("--disk", help="free disk, GB")
    parser.add_argument("--gpu", help="name of the GPU, for its speed and memory")
    parser.add_argument("--days", type=float, default=28.0, help="time that the compute lasts")
    parser.add_argument("--all", action="store_true", help="plan every strategy too")
    parser.add_argument("--out", type=Path, help="folder for plan.json, plan.md and plan.png")
    return parser.parse_intermixed_args(arguments)


def plan(parsed: argparse.Namespace) -> int:
    """Plan as the command line says; returns 0 if the recipe fits, 1 if it does not or cannot work."""
    if not parsed.days > 0:
        raise RecipeError(f"--days must be above 0; got {parsed.days}.")
    hardware = parse_hardware(parsed.gpus, parsed.vram, parsed.ram, parsed.disk, parsed.gpu)
    recipe_class, step_of = KINDS[parsed.kind]
    layers: list[dict[str, Any]] = []
    if parsed.preset:
        layers.append({"model": {"preset": parsed.preset, "checkpoint": None}})
    if parsed.strategy:
        layers.append(read_yaml(parsed.strategy, HERE / "strategies", "strategy"))
    recipe = load_recipe(recipe_class, parsed.recipe, parsed.overrides, HERE / parsed.kind, tuple(layers))

    def make_step(layer: Mapping[str, Any]) -> TrainingStep:
        step = step_of(recipe_from_dict(recipe_class, lay_over(recipe.to_dict(), layer)))
        if step.strategy.sharding == "auto":
            sharding = "ddp" if hardware.gpus > 1 else "none"
            step = replace(step, strategy=replace(step.strategy, sharding=sharding))
        return step

    trace = TraceCache()
    chosen = plan_one(parsed.strategy or parsed.recipe, make_step({}), hardware, trace)
    text = [describe(chosen, parsed.days)]
    if not chosen.fits:
        change = smallest_change(make_step, hardware, trace)
        text.append(f"the smallest change that fits: {' '.join(change[0])}" if change else "no change tried fits")
    rows = []
    if parsed.all:
        files = sorted((HERE / "strategies").glob("*.yaml"))
        strategies = {file.stem: read_yaml(file, None, "strategy") for file in files}
        rows = plan_strategies(make_step, strategies, hardware, trace)
        text.append(strategy_table(rows, parsed.days))
    print("\n\n".join(text))
    if parsed.out:
        write(parsed.out, hardware, [chosen, *rows], "\n\n".join(text))
    return 0 if chosen.fits else 1


def describe(row: PlannedStrategy, days: float) -> str:
    if row.plan is None:
        return "cannot work:\n" + "\n".join(f"  {refusal}" for refusal in row.refusals)
    return plan_table(row.plan, days)


def write(out: Path, hardware: Hardware, rows: list[PlannedStrategy], text: str) -> None:
    """Write the plans as JSON, Markdown and a picture."""
    out.mkdir(parents=True, exist_ok=True)
    content = [
        {"name": row.name, "refusals": list(map(str, row.refusals)), **(row.plan.to_dict() if row.plan else {})}
        for row in rows
    ]
    (out / "plan.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (out / "plan.md").write_text(text + "\n", encoding="utf-8")
    plans = [(row.name, row.plan) for row in rows if row.plan is not None]
    if plans:
        plot_plans(plans[:MOST_BARS], hardware, out / "plan.png")


def main(arguments: list[str] | None = None) -> int:
    # A model is built many times; what transformers says of each is of no use here.
    set_verbosity_error()
    try:
        return plan(parse_arguments(arguments))
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
