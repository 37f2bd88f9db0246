"""Totals are pinned to the last digit of one value, however the field is stored."""

import pytest
import torch

from modeling_astrobio.constraint_totals import (
    scale_to_total,
    store_with_total,
    total_resolution,
    weighted_total,
)


def fields(dtype=torch.float32, values=(3, 7, 13), scale=1e5):
    generator = torch.Generator().manual_seed(0)
    field = scale * (1 + 0.1 * torch.rand(*values, generator=generator, dtype=torch.float64))
    weight = torch.rand(*values[1:], generator=generator, dtype=torch.float64)
    return field.to(dtype), (weight / weight.sum()).expand(values)


def numpy_total(field, weight):
    return (field.detach().double().numpy() * weight.numpy()).reshape(len(field), -1).sum(1)


def test_a_total_is_the_sum_in_float64():
    field, weight = fields(torch.bfloat16)
    assert weighted_total(field, weight).tolist() == pytest.approx(numpy_total(field, weight), rel=1e-14)


@pytest.mark.parametrize("excess", [1e-8, 3e-8, -2e-8, 1e-3, -0.5])
def test_scaling_reaches_totals_that_rounding_cannot(excess):
    field, weight = fields()
    target = weighted_total(field, weight) * (1 + excess)
    found = scale_to_total(field, weight, target)
    assert found.dtype == torch.float32
    off = (weighted_total(found, weight) - target).abs()
    assert (off <= total_resolution(field, weight)).all()
    # A few billionths of the total of 91 values; less of more values.
    assert (off / target).max() < 5e-9
    # Multiplied and rounded, values are within a digit and a half of that.
    exact = field.double() * (1 + excess)
    assert ((found.double() - exact).abs() <= 1.5 * torch.finfo(torch.float32).eps * exact).all()
    if abs(excess) < 1e-6:
        plain = scale_to_total(field, weight, target, exact_store=False)
        missed = (weighted_total(plain, weight) - target).abs()
        assert missed.max() > 5 * off.max()
        assert (missed / target).max() < 6e-8


def test_a_pinned_total_is_left_bit_for_bit():
    field, weight = fields()
    target = weighted_total(field, weight) * (1 + 2e-7)
    once = scale_to_total(field, weight, target)
    twice = once
    for _ in range(10):
        twice = scale_to_total(twice, weight, target)
    assert torch.equal(once, twice)
    # Of a batch only the item that is off changes.
    target = weighted_total(field, weight) * torch.tensor([1.0, 1.01, 1.0]).double()
    assert (scale_to_total(field, weight, target) == field).flatten(1).all(1).tolist() == [True, False, True]


def test_zeros_stay_zero_signs_stay_and_weightless_values_are_not_moved():
    field, weight = fields()
    weight = weight.clone()
    field[:, 2], weight[:, 4] = 0.0, 0.0
    wide = field.double() * (1 + 1e-8)
    target = weighted_total(field, weight) * (1 + 2.5e-8)
    found = store_with_total(wide, torch.float32, weight, target)
    assert torch.equal(found[:, 2], field[:, 2])
    assert torch.equal(found[:, 4], wide[:, 4].float())
    signed = torch.where(torch.rand(field.shape, generator=torch.Generator().manual_seed(1)) > 0.5, field, -field)
    lever = weight * torch.where(torch.rand(weight.shape, generator=torch.Generator().manual_seed(2)) > 0.5, 1.0, -1.0)
    for sign in (1.0, -1.0):
        aim = weighted_total(signed, lever) + sign * 2e-3
        found = store_with_total(signed.double(), torch.float32, lever, aim)
        assert (weighted_total(found, lever) - aim).abs().max() < 1.1e-3 * lever.abs().max() * 16
        assert torch.equal(found.sign(), signed.sign())


def test_an_empty_total_is_filled_evenly_and_a_negative_one_emptied():
    field, weight = fields()
    filled = scale_to_total(torch.zeros_like(field), weight, torch.tensor([1.0, 2.0, 3.0]).double())
    torch.testing.assert_close(filled[:, 0, 0], torch.tensor([1.0, 2.0, 3.0]), rtol=2e-7, atol=0)
    emptied = scale_to_total(field, weight, torch.tensor([-1.0, 0.0, 1.0]).double())
    assert emptied[:2].abs().max() == 0


def test_narrow_dtypes_are_stored_in_float32_and_float64_stays():
    field, weight = fields(torch.bfloat16)
    target = weighted_total(field, weight) * 1.003
    found = scale_to_total(field, weight, target)
    assert found.dtype == torch.float32
    assert ((weighted_total(found, weight) - target).abs() / target).max() < 5e-9
    wide, weight = fields(torch.float64)
    found = scale_to_total(wide, weight, weighted_total(wide, weight) * 1.003)
    torch.testing.assert_close(found, wide * 1.003, rtol=1e-14, atol=0)


def test_gradients():
    field, weight = fields(torch.float64, (2, 3, 5), scale=1.0)
    target = torch.tensor([1.3, 0.9], dtype=torch.float64, requires_grad=True)
    field.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: scale_to_total(x, weight, y), (field, target))
    # The gradient through stored values is that of the values before they are rounded.
    narrow = field.detach().float().requires_grad_()
    (ours,) = torch.autograd.grad(scale_to_total(narrow, weight, target.detach()).square().sum(), narrow)
    (exact,) = torch.autograd.grad(scale_to_total(field, weight, target.detach()).square().sum(), field)
    torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=1e-6)
