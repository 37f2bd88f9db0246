"""Latent tokens of a graph: pooled by learned queries, each with a Gaussian of its own.

Shape suffixes: B batch, T tokens, K latent tokens, D width, L width of a latent token.
"""

import math
from typing import NamedTuple

import torch
from torch import nn

from .configuration_astro_graph_vae import AstroGraphVAEConfig


__all__ = ["GraphLatents", "LatentPosterior", "free_bits_divergence", "gaussian_divergence"]

# Of the logarithm of a variance: beyond, its exponential is no number in half precision.
_LOG_VARIANCE_RANGE = (-12.0, 8.0)
# Where it starts: with a variance of 1, noise drowns what the latents say, and a decoder learns to do without them.
_START_LOG_VARIANCE = -4.0


class LatentPosterior(NamedTuple):
    """Gaussians of the latent tokens: mean and logarithm of the variance, each (B, K, L)."""

    mean: torch.Tensor
    log_variance: torch.Tensor

    def draw(self, noise: torch.Tensor) -> torch.Tensor:
        """Return mean + standard deviation * noise (Kingma and Welling 2014, arXiv:1312.6114)."""
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def log_density(self, noise: torch.Tensor) -> torch.Tensor:
        """Return the logarithm of the density at `draw(noise)`, nats, shape (B,), at least in float32."""
        wide = torch.promote_types(self.log_variance.dtype, torch.float32)
        each = noise.to(wide).square() + self.log_variance.to(wide) + math.log(2 * math.pi)
        return -0.5 * each.flatten(1).sum(1)


class GraphLatents(nn.Module):
    """Pool tokens into latent tokens, and open latent tokens for the decoder."""

    def __init__(self, config: AstroGraphVAEConfig):
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.queries = nn.Parameter(torch.zeros(config.num_latent_tokens, config.hidden_size))
        self.token_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.query_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.key_value_proj = nn.Linear(config.hidden_size, 2 * config.hidden_size)
        self.output_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.pooled_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.posterior_proj = nn.Linear(config.hidden_size, 2 * config.latent_size)
        self.open_proj = nn.Linear(config.latent_size, config.hidden_size)
        self.open_places = nn.Parameter(torch.zeros(config.num_latent_tokens, config.hidden_size))

    def pool(self, token_states: torch.Tensor, token_mask: torch.Tensor) -> torch.Tensor:
        """Return pooled tokens, shape (B, K, D), of states (B, T, D) where the bool mask (B, T) is true."""
        batch, _, width = token_states.shape
        heads = (self.num_heads, width // self.num_heads)
        query = self.query_proj(self.queries).unflatten(-1, heads).transpose(0, 1).expand(batch, -1, -1, -1)
        key, value = self.key_value_proj(self.token_norm(token_states)).chunk(2, dim=-1)
        pooled = nn.functional.scaled_dot_product_attention(
            query,
            key.unflatten(-1, heads).transpose(1, 2),
            value.unflatten(-1, heads).transpose(1, 2),
            attn_mask=token_mask[:, None, None, :],
        )
        return self.pooled_norm(self.queries + self.output_proj(pooled.transpose(1, 2).flatten(2)))

    def posterior(self, token_states: torch.Tensor, token_mask: torch.Tensor) -> LatentPosterior:
        """Return the Gaussians of the latent tokens; arguments as of `pool`."""
        mean, log_variance = self.posterior_proj(self.pool(token_states, token_mask)).chunk(2, dim=-1)
        return LatentPosterior(mean, (log_variance + _START_LOG_VARIANCE).clamp(*_LOG_VARIANCE_RANGE))

    def open(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the tokens that the decoder reads, shape (B, K, D), of latent tokens (B, K, L)."""
        return self.open_proj(latents) + self.open_places


def gaussian_divergence(posterior: LatentPosterior) -> torch.Tensor:
    """Return the Kullback-Leibler divergence from the standard normal, in nats of each latent token, shape (B, K)."""
    mean, log_variance = posterior
    wide = torch.promote_types(mean.dtype, torch.float32)
    mean, log_variance = mean.to(wide), log_variance.to(wide)
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(-1)


def free_bits_divergence(divergence_BK: torch.Tensor, free_bits: float) -> torch.Tensor:
    """Return the divergence of a graph, in nats, a token counting at least `free_bits` in the mean of the batch.

    Below that its gradient is zero, so that no token is pressed to carry nothing (Kingma et al. 2016,
    arXiv:1606.04934).
    """
    return divergence_BK.mean(0).clamp(min=free_bits).sum()
