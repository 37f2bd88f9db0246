"""The prior of latents: the standard normal as it starts, the mixture it is given afterwards, saved with the model."""

import math

import pytest
import torch
from graph_vae_models import molecule_batch, tiny_config, tiny_model
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

from modeling_astrobio import AstroGraphVAEModel
from modeling_astrobio.graph_latent import LatentPosterior
from modeling_astrobio.graph_latent_prior import LatentPrior


EXACT = {"rtol": 1e-10, "atol": 1e-10}
SIZE = 20  # of the latents of a graph of the tiny config, 2 tokens of 10


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def mixture() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    roots = random(3, SIZE, SIZE, seed=1)
    covariances = roots @ roots.mT / SIZE + 0.1 * torch.eye(SIZE, dtype=torch.float64)
    return torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64), 2 * random(3, SIZE), covariances


@pytest.fixture
def prior() -> LatentPrior:
    return LatentPrior(tiny_config(num_prior_components=4)).double()


def test_starts_as_the_standard_normal(prior):
    latents = random(5, 2, 10)
    expected = Normal(0.0, 1.0).log_prob(latents).sum((1, 2))
    # Its weights were made in single precision.
    torch.testing.assert_close(prior.log_density(latents), expected, rtol=1e-8, atol=1e-8)
    drawn = prior.draw(20_000, torch.Generator().manual_seed(0))
    assert drawn.shape == (20_000, 2, 10)
    assert drawn.dtype == torch.float64
    # Five standard errors.
    assert drawn.mean(0).abs().max() < 5 / 20_000**0.5
    assert (torch.cov(drawn.flatten(1).T) - torch.eye(SIZE)).abs().max() < 5 * (2 / 20_000) ** 0.5


def test_density_and_its_gradient_equal_those_of_torch(prior):
    weights, means, covariances = mixture()
    prior.set(weights, means, covariances)
    oracle = MixtureSameFamily(Categorical(weights), MultivariateNormal(means, covariances))
    latents = random(7, 2, 10, seed=3).requires_grad_()
    found, expected = prior.log_density(latents), oracle.log_prob(latents.flatten(1))
    torch.testing.assert_close(found, expected, **EXACT)
    ours, theirs = (torch.autograd.grad(value.sum(), latents)[0] for value in (found, expected))
    torch.testing.assert_close(ours, theirs, **EXACT)


def test_draws_have_the_moments_of_the_mixture(prior):
    weights, means, covariances = mixture()
    prior.set(weights, means, covariances)
    drawn = prior.draw(50_000, torch.Generator().manual_seed(0)).flatten(1)
    mean = weights @ means
    apart = means - mean
    covariance = torch.einsum("c,cij->ij", weights, covariances + apart[:, :, None] * apart[:, None])
    torch.testing.assert_close(drawn.mean(0), mean, rtol=0, atol=0.07)
    torch.testing.assert_close(torch.cov(drawn.T), covariance, rtol=0, atol=0.25)
    nearest = (drawn[:, None] - means).square().sum(-1).argmin(1).bincount(minlength=3) / len(drawn)
    torch.testing.assert_close(nearest.double(), weights, rtol=0, atol=0.05)


def test_a_second_mixture_leaves_nothing_of_the_first(prior):
    weights, means, covariances = mixture()
    prior.set(weights, means, covariances)
    prior.set(weights[:1] / weights[0], means[1:2], covariances[1:2])
    latents = random(4, 2, 10, seed=5)
    expected = MultivariateNormal(means[1], covariances[1]).log_prob(latents.flatten(1))
    torch.testing.assert_close(prior.log_density(latents), expected, **EXACT)


@pytest.mark.parametrize("rows", [slice(0, 0), slice(0, 3)])
def test_refuses_what_does_not_fit(rows):
    prior = LatentPrior(tiny_config(num_prior_components=2))
    weights, means, covariances = mixture()
    with pytest.raises(ValueError, match=r"c from 1 to num_prior_components \(2\)"):
        prior.set(weights[rows], means[rows], covariances[rows])
    with pytest.raises(ValueError, match=r"must have the shapes \(c,\), \(c, 20\) and \(c, 20, 20\)"):
        prior.set(weights[:1], means[:1, :5], covariances[:1])


def test_is_saved_with_the_model_and_drawn_from(tmp_path):
    model = tiny_model(num_prior_components=3).eval()
    weights, means, covariances = mixture()
    model.latent_prior.set(weights, means, covariances)
    model.save_pretrained(tmp_path)
    again = AstroGraphVAEModel.from_pretrained(tmp_path).eval()
    for name, tensor in model.latent_prior.state_dict().items():
        assert torch.equal(tensor, again.latent_prior.state_dict()[name]), name
    latents = model.latent_prior.draw(5, torch.Generator().manual_seed(3))
    # The decoder goes on with the generator where the prior left it.
    generator = torch.Generator().manual_seed(3)
    again.latent_prior.draw(5, generator)
    expected = model.sample(latents=latents, generator=generator)
    drawn = again.sample(5, generator=torch.Generator().manual_seed(3))
    assert all(torch.equal(drawn[name], expected[name]) for name in expected)


def test_weights_without_a_prior_load_with_the_standard_normal(tmp_path):
    model = tiny_model()
    prior = model.latent_prior
    model.latent_prior = None
    model.save_pretrained(tmp_path)
    loaded = AstroGraphVAEModel.from_pretrained(tmp_path).latent_prior
    for name, tensor in prior.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name


def test_divergence_by_draws_is_that_of_the_formula_on_average():
    model = tiny_model(torch.float64).eval()
    with torch.no_grad():
        output = model(**molecule_batch(dtype=torch.float64))
    posterior = LatentPosterior(output.mean, output.log_variance)
    noise = random(4000, *output.mean.shape[1:])
    one = LatentPosterior(*(part[:1].expand_as(noise) for part in posterior))
    found = one.log_density(noise) - model.latent_prior.log_density(one.draw(noise))
    assert found.mean().item() == pytest.approx(output.divergence[0].sum().item(), rel=0.03)
    assert math.isfinite(found.std().item())
