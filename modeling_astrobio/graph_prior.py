"""Prior of the latent tokens: a Gaussian whose mean and covariance are learned.

A standard normal leaves holes where no graph is encoded, unless the divergence presses the latents so hard that they
say little. Each number is a linear function of those before it plus noise, which is every Gaussian (its inverse
Cholesky factor), and the divergence of each latent token from it has a closed form.

Shape suffixes: B graphs, K latent tokens, L width of a latent token, Z = K L.
"""

import torch
from torch import nn

from .configuration_astro_graph_vae import AstroGraphVAEConfig


__all__ = ["GraphPrior"]


class GraphPrior(nn.Module):
    """Gaussian with w = A (z - mean) standard normal, A lower triangular; a standard normal to begin with."""

    def __init__(self, config: AstroGraphVAEConfig):
        super().__init__()
        self.shape = (config.num_latent_tokens, config.latent_size)
        size = config.num_latent_tokens * config.latent_size
        self.mean = nn.Parameter(torch.zeros(size))
        self.log_diagonal = nn.Parameter(torch.zeros(size))
        # Below the diagonal, row by row.
        self.below = nn.Parameter(torch.zeros(size * (size - 1) // 2))

    def reset_parameters(self) -> None:
        """Make it a standard normal."""
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def whitener(self) -> torch.Tensor:
        """Return A, shape (Z, Z), at least in float32."""
        wide = torch.promote_types(self.mean.dtype, torch.float32)
        size = len(self.mean)
        row, column = torch.tril_indices(size, size, offset=-1, device=self.mean.device)
        factor = torch.diag_embed(self.log_diagonal.to(wide).exp())
        return factor.index_put((row, column), self.below.to(wide))

    def divergence(self, mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
        """Return how far Gaussians of independent numbers are from it.

        By the chain rule: of each token, the Kullback-Leibler divergence from what the tokens before it make likely,
        its mean over those. Only the sum over all tokens cannot be negative.

        Args:
            mean: Shape (B, K, L).
            log_variance: Shape (B, K, L).

        Returns:
            Nats of each token, shape (B, K), at least in float32.
        """
        factor_ZZ = self.whitener()
        mean_BZ, log_variance_BZ = (part.flatten(1).to(factor_ZZ.dtype) for part in (mean, log_variance))
        white_BZ = (mean_BZ - self.mean.to(factor_ZZ.dtype)) @ factor_ZZ.T
        spread_BZ = log_variance_BZ.exp() @ factor_ZZ.square().T
        log_scale_Z = 2 * self.log_diagonal.to(factor_ZZ.dtype)
        nats_BZ = 0.5 * (white_BZ.square() + spread_BZ - 1.0 - log_variance_BZ - log_scale_Z)
        return nats_BZ.unflatten(1, self.shape).sum(-1)

    def colour(self, noise: torch.Tensor) -> torch.Tensor:
        """Return draws from the prior, made of standard normal noise, both (B, K, L)."""
        factor_ZZ = self.whitener()
        white_ZB = noise.flatten(1).to(factor_ZZ.dtype).T
        drawn_BZ = torch.linalg.solve_triangular(factor_ZZ, white_ZB, upper=False).T + self.mean.to(factor_ZZ.dtype)
        return drawn_BZ.unflatten(1, self.shape).to(noise.dtype)
