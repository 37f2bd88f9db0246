"""The gate of a SwiGLU block, keeping only its two inputs for the backward pass."""

import torch
from torch import nn


__all__ = ["swiglu", "swiglu_naive"]


def swiglu_naive(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """Return silu(gate) * up (Shazeer 2020, arXiv:2002.05202); the oracle of `swiglu`."""
    return nn.functional.silu(gate) * up


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(gate, up):
        return nn.functional.silu(gate).mul_(up)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        gate, up = ctx.saved_tensors
        if torch.is_grad_enabled():
            # A second derivative is wanted, which neither silu_backward nor what works in place has.
            sigmoid = torch.sigmoid(gate)
            return grad * up * sigmoid * (1 + gate * (1 - sigmoid)), grad * gate * sigmoid
        grad_gate = grad_up = None
        if ctx.needs_input_grad[0]:
            grad_gate = torch.ops.aten.silu_backward(grad * up, gate)
        if ctx.needs_input_grad[1]:
            grad_up = nn.functional.silu(gate).mul_(grad)
        return grad_gate, grad_up


def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """`swiglu_naive`, recomputing silu(gate) in the backward pass instead of keeping it.

    Args:
        gate: Shape (..., F).
        up: As `gate`.

    Returns:
        Shape (..., F).
    """
    if gate.dtype == up.dtype and torch.is_grad_enabled() and (gate.requires_grad or up.requires_grad):
        return _SwiGLU.apply(gate, up)
    return swiglu_naive(gate, up)
