"""Liger's Triton kernels in one AstroLLM: norms, rotations and gates."""

import types
from collections.abc import Callable

import torch
from torch import nn
from transformers.utils import is_liger_kernel_available

from modeling_astrobio.modeling_astro_llm import AstroLLMAttention, AstroLLMMLP, AstroLLMRMSNorm

from .errors import HardwareError, StrategyError


__all__ = ["apply_liger", "use_kernels"]


def apply_liger(model: nn.Module, device: torch.device) -> None:
    """Let an AstroLLM compute norms, rotations and gates with Liger's Triton kernels; other models stay as they are.

    Args:
        model: An AstroLLM, with an adapter or without.
        device: Where it will be trained.

    Raises:
        HardwareError: If the device is not a GPU, or liger-kernel is not installed.
        StrategyError: If the model has none of AstroLLM's modules.
    """
    # Before the import: Liger looks for a GPU when it is imported.
    if device.type != "cuda":
        raise HardwareError(f"strategy.liger needs a CUDA device; got {str(device)!r}. Set strategy.liger=false.")
    if not is_liger_kernel_available():
        raise HardwareError(
            "strategy.liger needs liger-kernel 0.3 or higher, which is not installed. "
            "pip install 'modeling_astrobio[gpu]'."
        )
    from liger_kernel.ops import LigerRMSNormFunction, LigerRopeFunction, LigerSiLUMulFunction

    def norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        # In place it would write the input's gradient over the output's, which others may still read.
        return LigerRMSNormFunction.apply(x, weight, eps, 0.0, "llama", False)

    def rotate(query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor):
        # It rotates in place without telling autograd; selective checkpointing keeps what lies there unrotated.
        return LigerRopeFunction.apply(query.clone(), key.clone(), cos, sin)

    use_kernels(model, norm, rotate, LigerSiLUMulFunction.apply)


def use_kernels(model: nn.Module, norm: Callable, rotate: Callable, gate: Callable) -> None:
    """Let the modules of one AstroLLM call other functions; neither classes nor other models change.

    Args:
        model: An AstroLLM, with an adapter or without.
        norm: Takes what `norm_rms.rms_norm` takes.
        rotate: Takes queries (B, N, T, D), keys (B, N_kv, T, D), cosines and sines (B or 1, T, D); returns queries
            and keys.
        gate: Takes what `gate_swiglu.swiglu` takes; used where the activation is SiLU.

    Raises:
        StrategyError: If the model has none of AstroLLM's modules.
    """
    if not any(isinstance(module, AstroLLMRMSNorm) for module in model.modules()):
        raise StrategyError(
            f"strategy.liger is written for AstroLLM; got {type(model).__name__}. Set strategy.liger=false."
        )

    def norm_forward(self, hidden_states):
        return norm(hidden_states, self.weight, self.variance_epsilon)

    def mlp_forward(self, hidden_states):
        return self.down_proj(gate(self.gate_proj(hidden_states), self.up_proj(hidden_states)))

    for module in model.modules():
        if isinstance(module, AstroLLMRMSNorm):
            vars(module)["forward"] = types.MethodType(norm_forward, module)
        elif isinstance(module, AstroLLMAttention):
            vars(module)["rotate"] = rotate
        elif isinstance(module, AstroLLMMLP) and module.is_swiglu:
            vars(module)["forward"] = types.MethodType(mlp_forward, module)
