"""The RMSNorm that keeps one tensor equals the one written out, in value and gradients.

Tolerances: float64 1e-12 and float32 1e-5, a few roundings; in half precision the two differ by the rounding of one
product, 2^-8 of its size in bfloat16.
"""

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from modeling_astrobio.norm_rms import rms_norm, rms_norm_naive


EPS = 1e-5
TOLERANCE = {
    torch.float64: {"rtol": 1e-12, "atol": 1e-12},
    torch.float32: {"rtol": 1e-5, "atol": 1e-6},
    torch.bfloat16: {"rtol": 2**-7, "atol": 2**-7},
    torch.float16: {"rtol": 2**-9, "atol": 2**-9},
}
SHAPES = [(13,), (7, 13), (2, 3, 37), (2, 3, 5, 7), (0, 13), (3, 1)]


def problem(shape, dtype, weight_dtype=None):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    weight = 1 + 0.3 * torch.randn(shape[-1], generator=generator, dtype=torch.float64)
    sent_back = torch.randn(shape, generator=generator, dtype=torch.float64)
    return x, weight.to(weight_dtype or dtype).requires_grad_(), sent_back


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_value_and_gradients_equal_the_oracle(shape, dtype):
    x, weight, sent_back = problem(shape, dtype)
    found, expected = rms_norm(x, weight, EPS), rms_norm_naive(x, weight, EPS)
    assert torch.equal(found, expected)
    ours = torch.autograd.grad(found, (x, weight), sent_back.to(dtype))
    theirs = torch.autograd.grad(expected, (x, weight), sent_back.to(dtype))
    for gradient, reference in zip(ours, theirs, strict=True):
        assert gradient.dtype == dtype
        torch.testing.assert_close(gradient, reference, **TOLERANCE[dtype])


def test_value_and_gradients_equal_llama():
    x, weight, sent_back = problem((2, 3, 37), torch.float32)
    llama = LlamaRMSNorm(37, eps=EPS)
    llama.weight.data = weight.detach().clone()
    expected = llama(x)
    found = rms_norm(x, weight, EPS)
    torch.testing.assert_close(found, expected, **TOLERANCE[torch.float32])
    ours = torch.autograd.grad(found, (x, weight), sent_back.float())
    theirs = torch.autograd.grad(expected, (x, llama.weight), sent_back.float())
    for gradient, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, reference, **TOLERANCE[torch.float32])


def test_wider_weight_widens_the_result_as_in_the_oracle():
    # What PEFT's preparation for 4-bit training does: norms in float32, activations in bfloat16.
    x, weight, sent_back = problem((2, 3, 37), torch.bfloat16, torch.float32)
    found, expected = rms_norm(x, weight, EPS), rms_norm_naive(x, weight, EPS)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
    ours = torch.autograd.grad(found, (x, weight), sent_back.float())
    theirs = torch.autograd.grad(expected, (x, weight), sent_back.float())
    for gradient, reference in zip(ours, theirs, strict=True):
        assert gradient.dtype == reference.dtype
        torch.testing.assert_close(gradient, reference, **TOLERANCE[torch.bfloat16])


@pytest.mark.parametrize("frozen", ["weight", "x", "both"])
def test_frozen_sides_get_no_gradient(frozen):
    x, weight, sent_back = problem((7, 13), torch.float64)
    expected = torch.autograd.grad(rms_norm_naive(x, weight, EPS), (x, weight), sent_back)
    x.requires_grad_(frozen == "weight")
    weight.requires_grad_(frozen == "x")
    found = rms_norm(x, weight, EPS)
    if frozen == "both":
        assert not found.requires_grad
        return
    found.backward(sent_back)
    kept, other, reference = (x, weight, expected[0]) if frozen == "weight" else (weight, x, expected[1])
    torch.testing.assert_close(kept.grad, reference, **TOLERANCE[torch.float64])
    assert other.grad is None


def test_gradients_equal_finite_differences():
    x, weight, _ = problem((3, 5), torch.float64)
    assert torch.autograd.gradcheck(lambda *tensors: rms_norm(*tensors, EPS), (x, weight))


@pytest.mark.parametrize("size", [1e-30, 1e4])
def test_tiny_and_huge_rows_stay_finite_in_half_precision(size):
    x = (size * torch.ones(3, 13)).to(torch.bfloat16).requires_grad_()
    weight = torch.ones(13, dtype=torch.bfloat16, requires_grad=True)
    found = rms_norm(x, weight, EPS)
    found.sum().backward()
    assert found.isfinite().all()
    assert x.grad.isfinite().all()


def test_backward_pass_inside_autocast_keeps_its_precision():
    # autocast narrows products of vectors to bfloat16 where it is on during the backward pass.
    x, weight, sent_back = problem((7, 13), torch.float32)
    expected = torch.autograd.grad(rms_norm(x, weight, EPS), (x, weight), sent_back.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = torch.autograd.grad(rms_norm(x, weight, EPS), (x, weight), sent_back.float())
    for gradient, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, reference, **TOLERANCE[torch.float32])


def test_only_the_input_and_one_scale_a_row_are_kept():
    x, weight, _ = problem((7, 13), torch.bfloat16)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        rms_norm(x, weight, EPS)
    assert sorted(tensor.numel() for tensor in kept) == [7, 13, 91]


def test_second_derivatives_equal_finite_differences():
    # A gradient penalty that were silently left out of the gradients would be worse than none.
    x, weight, _ = problem((3, 5), torch.float64)
    assert torch.autograd.gradgradcheck(lambda *tensors: rms_norm(*tensors, EPS), (x, weight))


def test_functional_gradients_equal_the_oracle():
    x, weight, _ = problem((7, 13), torch.float64)
    found, expected = (
        torch.func.grad(lambda tensor, norm=norm: norm(tensor, weight.detach(), EPS).sum())(x.detach())
        for norm in (rms_norm, rms_norm_naive)
    )
    torch.testing.assert_close(found, expected, **TOLERANCE[torch.float64])
