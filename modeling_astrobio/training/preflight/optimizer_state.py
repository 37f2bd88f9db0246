"""The optimizer's state after a real step against the closed form of the strategy's optimizer."""

from collections import defaultdict
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from ..optimizer_specs import OPTIMIZERS, OptimizerSpec, measure_state_bytes, state_tensors
from ..optimizers import embedding_weights
from ..strategy import Strategy
from ..trainer import AstroTrainer
from .outcome import NotTestable, Outcome, failed, passed


__all__ = ["check_optimizer_state"]


# Beside the averages: counters, and the scales and code books of 8-bit ones, which stay in float32.
_NO_AVERAGES = ("step", "qmap", "absmax", "scale", "qmap1", "qmap2", "absmax1", "absmax2")
# Of a parameter: the libraries keep smaller ones in 32 bits, torchao also those that do not fill its blocks.
_FEWEST_VALUES = 4096
_TORCHAO_BLOCK = 256


def check_optimizer_state(trainer: AstroTrainer, strategy: Strategy, asked: str) -> Outcome:
    """Compare dtypes and bytes, which must be equal.

    Args:
        trainer: After a step.
        strategy: That of the plan, whatever the trainer was given.
        asked: Name of the optimizer as the recipe has it.
    """
    if strategy.sharding == "zero3":
        raise NotTestable("DeepSpeed keeps the state in partitions of its own")
    spec = OPTIMIZERS[strategy.optimizer]
    # Accelerate wraps it.
    optimizer: Any = getattr(trainer.optimizer, "optimizer", trainer.optimizer)
    model = trainer.accelerator.unwrap_model(trainer.model)
    embeddings = {id(weight) for weight in embedding_weights(model)}
    planned, dtypes = spec.shared_state_bytes, set()
    for parameter in model.parameters():
        if parameter.requires_grad:
            shape = _own_shape(parameter)
            is_embedding = id(parameter) in embeddings
            planned += spec.state_bytes(shape, parameter.dtype, is_embedding=is_embedding)
            dtypes.add(_average_dtype(spec, shape, parameter.dtype, is_embedding))
    measured = measure_state_bytes(optimizer)
    found = _dtypes_of_averages(optimizer)
    names = {"planned": sorted(map(_name, dtypes)), "found": sorted(map(_name, found))}
    evidence = {
        "optimizer": asked,
        "class": type(optimizer).__name__,
        "planned_bytes": planned,
        "measured_bytes": measured,
        "planned_dtypes": names["planned"],
        "measured_values_by_dtype": {_name(dtype): count for dtype, count in found.items()},
    }
    text = (
        f"strategy.optimizer={asked} keeps {measured:,} bytes of {planned:,} planned, averages in "
        f"{', '.join(names['found']) or 'nothing'} of {', '.join(names['planned'])} planned "
        f"({type(optimizer).__name__})"
    )
    others = {strategy.optimizer, trainer.strategy.optimizer} - {asked}
    if others:
        return failed(f"{text}; {', '.join(sorted(others))} was planned or trained with", **evidence)
    # The plan and the optimizer come from one table: what 8 bits must mean is said here again.
    is_narrow = torch.uint8 in found
    if "8bit" in asked and not is_narrow:
        if _has_weights_for_8_bits(model, _TORCHAO_BLOCK if "torchao" in asked else 1):
            return failed(f"{text}; nothing is kept in 8 bits", **evidence)
        text += "; no weight is of a size that is kept in 8 bits"
    if measured != planned or names["planned"] != names["found"]:
        return failed(text, **evidence)
    return passed(text, **evidence)


def _has_weights_for_8_bits(model: nn.Module, block: int) -> bool:
    """Return whether a trained weight is of a size for it, and none of an embedding, which may keep 32 bits."""
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    sizes = [
        _own_shape(parameter).numel()
        for parameter in model.parameters()
        if parameter.requires_grad and id(parameter) not in embeddings
    ]
    return any(size >= _FEWEST_VALUES and size % block == 0 for size in sizes)


def _average_dtype(spec: OptimizerSpec, shape: torch.Size, dtype: torch.dtype, is_embedding: bool) -> torch.dtype:
    return torch.uint8 if spec.quantises(shape, is_embedding=is_embedding) else spec.state_dtype(dtype)


def _dtypes_of_averages(optimizer: torch.optim.Optimizer) -> dict[torch.dtype, int]:
    """Number of values by dtype."""
    found: dict[torch.dtype, int] = defaultdict(int)
    for _, name, tensor in state_tensors(optimizer):
        if name.rpartition(".")[2] not in _NO_AVERAGES and tensor.numel():
            found[tensor.dtype] += tensor.numel()
    return dict(found)


def _own_shape(parameter: torch.Tensor) -> torch.Size:
    return parameter.to_local().shape if isinstance(parameter, DTensor) else parameter.shape


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
