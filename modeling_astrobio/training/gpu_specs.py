"""GPUs that people own and rent, with published rates, and the hardware a plan is made for.

Three sizes of a GPU's memory must be kept apart, here for an RTX A6000:

- 48 GB as sold, which is what a user says (`--vram 48`);
- 47.4 GiB, which is what torch reports as total: the driver, and error correction where it is on, take the rest;
- 46.9 GiB, which a plan may use: the CUDA context of a process takes about half a GiB more, outside torch's view.

A plan compares what torch's allocator will reserve with the last. Fragmentation belongs to what is reserved, so it is
counted there and not here.
"""

import difflib
import math
import os
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from .errors import HardwareError


__all__ = ["GPUS", "GpuSpec", "Hardware", "find_gpu", "parse_hardware", "this_machine"]


GIB = 2**30
_CUDA_CONTEXT_BYTES = GIB // 2
# Memory modules are sold in GiB; firmware and kernel keep about 3 %.
_RAM_SHARE = 0.97


@dataclass(frozen=True)
class GpuSpec:
    """Published figures of a GPU; one die where torch sees two.

    Attributes:
        name: As in `GPUS`.
        vram_gb: Memory as sold, GB.
        usable_gib: The least that torch has been seen to report as total, GiB; with error correction on where that is
            how the card is delivered.
        bf16_tflops: Dense peak of bfloat16 products summed in float32 on the tensor cores, 10^12/s. Data sheets often
            give twice that, with sparsity. Float16 on the V100 and T4, which have no bfloat16.
        fp8_tflops: The same of float8, or `None` where there are none.
        fp32_tflops: Peak of float32 outside the tensor cores, 10^12/s.
        memory_gb_per_s: Bandwidth of its memory, GB/s.
        pcie_gb_per_s: To the host, one direction, GB/s.
        link_gb_per_s: NVLink or Infinity Fabric to another GPU, one direction, GB/s, or `None`.
        link_built_in: Whether machines with this GPU have that link; where it is a bridge one buys, PCIe is assumed.
        compute_capability: Of CUDA, or `None` for AMD.
        source: The vendor's document.
    """

    name: str
    vram_gb: float
    usable_gib: float
    bf16_tflops: float
    fp8_tflops: float | None
    fp32_tflops: float
    memory_gb_per_s: float
    pcie_gb_per_s: float
    link_gb_per_s: float | None
    link_built_in: bool
    compute_capability: tuple[int, int] | None
    source: str

    @property
    def interconnect_gb_per_s(self) -> float:
        """Between two GPUs of a machine, one direction, GB/s.

        GeForce cards may not read one another's memory over PCIe and pass through the host: they get less.
        """
        return self.link_gb_per_s if self.link_built_in and self.link_gb_per_s else self.pcie_gb_per_s


# PCIe x16, one direction, after its encoding.
_GEN3, _GEN4, _GEN5 = 15.8, 31.5, 63.0
_GA102 = "NVIDIA Ampere GA102 GPU Architecture whitepaper"
_ADA = "NVIDIA Ada GPU Architecture whitepaper"
_V100 = "NVIDIA V100 datasheet"
_A100 = "NVIDIA A100 datasheet"
_H100 = "NVIDIA H100 datasheet"
_H200 = "NVIDIA H200 datasheet"

# name, GB, GiB, bf16, fp8, fp32, memory, PCIe, link, built in, capability, source
_ROWS: tuple[tuple[Any, ...], ...] = (
    ("T4", 16, 14.56, 65, None, 8.1, 320, _GEN3, None, False, (7, 5), "NVIDIA T4 datasheet"),
    ("V100 16GB PCIe", 16, 15.7, 112, None, 14, 900, _GEN3, None, False, (7, 0), _V100),
    ("V100 16GB SXM", 16, 15.7, 125, None, 15.7, 900, _GEN3, 150, True, (7, 0), _V100),
    ("V100 32GB PCIe", 32, 31.7, 112, None, 14, 900, _GEN3, None, False, (7, 0), _V100),
    ("V100 32GB SXM", 32, 31.7, 125, None, 15.7, 900, _GEN3, 150, True, (7, 0), _V100),
    ("RTX 3090", 24, 23.5, 71, None, 35.6, 936, _GEN4, 56.2, False, (8, 6), _GA102),
    ("RTX A5000", 24, 23.5, 111.1, None, 27.8, 768, _GEN4, 56.2, False, (8, 6), "NVIDIA RTX A5000 datasheet"),
    ("RTX A6000", 48, 47.4, 154.8, None, 38.7, 768, _GEN4, 56.2, False, (8, 6), "NVIDIA RTX A6000 datasheet"),
    ("A10", 24, 22.0, 125, None, 31.2, 600, _GEN4, None, False, (8, 6), "NVIDIA A10 datasheet"),
    ("A40", 48, 44.3, 149.7, None, 37.4, 696, _GEN4, 56.2, False, (8, 6), "NVIDIA A40 datasheet"),
    ("A100 40GB PCIe", 40, 39.3, 312, None, 19.5, 1555, _GEN4, 300, False, (8, 0), _A100),
    ("A100 40GB SXM", 40, 39.3, 312, None, 19.5, 1555, _GEN4, 300, True, (8, 0), _A100),
    ("A100 80GB PCIe", 80, 79.1, 312, None, 19.5, 1935, _GEN4, 300, False, (8, 0), _A100),
    ("A100 80GB SXM", 80, 79.1, 312, None, 19.5, 2039, _GEN4, 300, True, (8, 0), _A100),
    ("RTX 4090", 24, 23.5, 165.2, 330.3, 82.6, 1008, _GEN4, None, False, (8, 9), _ADA),
    ("RTX 6000 Ada", 48, 47.3, 364.2, 728.5, 91.1, 960, _GEN4, None, False, (8, 9), "NVIDIA RTX 6000 Ada datasheet"),
    ("L4", 24, 22.0, 121, 242.5, 30.3, 300, _GEN4, None, False, (8, 9), "NVIDIA L4 datasheet"),
    ("L40", 48, 44.3, 181, 362, 90.5, 864, _GEN4, None, False, (8, 9), "NVIDIA L40 datasheet"),
    ("L40S", 48, 44.3, 362, 733, 91.6, 864, _GEN4, None, False, (8, 9), "NVIDIA L40S datasheet"),
    ("H100 PCIe", 80, 79.1, 756, 1513, 51, 2000, _GEN5, 300, False, (9, 0), _H100),
    ("H100 SXM", 80, 79.1, 989.4, 1978.9, 67, 3350, _GEN5, 450, True, (9, 0), _H100),
    ("H100 NVL", 94, 93.0, 835.5, 1671, 60, 3900, _GEN5, 300, False, (9, 0), _H100),
    ("H200 SXM", 141, 139.7, 989.4, 1978.9, 67, 4800, _GEN5, 450, True, (9, 0), _H200),
    ("H200 NVL", 141, 139.7, 835.5, 1671, 60, 4800, _GEN5, 450, False, (9, 0), _H200),
    ("B200", 180, 178.3, 2250, 4500, 75, 8000, _GEN5, 900, True, (10, 0), "NVIDIA DGX B200 datasheet"),
    ("RTX 5090", 32, 31.3, 209.5, 419, 104.8, 1792, _GEN5, None, False, (12, 0), "NVIDIA RTX Blackwell whitepaper"),
    ("RTX PRO 6000", 96, 94.9, 503.8, 1007.6, 126, 1792, _GEN5, None, False, (12, 0), "NVIDIA RTX PRO whitepaper"),
    # One link to each of seven neighbours.
    ("MI300X", 192, 191.6, 1307.4, 2614.9, 163.4, 5300, _GEN5, 64, True, None, "AMD Instinct MI300X data sheet"),
)
GPUS = {row[0]: GpuSpec(*row) for row in _ROWS}
# Names that torch reports and that say less, or other, than the table's.
_ALIASES = {"H100 80GB HBM3": "H100 SXM", "H200": "H200 SXM"}
_VENDOR_WORDS = {"nvidia", "geforce", "rtx", "tesla", "amd", "instinct", "generation", "blackwell", "oam"}
_VENDOR_WORDS |= {"workstation", "edition"}


def _words(name: str) -> frozenset[str]:
    """What distinguishes a name: "NVIDIA A100-SXM4-80GB" and "A100 80GB SXM" have the same words."""
    found = re.findall(r"[a-z0-9]+", re.sub(r"sxm\d", "sxm", re.sub(r"(\d) gb\b", r"\1gb", name.lower())))
    return frozenset(found) - _VENDOR_WORDS


_BY_WORDS = {_words(name): spec for name, spec in GPUS.items()}
_BY_WORDS |= {_words(alias): GPUS[name] for alias, name in _ALIASES.items()}


def find_gpu(name: str) -> GpuSpec:
    """Return the figures of a GPU by its name: the table's, the vendor's, or what torch reports.

    Raises:
        HardwareError: If there is none, with the nearest names.
    """
    words = _words(name) if isinstance(name, str) else frozenset()
    if words in _BY_WORDS:
        return _BY_WORDS[words]
    near = [known for known in GPUS if words and words <= _words(known)]
    folded = {" ".join(sorted(_words(known))): known for known in GPUS}
    near = near or [folded[key] for key in difflib.get_close_matches(" ".join(sorted(words)), folded, n=4)]
    raise HardwareError(
        f"gpu must be a known GPU; got {name!r}. "
        + (f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(GPUS)}.")
        + " A size without a name (--vram) plans memory but no time."
    )


@dataclass(frozen=True)
class Hardware:
    """What a plan is made for.

    Attributes:
        gpus: Number of GPUs, all alike; 0 trains on the CPU.
        vram_bytes: Of each GPU, what torch reports as total; 0 without GPUs.
        ram_bytes: Host memory of the machine, or `None` where it is not known.
        disk_bytes: Free disk space, or `None` where it is not known.
        gpu: Figures of the GPU, or `None` where it is not known.
    """

    gpus: int
    vram_bytes: int
    ram_bytes: int | None = None
    disk_bytes: int | None = None
    gpu: GpuSpec | None = None

    @property
    def usable_vram_bytes(self) -> int:
        """What torch's allocator can reserve on each GPU beside a CUDA context of half a GiB."""
        return max(0, self.vram_bytes - _CUDA_CONTEXT_BYTES)


def parse_hardware(
    gpus: int | str | None = None,
    vram: float | str | None = None,
    ram: float | str | None = None,
    disk: float | str | None = None,
    gpu: str | None = None,
    interconnect: float | str | None = None,
) -> Hardware:
    """Check the description of a machine and return it; what is left out is not known, and is not compared.

    Args:
        gpus: Number of GPUs, 0 for the CPU alone; `None` is 1 where `vram` or `gpu` is given.
        vram: Memory of each GPU as sold, GB. Without a name the least that a card of this size leaves to torch is
            taken; with one, at most what that card has: less is a share of it.
        ram: Host memory as sold, GiB, of which 97 % are taken.
        disk: Free disk space, GB (10^9 bytes).
        gpu: Name of the GPU, which gives `vram` and the rates that the estimate of time needs.
        interconnect: Between two GPUs, one direction, GB/s, in place of the GPU's usual; needs `gpu`.

    Raises:
        HardwareError: If a value is not a number, is absurd, or contradicts another.
    """
    if gpus is None and vram is None and gpu is None:
        raise HardwareError("gpus must be given; got neither gpus, nor vram, nor gpu. Pass gpus=0 for the CPU alone.")
    count = _number("gpus", 1 if gpus is None else gpus, 0, 4096, "")
    if count != int(count):
        raise HardwareError(f"gpus must be a whole number; got {gpus!r}.")
    ram_bytes = None if ram is None else int(_number("ram", ram, 1, 65_536, "GiB") * _RAM_SHARE * GIB)
    disk_bytes = None if disk is None else int(_number("disk", disk, 1, 10_000_000, "GB") * 10**9)
    if count == 0:
        for name, value in (("vram", vram), ("gpu", gpu), ("interconnect", interconnect)):
            if value is not None:
                raise HardwareError(f"{name} must be left out where gpus=0; got {value!r}. Pass gpus=1 or more.")
        if ram_bytes is None:
            raise HardwareError("ram must be given where gpus=0: training is done in it; got none. Pass ram=GIB.")
        return Hardware(0, 0, ram_bytes, disk_bytes)
    if vram is None and gpu is None:
        raise HardwareError("vram or gpu must be given; got neither. Pass the GB of each GPU, or its name.")
    size = None if vram is None else _number("vram", vram, 1, 1024, "GB")
    if gpu is None:
        if interconnect is not None:
            raise HardwareError(f"interconnect={interconnect!r} needs a GPU's name to be of use; got none. Pass gpu.")
        assert size is not None
        return Hardware(int(count), int(_usable_gib(size) * GIB), ram_bytes, disk_bytes)
    spec = find_gpu(gpu)
    size = spec.vram_gb if size is None else size
    if size > spec.vram_gb:
        raise HardwareError(
            f"vram must be at most the {spec.vram_gb} GB of the {spec.name}; got {size:g}. Leave out vram or gpu."
        )
    if interconnect is not None:
        speed = _number("interconnect", interconnect, 0.01, 100_000, "GB/s")
        spec = replace(spec, link_gb_per_s=speed, link_built_in=True)
    return Hardware(int(count), int(spec.usable_gib * size / spec.vram_gb * GIB), ram_bytes, disk_bytes, spec)


def _usable_gib(vram_gb: float) -> float:
    """The least that torch reports on a card sold with so many GB; of no known size, by the least share of any."""
    alike = [spec.usable_gib for spec in GPUS.values() if spec.vram_gb == vram_gb]
    return min(alike) if alike else vram_gb * min(spec.usable_gib / spec.vram_gb for spec in GPUS.values())


def _number(name: str, value: Any, least: float, most: float, unit: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not least <= number <= most:
        raise HardwareError(
            f"{name} must be a number from {least:g} to {most:g} {unit}".rstrip() + f"; got {value!r}."
        )
    return number


def this_machine(device: str = "auto", folder: Path | str = ".") -> Hardware:
    """Return what this process can use.

    Args:
        device: "cuda", "cpu", or "auto" for CUDA where there is any. Apple's GPUs share the host's memory and count
            as none.
        folder: Whose file system counts as disk; it need not exist yet.
    """
    has_gpus = device != "cpu" and torch.cuda.is_available()
    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())] if has_gpus else []
    existing = Path(folder).absolute()
    while not existing.exists():
        existing = existing.parent
    spec = None
    if len({properties.name for properties in found}) == 1:
        try:
            spec = find_gpu(found[0].name)
        except HardwareError:
            # A GPU that the table lacks still has a size.
            spec = None
    return Hardware(
        gpus=len(found),
        vram_bytes=min((properties.total_memory for properties in found), default=0),
        ram_bytes=_ram_bytes(),
        disk_bytes=shutil.disk_usage(existing).free,
        gpu=spec,
    )


# Where a container's limit stands, by version of Linux control groups.
_CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def _ram_bytes() -> int | None:
    """Physical memory, or the container's limit where that is less; `None` where neither can be read."""
    sizes = []
    if hasattr(os, "sysconf") and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= set(os.sysconf_names):
        sizes.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    else:
        try:
            import psutil
        except ImportError:
            pass
        else:
            sizes.append(psutil.virtual_memory().total)
    for path in _CONTAINER_LIMITS:
        try:
            sizes.append(int(Path(path).read_text(encoding="ascii")))
        except (OSError, ValueError):
            # No such group, or "max": no limit.
            continue
    return min((size for size in sizes if size > 0), default=None)
