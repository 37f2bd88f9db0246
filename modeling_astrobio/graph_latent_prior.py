"""What the latents of a graph are drawn from: a mixture of Gaussians over all of their numbers together.

It starts as the standard normal that training presses the latents towards, and may be fitted to what the encoder gives
once that has learned (Ghosh et al. 2020, arXiv:1903.12436): where the graphs' latents leave holes in the normal, a
decoder that is given a hole draws what no graph of the data is like.

Shape suffixes: B graphs, C components, K latent tokens, L width of a latent token, D = K * L.
"""

import math

import torch
from torch import nn
from transformers import initialization as init

from .configuration_astro_graph_vae import AstroGraphVAEConfig


__all__ = ["LatentPrior"]


class LatentPrior(nn.Module):
    """Draw latents, and say how likely they are.

    Args:
        config: Sizes, and the number of components.
    """

    def __init__(self, config: AstroGraphVAEConfig):
        super().__init__()
        components, self.shape = config.num_prior_components, (config.num_latent_tokens, config.latent_size)
        size = math.prod(self.shape)
        self.log_weights = nn.Buffer(torch.empty(components))
        self.means = nn.Buffer(torch.empty(components, size))
        self.factors = nn.Buffer(torch.empty(components, size, size))
        self.reset()

    def reset(self) -> None:
        """Make every component the standard normal."""
        components, size = self.means.shape
        init.constant_(self.log_weights, -math.log(components))
        init.zeros_(self.means)
        init.copy_(self.factors, torch.eye(size).expand(components, -1, -1))

    @torch.no_grad()
    def set(self, weights: torch.Tensor, means: torch.Tensor, covariances: torch.Tensor) -> None:
        """Take over a mixture of at most as many components; the others get no weight.

        Args:
            weights: Shape (c,), positive, their sum 1.
            means: Shape (c, D).
            covariances: Shape (c, D, D), positive definite.

        Raises:
            ValueError: If the shapes do not fit the config.
        """
        (components, size), count = self.means.shape, len(weights)
        shapes = tuple(means.shape), tuple(covariances.shape)
        if not 1 <= count <= components or shapes != ((count, size), (count, size, size)):
            raise ValueError(
                f"weights, means and covariances must have the shapes (c,), (c, {size}) and (c, {size}, {size}) with "
                f"c from 1 to num_prior_components ({components}); got {(count,)}, {shapes[0]} and {shapes[1]}."
            )
        # Not by `reset`, which leaves what was loaded as it is.
        self.log_weights.fill_(-torch.inf)
        self.means.zero_()
        self.factors.copy_(torch.eye(size))
        self.log_weights[:count] = weights.log()
        self.means[:count] = means.to(self.means)
        self.factors[:count] = torch.linalg.cholesky(covariances.double()).to(self.factors)

    def draw(self, num_samples: int, generator: torch.Generator | None = None) -> torch.Tensor:
        """Return latents of so many graphs, shape (B, K, L)."""
        means = self.means
        chances = self.log_weights.float().exp()
        component = torch.multinomial(chances, num_samples, replacement=True, generator=generator)
        latents = means[component]
        noise = torch.randn(latents.shape, dtype=means.dtype, device=means.device, generator=generator)
        # One component after another, so that no factor is copied for each graph.
        for each in component.unique().tolist():
            rows = component == each
            latents[rows] += noise[rows] @ self.factors[each].T
        return latents.unflatten(1, self.shape)

    def log_density(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the logarithm of the density of latents (B, K, L), nats, shape (B,), at least in float32."""
        wide = torch.promote_types(latents.dtype, torch.float32)
        size = self.means.shape[1]
        factors = self.factors.to(wide)
        apart = latents.flatten(1).to(wide) - self.means.to(wide)[:, None]
        standard = torch.linalg.solve_triangular(factors, apart.mT, upper=False)
        log_scale = factors.diagonal(dim1=1, dim2=2).log().sum(1) + 0.5 * size * math.log(2 * math.pi)
        each = self.log_weights.to(wide)[:, None] - 0.5 * standard.square().sum(1) - log_scale[:, None]
        return each.logsumexp(0)
