"""What the launcher set up, against what a strategy asks for."""

import ctypes
import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from .errors import StrategyError
from .strategy import Strategy


__all__ = ["follow_launcher", "hardware_file", "launched_sharding", "on_main_process", "resolve_strategy"]


Found = TypeVar("Found")

# Of <linux/prctl.h>.
_PR_SET_PDEATHSIG = 1
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
    """Call a function on the main process; every process returns its result, or raises its error."""
    state = PartialState()
    outcome: list[Any] = [None]
    if state.is_main_process:
        try:
            outcome = [find()]
        except Exception as error:
            outcome = [error]
    if state.num_processes > 1:
        broadcast_object_list(outcome)
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


def follow_launcher(environment: Mapping[str, str] = os.environ) -> None:
    """Get SIGTERM when `accelerate launch` ends: for one process it passes no signal on, and would leave it behind.

    Does nothing off Linux, and where something else launched this process.
    """
    is_launched = "ACCELERATE_MIXED_PRECISION" in environment and "TORCHELASTIC_RUN_ID" not in environment
    if sys.platform != "linux" or not is_launched:
        return
    launcher = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != launcher:
        # It ended before it could be followed.
        os.kill(os.getpid(), signal.SIGTERM)
