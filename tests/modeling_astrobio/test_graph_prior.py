"""The learned prior is the Gaussian that it says: divergence, gradients and draws against torch.distributions."""

import pytest
import torch
from graph_vae_models import tiny_config, tiny_model
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from modeling_astrobio import AstroGraphVAEModel
from modeling_astrobio.graph_prior import GraphPrior


EXACT = {"rtol": 1e-9, "atol": 1e-9}
TOKENS, WIDTH = 3, 5
SIZE = TOKENS * WIDTH


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def prior() -> GraphPrior:
    made = GraphPrior(tiny_config(num_latent_tokens=TOKENS, latent_size=WIDTH)).double()
    with torch.no_grad():
        for seed, parameter in enumerate(made.parameters(), start=10):
            parameter.copy_(0.4 * random(*parameter.shape, seed=seed))
    return made


def as_distribution(prior: GraphPrior) -> MultivariateNormal:
    return MultivariateNormal(prior.mean, precision_matrix=prior.whitener().T @ prior.whitener())


def test_divergence_and_its_gradients_equal_those_of_torch(prior):
    mean = random(4, TOKENS, WIDTH).requires_grad_()
    log_variance = random(4, TOKENS, WIDTH, seed=1).requires_grad_()
    found = prior.divergence(mean, log_variance).sum(-1)
    posterior = MultivariateNormal(mean.flatten(1), torch.diag_embed(log_variance.exp().flatten(1)))
    expected = kl_divergence(posterior, as_distribution(prior))
    torch.testing.assert_close(found, expected, **EXACT)
    weights, places = random(4, seed=2), (mean, log_variance, *prior.parameters())
    ours = torch.autograd.grad((found * weights).sum(), places)
    torch.testing.assert_close(ours, torch.autograd.grad((expected * weights).sum(), places), rtol=1e-7, atol=1e-7)
    assert all((gradient != 0).all() for gradient in ours)


def test_tokens_divergence_is_that_given_the_tokens_before(prior):
    # Where the posterior has no spread to speak of, the chain rule is that of densities.
    mean = random(2, TOKENS, WIDTH)
    log_variance = torch.full_like(mean, -20.0)
    found = prior.divergence(mean, log_variance)
    whole = as_distribution(prior)
    first = MultivariateNormal(whole.mean[:WIDTH], whole.covariance_matrix[:WIDTH, :WIDTH])
    entropy = Normal(0.0, torch.tensor(-10.0, dtype=torch.float64).exp()).entropy() * WIDTH
    expected = -entropy - first.log_prob(mean[:, 0])
    torch.testing.assert_close(found[:, 0], expected, rtol=1e-5, atol=1e-5)


def test_it_begins_as_a_standard_normal():
    prior = GraphPrior(tiny_config())
    mean, log_variance = random(3, 2, 10), random(3, 2, 10, seed=1)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(-1)
    torch.testing.assert_close(prior.double().divergence(mean, log_variance), expected, **EXACT)
    noise = random(3, 2, 10, seed=2)
    assert torch.equal(prior.colour(noise), noise)


def test_draws_are_what_whitens_to_the_noise(prior):
    noise = random(7, TOKENS, WIDTH, seed=3)
    drawn = prior.colour(noise)
    assert drawn.shape == noise.shape
    white = (drawn.flatten(1) - prior.mean) @ prior.whitener().T
    torch.testing.assert_close(white, noise.flatten(1), **EXACT)
    many = prior.colour(random(40_000, TOKENS, WIDTH, seed=4)).flatten(1).detach()
    spread = as_distribution(prior).covariance_matrix.detach()
    torch.testing.assert_close(torch.cov(many.T), spread, rtol=0.1, atol=0.05 * spread.diagonal().max().item())


def test_half_precision_is_computed_in_single(prior):
    half = prior.bfloat16()
    mean, log_variance = random(2, TOKENS, WIDTH).bfloat16(), random(2, TOKENS, WIDTH, seed=1).bfloat16()
    found = half.divergence(mean, log_variance)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, half.float().divergence(mean.float(), log_variance.float()))
    assert prior.bfloat16().colour(mean).dtype == torch.bfloat16


def test_model_draws_from_it_and_keeps_it(tmp_path):
    model = tiny_model()
    with torch.no_grad():
        model.prior.mean.fill_(0.7)
        model.prior.below.normal_(generator=torch.Generator().manual_seed(0))
    model.save_pretrained(tmp_path)
    again = AstroGraphVAEModel.from_pretrained(tmp_path)
    for name, parameter in model.prior.named_parameters():
        assert torch.equal(parameter, again.prior.get_parameter(name))
    noise = torch.randn(5, 2, 10, generator=torch.Generator().manual_seed(4))
    drawn = model.sample(5, generator=torch.Generator().manual_seed(4))
    generator = torch.Generator().manual_seed(4)
    torch.randn(5, 2, 10, generator=generator)
    expected = model.sample(latents=model.prior.colour(noise), generator=generator)
    for name, value in expected.items():
        assert torch.equal(drawn[name], value), name
