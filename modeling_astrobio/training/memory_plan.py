"""The memory a training step needs on given hardware: a trace of the step, and closed forms for what surrounds it.

The trace gives what the model itself needs on one device; this module adds the optimizer, divides over processes,
moves to host memory what a strategy moves, and compares with what is there.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from .activations import apply_activation_policy
from .gpu_specs import Hardware
from .memory_trace import LayerInfo, ParameterInfo, StepTrace, trace_step
from .optimizer_specs import OPTIMIZERS, OptimizerSpec
from .step_time import StepTime, estimate_time
from .training_step import TrainingStep


__all__ = ["COMPONENTS", "MemoryPlan", "plan_step"]


GIB = 2**30
# Of a device, in the order in which plots stack them.
COMPONENTS = (
    "parameters",
    "gradients",
    "optimizer",
    "weight_average",
    "activations",
    "logits",
    "gather_buffers",
    "reduce_buffers",
    "workspace",
)
# A process with torch, CUDA and data workers, without tensors; and the CPU's, measured after imports.
_LIBRARIES_BYTES = {"cuda": 4 * GIB, "cpu": 1 * GIB}
# cuBLAS on Hopper takes 32 MiB for each handle and stream; NCCL's channels about 300 MiB for each communicator.
_CUBLAS_BYTES = 64 * 2**20
_NCCL_BYTES = 300 * 2**20
# The caching allocator reserves more than it hands out.
_RESERVED_OVER_ALLOCATED = 1.04
# DeepSpeed's defaults, in elements: stage3_max_live_parameters, reduce_bucket_size.
_ZERO3_LIVE, _ZERO3_BUCKET = 10**9, 5 * 10**8
# NF4 with double quantisation: half a byte, an 8-bit scale for 64 weights, a float32 one for 256 of those.
_QUANTISED_BYTES = {"4bit": 0.5 + 1 / 64 + 4 / (64 * 256), "8bit": 1.0}


@dataclass(frozen=True)
class MemoryPlan:
    """What a step needs, and whether the hardware has it. All sizes in bytes.

    Attributes:
        step: What was planned.
        hardware: For what.
        processes: How many train together.
        moment: When a device holds most: in the "backward" pass or the optimizer's "update".
        device: On each GPU at that moment, by component of `COMPONENTS`; of each process where there is no GPU.
        host: Of the whole machine, by component.
        disk: Of the run's folder, by component.
        time: Of a step; an estimate.
        trace: The traced step.
        shortfalls: What the hardware lacks, as texts; none where the step fits.
    """

    step: TrainingStep
    hardware: Hardware
    processes: int
    moment: str
    device: dict[str, int]
    host: dict[str, int]
    disk: dict[str, int]
    time: StepTime
    trace: StepTrace = field(repr=False)
    shortfalls: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return not self.shortfalls

    @property
    def device_bytes(self) -> int:
        """Allocated on each GPU at the worst moment."""
        return sum(self.device.values())

    @property
    def reserved_bytes(self) -> int:
        """What the caching allocator of each GPU takes from the driver."""
        return int(self.device_bytes * _RESERVED_OVER_ALLOCATED)

    def summary(self) -> str:
        """Return one line: the peak and where it is."""
        where = f"on each of {self.hardware.gpus} GPU(s)" if self.hardware.gpus else "in host memory for each process"
        return f"planned peak {self.device_bytes / GIB:.2f} GiB {where}"

    def to_dict(self) -> dict[str, Any]:
        """Return sizes, time and shortfalls for a JSON file."""
        return {
            "model": self.step.name,
            "strategy": vars(self.step.strategy),
            "processes": self.processes,
            "moment": self.moment,
            "device_bytes": self.device_bytes,
            "reserved_bytes": self.reserved_bytes,
            "device": self.device,
            "host": self.host,
            "disk": self.disk,
            "time": self.time.to_dict(),
            "shortfalls": list(self.shortfalls),
        }


def plan_step(
    step: TrainingStep,
    hardware: Hardware,
    processes: int | None = None,
    trace: Callable[[TrainingStep, str], StepTrace] | None = None,
) -> MemoryPlan:
    """Predict what a step needs and compare it with the hardware.

    Args:
        step: Its strategy's sharding must be resolved: not "auto".
        hardware: What there is.
        processes: How many train together; `None` is one for each GPU.
        trace: Gives the trace of a step on "cuda" or "cpu"; `None` is `trace_training_step`.

    Raises:
        MemoryTraceError: If the step cannot be traced.
    """
    processes = processes or max(1, hardware.gpus)
    where = "cuda" if hardware.gpus else "cpu"
    traced = (trace or trace_training_step)(step, where)
    layout = _Layout(step, traced, processes, where)
    backward, update = layout.backward(), layout.update()
    moment, device = max(("backward", backward), ("update", update), key=lambda item: sum(item[1].values()))
    host = layout.host(sum(device.values()) if where == "cpu" else 0)
    disk = layout.disk()
    return MemoryPlan(
        step=step,
        hardware=hardware,
        processes=processes,
        moment=moment,
        device=device,
        host=host,
        disk=disk,
        time=estimate_time(step, traced, hardware, processes, layout.traffic()),
        trace=traced,
        shortfalls=tuple(_shortfalls(hardware, device, host, disk)),
    )


def trace_training_step(step: TrainingStep, where: str) -> StepTrace:
    """Trace one micro-step of a step under its strategy's checkpointing and offload."""
    strategy = step.strategy
    releases = strategy.optimizer_in_backward or strategy.gradient_offload

    def prepare(model: nn.Module) -> None:
        # The trace itself moves what is offloaded, for its device is the host.
        apply_activation_policy(model, replace(strategy, activation_offload=False))
        if releases:
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.register_post_accumulate_grad_hook(_release)

    return trace_step(
        step.make_model,
        step.make_batch,
        mixed_precision=step.mixed_precision,
        # Where processes share them, gradients are counted in closed form.
        gradients_kept=not releases and (step.accumulation_steps > 1 or strategy.sharding in ("fsdp2", "zero3")),
        activation_offload=strategy.activation_offload,
        prepare=prepare,
        device=where,
    )


def _release(parameter: torch.Tensor) -> None:
    parameter.grad = None


class _Layout:
    """Where everything lies: on the device, in host memory, on the disk."""

    def __init__(self, step: TrainingStep, trace: StepTrace, processes: int, where: str):
        self.step, self.trace, self.processes, self.where = step, trace, processes, where
        self.strategy = step.strategy
        self.is_sharded = self.strategy.sharding in ("fsdp2", "zero3")
        self.shares = processes if self.is_sharded else 1
        self.trained = [parameter for parameter in trace.parameters if parameter.trainable]
        self.root = trace.layers[-1]
        self.largest = max(trace.layers[:-1], key=lambda layer: layer.nbytes, default=LayerInfo("", 0, 0, 0))

    # Sizes of whole things, and of one process's share.

    @functools.cached_property
    def quantised(self) -> list[ParameterInfo]:
        """Frozen matrices that are loaded as 4-bit or 8-bit integers."""
        if self.step.quantization is None:
            return []
        narrow = (self.step.dtype == "bfloat16" and torch.bfloat16) or torch.float16
        return [p for p in self.trace.parameters if not p.trainable and len(p.shape) == 2 and p.dtype == narrow]

    def _share(self, parameter: ParameterInfo) -> tuple[int, ...]:
        """The shape of a process's part: rows are divided, the last part may be smaller."""
        if not parameter.shape:
            return parameter.shape
        return (-(-parameter.shape[0] // self.shares), *parameter.shape[1:])

    def _bytes(self, parameters: list[ParameterInfo], shared: bool = True) -> int:
        shapes = ((self._share(p) if shared else p.shape, p.dtype.itemsize) for p in parameters)
        return sum(torch.Size(shape).numel() * size for shape, size in shapes)

    @functools.cached_property
    def parameters(self) -> int:
        quantised = {p.name for p in self.quantised}
        plain = self._bytes([p for p in self.trace.parameters if p.name not in quantised])
        packed = sum(int(p.numel * _QUANTISED_BYTES[str(self.step.quantization)]) for p in self.quantised)
        return plain + packed + self.trace.components["buffers"]

    @functools.cached_property
    def gradients(self) -> int:
        return self._bytes(self.trained)

    @functools.cached_property
    def optimizer(self) -> int:
        if self.strategy.sharding == "zero3":
            # Moments and master weights in float32, whatever the weights are stored in.
            return sum(12 * torch.Size(self._share(p)).numel() for p in self.trained)
        spec, kept = self.spec, 0
        for p in self.trained:
            kept += spec.state_bytes(self._share(p), p.dtype, is_embedding=p.is_embedding)
        return kept + spec.shared_state_bytes

    @functools.cached_property
    def weight_average(self) -> int:
        """In float32 or better, beside the weights."""
        if not self.step.is_averaged:
            return 0
        widths = ((p, max(p.dtype.itemsize, 4)) for p in self.trained)
        return sum(torch.Size(self._share(p)).numel() * width for p, width in widths)

    @functools.cached_property
    def paged(self) -> int:
        """Of the optimizer, what the CUDA driver may move to the host, and torch's allocator does not count."""
        if self.where == "cpu":
            return 0
        sizes = (self.spec.paged_bytes(p.shape, p.dtype, is_embedding=p.is_embedding) for p in self.trained)
        return sum(sizes)

    @property
    def spec(self) -> OptimizerSpec:
        return OPTIMIZERS[self.strategy.optimizer]

    @functools.cached_property
    def whole_model(self) -> int:
        return self._bytes(list(self.trace.parameters), shared=False)

    # The device.

    def backward(self) -> dict[str, int]:
        """On each device at the worst moment of forward and backward pass."""
        strategy, traced = self.strategy, self.trace.components
        gather, reduce = self._buffers()
        resident = not strategy.parameter_offload
        dequantised = max((p.nbytes for p in self.quantised), default=0)
        return {
            "parameters": self.parameters * resident,
            "gradients": self.gradients * resident if self.is_sharded else traced["gradients"],
            "optimizer": self._resident_optimizer(),
            "weight_average": self.weight_average,
            "activations": traced["activations"] + traced["weight_casts"] + traced["inputs"],
            "logits": traced["logits"],
            "gather_buffers": gather,
            "reduce_buffers": reduce,
            "workspace": traced["workspace"] + dequantised + self._libraries(),
        }

    def update(self) -> dict[str, int]:
        """On each device while the optimizer steps."""
        strategy = self.strategy
        if strategy.optimizer_in_backward or strategy.parameter_offload:
            # The update comes with the backward pass, or is made on the host.
            return dict.fromkeys(COMPONENTS, 0)
        workspace = 0
        if not strategy.optimizer_offload:
            workspace = max(map(self._update_workspace, self.trained), default=0)
        return {
            **dict.fromkeys(COMPONENTS, 0),
            "parameters": self.parameters,
            "gradients": 0 if strategy.gradient_offload else self.gradients,
            "optimizer": self._resident_optimizer(),
            "weight_average": self.weight_average,
            "reduce_buffers": self.gradients if strategy.sharding == "ddp" else 0,
            "workspace": workspace + self._libraries(),
        }

    def _update_workspace(self, parameter: ParameterInfo) -> int:
        return self.spec.update_workspace_bytes(
            self._share(parameter), parameter.dtype, is_embedding=parameter.is_embedding, device=self.where
        )

    def _resident_optimizer(self) -> int:
        moved = self.strategy.parameter_offload or self.strategy.optimizer_offload
        return 0 if moved else self.optimizer - self.paged

    def _buffers(self) -> tuple[int, int]:
        """Bytes of gathered parameters, and of gradients on their way to other processes."""
        root, layer = self.root, self.largest
        if self.strategy.sharding == "fsdp2":
            # The root stays gathered from forward to backward pass; one layer is in use while the next one arrives. A
            # layer's gradients wait for its end and are copied once to be reduced; the root's wait for the end of all.
            return root.nbytes + 2 * layer.nbytes, root.trainable_nbytes + 2 * layer.trainable_nbytes
        if self.strategy.sharding == "zero3":
            width = max((p.dtype.itemsize for p in self.trace.parameters), default=0)
            live = min(sum(p.numel for p in self.trace.parameters), _ZERO3_LIVE)
            bucket = min(sum(p.numel for p in self.trained), _ZERO3_BUCKET)
            return live * width, 2 * bucket * width
        # DistributedDataParallel copies all gradients into buckets.
        return 0, self.gradients if self.strategy.sharding == "ddp" else 0

    def _libraries(self) -> int:
        if self.where == "cpu":
            return 0
        return _CUBLAS_BYTES + (_NCCL_BYTES if self.processes > 1 else 0)

    # Host memory, of all processes.

    def host(self, process_bytes: int) -> dict[str, int]:
        """In host memory of the whole machine, at its worst moment."""
        strategy, processes = self.strategy, self.processes
        offloaded = 0
        if strategy.parameter_offload:
            offloaded = (self.parameters + self.gradients + self.optimizer) * processes
            if strategy.sharding == "zero3":
                # Gradients come to the host in float32.
                offloaded += sum(4 * p.numel for p in self.trained) - self.gradients * processes
        elif strategy.optimizer_offload:
            # A copy of the weights, their gradients and the moments.
            offloaded = (2 * self.gradients + self.optimizer) * processes
        loading = 0 if self.where == "cpu" else self.whole_model * processes
        saving = self.whole_model if self.is_sharded else 0
        return {
            "libraries": _LIBRARIES_BYTES[self.where] * processes,
            "training": process_bytes * processes,
            "offloaded": offloaded,
            "paged": self.paged * processes,
            "offloaded_activations": self.trace.offloaded_activation_bytes * processes,
            # The model is built on the host before it moves, and gathered there at the end. Checkpoints stay in parts.
            "loading_or_saving": max(loading - offloaded, saving, 0),
        }

    def disk(self) -> dict[str, int]:
        """In the run's folder: checkpoints kept and the one being written, and the model at the end."""
        moments = (self.optimizer + self.weight_average) * self.shares
        stored = self.whole_model if not self.quantised else self.gradients
        return {
            "checkpoints": (self.step.checkpoints_kept + 1) * (stored + moments),
            "model": stored,
        }

    def traffic(self) -> dict[str, int]:
        """Bytes that each device moves: between GPUs and to the host in a micro-batch, and in the update of a step."""
        others = (self.processes - 1) / self.processes
        whole, gradients = self.whole_model, self._bytes(self.trained, shared=False)
        between = 0.0
        if self.is_sharded:
            between = others * (2 * whole + gradients)
        host = self.trace.offloaded_activation_bytes * 2
        update = self.parameters * 2 + self.gradients + self.optimizer * 2
        host_update = 0
        if self.strategy.parameter_offload:
            host += (2 * whole + gradients) // self.processes
        if self.strategy.optimizer_offload and not self.strategy.parameter_offload:
            host += gradients
        if self.strategy.parameter_offload or self.strategy.optimizer_offload:
            update, host_update = 0, update * self.processes
        return {
            "between_gpus": int(between),
            "to_host": host,
            "reduced_once_a_step": int(2 * others * gradients) if self.strategy.sharding == "ddp" else 0,
            "update_on_device": update,
            "update_on_host": host_update,
        }


def _shortfalls(hardware: Hardware, device: dict[str, int], host: dict[str, int], disk: dict[str, int]) -> list[str]:
    found = []
    needs = [
        ("host memory", sum(host.values()), hardware.ram_bytes),
        ("disk", sum(disk.values()), hardware.disk_bytes),
    ]
    if hardware.gpus:
        reserved = int(sum(device.values()) * _RESERVED_OVER_ALLOCATED)
        needs.insert(0, ("memory of each GPU", reserved, hardware.usable_vram_bytes))
    for name, needed, there in needs:
        if there is not None and needed > there:
            found.append(f"{name} must be at least {needed / GIB:.1f} GiB; got {there / GIB:.1f} GiB")
    return found
