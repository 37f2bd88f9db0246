"""The Gaussian loss is the likelihood of the known labels, and nothing of the unknown ones."""

import pytest
import torch

from modeling_astrobio.loss_gaussian import gaussian_loss


def rows(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(7, 3, generator=generator, dtype=dtype).requires_grad_()
    spread = torch.randn(7, 3, generator=generator, dtype=dtype).requires_grad_()
    return mean, spread, torch.randn(7, 3, generator=generator, dtype=dtype)


def test_equals_the_distribution_of_torch_over_known_labels():
    mean, spread, labels = rows()
    variance = spread.exp()
    labels[[0, 2, 2, 5], [1, 0, 2, 1]] = float("nan")
    known = ~labels.isnan()
    loss = gaussian_loss(mean, variance, labels)
    written_out = -torch.distributions.Normal(mean[known], variance[known].sqrt()).log_prob(labels[known]).mean()
    torch.testing.assert_close(loss, written_out, rtol=1e-12, atol=1e-12)
    ours = torch.autograd.grad(loss, (mean, spread))
    theirs = torch.autograd.grad(-torch.distributions.Normal(*(x[known] for x in (mean, (spread / 2).exp()))).log_prob(
        labels[known]).mean(), (mean, spread))  # fmt: skip
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_a_row_of_unknown_labels_is_as_if_it_were_not_there():
    mean, spread, labels = rows()
    labels[3] = float("nan")
    rest = [row for row in range(7) if row != 3]
    assert gaussian_loss(mean, spread.exp(), labels) == gaussian_loss(mean[rest], spread[rest].exp(), labels[rest])


def test_without_a_known_label_loss_and_gradients_are_zero():
    mean, spread, labels = rows()
    loss = gaussian_loss(mean, spread.exp(), torch.full_like(labels, float("nan")))
    assert loss == 0
    for gradient in torch.autograd.grad(loss, (mean, spread)):
        assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("narrow", [torch.bfloat16, torch.float16])
def test_narrow_predictions_are_scored_in_float32(narrow):
    mean, spread, labels = rows(torch.float32)
    mean, variance, labels = mean.detach().to(narrow), spread.detach().exp().to(narrow), labels.to(narrow)
    loss = gaussian_loss(mean, variance, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, gaussian_loss(mean.float(), variance.float(), labels.float()), rtol=0, atol=0)
