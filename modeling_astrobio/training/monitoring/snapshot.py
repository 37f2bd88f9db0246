"""Snapshots of a process' memory: asked for while it trains, and left behind when memory runs out."""

import contextlib
import gc
import json
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from ..optimizer_specs import state_tensors
from .memory_use import gradient_bytes, host_bytes, optimizer_bytes, parameter_bytes, storage_bytes


__all__ = ["REQUEST_NAME", "SNAPSHOTS_NAME", "SnapshotRequests", "dump_snapshot", "is_out_of_memory", "oom_snapshot"]


SNAPSHOTS_NAME = "snapshots"
REQUEST_NAME = "snapshot.request"
_LARGEST = 50  # tensors listed
_RECORDED_STEPS = 2
_HISTORY_ENTRIES = 200_000
_LOOK_SECONDS = 1.0
_OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "ALLOC_FAILED", "not enough memory")

logger = logging.getLogger(__name__)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory has run out, on a GPU or in host memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY)


def dump_snapshot(
    run_dir: Path, reason: str, model: nn.Module, optimizer: torch.optim.Optimizer | None = None
) -> Path:
    """Write what is in memory into the run's `snapshots`; returns the JSON file.

    On a GPU the allocator's own snapshot lies beside it, a pickle for https://pytorch.org/memory_viz, with the history
    of allocations where that was recorded.

    The JSON has the sizes of parameters, gradients and optimizer state, the largest tensors that Python knows with the
    names of those that belong to the model, and what the process and the device hold. Activations that only autograd
    keeps have no Python object and are not listed.

    Args:
        run_dir: Folder of the run.
        reason: A word for the file's name.
        model: The model in training.
        optimizer: Its optimizer, or `None` before there is one.

    Raises:
        OSError: If the files cannot be written.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    rank = dist.get_rank() if dist.is_initialized() else 0
    now = time.time()
    when = f"{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}-{int(now % 1 * 1000):03d}"
    word = re.sub("[^a-z0-9]+", "-", reason.lower())
    stem = f"{when}-{word}" if rank == 0 else f"{when}-{word}-rank{rank}"
    folder = Path(run_dir) / SNAPSHOTS_NAME
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {
        "reason": reason,
        "time": now,
        "rank": rank,
        "device": str(device),
        "components": _components(model, optimizer, device),
        "largest_tensors": _largest_tensors(_names(model, optimizer)),
    }
    with contextlib.suppress(OSError, KeyError):  # Linux alone has these
        found["process"] = {name: host_bytes(field) for name, field in (("resident", "VmRSS"), ("peak", "VmHWM"))}
    if device.type == "cuda":
        found["allocator"] = {
            "allocated": torch.cuda.memory_allocated(device),
            "allocated_peak": torch.cuda.max_memory_allocated(device),
            "reserved": torch.cuda.memory_reserved(device),
        }
        torch.cuda.memory._dump_snapshot(str(folder / f"{stem}.pickle"))
    path = folder / f"{stem}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return path


def _components(model: nn.Module, optimizer: Any, device: torch.device) -> dict[str, int]:
    sizes = {
        "parameters": parameter_bytes(model, device),
        "gradients": gradient_bytes(model, device),
        "optimizer": None if optimizer is None else optimizer_bytes(model, optimizer, device),
    }
    return {name: size for name, size in sizes.items() if size is not None}


def _names(model: nn.Module, optimizer: Any) -> dict[int, str]:
    names: dict[int, str] = {}
    of_parameter: dict[int, str] = {}
    for name, parameter in model.named_parameters():
        names[id(parameter)] = of_parameter[id(parameter)] = name
        if parameter.grad is not None:
            names[id(parameter.grad)] = f"{name} (gradient)"
    names.update((id(buffer), name) for name, buffer in model.named_buffers())
    for owner, state, tensor in state_tensors(optimizer) if optimizer is not None else ():
        names[id(tensor)] = f"{of_parameter.get(id(owner), 'parameter')} ({state})"
    return names


def _largest_tensors(names: dict[int, str]) -> list[dict[str, Any]]:
    found = []
    for value in gc.get_objects():
        # `isinstance` would ask objects that pretend to be of another class, and wake up what is lazy.
        if not issubclass(type(value), torch.Tensor):
            continue
        try:
            size = storage_bytes([value], value.device)
        except (RuntimeError, NotImplementedError, AttributeError):
            continue  # a tensor without memory of its own
        found.append((size, value))
    found.sort(key=lambda item: item[0], reverse=True)
    return [
        {
            "bytes": size,
            "shape": list(value.shape),
            "dtype": str(value.dtype).removeprefix("torch."),
            "device": str(value.device),
            "name": names.get(id(value)),
        }
        for size, value in found[:_LARGEST]
    ]


@contextlib.contextmanager
def oom_snapshot(run_dir: Path, trainer: Any) -> Iterator[None]:
    """Leave a snapshot behind when memory runs out in the block; the error goes on.

    Args:
        run_dir: Folder of the run.
        trainer: Has `model` and `optimizer`, looked up when memory has run out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            try:
                # The error's traceback still holds the tensors of the step.
                path = dump_snapshot(run_dir, "out-of-memory", trainer.model, trainer.optimizer)
                logger.error("memory ran out; what was in it is in %s", path)
            except Exception:
                logger.exception("memory ran out, and its snapshot could not be written")
        raise


class SnapshotRequests:
    """Takes snapshots while a run goes on, when this process gets SIGUSR1 or the run's folder `snapshot.request`.

    They are taken before an optimizer step, when gradients and states are both there. On a GPU the next two steps are
    recorded first: recording costs time, so it is off until it is asked for.
    """

    def __init__(self, run_dir: Path, is_main: bool):
        """Make the requests' reader; `start` begins to listen.

        Args:
            run_dir: Folder of the run.
            is_main: Whether this process heeds the file; a signal is for the process that gets it.
        """
        self.run_dir = Path(run_dir)
        self.is_main = is_main
        self._file = str(self.run_dir / REQUEST_NAME)
        self._previous: Any = None
        self._listens = False
        self._reset()

    def _reset(self) -> None:
        self._asked: str | None = None
        self._looked = 0.0
        self._steps_to_record: int | None = None

    def start(self) -> None:
        """Listen to the signal, where the platform has it; Python lets the main thread alone handle signals."""
        self._reset()
        number = getattr(signal, "SIGUSR1", None)
        if number is not None and not self._listens and threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(number, self._on_signal)
            self._listens = True

    def stop(self) -> None:
        """Give the signal back to whoever had it, and end a recording."""
        if self._listens:
            signal.signal(signal.SIGUSR1, signal.SIG_DFL if self._previous is None else self._previous)
            self._listens = False
        if self._steps_to_record is not None:
            torch.cuda.memory._record_memory_history(enabled=None)
        self._reset()

    def _on_signal(self, number: int, frame: Any) -> None:
        self._asked = "signal"

    def before_update(self, model: nn.Module, optimizer: torch.optim.Optimizer | None) -> Path | None:
        """Take a snapshot where one was asked for; returns its file.

        Args:
            model: The model, with its gradients.
            optimizer: Its optimizer.
        """
        self._look_for_file()
        if self._asked is None:
            return None
        if any(parameter.is_cuda for parameter in model.parameters()):
            if self._steps_to_record is None:
                torch.cuda.memory._record_memory_history(max_entries=_HISTORY_ENTRIES)
                self._steps_to_record = _RECORDED_STEPS
                return None
            self._steps_to_record -= 1
            if self._steps_to_record > 0:
                return None
        try:
            path = dump_snapshot(self.run_dir, self._asked, model, optimizer)
        except OSError as error:
            logger.warning("the snapshot that was asked for could not be written: %s", error)
            return None
        finally:
            self._asked = None
            if self._steps_to_record is not None:
                torch.cuda.memory._record_memory_history(enabled=None)
                self._steps_to_record = None
        logger.info("the snapshot that was asked for is in %s", path)
        return path

    def _look_for_file(self) -> None:
        now = time.monotonic()
        # On a network file system even a look may take milliseconds.
        if not self.is_main or now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        if os.path.exists(self._file):
            try:
                os.unlink(self._file)
            except OSError as error:
                # A file that stays would ask again and again.
                logger.warning("%s cannot be removed and is not heeded: %s", REQUEST_NAME, error)
                return
            self._asked = "file"
