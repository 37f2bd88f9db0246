"""A run of any recipe: check the strategy, claim a folder, train, evaluate, and leave a result."""

import argparse
import json
import os
import shlex
import shutil
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar, Generic

import torch
from accelerate import PartialState
from transformers import TrainingArguments
from transformers.integrations import get_available_reporting_integrations
from transformers.utils.logging import disable_progress_bar

from .checkpoints import resolve_resume
from .errors import HardwareError, RecipeError, StrategyError, UserError
from .gpu_specs import this_machine
from .hardware import check_device, make_output_safe, use_cpu_threads
from .launch import launched_sharding, resolve_strategy
from .memory_plan import MemoryPlan, plan_step
from .plan_search import TraceCache, smallest_change
from .recipe import AnyRecipe, Recipe, lay_over, load_recipe, read_yaml, recipe_from_dict
from .result import RESULT_NAME, describe_model, describe_training, run_result, write_result
from .run_folder import open_run_folder
from .strategy_rules import check_strategy
from .trainer import AstroTrainer
from .training_step import TrainingStep


__all__ = ["INTERRUPTED", "TrainingTask", "parse_arguments", "run_recipe"]


INTERRUPTED = 130


class TrainingTask(ABC, Generic[AnyRecipe]):
    """What a kind of model adds to a run. The methods are called in the order in which they stand.

    Attributes:
        recipe: The recipe of the run.
    """

    recipe_class: ClassVar[type[Recipe]]
    """Kind of the recipe."""
    recipes: ClassVar[Path]
    """Folder of the recipes: named ones in its folder `recipe_class.kind`, strategies in `strategies`."""
    default_recipe: ClassVar[str]
    """Recipe that runs where none is named."""

    def __init__(self, recipe: AnyRecipe):
        self.recipe = recipe

    @abstractmethod
    def step(self) -> TrainingStep:
        """Return the step to plan; nothing is read or allocated."""

    @abstractmethod
    def prepare(self, run_dir: Path) -> None:
        """Open the data, and make what the run's folder needs before a model exists."""

    @abstractmethod
    def build_trainer(self, arguments: TrainingArguments) -> AstroTrainer:
        """Build the model and its trainer."""

    @abstractmethod
    def describe(self) -> str:
        """Return what the model started from, without the folders it lay in."""

    @abstractmethod
    def evaluate(self, trainer: AstroTrainer) -> dict[str, Any]:
        """Return the result's sections that only this kind of model has; called by the main process."""

    @abstractmethod
    def report(self, trainer: AstroTrainer, run_dir: Path, result: dict[str, Any]) -> None:
        """Write card and plots, and print where everything is."""


def parse_arguments(
    task: type[TrainingTask], description: str | None, arguments: list[str] | None
) -> argparse.Namespace:
    """Read the command line that every training script has."""
    kind = task.recipe_class.kind
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default=task.default_recipe, help=f"name in recipes/{kind}, or a file")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="what differs from the recipe")
    parser.add_argument("--strategy", help="name in recipes/strategies, or a file: laid over the recipe")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="last",
        metavar="CHECKPOINT",
        help="continue the run: its last checkpoint, `auto` for the last whole one, or a folder",
    )
    # Overrides may stand before and after --resume.
    parsed = parser.parse_intermixed_args(arguments)
    if parsed.resume is not None and "=" in parsed.resume:
        parsed.overrides.append(parsed.resume)
        parsed.resume = "last"
    if "=" in parsed.recipe:
        parsed.overrides.insert(0, parsed.recipe)
        parsed.recipe = task.default_recipe
    return parsed


def run_recipe(
    task_class: type[TrainingTask], script: Path, description: str | None, arguments: list[str] | None
) -> int:
    """Run a training script from its command line; returns the exit status, 2 after an error of the user's."""
    make_output_safe()
    parsed = parse_arguments(task_class, description, arguments)
    command = shlex.join(
        ["accelerate", "launch", f"recipes/{script.name}", *(sys.argv[1:] if arguments is None else arguments)]
    )
    folder = task_class.recipes
    try:
        layers = (read_yaml(parsed.strategy, folder / "strategies", "strategy"),) if parsed.strategy else ()
        kind = task_class.recipe_class
        recipe = load_recipe(kind, parsed.recipe, parsed.overrides, folder / kind.kind, layers)
        return train(task_class(recipe), parsed.resume, command)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped; where the run has a checkpoint, continue with: {command} --resume", file=sys.stderr)
        return INTERRUPTED


def train(task: TrainingTask, resume: str | None, command: str) -> int:
    """Run a task from plan to report; returns the exit status."""
    recipe: Recipe = task.recipe
    # As the user wrote it: what the launcher adds to the strategy is no part of it.
    written = recipe.to_dict()
    check_device(recipe.device)
    run_dir = Path(recipe.output_dir)
    arguments = training_arguments(recipe)
    # Its bars, one for each file, would break the bar of the training.
    disable_progress_bar()
    state = PartialState()
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != state.num_processes:
        raise HardwareError(
            f"{launched} processes were launched and do not find one another, so that each would train alone; got "
            f"{state.num_processes} for each. On the CPU launch with torchrun and pass device=cpu."
        )
    if state.num_processes == 1 and arguments.device.type == "cpu":
        use_cpu_threads(recipe.cpu_threads)
    plan = check_plan(task, arguments)
    checkpoint = resolve_resume(run_dir, resume) if resume else None
    if state.is_main_process:
        open_run_folder(run_dir, written, resume=checkpoint is not None)
        (run_dir / "plan.json").write_text(json.dumps(plan.to_dict(), indent=1) + "\n", encoding="utf-8")
    try:
        task.prepare(run_dir)
        trainer = task.build_trainer(arguments)
    except UserError:
        # Nothing is lost, and the corrected recipe may have the folder.
        if state.is_main_process and checkpoint is None:
            shutil.rmtree(run_dir)
        raise
    assert trainer.model is not None
    model = describe_model(trainer.model, task.describe(), plan.step.dtype)
    if state.is_main_process:
        print(
            f"{model['start']}: {model['parameters']:,} parameters ({model['trainable_parameters']:,} trained) on "
            f"{arguments.device}; {plan.summary()}",
            flush=True,
        )
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.monotonic() - started
    if trainer.interrupt.signal_number is not None:
        if state.is_main_process:
            print(f"stopped at step {trainer.state.global_step}; continue with: {command} --resume", flush=True)
        return INTERRUPTED
    trainer.save_whole_model(run_dir / "model")
    if state.is_main_process:
        # Rows of every length would compile a layer again and again.
        with torch.compiler.set_stance("force_eager") if recipe.strategy.compile else nullcontext():
            evaluated = task.evaluate(trainer)
        result = run_result(
            command=command,
            model=model,
            training=describe_training(trainer, resumed=checkpoint is not None, seconds=seconds),
            plan=plan.to_dict(),
            task=evaluated,
        )
        task.report(trainer, run_dir, result)
        write_result(result, run_dir / RESULT_NAME)
    return 0


def check_plan(task: TrainingTask, arguments: TrainingArguments) -> MemoryPlan:
    """Refuse a strategy that cannot work or does not fit this machine; returns the plan of the one that does.

    Raises:
        StrategyError: With the reason and the smallest change that would do.
    """
    processes = PartialState().num_processes
    task.recipe.strategy = resolve_strategy(task.recipe.strategy, processes)
    step = task.step()
    device = "cuda" if arguments.device.type == "cuda" else "cpu"
    capability = torch.cuda.get_device_capability() if device == "cuda" else None
    check_strategy(step.settings(device, processes, capability))
    hardware = this_machine(device, Path(task.recipe.output_dir))
    trace = TraceCache()
    plan = plan_step(step, hardware, processes, trace)
    if plan.fits:
        return plan

    def changed(layer: Mapping[str, Any]) -> TrainingStep:
        return type(task)(recipe_from_dict(task.recipe_class, lay_over(task.recipe.to_dict(), layer))).step()

    found = smallest_change(changed, hardware, trace)
    remedy = f"The smallest change that fits: {' '.join(found[0])}" if found else "No change that was tried fits"
    raise StrategyError(f"the step does not fit: {'; '.join(plan.shortfalls)}. {remedy}.")


def training_arguments(recipe: Any) -> TrainingArguments:
    """Return transformers' arguments for a recipe.

    Raises:
        RecipeError: If transformers refuses them, or a tracker is not installed.
    """
    use_cpu = recipe.device == "cpu"
    defaults: dict[str, Any] = {"dataloader_pin_memory": torch.cuda.is_available() and not use_cpu}
    if launched_sharding(1)[0] == "fsdp2":
        # Without it every process keeps all gradients, unsharded, until the last micro-batch.
        defaults["accelerator_config"] = {"gradient_accumulation_kwargs": {"sync_each_batch": True}}
    try:
        arguments = TrainingArguments(
            output_dir=recipe.output_dir,
            remove_unused_columns=False,
            use_cpu=use_cpu,
            **{**defaults, **recipe.training},
        )
    except (ImportError, TypeError, ValueError) as error:
        raise RecipeError(f"the training section does not do for transformers.TrainingArguments: {error}") from error
    missing = set(arguments.report_to or ()) - set(get_available_reporting_integrations())
    if missing:
        raise RecipeError(
            f"training.report_to needs packages that are not installed: {sorted(missing)}. "
            "pip install 'modeling_astrobio[track]', or set training.report_to=none."
        )
    return arguments
