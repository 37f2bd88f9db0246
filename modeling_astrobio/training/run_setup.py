"""What a run asks before it begins: whether its step fits, and what transformers says of its arguments."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import TrainingArguments
from transformers.integrations import get_available_reporting_integrations

from .errors import RecipeError, StrategyError
from .gpu_specs import this_machine
from .launch import launched_sharding, resolve_strategy
from .memory_plan import MemoryPlan, plan_step
from .plan_search import TraceCache, smallest_change
from .recipe import lay_over, recipe_from_dict
from .strategy_rules import check_strategy
from .task import TrainingTask
from .training_step import TrainingStep


__all__ = ["check_plan", "training_arguments"]


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
