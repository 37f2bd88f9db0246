"""What each optimizer needs: its package, the bytes it keeps for a parameter, and those it takes while it updates."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.tensor import DTensor


__all__ = ["OPTIMIZERS", "OptimizerSpec", "measure_state_bytes", "state_tensors"]


# Of bitsandbytes and torchao: a scale for each block, and no quantisation of tensors smaller than this.
_BLOCK = 256
_SMALLEST_QUANTISED = 4096
_CODE_BOOK_BYTES = 256 * 4
# bitsandbytes keeps smaller tensors out of the memory that the driver may move to the host.
_SMALLEST_PAGED = 100_000


@dataclass(frozen=True)
class OptimizerSpec:
    """What an optimizer needs, in closed form.

    Sizes are those of the tensors; a CUDA allocator rounds each up to 512 bytes. Under FSDP2 the shape to ask for is
    that of the process's own part, since small parts are not quantised.

    Attributes:
        library: Whose it is: "torch", "torchao", "bitsandbytes", or "own" of this package.
        moments: Moving averages kept for each weight.
        is_8bit: Whether averages of large tensors are kept as 8-bit codes with a float32 scale for each block of 256.
        is_paged: Whether averages lie in memory that the CUDA driver may move to the host, which torch's allocator
            does not count.
        supports_dtensor: Whether it updates the DTensor parameters of FSDP2.
    """

    library: str
    moments: int = 2
    is_8bit: bool = False
    is_paged: bool = False
    supports_dtensor: bool = False

    @property
    def package(self) -> str | None:
        """What must be installed beside torch, or `None`."""
        return self.library if self.library in ("torchao", "bitsandbytes") else None

    @property
    def rounds_stochastically(self) -> bool:
        """Whether it can round bfloat16 weights at random."""
        return self.library == "torchao"

    def quantises(self, shape: Sequence[int], *, is_embedding: bool = False) -> bool:
        """Return whether a parameter's averages are kept as 8-bit codes.

        bitsandbytes keeps those of embeddings in float32, as with transformers.Trainer.

        Args:
            shape: Of the parameter, or of this process's part of it.
            is_embedding: Whether it is the weight of an `nn.Embedding`, tied to a head or not.
        """
        count = math.prod(shape)
        if not self.is_8bit or count < _SMALLEST_QUANTISED or is_embedding:
            return False
        return count % _BLOCK == 0 or self.library != "torchao"

    def state_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Return the dtype of the averages of a parameter of this dtype, where they are not quantised."""
        if self.library in ("torch", "torchao"):
            return dtype
        return torch.float32 if self.library == "bitsandbytes" else torch.promote_types(dtype, torch.float32)

    def state_bytes(self, shape: Sequence[int], dtype: torch.dtype, *, is_embedding: bool = False) -> int:
        """Return the bytes kept for a parameter from the first step on, without `shared_state_bytes`.

        Args:
            shape: Of the parameter, or of this process's part of it.
            dtype: Of the parameter.
            is_embedding: Whether it is the weight of an `nn.Embedding`, tied to a head or not.
        """
        count = math.prod(shape)
        # A counter of steps; bitsandbytes has a Python number, and Sophia needs none.
        step = 4 if self.library in ("torch", "torchao") else 0
        if self.quantises(shape, is_embedding=is_embedding):
            # Each tensor of torchao has a code book of its own.
            book = _CODE_BOOK_BYTES if self.library == "torchao" else 0
            return self.moments * (count + 4 * -(-count // _BLOCK) + book) + step
        return self.moments * count * self.state_dtype(dtype).itemsize + step

    @property
    def shared_state_bytes(self) -> int:
        """The bytes kept once, where any parameter's averages are quantised: the code books of bitsandbytes."""
        return self.moments * _CODE_BOOK_BYTES if self.is_8bit and self.library == "bitsandbytes" else 0

    def paged_bytes(self, shape: Sequence[int], dtype: torch.dtype, *, is_embedding: bool = False) -> int:
        """Return how many of `state_bytes` the CUDA driver may move to the host; on the CPU none are.

        Args:
            shape: Of the parameter.
            dtype: Of the parameter.
            is_embedding: Whether it is the weight of an `nn.Embedding`, tied to a head or not.
        """
        count = math.prod(shape)
        if not self.is_paged or count < _SMALLEST_PAGED:
            return 0
        width = 1 if self.quantises(shape, is_embedding=is_embedding) else self.state_dtype(dtype).itemsize
        return self.moments * count * width

    def update_workspace_bytes(
        self, shape: Sequence[int], dtype: torch.dtype, *, is_embedding: bool = False, device: str
    ) -> int:
        """Return the bytes taken for a moment while one parameter is updated.

        Parameters are updated one after the other, or all in place, so that a step takes the largest of these.

        Args:
            shape: Of the parameter, or of this process's part of it.
            dtype: Of the parameter.
            is_embedding: Whether it is the weight of an `nn.Embedding`, tied to a head or not.
            device: "cuda" or "cpu".
        """
        count = math.prod(shape)
        quantised = self.quantises(shape, is_embedding=is_embedding)
        if self.library == "torchao":
            # The compiled step keeps both new averages in float32 and their scales before it quantises. Measured on
            # the CPU; a bound from above for a GPU, where the compiler may fuse more.
            return self.moments * 4 * (count + count // _BLOCK) if quantised else 0
        if self.library == "bitsandbytes" and device == "cpu":
            # float32 copies: gradient, quotient and its parts, dequantised averages; and the weights if narrower.
            copies = (5 if quantised else 3) + (dtype != torch.float32)
            return copies * 4 * count
        if self.library == "own":
            wide = self.state_dtype(dtype)
            return (1 + (wide != dtype)) * wide.itemsize * count
        # Kernels that change weights and averages in place.
        return 0


OPTIMIZERS: dict[str, OptimizerSpec] = {
    "adamw": OptimizerSpec("torch", supports_dtensor=True),
    "adamw_torchao": OptimizerSpec("torchao", supports_dtensor=True),
    "adamw_torchao_8bit": OptimizerSpec("torchao", is_8bit=True, supports_dtensor=True),
    "adamw_bnb_8bit": OptimizerSpec("bitsandbytes", is_8bit=True),
    "paged_adamw_bnb_8bit": OptimizerSpec("bitsandbytes", is_8bit=True, is_paged=True),
    "lion": OptimizerSpec("bitsandbytes", moments=1),
    "lion_bnb_8bit": OptimizerSpec("bitsandbytes", moments=1, is_8bit=True),
    "sophia": OptimizerSpec("own"),
}


def state_tensors(optimizer: torch.optim.Optimizer) -> Iterator[tuple[torch.Tensor, str, torch.Tensor]]:
    """Yield each parameter with the name and the plain tensors of its state, in parts where a state has parts.

    Args:
        optimizer: After its first step.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, torch.Tensor):
                for path, tensor in _plain_tensors(value, name):
                    yield parameter, path, tensor


def _plain_tensors(value: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, DTensor):
        yield from _plain_tensors(value.to_local(), name)
    elif hasattr(value, "__tensor_flatten__"):
        for part in value.__tensor_flatten__()[0]:
            yield from _plain_tensors(getattr(value, part), f"{name}.{part}")
    else:
        yield name, value


def measure_state_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes of an optimizer's state in this process; what tensors share counts once."""
    storages = {
        (tensor.device, tensor.untyped_storage().data_ptr()): tensor.untyped_storage().nbytes()
        for _, _, tensor in state_tensors(optimizer)
    }
    return sum(storages.values())
