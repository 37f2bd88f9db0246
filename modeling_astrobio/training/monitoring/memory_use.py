"""Memory of a training process: its components by size, and its peak, to be compared with a plan."""

import ctypes
import gc
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from ..optimizer_specs import state_tensors


__all__ = [
    "PeakMemory",
    "gradient_bytes",
    "host_bytes",
    "host_slack_bytes",
    "optimizer_bytes",
    "parameter_bytes",
    "reset_host_peak",
    "storage_bytes",
]


_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
# Buffers that libraries make in the first step; they do not grow with the model.
_LIBRARY_BUFFER_BYTES = 64 * 2**20
# Of a plan, what glibc keeps of freed blocks below 32 MiB: at most 0.56 in steps of the nano recipe's kind with plans
# of 95 to 1100 MiB, where the same steps are within 9 % of their plans when every block is given back at once.
_KEPT_SHARE = 0.75
_GIVES_BACK = "MALLOC_MMAP_THRESHOLD_"

logger = logging.getLogger(__name__)


def host_bytes(field: str) -> int:
    """Return a size of this process from the kernel; Linux alone has it.

    Args:
        field: "VmRSS", resident; "VmHWM", its peak; or "RssFile", of VmRSS the pages of mapped files.
    """
    for line in _STATUS.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(f"{_STATUS} must have the line {field}; got none. Run on Linux.")


def reset_host_peak() -> int:
    """Give freed memory back to the system, set the process' resident peak to the present, and return that.

    Raises:
        OSError: If the kernel does not let it.
    """
    gc.collect()
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):  # glibc
        library.malloc_trim(0)
    _CLEAR_REFS.write_text("5", encoding="ascii")
    return host_bytes("VmRSS")


def host_slack_bytes(planned: int) -> int:
    """Return by how much the resident peak of a good plan may exceed it on the CPU.

    Where glibc was told by MALLOC_MMAP_THRESHOLD_, set to 65536 or so before the process started, to give freed blocks
    back, that is little; else it keeps many of them.

    Args:
        planned: Bytes of the plan.
    """
    kept = 0.0 if _GIVES_BACK in os.environ else _KEPT_SHARE
    return _LIBRARY_BUFFER_BYTES + int(kept * planned)


def parameter_bytes(model: nn.Module, device: torch.device) -> int:
    """Return the bytes of a model's parameters and buffers on a device: this process' part, tied weights once."""
    parts: list[Any] = [*model.parameters(), *model.buffers()]
    # Between its uses DeepSpeed leaves a parameter empty and keeps this process' part aside.
    parts += [parameter.ds_tensor for parameter in model.parameters() if hasattr(parameter, "ds_tensor")]
    return storage_bytes(parts, device)


def gradient_bytes(model: nn.Module, device: torch.device) -> int | None:
    """Return the bytes of the gradients that a device holds now; `None` where DeepSpeed keeps them aside."""
    if _is_deepspeed(model):
        return None
    return storage_bytes((p.grad for p in model.parameters() if p.grad is not None), device)


def optimizer_bytes(model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> int | None:
    """Return the bytes of an optimizer's state on a device, this process' part; `None` where DeepSpeed keeps it.

    What bitsandbytes pages is in the hands of the driver, which may move it to the host, and counts for no GPU.
    """
    if _is_deepspeed(model):
        return None
    return storage_bytes((tensor for _, _, tensor in state_tensors(optimizer)), device)


def _is_deepspeed(model: nn.Module) -> bool:
    return any(hasattr(parameter, "ds_tensor") for parameter in model.parameters())


def storage_bytes(tensors: Iterable[Any], device: torch.device) -> int:
    """Return the bytes of the memory behind tensors on a device; what tensors share counts once."""
    found: dict[int, int] = {}
    for tensor in tensors:
        for part in _plain_parts(tensor):
            is_there = part.device.type == device.type
            # Of several processes, each calls the one host by a number of its own.
            if device.type != "cpu":
                is_there &= device.index in (None, part.device.index) and not getattr(part, "is_paged", False)
            if is_there:
                storage = part.untyped_storage()
                found[storage.data_ptr()] = storage.nbytes()
    return sum(found.values())


def _plain_parts(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The tensors with memory of their own: of a DTensor its shard, of a quantised one its codes and scales."""
    if isinstance(tensor, DTensor):
        yield from _plain_parts(tensor.to_local())
        return
    if hasattr(tensor, "__tensor_flatten__"):
        for name in tensor.__tensor_flatten__()[0]:
            yield from _plain_parts(getattr(tensor, name))
        return
    yield tensor
    # bitsandbytes hangs scales onto its weights, those of 4 bits in an object that may hold another.
    held = [getattr(tensor, "SCB", None), getattr(tensor, "quant_state", None)]
    while held:
        value = held.pop()
        if isinstance(value, torch.Tensor):
            yield value
        elif value is not None and hasattr(value, "absmax"):
            held.extend(vars(value).values())


class PeakMemory:
    """The most memory that training took in this process, as a plan counts it: of the device, without libraries.

    On a GPU: what torch's allocator gave out at most since `start`.

    On the CPU: the resident peak since `start`, less what was resident then, but for the model and the optimizer's
    state, which a plan counts. So what the process holds beside training (libraries, tokenizer, data read into memory)
    is no part of it, and neither are pages of mapped files such as a data set's. Two things are, though no plan knows
    them: buffers that libraries make in the first step, and freed blocks that glibc keeps for the next ones; see
    `host_slack_bytes`. Known on Linux alone; where the kernel forbids to reset the peak, known from when it is passed.
    """

    def __init__(self, device: torch.device):
        """Make a reader; nothing is read before `start`.

        Args:
            device: Of the model: a GPU, or the CPU.
        """
        self.device = device
        self._base: int | None = None
        self._peak = self._old_peak = self._mapped = 0

    def start(self, live_bytes: int) -> None:
        """Begin, with the model in its place and no gradients.

        Args:
            live_bytes: On the device, of parameters, buffers and optimizer state as they are now.
        """
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._base = 0
            return
        if self.device.type != "cpu" or not _STATUS.exists():
            return
        self._peak = self._old_peak = 0
        try:
            resident = reset_host_peak()
        except OSError as error:
            logger.info("the peak of earlier work cannot be reset: %s", error)
            resident, self._old_peak = host_bytes("VmRSS"), host_bytes("VmHWM")
        self._base = resident - live_bytes
        self._mapped = host_bytes("RssFile")

    def read(self) -> int | None:
        """Return the peak in bytes; `None` where it is not known, or before `start`."""
        if self._base is None:
            return None
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        peak = host_bytes("VmHWM")
        if peak <= self._old_peak:
            return None
        # Pages that were mapped after the peak are no part of it; an earlier reading knew that.
        self._peak = max(self._peak, peak - self._base - max(0, host_bytes("RssFile") - self._mapped))
        return self._peak
