"""The SwiGLU gate that keeps only its inputs equals the one written out, in value and gradients.

Tolerances: float64 1e-12 and float32 1e-6, a few roundings; in half precision the two round the same products once, in
another order.
"""

import pytest
import torch

from modeling_astrobio.gate_swiglu import swiglu, swiglu_naive


TOLERANCE = {
    torch.float64: {"rtol": 1e-12, "atol": 1e-12},
    torch.float32: {"rtol": 1e-6, "atol": 1e-6},
    torch.bfloat16: {"rtol": 2**-7, "atol": 2**-7},
    torch.float16: {"rtol": 2**-10, "atol": 2**-10},
}
SHAPES = [(13,), (7, 13), (2, 3, 37), (0, 13)]


def problem(shape, dtype):
    generator = torch.Generator().manual_seed(0)
    gate, up, sent_back = (torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(3))
    return (3 * gate).requires_grad_(), up.requires_grad_(), sent_back


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_value_and_gradients_equal_the_oracle(shape, dtype):
    gate, up, sent_back = problem(shape, dtype)
    found, expected = swiglu(gate, up), swiglu_naive(gate, up)
    torch.testing.assert_close(found, expected, **TOLERANCE[dtype])
    ours = torch.autograd.grad(found, (gate, up), sent_back)
    theirs = torch.autograd.grad(expected, (gate, up), sent_back)
    for gradient, reference in zip(ours, theirs, strict=True):
        assert gradient.dtype == dtype
        torch.testing.assert_close(gradient, reference, **TOLERANCE[dtype])


def test_inputs_in_a_strided_view_serve_too():
    gate, up, sent_back = problem((13, 7), torch.float64)
    found = torch.autograd.grad(swiglu(gate.T, up.T), (gate, up), sent_back.T)
    expected = torch.autograd.grad(swiglu_naive(gate, up), (gate, up), sent_back)
    for gradient, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, reference, **TOLERANCE[torch.float64])


@pytest.mark.parametrize("dtypes", [(torch.bfloat16, torch.float32), (torch.float32, torch.bfloat16)])
def test_mixed_dtypes_give_what_the_oracle_gives(dtypes):
    gate, up, sent_back = problem((7, 13), torch.float32)
    gate, up = (tensor.detach().to(dtype).requires_grad_() for tensor, dtype in zip((gate, up), dtypes, strict=True))
    found, expected = swiglu(gate, up), swiglu_naive(gate, up)
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, **TOLERANCE[torch.bfloat16])
    ours = torch.autograd.grad(found, (gate, up), sent_back)
    theirs = torch.autograd.grad(expected, (gate, up), sent_back)
    for gradient, reference in zip(ours, theirs, strict=True):
        assert gradient.dtype == reference.dtype
        torch.testing.assert_close(gradient, reference, **TOLERANCE[torch.bfloat16])


@pytest.mark.parametrize("frozen", ["gate", "up", "both"])
def test_frozen_sides_get_no_gradient(frozen):
    gate, up, sent_back = problem((7, 13), torch.float64)
    expected = torch.autograd.grad(swiglu_naive(gate, up), (gate, up), sent_back)
    gate.requires_grad_(frozen == "up")
    up.requires_grad_(frozen == "gate")
    found = swiglu(gate, up)
    if frozen == "both":
        assert not found.requires_grad
        return
    found.backward(sent_back)
    kept, other, reference = (gate, up, expected[0]) if frozen == "up" else (up, gate, expected[1])
    torch.testing.assert_close(kept.grad, reference, **TOLERANCE[torch.float64])
    assert other.grad is None


def test_gradients_equal_finite_differences():
    gate, up, _ = problem((3, 5), torch.float64)
    assert torch.autograd.gradcheck(swiglu, (gate, up))


def test_inputs_are_left_as_they_were():
    gate, up, sent_back = problem((7, 13), torch.float64)
    before = gate.detach().clone(), up.detach().clone(), sent_back.clone()
    swiglu(gate, up).backward(sent_back)
    assert all(map(torch.equal, before, (gate, up, sent_back)))


def test_only_the_two_inputs_are_kept():
    gate, up, _ = problem((7, 13), torch.bfloat16)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        swiglu(gate, up)
    assert {tensor.data_ptr() for tensor in kept} == {gate.data_ptr(), up.data_ptr()}
    assert len(kept) == 2


def test_second_derivatives_equal_finite_differences():
    gate, up, _ = problem((3, 5), torch.float64)
    assert torch.autograd.gradgradcheck(swiglu, (gate, up))


def test_functional_gradients_equal_the_oracle():
    gate, up, _ = (tensor.detach() for tensor in problem((7, 13), torch.float64))
    found, expected = (
        torch.func.grad(lambda tensor, function=function: function(tensor, up).sum())(gate)
        for function in (swiglu, swiglu_naive)
    )
    torch.testing.assert_close(found, expected, **TOLERANCE[torch.float64])
