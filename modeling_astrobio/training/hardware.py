"""What this machine has, and whether it has what a recipe asks for."""

import importlib.metadata
import os
import platform
import sys
from typing import Any

import torch

from .errors import HardwareError


__all__ = ["check_device", "describe_hardware", "make_output_safe", "package_versions", "use_cpu_threads"]


_PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "tokenizers",
    "safetensors",
    "peft",
    "bitsandbytes",
    "torchao",
    "deepspeed",
)


def check_device(device: str) -> None:
    """Refuse a device that is absent.

    Args:
        device: "auto", "cpu" or "cuda".

    Raises:
        HardwareError: If CUDA is asked for and torch has none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        build = "has no CUDA support" if torch.version.cuda is None else "sees no CUDA device"
        raise HardwareError(
            f"device must be available; got 'cuda', and this torch ({torch.__version__}) {build}. "
            "Pass device=cpu, or install a CUDA build of torch on a machine with a GPU."
        )


def use_cpu_threads(count: int | None) -> None:
    """Let torch use so many threads, or one for each core this process may run on.

    `accelerate launch` sets OMP_NUM_THREADS to 1 where the user did not, which leaves the other cores idle.
    """
    if count is None:
        count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(count)


def make_output_safe() -> None:
    """Let what is printed have a question mark for a character that the console's encoding lacks.

    Windows encodes output that goes to a file or a pipe in a code page of 256 characters, and a symbol such as that of
    Earth's radius would end a run when its samples are printed.
    """
    for stream in (sys.stdout, sys.stderr):
        # A notebook's streams, and a test's, have no encoding to set.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def describe_hardware() -> dict[str, Any]:
    """Return processor, threads and GPUs; no host name."""
    gpus = [
        {"name": properties.name, "memory_bytes": properties.total_memory}
        for properties in map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))
    ]
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cpu_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpus": gpus,
    }


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that numerics depend on, those installed."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
