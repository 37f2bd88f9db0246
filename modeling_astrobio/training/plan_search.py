"""Plans of many strategies on one machine, and the smallest change that makes a step fit."""

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import UserError
from .gpu_specs import Hardware
from .launch import hardware_file
from .memory_plan import MemoryPlan, plan_step, trace_training_step
from .memory_trace import StepTrace
from .recipe import lay_over
from .strategy_rules import Refusal, find_refusals
from .training_step import TrainingStep


__all__ = ["PlannedStrategy", "TraceCache", "plan_strategies", "smallest_change"]


CHECKPOINTING: tuple[dict[str, Any], ...] = (
    {"activation_checkpointing": "none", "activation_offload": False},
    {"activation_checkpointing": "selective", "activation_offload": False},
    {"activation_checkpointing": "full", "activation_offload": False},
    {"activation_checkpointing": "full", "activation_offload": True},
)


class TraceCache:
    """Traces each step once, however many optimizers, shardings and machines it is planned for."""

    def __init__(self) -> None:
        self._traces: dict[tuple, StepTrace] = {}

    def __call__(self, step: TrainingStep, where: str) -> StepTrace:
        strategy = step.strategy
        key = (
            step.identity,
            where,
            step.mixed_precision,
            strategy.activation_checkpointing,
            strategy.activation_offload,
            strategy.optimizer_in_backward or strategy.gradient_offload,
            step.accumulation_steps > 1 or strategy.sharding in ("fsdp2", "zero3"),
        )
        if key not in self._traces:
            self._traces[key] = trace_training_step(step, where)
        return self._traces[key]


@dataclass(frozen=True)
class PlannedStrategy:
    """A strategy on a machine: its plan, or why there is none.

    Attributes:
        name: Of the strategy.
        plan: What it needs; `None` where it cannot work.
        refusals: Why it cannot work.
    """

    name: str
    plan: MemoryPlan | None = None
    refusals: tuple[Refusal, ...] = ()

    @property
    def fits(self) -> bool:
        return self.plan is not None and self.plan.fits


def plan_one(name: str, step: TrainingStep, hardware: Hardware, trace: TraceCache) -> PlannedStrategy:
    """Plan a step for one process on each GPU, or one in all if it is not shared; or say why it cannot work there."""
    processes = 1 if step.strategy.sharding == "none" else max(1, hardware.gpus)
    device = "cuda" if hardware.gpus else "cpu"
    capability = hardware.gpu.compute_capability if hardware.gpu else None
    refusals = find_refusals(step.settings(device, processes, capability), check_packages=False)
    if refusals:
        return PlannedStrategy(name, refusals=tuple(refusals))
    return PlannedStrategy(name, plan_step(step, hardware, processes, trace))


def plan_strategies(
    make_step: Callable[[Mapping[str, Any]], TrainingStep],
    strategies: Mapping[str, Mapping[str, Any]],
    hardware: Hardware,
    trace: TraceCache,
) -> list[PlannedStrategy]:
    """Plan every strategy with every kind of checkpointing, fastest first, those without a time by what they need.

    Args:
        make_step: Returns the step of the recipe with a layer laid over it, its sharding resolved.
        strategies: Layers by name, such as those of `recipes/strategies`.
        hardware: What there is.
        trace: Kept between calls.
    """
    rows = []
    for name, layer in strategies.items():
        for checkpointing in CHECKPOINTING:
            label = checkpointing["activation_checkpointing"] + (
                " + offload" if checkpointing["activation_offload"] else ""
            )
            merged = {**layer, "strategy": {**layer.get("strategy", {}), **checkpointing}}
            rows.append(plan_one(f"{name}, {label}", make_step(merged), hardware, trace))
    return sorted(rows, key=_order)


def _order(row: PlannedStrategy) -> tuple:
    if row.plan is None:
        return 2, 0.0, 0
    speed = row.plan.time.items_per_second
    return not row.fits, -(speed or 0.0), -row.plan.device_bytes


def smallest_change(
    make_step: Callable[[Mapping[str, Any]], TrainingStep], hardware: Hardware, trace: TraceCache
) -> tuple[list[str], MemoryPlan] | None:
    """Search for the smallest change of a recipe that fits; what changes the least of what is learned comes first.

    Args:
        make_step: Returns the step of the recipe with a layer laid over it, its sharding resolved.
        hardware: What there is.
        trace: Kept between calls.

    Returns:
        The changes, as overrides of the recipe and ways to launch, and the plan; `None` if nothing tried fits.
    """
    changes = list(_changes(make_step({}), hardware))

    def fitting(layer: Mapping[str, Any]) -> MemoryPlan | None:
        try:
            found = plan_one("", make_step(layer), hardware, trace)
        except UserError:
            # A change that this recipe does not take.
            return None
        return found.plan if found.fits else None

    # Where even all changes at once do not fit, none of them needs to be looked at.
    trains_all = [change for change in changes if "adapter" not in change.layer]
    resident = [change for change in trains_all if "parameter_offload" not in change.layer.get("strategy", {})]
    unsharded = [change for change in resident if "sharding" not in change.layer.get("strategy", {})]
    adapters = [change for change in changes if "adapter" in change.layer]
    if not any(fitting(_merged(all_changes)) for all_changes in (resident, trains_all)):
        if not any(fitting(_merged([*unsharded, adapter])) for adapter in adapters):
            return None
        trains_all = []
    combinations = [
        chosen
        for size in (1, 2, 3)
        for chosen in itertools.combinations(changes, size)
        if len(set().union(*map(_Change.keys, chosen))) == sum(len(change.keys()) for change in chosen)
        and (trains_all or any(change in adapters for change in chosen))
    ]
    for chosen in sorted(combinations, key=lambda chosen: sum(change.cost for change in chosen)):
        plan = fitting(_merged(chosen))
        if plan is not None:
            return [text for change in chosen for text in change.texts()], plan
    return None


def _merged(changes: Iterable["_Change"]) -> dict[str, Any]:
    """One layer of several; of those that contradict, the last, which saves the most."""
    return functools.reduce(lay_over, (change.layer for change in changes), {})


@dataclass(frozen=True)
class _Change:
    layer: dict[str, dict[str, Any]]
    cost: int

    def keys(self) -> set[tuple[str, str]]:
        return {(section, key) for section, values in self.layer.items() for key in values}

    def texts(self) -> Iterable[str]:
        strategy = self.layer.get("strategy", {})
        for section, values in self.layer.items():
            for key, value in values.items():
                yield f"{section}.{key}={str(value).lower() if isinstance(value, bool) else value}"
        if "sharding" in strategy:
            file = hardware_file(strategy["sharding"], strategy.get("parameter_offload", False))
            yield f"--config_file recipes/hardware/{file}"


def _changes(step: TrainingStep, hardware: Hardware) -> Iterable[_Change]:
    """Single changes, with a cost that grows with what they change in speed or in what is learned."""
    checkpointing = step.strategy.activation_checkpointing
    if checkpointing == "none":
        yield _Change({"strategy": {"activation_checkpointing": "selective"}}, 2)
    if checkpointing != "full":
        yield _Change({"strategy": {"activation_checkpointing": "full"}}, 3)
    if step.micro_batch > 1:
        # The same rows in a step, one at a time.
        steps = step.accumulation_steps * step.micro_batch
        yield _Change({"training": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": steps}}, 2)
    if "8bit" not in step.strategy.optimizer:
        yield _Change({"strategy": {"optimizer": "adamw_torchao_8bit"}}, 3)
    if hardware.gpus > 1 and step.strategy.sharding != "fsdp2":
        yield _Change({"strategy": {"sharding": "fsdp2"}}, 2)
    if hardware.gpus and not step.strategy.activation_offload:
        yield _Change({"strategy": {"activation_checkpointing": "full", "activation_offload": True}}, 6)
    if step.dtype == "float32":
        # Such weights compute in bfloat16 as they are.
        mixed = {} if step.mixed_precision == "no" else {"training": {step.mixed_precision: False}}
        yield _Change({"model": {"dtype": "bfloat16"}, **mixed}, 5)
    if hardware.gpus:
        yield _Change({"strategy": {"sharding": "fsdp2", "parameter_offload": True}}, 8)
    if step.quantization is None and not step.is_adapted:
        yield _Change({"adapter": {"r": 16}}, 20)
        yield _Change({"adapter": {"r": 16}, "model": {"quantization": "4bit"}}, 25)
