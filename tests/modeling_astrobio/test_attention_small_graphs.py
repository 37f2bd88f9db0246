"""The attention that works in place equals the one written out, in value and gradients.

Tolerances: a few roundings, 1e-12 in float64 and 1e-5 in float32.
"""

import pytest
import torch

from modeling_astrobio.attention_graph_bias import AttentionPairs
from modeling_astrobio.attention_small_graphs import small_graph_attention, small_graph_attention_naive


TOLERANCE = {torch.float64: {"rtol": 1e-12, "atol": 1e-12}, torch.float32: {"rtol": 1e-5, "atol": 2e-5}}
# Batch, coarse tokens, nodes, edges, heads, width of a head: rows on both sides of the width of a vector.
SHAPES = [(3, 3, 4, 5, 3), (2, 10, 13, 3, 5), (1, 1, 0, 2, 3), (7, 1, 15, 1, 4)]


def problem(shape, dtype, scale=1.0):
    batch, coarse, nodes, heads, width = shape
    tokens = coarse + nodes
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 7, (batch, tokens, tokens), generator=generator)
    codes[:, :, 0] = 1  # the graph itself is never padding
    sizes = ((batch, tokens, 3 * heads * width), (6, heads), (heads, 3), (3, batch, nodes, nodes))
    drawn = [torch.randn(size, generator=generator, dtype=torch.float64).to(dtype) for size in sizes]
    *inputs, numbers = drawn
    inputs[0] = inputs[0] * scale
    sent_back = torch.randn(batch, tokens, heads * width, generator=generator, dtype=torch.float64).to(dtype)
    return (
        [each.requires_grad_() for each in inputs],
        AttentionPairs(codes, numbers, (coarse, nodes)),
        sent_back,
    )


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_value_and_gradients_equal_the_oracle(shape, dtype):
    inputs, pairs, sent_back = problem(shape, dtype)
    found, expected = small_graph_attention(*inputs, pairs), small_graph_attention_naive(*inputs, pairs)
    torch.testing.assert_close(found, expected, **TOLERANCE[dtype])
    ours = torch.autograd.grad(found, inputs, sent_back)
    theirs = torch.autograd.grad(expected, inputs, sent_back)
    for gradient, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(gradient, reference, **TOLERANCE[dtype])


@pytest.mark.parametrize("shape", SHAPES[1:2], ids=str)
def test_large_scores_stay_finite(shape):
    inputs, pairs, sent_back = problem(shape, torch.float32, scale=100.0)
    found = small_graph_attention(*inputs, pairs)
    gradients = torch.autograd.grad(found, inputs, sent_back)
    assert all(each.isfinite().all() for each in (found, *gradients))
    torch.testing.assert_close(found, small_graph_attention_naive(*inputs, pairs), rtol=1e-3, atol=1e-3)


def test_what_padding_holds_has_no_effect():
    inputs, pairs, _ = problem((2, 5, 6, 3, 5), torch.float64)
    pairs.codes[:, :, 7:9] = 0
    before = small_graph_attention(*inputs, pairs)
    changed = inputs[0].detach().clone()
    changed[:, 7:9] += 1000
    after = small_graph_attention(changed, *inputs[1:], pairs)
    real = [0, 1, 2, 3, 4, 5, 6, 9, 10]
    assert torch.equal(before[:, real], after[:, real])


def test_first_and_second_derivatives_equal_finite_differences():
    inputs, pairs, _ = problem((1, 2, 2, 2, 2), torch.float64)
    assert torch.autograd.gradcheck(lambda *each: small_graph_attention(*each, pairs), inputs)
    assert torch.autograd.gradgradcheck(lambda *each: small_graph_attention(*each, pairs), inputs)


def test_one_matrix_of_scores_is_kept():
    inputs, pairs, _ = problem((2, 10, 13, 3, 5), torch.float64)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor):
        small_graph_attention(*inputs, pairs)
    assert sum(tensor.shape[-2:] == (23, 23) for tensor in kept) == 1
    assert sum(tensor.numel() for tensor in kept) == 2 * 3 * 23 * 23 + 2 * 23 * 60 + 6 * 3 + 3 * 3
