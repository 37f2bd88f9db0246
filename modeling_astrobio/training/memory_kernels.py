"""What kernels take for themselves, and where a GPU's differ from the CPU's that a trace runs through.

A trace of fake tensors sees what an operator returns, not what its kernel allocates for a moment; and it runs on a
fake CPU, for which torch composes some functions otherwise than for a GPU.
"""

from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves


__all__ = ["GPUComposition", "kernel_bytes"]


aten = torch.ops.aten
_PROMOTING = torch.Tag.pointwise
# Functions that autocast widens to float32 on a GPU and not on the CPU, those that networks use
# (aten/src/ATen/autocast_mode.h, AT_FORALL_FP32 and AT_FORALL_FP32_SET_OPT_DTYPE).
_WIDENED_ON_GPU = frozenset(
    {
        functional.layer_norm,
        functional.group_norm,
        functional.softmax,
        functional.log_softmax,
        functional.cross_entropy,
        functional.nll_loss,
        functional.mse_loss,
        functional.l1_loss,
        functional.smooth_l1_loss,
        functional.huber_loss,
        functional.kl_div,
        functional.binary_cross_entropy_with_logits,
        torch.softmax,
        torch.log_softmax,
        torch.Tensor.softmax,
        torch.Tensor.log_softmax,
        torch.pow,
        torch.Tensor.pow,
    }
)


def kernel_bytes(func: torch._ops.OpOverload, args: tuple, out: Any, device: str) -> int:
    """Return the bytes a kernel takes beside its inputs and outputs while it runs; 0 where they are negligible.

    Args:
        func: An operator of a trace on the CPU.
        args: Its arguments.
        out: What it returned.
        device: Where it is to run: "cpu" or "cuda".
    """
    if device == "cpu":
        return _cpu_bytes(func, args, out)
    if func is aten._scaled_dot_product_flash_attention_for_cpu_backward.default:
        return _gpu_attention_backward_bytes(*args[1:3])
    return 0


def _cpu_bytes(func, args, out) -> int:
    if func is aten.bernoulli_.float:
        # MKL draws integers.
        return 4 * args[0].numel()
    if _PROMOTING not in func.tags:
        return 0
    # Where dtypes differ, TensorIterator first copies operands to the common one; a GPU converts in registers.
    tensors = [x for x in tree_leaves(args) if isinstance(x, torch.Tensor) and x.dim() and x.is_floating_point()]
    if len({tensor.dtype for tensor in tensors}) < 2:
        return 0
    common = tensors[0].dtype
    for tensor in tensors:
        common = torch.promote_types(common, tensor.dtype)
    # A result that is narrower, which an operator in place has, is computed aside too.
    results = [out] if out.is_floating_point() else []
    return sum(common.itemsize * x.numel() for x in tensors + results if x.dtype != common)


def _gpu_attention_backward_bytes(query: torch.Tensor, key: torch.Tensor) -> int:
    """float32 sums for the query's gradient, a float32 for each row, and gradients of keys for each query head.

    As flash attention has them (aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp, mha_bwd: lengths are
    rounded to 128, widths to 32); memory-efficient and cuDNN attention keep the same sums.
    """
    batch, heads, length, width = query.shape
    rows = batch * heads * (-(-length // 128) * 128)
    needed = rows * (-(-width // 32) * 32) * 4 + rows * 4
    if key.shape[1] != heads:
        needed += 2 * batch * heads * key.shape[2] * width * key.dtype.itemsize
    return needed


class GPUComposition(TorchFunctionMode):
    """Compose functions as for a GPU: dropout that keeps a mask of bytes, attention that drops in its kernel, and
    autocast's list of functions in float32.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is functional.dropout:
            return _fused_dropout(*args, **kwargs)
        if func is functional.scaled_dot_product_attention:
            return _attention_without_dropout(*args, **kwargs)
        if func in _WIDENED_ON_GPU and torch.is_autocast_enabled("cpu"):
            low = torch.get_autocast_dtype("cpu")
            args = tuple(x.float() if isinstance(x, torch.Tensor) and x.dtype == low else x for x in args)
        return func(*args, **kwargs)


def _fused_dropout(input, p=0.5, training=True, inplace=False):
    return torch.native_dropout(input, p, True)[0] if training and p > 0 else input


def _attention_without_dropout(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, **kwargs):
    return functional.scaled_dot_product_attention(query, key, value, attn_mask, 0.0, is_causal, **kwargs)
