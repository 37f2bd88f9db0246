"""A model in parts over processes: FSDP2 without a launcher's configuration, on CPUs and GPUs."""

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, MixedPrecisionPolicy, OffloadPolicy, fully_shard
from transformers import PreTrainedModel

from .errors import HardwareError


__all__ = ["shard_model"]


def shard_model(
    model: PreTrainedModel,
    mesh: DeviceMesh | None = None,
    *,
    parameter_offload: bool = False,
    param_dtype: torch.dtype | None = None,
    reduce_dtype: torch.dtype | None = None,
) -> PreTrainedModel:
    """Give each process its rows of every parameter; the model is changed in place, its parameters become DTensors.

    Parameters are gathered in the groups of Accelerate's FSDP2: each block that `model._no_split_modules` names, the
    token embedding, and the last norm with the head, which are needed at once. Build the optimizer afterwards.

    Args:
        model: On any device; a GPU takes it over a group at a time.
        mesh: The processes that share; `None` means all, on the GPU where there is one.
        parameter_offload: Keep parameters, gradients and with them the optimizer in host memory.
        param_dtype: Dtype of the gathered parameters; `None` means their own.
        reduce_dtype: Dtype in which gradients are summed over processes; `None` means that of the gathered parameters.

    Returns:
        `model`.

    Raises:
        HardwareError: If no process group is there.
        ValueError: If the model is sharded already, or names no blocks, or none that it has.
    """
    if not dist.is_initialized():
        raise HardwareError(
            "a sharded model needs a process group; got none. Start with torchrun and call "
            "torch.distributed.init_process_group first."
        )
    if isinstance(model, FSDPModule):
        raise ValueError("model must not be sharded already; got a FSDPModule. Shard it once, before its optimizer.")
    names = set(getattr(model, "_no_split_modules", None) or ())
    blocks = [module for module in model.modules() if type(module).__name__ in names]
    if not blocks:
        raise ValueError(
            f"model._no_split_modules must name the class of the model's blocks; got {sorted(names)} for "
            f"{type(model).__name__}, which has no such module."
        )
    pin_memory = torch.cuda.is_available()
    options: dict[str, Any] = {
        "mesh": mesh,
        "mp_policy": MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype),
        "offload_policy": CPUOffloadPolicy(pin_memory=pin_memory) if parameter_offload else OffloadPolicy(),
    }
    for block in blocks:
        fully_shard(block, reshard_after_forward=True, **options)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    tail = [module for module in (_last_norm(model), head) if module is not None]
    if head is not None and head.weight is embedding.weight:
        # A shared parameter belongs to one group, which is then needed at both ends.
        tail.append(embedding)
    else:
        fully_shard(embedding, reshard_after_forward=True, **options)
    if tail:
        # The backward pass begins where the forward pass ends.
        fully_shard(tail, reshard_after_forward=False, **options)
    fully_shard(model, **options)
    return model


def _last_norm(model: PreTrainedModel) -> nn.Module | None:
    """The norm between the last block and the head."""
    norms = [module for module in model.base_model.children() if "Norm" in type(module).__name__]
    return norms[-1] if norms else None
