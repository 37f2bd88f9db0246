"""Measured memory and times of three steps at the longest batch, with an evaluation and a save, against the plan."""

import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from ..memory_plan import MemoryPlan
from ..optimizer_specs import OPTIMIZERS, measure_state_bytes
from ..trainer import AstroTrainer
from .outcome import NotTestable, Outcome, failed, passed


__all__ = ["PROBE_STEPS", "Measured", "can_measure", "judge_memory", "run_probe_steps"]


PROBE_STEPS = 3
_MIB = 2**20
# What planned and measured may differ by, in both directions: a share of what was measured, and beside it what no plan
# of tensors sees. On the CPU that is Python's own memory, the rows of the evaluation, and blocks too small for the
# allocator to give back; on a GPU, rounding up of each tensor and the buffers of libraries.
_TOLERANCE = 0.10
_SLACK_BYTES = 32 * _MIB
# Of parameters and the optimizer's state in one process: their shapes are known, and nothing else is counted.
_EXACT_TOLERANCE, _EXACT_SLACK_BYTES = 0.01, 4096


@dataclass(frozen=True)
class Measured:
    """What the steps took.

    Attributes:
        peak_bytes: Most that was held at one time, of what the plan counts.
        parameter_bytes: Parameters and buffers of this process.
        optimizer_bytes: The optimizer's state of this process.
        step_seconds: Of a step whose data is there; the median without the first.
        evaluation_seconds: Of an evaluation, or `None` where there is none.
        save_seconds: Of a checkpoint.
    """

    peak_bytes: int
    parameter_bytes: int
    optimizer_bytes: int
    step_seconds: float
    evaluation_seconds: float | None
    save_seconds: float


class _Stopwatch(TrainerCallback):
    """Times of steps, and of what follows the last one."""

    def __init__(self, synchronise: Callable[[], None]) -> None:
        self.synchronise = synchronise
        self.steps: list[float] = []
        self.marks: dict[str, float] = {}

    def _now(self) -> float:
        self.synchronise()
        return time.perf_counter()

    def on_step_begin(self, args, state, control, **kwargs):
        self.marks["begin"] = self._now()

    def on_step_end(self, args, state, control, **kwargs):
        self.marks["end"] = self._now()
        self.steps.append(self.marks["end"] - self.marks["begin"])

    def on_evaluate(self, args, state, control, **kwargs):
        self.marks["evaluated"] = self._now()

    def on_save(self, args, state, control, **kwargs):
        self.marks["saved"] = self._now()


def can_measure(device: torch.device) -> None:
    """Raise `NotTestable` where the peak cannot be read."""
    if device.type == "cpu" and not Path("/proc/self/clear_refs").exists():
        raise NotTestable("the peak of the resident set can be reset on Linux only")
    if device.type not in ("cpu", "cuda"):
        raise NotTestable(f"the plan is for CUDA and the CPU; the device is {device.type}")


def run_probe_steps(trainer: AstroTrainer, batch: Mapping[str, torch.Tensor]) -> Measured:
    """Train on the longest batch, evaluate and save, as the trainer's arguments say.

    Args:
        trainer: As a run builds it, for `PROBE_STEPS` steps; the libraries have made their buffers in this process.
        batch: One micro-batch, from `TrainingStep.make_batch`.
    """
    device = trainer.args.device
    assert trainer.model is not None
    # The trainer counts the items of a step itself.
    rows = {name: value for name, value in batch.items() if name != "num_items_in_batch"}
    batches: Any = [rows] * (PROBE_STEPS * trainer.args.gradient_accumulation_steps)
    watch = _Stopwatch(torch.cuda.synchronize if device.type == "cuda" else lambda: None)
    trainer.add_callback(watch)
    trainer.get_train_dataloader = lambda: DataLoader(batches, batch_size=None)  # type: ignore[method-assign]
    held = _bytes_of(trainer.model)
    baseline = _reset_peak(device)
    # The model is there already, and is what the plan counts first.
    baseline -= held if device.type == "cpu" else 0
    try:
        trainer.train()
    finally:
        del trainer.get_train_dataloader
        trainer.remove_callback(watch)
    marks = watch.marks
    # Accelerate wraps it.
    optimizer: Any = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
    return Measured(
        peak_bytes=_read_peak(device) - baseline,
        parameter_bytes=_bytes_of(trainer.accelerator.unwrap_model(trainer.model)),
        # DeepSpeed keeps it in partitions of its own.
        optimizer_bytes=0 if trainer.strategy.sharding == "zero3" else measure_state_bytes(optimizer),
        step_seconds=statistics.median(watch.steps[1:]),
        evaluation_seconds=marks["evaluated"] - marks["end"] if "evaluated" in marks else None,
        save_seconds=marks["saved"] - marks.get("evaluated", marks["end"]),
    )


def judge_memory(plan: MemoryPlan, measured: Measured) -> Outcome:
    """Compare peak and parameters with the plan; too much and too little are both wrong."""
    pairs = {
        "peak": (plan.device_bytes, measured.peak_bytes),
        "parameters": (plan.device["parameters"], measured.parameter_bytes),
        "optimizer": (plan.device["optimizer"], measured.optimizer_bytes),
    }
    strategy = plan.step.strategy
    if strategy.parameter_offload or plan.step.quantization is not None:
        # Such parameters are not where, or not as wide as, they seem.
        del pairs["parameters"]
    is_on_host = strategy.parameter_offload or strategy.optimizer_offload or OPTIMIZERS[strategy.optimizer].is_paged
    if is_on_host or strategy.sharding == "zero3":
        del pairs["optimizer"]
    said, wrong = [], []
    for name, (planned, found) in pairs.items():
        said.append(f"{name} planned {planned / _MIB:,.1f} MiB, measured {found / _MIB:,.1f} MiB")
        is_exact = name != "peak" and plan.processes == 1 and strategy.sharding != "zero3"
        share, slack = (_EXACT_TOLERANCE, _EXACT_SLACK_BYTES) if is_exact else (_TOLERANCE, _SLACK_BYTES)
        room = share * found + slack
        if abs(planned - found) > room:
            much = "more" if planned > found else "less"
            wrong.append(f"{name}: {abs(planned - found) / _MIB:,.1f} MiB {much} planned than measured")
    allowed = (
        f"allowed for the peak {_TOLERANCE:.0%} and {_SLACK_BYTES / _MIB:g} MiB, so that of less than 80 MiB measured "
        "a peak planned at half of it is not seen"
    )
    evidence: dict[str, Any] = {
        "planned_bytes": plan.device,
        "measured": asdict(measured),
        "tolerance_share": _TOLERANCE,
        "slack_bytes": _SLACK_BYTES,
    }
    if wrong:
        return failed(f"{'; '.join(wrong)} ({'; '.join(said)}; {allowed})", **evidence)
    return passed(f"{'; '.join(said)} ({allowed})", **evidence)


def _bytes_of(model: torch.nn.Module) -> int:
    """Bytes of parameters and buffers that this process holds; shared ones count once."""
    sizes = {}
    for tensor in (*model.parameters(), *model.buffers()):
        own = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        if own.device.type != "meta":
            sizes[own.untyped_storage().data_ptr()] = own.untyped_storage().nbytes()
    return sum(sizes.values())


def _reset_peak(device: torch.device) -> int:
    """Make the present the peak; returns what is held already and was not planned."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return 0
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _resident("VmRSS")


def _read_peak(device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    return _resident("VmHWM")


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
