"""How a strategy changes the layers of a model: float8 products, Liger's kernels, checkpointing, torch.compile."""

from typing import Any

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import is_torchao_available

from .activations import apply_activation_policy, without_adapter
from .errors import HardwareError, StrategyError
from .liger import apply_liger
from .strategy import Strategy


__all__ = ["apply_compile", "apply_fp8", "apply_strategy", "float8_linear_names"]


# `torch._scaled_mm` takes no others.
_FLOAT8_MULTIPLE = 16
_FLOAT8_CAPABILITY = (8, 9)


def apply_strategy(model: nn.Module, strategy: Strategy, device: torch.device) -> None:
    """Let a model compute and keep its activations as a strategy says; it is changed in place.

    To be called once, after an adapter is added and before anything wraps or shards the model (DDP, `fully_shard`,
    `Trainer`), which all see its own modules then. Parameters, their names and so checkpoints stay as they are.

    Args:
        model: A transformers model, with an adapter or without.
        strategy: Its `fp8`, `liger`, `activation_checkpointing`, `activation_offload` and `compile` count.
        device: Where the model will be trained.

    Raises:
        HardwareError: If the device, or a package, does not have what the strategy asks for.
        StrategyError: If the model does not.
    """
    # What runs in a layer first, then what is kept of it, then all of that compiled.
    if strategy.fp8:
        apply_fp8(model, device)
    if strategy.liger:
        apply_liger(model, device)
    apply_activation_policy(model, strategy)
    if strategy.compile:
        apply_compile(model)


def _layers(model: nn.Module, needed_by: str) -> dict[str, GradientCheckpointingLayer]:
    """The repeated layers of a transformers model by name."""
    layers = {name: part for name, part in model.named_modules() if isinstance(part, GradientCheckpointingLayer)}
    if not layers:
        raise StrategyError(
            f"{needed_by} needs a model whose layers are built on transformers' GradientCheckpointingLayer; got "
            f"{type(model).__name__}, which has none. Set {needed_by}=false."
        )
    return layers


def apply_compile(model: nn.Module, **options: Any) -> None:
    """Compile each layer in place.

    The layers share one graph, so that compiling does not take longer for more of them; head and loss stay as they
    are, whose fused pass a compiler would have to leave; and `nn.Module.compile` keeps parameter names and hooks.

    Args:
        model: A transformers model, with an adapter or without.
        **options: For `torch.compile`.

    Raises:
        StrategyError: If the model has no such layers.
    """
    for layer in _layers(without_adapter(model), "strategy.compile").values():
        layer.compile(**options)


def float8_linear_names(model: nn.Module) -> list[str]:
    """Return the names of the linear layers that `apply_fp8` converts: all inside the model's repeated layers.

    Raises:
        StrategyError: If there are none, or one has a size that float8 products do not take or a frozen weight.
    """
    names = []
    for prefix, layer in _layers(model, "strategy.fp8").items():
        for name, part in layer.named_modules(prefix=prefix):
            # Quantised and already converted layers are other classes, though derived from this one.
            if type(part) is not nn.Linear:
                continue
            if not part.weight.requires_grad:
                raise StrategyError(
                    f"strategy.fp8 needs weights that are trained, since torchao computes the gradient of every one; "
                    f"got {name}, which is frozen. Set strategy.fp8=false, or adapter.r=0."
                )
            if part.in_features % _FLOAT8_MULTIPLE or part.out_features % _FLOAT8_MULTIPLE:
                raise StrategyError(
                    f"strategy.fp8 needs linear layers whose sizes are multiples of {_FLOAT8_MULTIPLE}; got "
                    f"{name} of {part.in_features} to {part.out_features}. Set strategy.fp8=false."
                )
            names.append(name)
    if not names:
        raise StrategyError(
            f"strategy.fp8 converts layers of the class torch.nn.Linear; got {type(model).__name__}, which has none "
            "in its repeated layers. Set strategy.fp8=false, or model.quantization=null."
        )
    return names


def apply_fp8(model: nn.Module, device: torch.device) -> None:
    """Compute the products of the layers' linear maps in float8, each tensor with a scale of its own (torchao).

    Weights stay in their precision. A micro-batch must have a multiple of 16 tokens.

    Args:
        model: A transformers model without an adapter.
        device: Where it will be trained.

    Raises:
        HardwareError: If the device has no float8 products, or torchao is not installed.
        StrategyError: As `float8_linear_names`.
    """
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    if capability is None or capability < _FLOAT8_CAPABILITY:
        found = f"compute capability {capability[0]}.{capability[1]}" if capability else f"the device {str(device)!r}"
        raise HardwareError(
            "strategy.fp8 needs a GPU of compute capability 8.9 or higher (Ada, Hopper, Blackwell); got "
            f"{found}. Set strategy.fp8=false."
        )
    if not is_torchao_available():
        raise HardwareError(
            "strategy.fp8 needs torchao, which is not installed. pip install 'modeling_astrobio[gpu]'."
        )
    from torchao.float8 import convert_to_float8_training

    names = set(float8_linear_names(model))
    convert_to_float8_training(model, module_filter_fn=lambda _, name: name in names)
