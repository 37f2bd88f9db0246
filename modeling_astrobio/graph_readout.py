"""What heads read of an encoded graph: its pooled tokens, and the sum of all its tokens.

Shape suffixes: B graphs, T tokens, K latent tokens, D width.
"""

import torch

from .configuration_astro_graph_vae import AstroGraphVAEConfig
from .graph_latent import GraphLatents


__all__ = ["graph_readout", "readout_length"]


def readout_length(config: AstroGraphVAEConfig) -> int:
    """Return the number of tokens of `graph_readout`, K + 1."""
    return config.num_latent_tokens + 1


def graph_readout(
    latents: GraphLatents, token_states: torch.Tensor, token_mask: torch.Tensor, max_nodes: int
) -> torch.Tensor:
    """Return the pooled tokens and after them sum of tokens / max_nodes, shape (B, K + 1, D).

    Pooling is a weighted mean and forgets how many tokens there are; what adds up over atoms needs the sum.

    Args:
        latents: Whose pooling is used.
        token_states: Of the encoder, shape (B, T, D).
        token_mask: Where a token is real, bool, shape (B, T).
        max_nodes: Scale of the sum, that of the config.
    """
    summed_BD = torch.where(token_mask[..., None], token_states, 0.0).sum(1) / max_nodes
    return torch.cat((latents.pool(token_states, token_mask), summed_BD[:, None]), dim=1)
