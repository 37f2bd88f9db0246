"""RMSNorm that keeps one tensor for its backward pass."""

import torch


__all__ = ["rms_norm", "rms_norm_naive"]


def rms_norm_naive(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Return weight * x / sqrt(mean(x^2) + eps) over the last dimension; the oracle of `rms_norm`.

    The mean is taken in at least float32, and the quotient is rounded to `x`'s dtype before the product, as in
    transformers' Llama.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return weight * (wide * scale).to(x.dtype)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(x, weight, eps):
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        scale = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
        return weight * (wide * scale).to(x.dtype), scale

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, weight, ctx.eps = inputs
        scale = output[1]
        ctx.mark_non_differentiable(scale)
        ctx.save_for_backward(x, weight, scale)

    @staticmethod
    def backward(ctx, grad, _):
        x, weight, scale = ctx.saved_tensors
        if torch.is_grad_enabled():
            # A second derivative is wanted, so that the scale must be seen to depend on x.
            scale = torch.rsqrt(x.to(scale.dtype).pow(2).mean(-1, keepdim=True) + ctx.eps)
        unit = x.to(scale.dtype) * scale
        grad_x = grad_weight = None
        if ctx.needs_input_grad[1]:
            product = grad * unit.to(x.dtype)
            grad_weight = product.sum_to_size(weight.shape).to(weight.dtype)
        if ctx.needs_input_grad[0]:
            grad_unit = (grad * weight).to(x.dtype).to(scale.dtype)
            # autocast, on where a backward pass is called inside it, would take this product in half precision.
            with torch.autocast(x.device.type, enabled=False):
                projection = torch.linalg.vecdot(grad_unit, unit).unsqueeze(-1) / x.shape[-1]
            if torch.is_grad_enabled():
                grad_x = ((grad_unit - unit * projection) * scale).to(x.dtype)
            else:
                grad_x = unit.mul_(projection).neg_().add_(grad_unit).mul_(scale).to(x.dtype)
        return grad_x, grad_weight, None


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """`rms_norm_naive`, keeping only `x` and one scale for each row where a gradient is wanted.

    Args:
        x: Shape (..., H).
        weight: Shape (H,).
        eps: Added to the mean square.

    Returns:
        Shape (..., H), of the dtype that `weight` times `x` has.
    """
    if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
        return _RMSNorm.apply(x, weight, eps)[0]
    return rms_norm_naive(x, weight, eps)
