"""Which activations of a layer are kept for its backward pass, and which are computed again."""

import functools
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, SelectiveCheckpointContext, create_selective_checkpoint_contexts
from transformers import PreTrainedModel

from .errors import HardwareError, StrategyError
from .strategy import ACTIVATION_CHECKPOINTING, Strategy


__all__ = ["apply_activation_policy", "keep_costly_results", "without_adapter"]


# Where the left factor of each product stands among the operator's arguments. By name: bitsandbytes may be absent.
_PRODUCTS = {
    "aten.mm.default": 0,
    "aten.addmm.default": 1,
    "aten.bmm.default": 0,
    "aten._scaled_mm.default": 0,
    "bitsandbytes.gemm_4bit.default": 0,
}


def apply_activation_policy(model: nn.Module, strategy: Strategy) -> None:
    """Let the layers of a model keep what `strategy.activation_checkpointing` says; the model is changed in place.

    What the 40 layers of the preset "13b" keep of a row of 4096 tokens in bfloat16, traced with the CPU's attention
    kernel, and the products computed again, as a share of all products of the linear layers in a step:

    | Policy      | Kept, GiB | Computed again |
    | ----------- | --------- | -------------- |
    | "none"      |      28.8 |              0 |
    | "selective" |      16.9 |              0 |
    | "full"      |       1.6 |           24 % |

    "selective" is where the savings that cost no product end. From there on each GiB costs 1 to 2 % of the products,
    whichever are left out: without the two wide ones of the feed-forward block 6.9 GiB would be kept, for 18 %.

    Args:
        model: A transformers model, with an adapter or without, on any device, fake ones too.
        strategy: Its `activation_checkpointing` and `activation_offload` count.

    Raises:
        StrategyError: If the model has no layers that can be checkpointed, or activations are to be offloaded that no
            full checkpointing keeps.
        HardwareError: If they are to be offloaded and there is no GPU.
    """
    policy, offload = strategy.activation_checkpointing, strategy.activation_offload
    if policy not in ACTIVATION_CHECKPOINTING:
        raise StrategyError(
            f"strategy.activation_checkpointing must be one of {ACTIVATION_CHECKPOINTING}; got {policy!r}."
        )
    if offload and policy != "full":
        # All that a layer keeps would cross to the host and back: for the preset "13b" 18 times what "full" keeps.
        raise StrategyError(
            "strategy.activation_offload moves the inputs of checkpointed layers, so it needs "
            f"strategy.activation_checkpointing='full'; got {policy!r}. Set that, or activation_offload=false."
        )
    if offload and not torch.accelerator.is_available():
        raise HardwareError(
            "strategy.activation_offload copies to pinned host memory, so it needs a GPU; torch sees none. Set "
            "activation_offload=false: on the CPU activations are in host memory already."
        )
    if policy == "none":
        return
    base = without_adapter(model)
    if not isinstance(base, PreTrainedModel) or not base.supports_gradient_checkpointing:
        raise StrategyError(
            f"strategy.activation_checkpointing={policy!r} needs a transformers model with "
            f"supports_gradient_checkpointing; got {type(base).__name__}. Set activation_checkpointing=none, or build "
            "its layers on transformers.modeling_layers.GradientCheckpointingLayer."
        )
    arguments: dict[str, Any] = {"use_reentrant": False}
    if policy == "selective":
        width = getattr(base.config.get_text_config(), "hidden_size", None)
        if not isinstance(width, int):
            raise StrategyError(
                "strategy.activation_checkpointing='selective' needs the width of the layers in config.hidden_size; "
                f"got {width!r} for {type(base).__name__}. Set activation_checkpointing=full."
            )
        arguments["context_fn"] = functools.partial(
            create_selective_checkpoint_contexts, functools.partial(keep_costly_results, width)
        )
    base.activation_checkpointing_enable(arguments, offload=offload)


def keep_costly_results(
    width: int, context: SelectiveCheckpointContext, operator: Any, *args: Any, **kwargs: Any
) -> CheckpointPolicy:
    """Keep results of matrix products and attention, the policy of "selective"; norms, gates and the like cost little.

    Two kinds of products are not kept. One number of a result costs as many multiplications as its factors share
    columns: where that is less than an eighth of the layer's width (the second factor of LoRA, the scores of attention
    written out) it takes more room than it saves time. And where it is more than the width the product leads back to
    the residual stream, as that of the feed-forward block does, whose result no backward pass asks for.

    Args:
        width: The layer's hidden size.
        context: Not used.
        operator: What is about to run.
        *args: Its arguments.
        **kwargs: Its keyword arguments.
    """
    place = _factor_place(operator)
    if place is not None:
        shared = args[place].shape[-1]
        keep = width < 8 * shared <= 8 * width
    else:
        keep = _is_attention(operator) and not _draws_dropout(operator, args, kwargs)
    return CheckpointPolicy.MUST_SAVE if keep else CheckpointPolicy.PREFER_RECOMPUTE


@functools.cache
def _factor_place(operator: Any) -> int | None:
    return _PRODUCTS.get(str(operator))


@functools.cache
def _is_attention(operator: Any) -> bool:
    return any(part in str(operator) for part in ("attention", "flash_attn"))


@functools.cache
def _dropout_place(operator: Any) -> int | None:
    """Where the probability of dropout stands among the operator's arguments."""
    schema = getattr(operator, "_schema", None)
    names = [argument.name for argument in schema.arguments] if schema is not None else []
    return names.index("dropout_p") if "dropout_p" in names else None


def _draws_dropout(operator: Any, args: tuple, kwargs: dict[str, Any]) -> bool:
    """Whether random numbers are drawn, without which those that follow would be others the second time."""
    place = _dropout_place(operator)
    if place is None:
        return False
    return (args[place] if place < len(args) else kwargs.get("dropout_p", 0.0)) > 0.0


def without_adapter(model: nn.Module) -> nn.Module:
    """Return the transformers model inside one that peft wrapped, or the model itself."""
    return model.get_base_model() if isinstance(model, PeftModel) else model
