"""The coming and going of tensors' memory while a step runs, and the moment at which most of it is alive."""

import contextlib
import functools
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from .memory_kernels import kernel_bytes


__all__ = ["KINDS", "StorageLog"]


# What memory on the device is for, and "host" for what lies elsewhere.
KINDS = (
    "parameters",
    "buffers",
    "inputs",
    "gradients",
    "weight_casts",
    "activations",
    "logits",
    "workspace",
    "host",
)
# What an allocation is rounded up to, bytes (c10/core/alignment.h, c10/cuda/CUDACachingAllocator.cpp).
_GRANULARITY = {"cpu": 64, "cuda": 512}

aten = torch.ops.aten


@dataclass
class _Storage:
    nbytes: int
    kind: str


class StorageLog(TorchDispatchMode):
    """Writes down, in order, each storage that operators make and its end, and counts FLOPs.

    What a storage was is often known only later (a gradient is workspace until it is a parameter's), so that kinds may
    change until the log is read.

    Attributes:
        in_backward: Set it when the backward pass begins.
        forward_flops: Executed before that.
        model_flops: Executed, without what is computed again.
        executed_flops: All.
    """

    def __init__(self, device: str, vocab_size: int | None = None):
        """Start a log.

        Args:
            device: Where the step is to run: "cpu" or "cuda".
            vocab_size: Width of logits, or `None` where there are none.
        """
        super().__init__()
        self.device = device
        self.vocab_size = vocab_size
        self.in_backward = False
        self.forward_flops = self.model_flops = self.executed_flops = 0
        self._parameter_shapes: set[tuple[int, ...]] = set()
        self._storages: list[_Storage] = []
        self._events: list[int] = []  # n: storage n - 1 comes; -n: it goes
        self._live: dict[int, tuple[int, weakref.ref]] = {}
        self._on_host = False

    @property
    def now(self) -> int:
        """A moment, for `most_alive`."""
        return len(self._events)

    def add(self, tensor: torch.Tensor, kind: str) -> None:
        """Write down a tensor's storage; one that is known takes the kind."""
        if kind == "parameters":
            self._parameter_shapes.add(tuple(tensor.shape))
        storage = tensor.untyped_storage()
        if storage._cdata in self._live:
            self._storage(tensor).kind = kind
        else:
            self._append(storage, kind)

    def forget(self, tensor: torch.Tensor) -> None:
        """Take a tensor's storage for empty, from its coming on."""
        self._storage(tensor).nbytes = 0

    @contextlib.contextmanager
    def on_host(self) -> Iterator[None]:
        """What is made here lies in host memory."""
        self._on_host = True
        try:
            yield
        finally:
            self._on_host = False

    def most_alive(self, start: int, stop: int, host: bool = False) -> dict[str, int]:
        """Return the bytes by kind at the moment, of those from `start` to `stop`, at which their sum is greatest.

        Args:
            start: From `now`.
            stop: From `now`, not before `start`.
            host: Whether host memory is asked for, or that of the device.
        """
        counted = [kind for kind in KINDS if (kind == "host") == host]
        current = dict.fromkeys(KINDS, 0)
        total, most, worst = 0, -1, current
        for place in range(stop + 1):
            if place:
                event = self._events[place - 1]
                storage = self._storages[abs(event) - 1]
                change = storage.nbytes if event > 0 else -storage.nbytes
                current[storage.kind] += change
                total += change if storage.kind in counted else 0
            if place >= start and total > most:
                most, worst = total, current.copy()
        return {kind: worst[kind] for kind in counted}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        # The formulas of the backward pass run without a graph, recomputation with one.
        recomputes = self.in_backward and torch.is_grad_enabled()
        self._count_flops(func, args, kwargs, out, recomputes)
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._live:
                    self._append(storage, self._kind(func, args, tensor, recomputes))
        taken = kernel_bytes(func, args, out, self.device)
        if taken:
            self._storages.append(_Storage(taken, "workspace"))
            self._events += [len(self._storages), -len(self._storages)]
        return out

    def _storage(self, tensor: torch.Tensor) -> _Storage:
        return self._storages[self._live[tensor.untyped_storage()._cdata][0]]

    def _append(self, storage: torch.UntypedStorage, kind: str) -> None:
        size = -(-storage.nbytes() // _GRANULARITY[self.device]) * _GRANULARITY[self.device]
        key = storage._cdata
        self._live[key] = len(self._storages), weakref.ref(storage, functools.partial(self._end, key))
        self._storages.append(_Storage(size, kind))
        self._events.append(len(self._storages))

    def _end(self, key: int, _: weakref.ref) -> None:
        self._events.append(-self._live.pop(key)[0] - 1)

    def _kind(self, func: Any, args: tuple, tensor: torch.Tensor, recomputes: bool) -> str:
        if self._on_host:
            return "host"
        if self._is_logits(tensor):
            return "logits"
        if self.in_backward and not recomputes:
            return "workspace"
        if func is aten._to_copy.default:
            entry = self._live.get(args[0].untyped_storage()._cdata)
            if entry and self._storages[entry[0]].kind == "parameters":
                return "weight_casts"
        return "activations"

    def _is_logits(self, tensor: torch.Tensor) -> bool:
        shape = tuple(tensor.shape)
        if len(shape) < 2 or shape[-1] != self.vocab_size or not tensor.is_floating_point():
            return False
        # The gradient of the head is formed transposed.
        return shape[::-1] not in self._parameter_shapes

    def _count_flops(self, func: Any, args: tuple, kwargs: dict, out: Any, recomputes: bool) -> None:
        packet = func._overloadpacket
        if packet is aten._scaled_dot_product_flash_attention_for_cpu:
            executed = model = _attention_flops(args[0], args[1])
        elif packet is aten._scaled_dot_product_flash_attention_for_cpu_backward:
            # Five matrix products, one of which computes the scores again.
            model = 2 * _attention_flops(args[1], args[2])
            executed = model * 5 // 4
        elif packet in flop_registry:
            executed = model = flop_registry[packet](*args, **kwargs, out_val=out)
        else:
            return
        self.executed_flops += executed
        self.model_flops += 0 if recomputes else model
        self.forward_flops += 0 if self.in_backward else executed


def _attention_flops(query: torch.Tensor, key: torch.Tensor) -> int:
    """Two matrix products over all pairs; a causal mask is not taken off."""
    batch, heads, length, width = query.shape
    return 4 * batch * heads * length * key.shape[2] * width
