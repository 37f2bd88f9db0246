"""Memory and FLOPs of one training micro-step, found by running it on tensors that have shapes and no data.

The real model runs forward and backward in torch's FakeTensorMode, 13.14B parameters in seconds and without a GPU. A
log of all storages says what was alive at the worst moment.
"""

import contextlib
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils.operations import convert_to_fp32
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._pytree import tree_leaves, tree_map_only

from .errors import UserError
from .memory_kernels import GPUComposition
from .storage_log import StorageLog


__all__ = ["LayerInfo", "MemoryTraceError", "ParameterInfo", "StepTrace", "trace_step"]


_AUTOCAST_DTYPES = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}
_DEVICES = ("cpu", "cuda")


class MemoryTraceError(UserError):
    """A step that cannot be traced."""


@dataclass(frozen=True)
class ParameterInfo:
    """One weight of the model; tied weights are one."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    trainable: bool
    is_embedding: bool = False

    @property
    def numel(self) -> int:
        return torch.Size(self.shape).numel()

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize


@dataclass(frozen=True)
class LayerInfo:
    """Weights that FSDP2 gathers together."""

    name: str
    numel: int
    nbytes: int
    trainable_nbytes: int


@dataclass(frozen=True)
class StepTrace:
    """What one forward and backward pass needs.

    Attributes:
        peak_bytes: Device bytes at the worst moment of the step, the sum of `components`.
        components: Device bytes at that moment: "parameters"; "buffers"; "inputs"; "gradients" of parameters;
            "weight_casts", autocast's copies of parameters; "activations", made in the forward pass or computed again;
            "logits" and their gradients; "workspace", made in the backward pass or within a kernel.
        phases: The same for the worst moment of the "forward" and of the "backward" pass.
        parameters: Every weight.
        layers: What FSDP2 gathers: the blocks that `_no_split_modules` names, the token embedding unless a head
            shares it, and last, named "", all that is left.
        saved_activation_bytes: Activations, logits and weight casts kept between forward and backward pass.
        offloaded_activation_bytes: Host bytes of the activations that wait there, at most.
        forward_flops: Matrix products, convolutions and attention of the forward pass. A loss that forms its gradients
            there has their products in it.
        model_flops: Those of forward and backward pass without what is computed again. Attention counts all pairs of
            tokens, masked ones too.
        executed_flops: All that are executed.
    """

    peak_bytes: int
    components: dict[str, int]
    phases: dict[str, dict[str, int]]
    parameters: tuple[ParameterInfo, ...]
    layers: tuple[LayerInfo, ...]
    saved_activation_bytes: int
    offloaded_activation_bytes: int
    forward_flops: int
    model_flops: int
    executed_flops: int


def trace_step(
    make_model: Callable[[], nn.Module],
    make_batch: Callable[[], Mapping[str, Any]],
    *,
    mixed_precision: str = "no",
    gradients_kept: bool = True,
    activation_offload: bool = False,
    prepare: Callable[[nn.Module], None] | None = None,
    device: str = "cuda",
) -> StepTrace:
    """Run one micro-step without data and say what it needs.

    Branches on the values of tensors cannot be taken. transformers and AstroLLM then take the one that needs most: a
    row counts as packed, so that an attention mask is made, and all its labels as learned. For an AstroLLM whose rows
    are single documents, or whose kernel needs no mask, pass `attention_mask={"full_attention": None}`.

    Args:
        make_model: Builds the model, in training dtype and with its adapter; called with meta as the default device.
        make_batch: Makes the model's keyword arguments, tensors on the CPU; only shapes and dtypes count.
        mixed_precision: "no", "bf16" or "fp16": autocast, as Accelerate applies it.
        gradients_kept: Whether gradients of an earlier micro-step are there already (accumulation).
        activation_offload: Whether the inputs of checkpointed layers wait in host memory. The trace moves them itself,
            for its own device is the host; `prepare` must not.
        prepare: Called with the model in training mode before the step: turns checkpointing on, and the like.
        device: "cuda" or "cpu": where the step is to run. Neither is used.

    Raises:
        MemoryTraceError: If an argument is not known, the model has no scalar loss to train, or its course depends on
            values.
    """
    if mixed_precision not in _AUTOCAST_DTYPES:
        raise MemoryTraceError(f"mixed_precision must be one of {tuple(_AUTOCAST_DTYPES)}; got {mixed_precision!r}.")
    if device not in _DEVICES:
        raise MemoryTraceError(f"device must be one of {_DEVICES}; got {device!r}.")
    # Models build on the meta device, for from_pretrained does so; fake tensors cannot be cast in place, as peft does.
    with torch.device("meta"):
        model = make_model()
    try:
        with FakeTensorMode():
            _replace_meta_tensors(model)
            model.train()
            if prepare is not None:
                prepare(model)
            batch = tree_map_only(torch.Tensor, _without_data, dict(make_batch()))
            return _run(model, batch, mixed_precision, gradients_kept, activation_offload, device)
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise MemoryTraceError(
            f"the model's course must not depend on the values of tensors; it does in {error}. Pass inputs that "
            "avoid that branch, or guard it with transformers' `is_tracing`."
        ) from error


def _run(
    model: nn.Module,
    batch: dict[str, Any],
    mixed_precision: str,
    gradients_kept: bool,
    activation_offload: bool,
    device: str,
) -> StepTrace:
    log = StorageLog(device, getattr(getattr(model, "config", None), "vocab_size", None))
    if activation_offload:
        _offload_layer_inputs(model, log)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    for weight in trained:
        weight.grad = torch.empty_like(weight) if gradients_kept else None
    for kind, tensors in (
        ("parameters", model.parameters()),
        ("buffers", model.buffers()),
        ("gradients", (weight.grad for weight in trained if weight.grad is not None)),
        ("inputs", (leaf for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor))),
    ):
        for tensor in tensors:
            log.add(tensor, kind)
    fresh = {weight: weight.grad._version for weight in trained if weight.grad is not None}

    start = log.now
    dtype = _AUTOCAST_DTYPES[mixed_precision]
    with log, GPUComposition() if device == "cuda" else contextlib.nullcontext():
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            outputs = model(**batch)
        if dtype is not None:
            outputs = convert_to_fp32(outputs)
        loss = _scalar_loss(outputs)
        del outputs
        middle = log.now
        log.in_backward = True
        loss.backward()
    stop = log.now
    for weight in trained:
        if weight.grad is not None:
            log.add(weight.grad, "gradients")
            # A weight that the loss does not reach gets no gradient.
            if fresh.get(weight) == weight.grad._version:
                log.forget(weight.grad)

    components = log.most_alive(start, stop)
    kept = log.most_alive(middle, middle)
    return StepTrace(
        peak_bytes=sum(components.values()),
        components=components,
        phases={"forward": log.most_alive(start, middle), "backward": log.most_alive(middle, stop)},
        parameters=_parameters(model),
        layers=_layers(model),
        saved_activation_bytes=kept["activations"] + kept["logits"] + kept["weight_casts"],
        offloaded_activation_bytes=log.most_alive(start, stop, host=True)["host"],
        forward_flops=log.forward_flops,
        model_flops=log.model_flops,
        executed_flops=log.executed_flops,
    )


def _without_data(tensor: torch.Tensor) -> torch.Tensor:
    """Where tensors have no data: one that passes for the CPU's."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)


def _replace_meta_tensors(model: nn.Module) -> None:
    """Give a model tensors without data that pass for the CPU's; what was shared stays shared."""
    replaced: dict[torch.Tensor, torch.Tensor] = {}

    def replace(tensor: torch.Tensor) -> torch.Tensor:
        if tensor not in replaced:
            new = _without_data(tensor)
            replaced[tensor] = nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new
        return replaced[tensor]

    for module in model.modules():
        places: tuple[dict[str, Any], ...] = (module._parameters, module._buffers, vars(module))
        for held in places:
            for name, value in held.items():
                if isinstance(value, torch.Tensor):
                    held[name] = replace(value)


def _offload_layer_inputs(model: nn.Module, log: StorageLog) -> None:
    """Keep the inputs of checkpointed layers in host memory, as `torch.autograd.graph.save_on_cpu` does from a GPU."""

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        with log.on_host():
            return torch.empty_like(tensor)

    def offloaded(checkpoint: Callable) -> Callable:
        @functools.wraps(checkpoint)
        def run(*args, **kwargs):
            with torch.autograd.graph.saved_tensors_hooks(pack, torch.empty_like):
                return checkpoint(*args, **kwargs)

        return run

    layers = [module for module in model.modules() if getattr(module, "gradient_checkpointing", False)]
    if not layers:
        raise MemoryTraceError(
            "activation_offload needs checkpointed layers, whose inputs it moves; the model has none. "
            "Let `prepare` call model.activation_checkpointing_enable()."
        )
    for layer in layers:
        layer._gradient_checkpointing_func = offloaded(layer._gradient_checkpointing_func)  # type: ignore


def _scalar_loss(outputs: Any) -> torch.Tensor:
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else getattr(outputs, "loss", outputs)
    if isinstance(loss, tuple | list) and loss:
        loss = loss[0]
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
        raise MemoryTraceError(
            "the model must return a scalar loss that needs a gradient: alone, first in a tuple, or as `loss`; got "
            f"{type(loss).__name__} from {type(outputs).__name__}. Put labels into the batch, and thaw a parameter."
        )
    return loss


def _parameters(model: nn.Module) -> tuple[ParameterInfo, ...]:
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    return tuple(
        ParameterInfo(name, tuple(weight.shape), weight.dtype, weight.requires_grad, id(weight) in embeddings)
        for name, weight in model.named_parameters()
    )


def _layers(model: nn.Module) -> tuple[LayerInfo, ...]:
    names: set[str] = set()
    for module in model.modules():
        names.update(getattr(module, "_no_split_modules", None) or ())
    groups = [(name, module) for name, module in model.named_modules() if type(module).__name__ in names]
    embedding = _lone_embedding(model)
    groups += [(name, module) for name, module in model.named_modules() if module is embedding]
    counted: set[nn.Parameter] = set()

    def info(name: str, module: nn.Module) -> LayerInfo:
        own = [weight for weight in module.parameters() if weight not in counted]
        counted.update(own)
        trained = [weight for weight in own if weight.requires_grad]
        return LayerInfo(name, sum(w.numel() for w in own), sum(w.nbytes for w in own), sum(w.nbytes for w in trained))

    return (*(info(name, module) for name, module in groups), info("", model))


def _lone_embedding(model: nn.Module) -> nn.Module | None:
    """The token embedding of a transformers model, if the head does not share its weight."""
    try:
        embedding, head = model.get_input_embeddings(), model.get_output_embeddings()  # type: ignore[operator]
    except (AttributeError, NotImplementedError):
        return None
    if head is not None and getattr(head, "weight", None) is getattr(embedding, "weight", None):
        return None
    return embedding
