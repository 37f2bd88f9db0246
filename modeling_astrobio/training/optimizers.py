"""The optimizer a strategy asks for, on the device, in host memory or in the backward pass."""

import importlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from .errors import HardwareError, RecipeError, StrategyError
from .optimizer_in_backward import OptimizerInBackward
from .optimizer_sophia import Sophia
from .optimizer_specs import OPTIMIZERS, OptimizerSpec
from .strategy import Strategy


__all__ = ["OPTIMIZERS", "OptimizerSpec", "build_optimizer", "embedding_weights"]


def build_optimizer(
    strategy: Strategy,
    groups: list[dict[str, Any]],
    *,
    learning_rate: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    embeddings: Iterable[torch.Tensor] = (),
) -> torch.optim.Optimizer:
    """Make the strategy's optimizer.

    Args:
        strategy: Names the optimizer and where it works.
        groups: Parameter groups of torch; `lr` and `weight_decay` in a group come before those below.
        learning_rate: Of groups without one.
        betas: Decay rates of the averages of gradient and squared gradient; of Lion's update and its average; of
            Sophia's gradient and curvature (0.96 and 0.99 in its paper).
        eps: Added to, or for Sophia the least value of, what the update is divided by; Lion divides by nothing.
        weight_decay: Of groups without one; decoupled from the gradient in every optimizer.
        embeddings: Parameters whose averages are not kept in 8 bits, from `embedding_weights`.

    Raises:
        RecipeError: If the optimizer is unknown, or no parameter is trained.
        StrategyError: If the combination cannot work, or its package is missing.
        HardwareError: If it needs a GPU or a compiler that is absent.
    """
    if strategy.optimizer not in OPTIMIZERS:
        raise RecipeError(f"strategy.optimizer must be one of {tuple(OPTIMIZERS)}; got {strategy.optimizer!r}.")
    groups = [{**group, "params": [p for p in group["params"] if p.requires_grad]} for group in groups]
    parameters = [parameter for group in groups for parameter in group["params"]]
    if not parameters:
        raise RecipeError("an optimizer needs at least one parameter that is trained; got none. Thaw the model.")
    spec = OPTIMIZERS[strategy.optimizer]
    _check(strategy, spec, parameters)
    options = {"lr": learning_rate, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
    if strategy.sharding == "zero3" and (strategy.optimizer_offload or strategy.parameter_offload):
        return _package("deepspeed", "deepspeed.ops.adam", strategy).DeepSpeedCPUAdam(
            groups, adamw_mode=True, **options
        )
    if strategy.optimizer_offload:
        _package("torchao", "torchao.optim", strategy)
        from .optimizer_offload import OffloadedOptimizer

        return OffloadedOptimizer(
            groups, torch.optim.AdamW, offload_gradients=strategy.gradient_offload, fused=True, **options
        )
    optimizer = _build(strategy, spec, groups, options, list(embeddings))
    return OptimizerInBackward(optimizer) if strategy.optimizer_in_backward else optimizer


def embedding_weights(model: nn.Module) -> list[torch.Tensor]:
    """Return the weights of a model's embeddings; a head that is tied to one is the same weight."""
    return [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]


def _build(
    strategy: Strategy,
    spec: OptimizerSpec,
    groups: list[dict[str, Any]],
    options: dict[str, Any],
    embeddings: list[torch.Tensor],
) -> torch.optim.Optimizer:
    if strategy.optimizer == "adamw":
        return torch.optim.AdamW(groups, fused=True, **options)
    if strategy.optimizer == "sophia":
        return Sophia(groups, **options)
    if spec.library == "torchao":
        torchao = _package("torchao", "torchao.optim", strategy)
        make = torchao._AdamW
        if spec.is_8bit:
            from .optimizer_torchao import ShardableAdamW8bit

            make = ShardableAdamW8bit
            groups = _apart(groups, embeddings)
        return make(groups, bf16_stochastic_round=strategy.stochastic_rounding, **options)
    optim = _package("bitsandbytes", "bitsandbytes.optim", strategy)
    if strategy.optimizer in ("lion", "lion_bnb_8bit"):
        del options["eps"]
        optimizer = (optim.Lion8bit if spec.is_8bit else optim.Lion)(groups, **options)
    else:
        optimizer = (optim.PagedAdamW8bit if spec.is_paged else optim.AdamW8bit)(groups, **options)
    # bitsandbytes has one manager for the whole process, which knows parameters by `id` and never forgets them: in a
    # later run another parameter may have the same. This optimizer gets a manager of its own.
    manager = optim.GlobalOptimManager.__new__(optim.GlobalOptimManager)
    manager.initialize()
    manager.override_config(embeddings, "optim_bits", 32)
    optimizer.mng = manager
    return optimizer


def _apart(groups: list[dict[str, Any]], embeddings: list[torch.Tensor]) -> list[dict[str, Any]]:
    """Split groups, so that embeddings are in ones that are not quantised."""
    named = {id(weight) for weight in embeddings}
    divided = []
    for group in groups:
        for is_quantised in (True, False):
            parameters = [p for p in group["params"] if (id(p) not in named) == is_quantised]
            if parameters:
                divided.append({**group, "params": parameters, "is_quantised": is_quantised})
    return divided


def _check(strategy: Strategy, spec: OptimizerSpec, parameters: list[nn.Parameter]) -> None:
    """Refuse what the optimizer would do wrongly or fail at only in its first step."""
    name = strategy.optimizer
    if not spec.supports_dtensor and any(isinstance(parameter, DTensor) for parameter in parameters):
        raise StrategyError(
            f"strategy.optimizer={name!r} cannot update the DTensor parameters of FSDP2. "
            "Set strategy.optimizer=adamw_torchao_8bit."
        )
    if strategy.stochastic_rounding:
        if not spec.rounds_stochastically:
            raise StrategyError(
                f"strategy.stochastic_rounding needs a torchao optimizer; got strategy.optimizer={name!r}. "
                "Set strategy.optimizer=adamw_torchao or adamw_torchao_8bit."
            )
        if all(parameter.dtype != torch.bfloat16 for parameter in parameters):
            raise StrategyError(
                "strategy.stochastic_rounding needs weights in bfloat16; got "
                f"{sorted({str(parameter.dtype) for parameter in parameters})}. Set model.dtype=bfloat16, or "
                "strategy.stochastic_rounding=false."
            )
    if strategy.optimizer_in_backward and (strategy.optimizer_offload or name == "sophia"):
        rival = "strategy.optimizer_offload" if strategy.optimizer_offload else "strategy.optimizer='sophia'"
        raise StrategyError(
            f"strategy.optimizer_in_backward does not go with {rival}, which needs gradients after the backward pass. "
            "Set strategy.optimizer_in_backward=false."
        )
    if strategy.gradient_offload and not strategy.optimizer_offload:
        raise StrategyError("strategy.gradient_offload needs strategy.optimizer_offload=true; got false. Set both.")
    if strategy.optimizer_offload:
        if name != "adamw":
            raise StrategyError(
                f"strategy.optimizer_offload needs strategy.optimizer='adamw'; got {name!r}. Set one of the two."
            )
        if strategy.sharding != "zero3" and not torch.cuda.is_available():
            raise HardwareError(
                "strategy.optimizer_offload needs a CUDA device to offload from; torch sees none. "
                "Set strategy.optimizer_offload=false."
            )
    if spec.library == "torchao":
        _check_compiler(name, parameters[0].device.type)


def _check_compiler(name: str, device: str) -> None:
    """torchao compiles its step, which fails without a compiler only after the first backward pass."""
    if os.environ.get("TORCHDYNAMO_DISABLE") == "1":
        return
    if device == "cpu":
        default = {"win32": "cl", "darwin": "clang++"}.get(sys.platform, "g++")
        compiler = os.environ.get("CXX", default)
        is_there, remedy = shutil.which(compiler) is not None, f"Install a C++ compiler such as {default}"
    else:
        compiler = "triton"
        is_there, remedy = importlib.util.find_spec("triton") is not None, "Install triton"
    if not is_there:
        raise HardwareError(
            f"strategy.optimizer={name!r} compiles its step and needs {compiler!r}, which is absent. {remedy}; or set "
            "TORCHDYNAMO_DISABLE=1 in the environment, which makes the step slower and its memory larger; or set "
            "strategy.optimizer=adamw."
        )


def _package(package: str, module: str, strategy: Strategy) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise StrategyError(
            f"strategy.optimizer={strategy.optimizer!r} with optimizer_offload={strategy.optimizer_offload} needs the "
            f"package {package!r}, which cannot be imported: {error}. pip install 'modeling_astrobio[gpu]', or set "
            "strategy.optimizer=adamw without offload."
        ) from error
