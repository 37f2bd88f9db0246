"""Latent tokens: pooling reads what is there in no order, divergences are those of the formulas."""

import pytest
import torch
from graph_vae_models import randomised, tiny_config
from torch.distributions import Normal, kl_divergence

from modeling_astrobio.graph_latent import GraphLatents, LatentPosterior, free_bits_divergence, gaussian_divergence


EXACT = {"rtol": 1e-10, "atol": 1e-10}


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def latents() -> GraphLatents:
    return randomised(GraphLatents(tiny_config())).double()


def test_divergence_and_its_gradient_equal_those_of_torch():
    mean, log_variance = random(3, 2, 7).requires_grad_(), random(3, 2, 7, seed=1).requires_grad_()
    found = gaussian_divergence(LatentPosterior(mean, log_variance))
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(found, expected, **EXACT)
    assert found.shape == (3, 2)
    weights = random(3, 2, seed=2)
    ours = torch.autograd.grad((found * weights).sum(), (mean, log_variance))
    torch.testing.assert_close(ours, torch.autograd.grad((expected * weights).sum(), (mean, log_variance)), **EXACT)


def test_divergence_of_half_precision_is_computed_in_single():
    mean, log_variance = random(3, 2, 7).bfloat16(), random(3, 2, 7, seed=1).bfloat16()
    found = gaussian_divergence(LatentPosterior(mean, log_variance))
    assert found.dtype == torch.float32
    assert torch.equal(found, gaussian_divergence(LatentPosterior(mean.float(), log_variance.float())))


@pytest.mark.parametrize("free_bits", [0.0, 0.5, 1e9])
def test_free_bits_and_their_gradient(free_bits):
    divergence = torch.tensor([[0.1, 0.9, 2.0], [0.3, 0.3, 4.0], [0.2, 0.6, 0.0]], dtype=torch.float64)
    divergence.requires_grad_()
    found = free_bits_divergence(divergence, free_bits)
    means = [0.2, 0.6, 2.0]
    assert found.item() == pytest.approx(sum(max(free_bits, each) for each in means), rel=1e-12)
    found.backward()
    counted = torch.tensor([1.0 if each > free_bits else 0.0 for each in means], dtype=torch.float64)
    torch.testing.assert_close(divergence.grad, (counted / 3).expand(3, 3), **EXACT)


def test_draw_is_mean_and_deviation(latents):
    mean, log_variance, noise = random(2, 2, 5), random(2, 2, 5, seed=1), random(2, 2, 5, seed=2)
    posterior = LatentPosterior(mean, log_variance)
    torch.testing.assert_close(posterior.draw(noise), mean + log_variance.exp().sqrt() * noise, **EXACT)
    assert torch.equal(posterior.draw(torch.zeros_like(noise)), mean)


def test_pool_equals_attention_written_out(latents):
    states, mask = random(3, 7, 24), torch.arange(7) < torch.tensor([7, 1, 4])[:, None]
    found = latents.pool(states, mask)
    for row, count in enumerate((7, 1, 4)):
        key, value = latents.key_value_proj(latents.token_norm(states[row, :count])).chunk(2, dim=-1)
        pooled = []
        for head in range(3):
            part = slice(8 * head, 8 * head + 8)
            scores = latents.query_proj(latents.queries)[:, part] @ key[:, part].T / 8**0.5
            pooled.append(scores.softmax(-1) @ value[:, part])
        expected = latents.pooled_norm(latents.queries + latents.output_proj(torch.cat(pooled, dim=-1)))
        torch.testing.assert_close(found[row], expected, **EXACT)


def test_order_of_the_tokens_and_padding_change_nothing(latents):
    states, mask = random(3, 7, 24), torch.arange(7) < torch.tensor([7, 1, 4])[:, None]
    expected = latents.posterior(states, mask)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(latents.posterior(states[:, order], mask[:, order]), expected, **EXACT)
    noisy = torch.where(mask[..., None], states, 1e6 * random(3, 7, 24, seed=3))
    torch.testing.assert_close(latents.posterior(noisy, mask), expected, **EXACT)


def test_logarithm_of_the_variance_is_bounded(latents):
    with torch.no_grad():
        latents.posterior_proj.bias.copy_(torch.cat([torch.zeros(10), torch.tensor([1e4, -1e4]).repeat(5)]))
    posterior = latents.posterior(random(2, 3, 24), torch.ones(2, 3, dtype=torch.bool))
    assert posterior.log_variance.unique().tolist() == [-12.0, 8.0]
    assert gaussian_divergence(posterior).isfinite().all()


def test_opened_tokens_are_told_apart_by_their_places(latents):
    found = latents.open(torch.zeros(3, 2, 10, dtype=torch.float64))
    assert found.shape == (3, 2, 24)
    torch.testing.assert_close(found, (latents.open_proj.bias + latents.open_places).expand(3, -1, -1), **EXACT)
