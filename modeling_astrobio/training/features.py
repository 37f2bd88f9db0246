"""Which optional features work on this machine, and what is missing for the others.

    python -m modeling_astrobio.training.features

Nothing optional is imported for that: packages are looked up by name, so a broken one is found only in use. Linux with
CUDA has all features. Windows and macOS, on which nothing here was tested, train on the CPU; what they lack is said.
"""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.distributed as dist


__all__ = ["Feature", "Machine", "available_features", "features_table", "read_machine"]


@dataclass(frozen=True)
class Machine:
    """What features depend on.

    Attributes:
        system: "Linux", "Darwin" or "Windows".
        device: What torch computes on: "cuda", "mps" or "cpu"; AMD's GPUs are "cuda" to torch.
        gpus: Number of CUDA devices.
        compute_capability: The least of them, such as (8, 6); `None` without CUDA and for AMD.
        has_bfloat16: Whether the device computes bfloat16 without emulation.
        compiler: The C++ compiler that torch.compile would call, or `None` where it is absent.
        backends: Of torch.distributed: "gloo", "nccl".
        packages: Version by import name, of the optional packages that are installed.
    """

    system: str
    device: str
    gpus: int = 0
    compute_capability: tuple[int, int] | None = None
    has_bfloat16: bool = True
    compiler: str | None = None
    backends: frozenset[str] = frozenset()
    packages: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Feature:
    """One line of the table.

    Attributes:
        name: What a recipe or a person would call it.
        available: Whether everything that it needs is there.
        reason: The first thing that is missing, or with what it works.
        remedy: What to do about that; empty where nothing is missing.
    """

    name: str
    available: bool
    reason: str
    remedy: str = ""


@dataclass(frozen=True)
class _Need:
    is_met: Callable[[Machine], bool]
    reason: str
    remedy: str
    package: str | None = None


# Import name: name of the distribution.
_PACKAGES = {
    "bitsandbytes": "bitsandbytes",
    "deepspeed": "deepspeed",
    "flash_attn": "flash-attn",
    "liger_kernel": "liger-kernel",
    "torchao": "torchao",
    "triton": "triton",
    "xformers": "xformers",
}
_EXTRA = "pip install 'modeling_astrobio[gpu]'"


def _package(name: str, remedy: str = _EXTRA) -> _Need:
    return _Need(lambda m: name in m.packages, f"{_PACKAGES[name]} is not installed", remedy, name)


def _capability(major: int, minor: int, what: str) -> _Need:
    return _Need(
        lambda m: m.compute_capability is not None and m.compute_capability >= (major, minor),
        f"{what} needs an NVIDIA GPU of compute capability {major}.{minor} or higher",
        "use bf16, or another GPU",
    )


_CUDA = _Need(lambda m: m.device == "cuda", "torch sees no CUDA device", "use a machine with a GPU and torch for CUDA")
_LINUX = _Need(lambda m: m.system == "Linux", "made for Linux", "use Linux; on Windows, WSL is Linux")
_GLOO = _Need(lambda m: "gloo" in m.backends, "this torch has no gloo", "install torch from PyPI")
_NCCL = _Need(lambda m: "nccl" in m.backends, "this torch has no NCCL", "install torch for CUDA on Linux")
_TWO_GPUS = _Need(lambda m: m.gpus >= 2, "needs two GPUs", "use recipes/hardware/one_gpu.yaml")
_COMPILER = _Need(
    lambda m: m.compiler is not None,
    "torch.compile finds no C++ compiler",
    "install g++ (Linux), the command line tools of Xcode (macOS) or Visual C++ (Windows), or name one in CXX",
)
_TRITON = _Need(
    lambda m: m.device != "cuda" or "triton" in m.packages,
    "triton is not installed",
    "install torch for CUDA on Linux, which brings it; on Windows, triton-windows",
)
_BFLOAT16 = _Need(
    lambda m: m.has_bfloat16, "the device has no bfloat16", "set training.fp16 in place of training.bf16"
)
_NOT_APPLE = _Need(
    lambda m: m.device != "mps",
    "bitsandbytes has no optimizer for Apple's GPU",
    "set device=cpu, or strategy.optimizer=adamw",
)
_GPU = _Need(lambda m: m.device != "cpu", "mixed precision in float16 needs a GPU", "use bf16 or float32")

_FEATURES: tuple[tuple[str, tuple[_Need, ...]], ...] = (
    ("CUDA", (_CUDA,)),
    ("bf16", (_BFLOAT16,)),
    ("fp16", (_GPU,)),
    ("fp8 (torchao)", (_CUDA, _capability(8, 9, "float8"), _package("torchao"), _COMPILER, _TRITON)),
    ("torch.compile", (_COMPILER, _TRITON)),
    ("torchao optimizers", (_package("torchao"), _COMPILER, _TRITON)),
    ("bitsandbytes optimizers", (_NOT_APPLE, _package("bitsandbytes"))),
    ("bitsandbytes paged optimizers", (_CUDA, _package("bitsandbytes"))),
    ("QLoRA (bitsandbytes)", (_package("bitsandbytes"),)),
    ("Liger kernels", (_LINUX, _CUDA, _package("liger_kernel"), _TRITON)),
    (
        "FlashAttention",
        (
            _LINUX,
            _CUDA,
            _capability(8, 0, "FlashAttention"),
            _package("flash_attn", "pip install flash-attn --no-build-isolation, with nvcc installed"),
        ),
    ),
    ("xformers", (_CUDA, _package("xformers", "pip install xformers"))),
    ("several processes on the CPU (gloo)", (_GLOO,)),
    ("NCCL", (_LINUX, _CUDA, _NCCL)),
    ("FSDP2", (_LINUX, _CUDA, _NCCL, _TWO_GPUS)),
    ("DeepSpeed ZeRO-3", (_LINUX, _CUDA, _NCCL, _package("deepspeed"), _COMPILER)),
)


def read_machine() -> Machine:
    """Return what this machine has."""
    has_cuda = torch.cuda.is_available()
    device = "cuda" if has_cuda else "mps" if torch.backends.mps.is_available() else "cpu"
    count = torch.cuda.device_count() if has_cuda else 0
    # AMD's numbers count something else.
    devices = range(count) if torch.version.hip is None else range(0)
    capability = min((torch.cuda.get_device_capability(index) for index in devices), default=None)
    backends = {"gloo": "is_gloo_available", "nccl": "is_nccl_available"}
    return Machine(
        system=platform.system(),
        device=device,
        gpus=count,
        compute_capability=capability,
        has_bfloat16=_has_bfloat16(device),
        compiler=_compiler(),
        backends=frozenset(name for name, check in backends.items() if dist.is_available() and getattr(dist, check)()),
        packages={name: _version(name) for name in _PACKAGES if importlib.util.find_spec(name) is not None},
    )


def _has_bfloat16(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    return True


def _compiler() -> str | None:
    # The names that torch._inductor tries; asking it would import all of it.
    default = {"Windows": "cl", "Darwin": "clang++"}.get(platform.system(), "g++")
    return shutil.which(os.environ.get("CXX", default))


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(_PACKAGES[name])
    except importlib.metadata.PackageNotFoundError:
        # Such as triton, which torch's own builds name otherwise.
        return "unknown version"


def available_features(machine: Machine | None = None) -> list[Feature]:
    """Return every optional feature, whether it is available, and if not, why and what to do.

    Args:
        machine: What the features are to run on; `None` is this machine.
    """
    machine = read_machine() if machine is None else machine
    features = []
    for name, needs in _FEATURES:
        missing = next((need for need in needs if not need.is_met(machine)), None)
        if missing is not None:
            features.append(Feature(name, False, missing.reason, missing.remedy))
        else:
            used = [need.package for need in needs if need.package is not None]
            versions = [f"{_PACKAGES[package]} {machine.packages[package]}" for package in used]
            features.append(Feature(name, True, ", ".join([f"on {machine.device}", *versions])))
    return features


def features_table(features: list[Feature]) -> str:
    """Return the features as text in columns."""
    rows = [("feature", "", "why", "remedy")]
    rows += [(f.name, "available" if f.available else "absent", f.reason, f.remedy) for f in features]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


if __name__ == "__main__":
    print(features_table(available_features()))
