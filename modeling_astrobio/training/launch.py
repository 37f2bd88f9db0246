"""What the launcher set up, against what a strategy asks for."""

import dataclasses
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from .errors import StrategyError, UserError
from .strategy import Strategy


__all__ = ["hardware_file", "launched_sharding", "on_main_process", "resolve_strategy"]


Found = TypeVar("Found")

_HARDWARE_FILES = {
    ("none", False): "one_gpu.yaml",
    ("ddp", False): "ddp.yaml",
    ("fsdp2", False): "fsdp2.yaml",
    ("fsdp2", True): "fsdp2_offload.yaml",
    ("zero3", True): "zero3_offload.yaml",
}


def hardware_file(sharding: str, parameter_offload: bool) -> str | None:
    """Return the file of recipes/hardware that launches a sharding, if there is one."""
    return _HARDWARE_FILES.get((sharding, parameter_offload))


def launched_sharding(processes: int, environment: Mapping[str, str] = os.environ) -> tuple[str, bool]:
    """Return the sharding `accelerate launch` set up, and whether parameters are offloaded.

    Args:
        processes: How many train together.
        environment: Where Accelerate's launcher writes what it was asked for.

    Raises:
        StrategyError: If it set up FSDP1 or a stage of DeepSpeed other than 3, which no strategy describes.
    """

    def is_on(name: str) -> bool:
        return environment.get(name, "").lower() in ("1", "true")

    if is_on("ACCELERATE_USE_FSDP"):
        if environment.get("FSDP_VERSION", "1") != "2":
            raise StrategyError(
                f"fsdp_version must be 2; got {environment.get('FSDP_VERSION', '1')}. Launch with --config_file "
                "recipes/hardware/fsdp2.yaml."
            )
        return "fsdp2", is_on("FSDP_OFFLOAD_PARAMS")
    if is_on("ACCELERATE_USE_DEEPSPEED"):
        stage = environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "unknown")
        if stage != "3":
            raise StrategyError(
                f"DeepSpeed's zero_stage must be 3; got {stage}. Launch with --config_file "
                "recipes/hardware/zero3_offload.yaml."
            )
        return "zero3", environment.get("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "none") == "cpu"
    return ("ddp" if processes > 1 else "none"), False


def resolve_strategy(strategy: Strategy, processes: int, environment: Mapping[str, str] = os.environ) -> Strategy:
    """Return the strategy with its sharding as launched.

    Raises:
        StrategyError: If the strategy asks for another sharding than was launched.
    """
    sharding, offload = launched_sharding(processes, environment)
    if strategy.sharding == "auto":
        strategy = dataclasses.replace(
            strategy, sharding=sharding, parameter_offload=strategy.parameter_offload or offload
        )
        if sharding == "zero3":
            device = environment.get("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "none")
            strategy = dataclasses.replace(strategy, optimizer_offload=device == "cpu")
    wanted = (strategy.sharding, strategy.parameter_offload)
    if wanted != (sharding, offload):
        file = hardware_file(*wanted)
        remedy = f"Launch with --config_file recipes/hardware/{file}" if file else "Choose another strategy"
        raise StrategyError(
            f"strategy.sharding={strategy.sharding} with parameter_offload={strategy.parameter_offload} must be what "
            f"was launched; got {sharding} with parameter_offload={offload} over {processes} process(es). {remedy}."
        )
    return strategy


def on_main_process(find: Callable[[], Found]) -> Found:
    """Call a function on the main process; every process returns its result, or raises its `UserError`."""
    state = PartialState()
    outcome: list[Any] = [None]
    if state.is_main_process:
        try:
            outcome = [find()]
        except UserError as error:
            outcome = [error]
    if state.num_processes > 1:
        broadcast_object_list(outcome)
    if isinstance(outcome[0], UserError):
        raise outcome[0]
    return outcome[0]
