"""AstroGraphVAE: a graph transformer, latent tokens, and a decoder that builds molecules atom by atom.

Shape suffixes: B graphs, N nodes, E edges, M motifs, T tokens, K latent tokens, L width of a latent token, D width.
"""

from dataclasses import dataclass

import torch
from torch import nn
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import ModelOutput, can_return_tuple
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .configuration_astro_graph_vae import AstroGraphVAEConfig
from .graph_encoder import GraphAttention, GraphEncoder, GraphEncoderLayer
from .graph_latent import GraphLatents, LatentPosterior, free_bits_divergence, gaussian_divergence
from .graph_latent_prior import LatentPrior
from .molecule_decoder import MoleculeDecoder
from .molecule_decoder_one_shot import OneShotMoleculeDecoder


__all__ = ["AstroGraphVAEModel", "AstroGraphVAEOutput", "AstroGraphVAEPreTrainedModel"]


@dataclass
class AstroGraphVAEOutput(ModelOutput):
    """What the model says of a batch of graphs.

    Attributes:
        loss: Negative log-likelihood of the atoms and bonds plus the weighted divergence, mean of the graphs, nats.
        log_likelihood: Of each graph given its latent tokens, shape (B,), nats.
        violation: Minus the logarithm of the probability that the decoder, if nothing were excluded, would break no
            valence and stay connected along each graph's own actions, shape (B,), nats.
        divergence: Of each latent token from the standard normal, shape (B, K), nats.
        mean: Of the latent tokens, shape (B, K, L).
        log_variance: Of the latent tokens, shape (B, K, L).
        last_hidden_state: States of the tokens of graph, motifs, nodes and edges, shape (B, T, D).
        token_mask: 1 where a token is real, 0 where it is padding, int64, shape (B, T).
        hidden_states: States after each encoder layer, where asked for.
        attentions: Attention of each encoder layer, where asked for.
    """

    loss: torch.Tensor | None = None
    log_likelihood: torch.Tensor | None = None
    violation: torch.Tensor | None = None
    divergence: torch.Tensor | None = None
    mean: torch.Tensor | None = None
    log_variance: torch.Tensor | None = None
    last_hidden_state: torch.Tensor | None = None
    token_mask: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class AstroGraphVAEPreTrainedModel(PreTrainedModel):
    """Weights, initialisation and saving shared by the AstroGraphVAE classes."""

    config: AstroGraphVAEConfig
    config_class = AstroGraphVAEConfig
    base_model_prefix = "model"
    main_input_name = "node_types"
    supports_gradient_checkpointing = True
    _no_split_modules = ["GraphEncoderLayer", "MoleculeDecoderLayer"]
    _supports_sdpa = True
    # The loss is a mean over the batch: the Trainer must divide it by the number of batches accumulated.
    accepts_loss_kwargs = False
    _can_record_outputs = {
        "hidden_states": GraphEncoderLayer,
        "attentions": OutputRecorder(GraphAttention, index=1),
    }

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, GraphLatents):
            nn.init.normal_(module.queries, std=self.config.initializer_range)
            nn.init.normal_(module.open_places, std=self.config.initializer_range)
        elif isinstance(module, LatentPrior):
            module.reset()

    def save_pretrained(self, save_directory, **kwargs):
        """Save as `PreTrainedModel.save_pretrained` does, with the whole map of auto classes in the config."""
        modeling = AstroGraphVAEPreTrainedModel.__module__.rsplit(".", 1)[-1]
        configuration = AstroGraphVAEConfig.__module__.rsplit(".", 1)[-1]
        self.config.auto_map = {
            "AutoConfig": f"{configuration}.AstroGraphVAEConfig",
            "AutoModel": f"{modeling}.AstroGraphVAEModel",
        }
        return super().save_pretrained(save_directory, **{"max_shard_size": "5GB", **kwargs})


class AstroGraphVAEModel(AstroGraphVAEPreTrainedModel):
    """The variational autoencoder (Kingma and Welling 2014, arXiv:1312.6114) over graphs.

    Args:
        config: Its shape.
        with_decoder: Whether to make the decoder; heads that only read graphs have none.
    """

    def __init__(self, config: AstroGraphVAEConfig, with_decoder: bool = True):
        super().__init__(config)
        self.encoder = GraphEncoder(config)
        self.latents = GraphLatents(config)
        decoder = MoleculeDecoder if config.decoder_type == "autoregressive" else OneShotMoleculeDecoder
        self.decoder = decoder(config) if with_decoder else None
        self.latent_prior = LatentPrior(config) if with_decoder else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the embedding of the node types."""
        return self.encoder.node_embedding

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Replace the embedding of the node types."""
        self.encoder.node_embedding = value

    def encode(self, node_types: torch.LongTensor, **graph: torch.Tensor) -> LatentPosterior:
        """Return the Gaussians of the latent tokens of graphs; arguments as of `forward`."""
        encoding = self.encoder(node_types=node_types, **graph)
        return self.latents.posterior(encoding.token_states, encoding.token_mask)

    @can_return_tuple
    @capture_outputs
    def forward(
        self,
        node_types: torch.LongTensor,
        node_features: torch.Tensor,
        edge_index: torch.LongTensor,
        edge_types: torch.LongTensor,
        edge_features: torch.Tensor,
        motif_types: torch.LongTensor,
        motif_nodes: torch.BoolTensor,
        latent_noise: torch.Tensor | None = None,
        kl_weight: float | torch.Tensor | None = None,
        **kwargs,
    ) -> AstroGraphVAEOutput:
        """Encode molecules and score them by the decoder.

        Args:
            node_types: Shape (B, N), 0 is padding; atoms in the order of decoding.
            node_features: Shape (B, N, F), as `graph_features.NODE_FEATURES` says.
            edge_index: Places of the two nodes of an edge, shape (B, 2, E).
            edge_types: Shape (B, E), 0 is padding.
            edge_features: Shape (B, E, 1).
            motif_types: Shape (B, M), 0 is padding.
            motif_nodes: Members of a motif, shape (B, M, N).
            latent_noise: Standard normal, shape (B, K, L); `None` draws it in training, and takes the mean otherwise.
            kl_weight: Factor of the divergence; `None` is that of the config.

        Raises:
            ValueError: If a graph is no molecule that the decoder can build; the message names the first one.
        """
        encoding = self.encoder(
            node_types=node_types,
            node_features=node_features,
            edge_index=edge_index,
            edge_types=edge_types,
            edge_features=edge_features,
            motif_types=motif_types,
            motif_nodes=motif_nodes,
        )
        posterior = self.latents.posterior(encoding.token_states, encoding.token_mask)
        if latent_noise is None:
            latent_noise = torch.randn_like(posterior.mean) if self.training else torch.zeros_like(posterior.mean)
        divergence = gaussian_divergence(posterior)
        log_likelihood = violation = loss = None
        if self.decoder is not None:
            tokens = self.latents.open(posterior.draw(latent_noise))
            log_likelihood, violation = self.decoder(tokens, node_types, edge_index, edge_types)
            weight = self.config.kl_weight if kl_weight is None else kl_weight
            loss = weight * free_bits_divergence(divergence, self.config.free_bits) - log_likelihood.mean()
        return AstroGraphVAEOutput(
            loss=loss,
            log_likelihood=log_likelihood,
            violation=violation,
            divergence=divergence,
            mean=posterior.mean,
            log_variance=posterior.log_variance,
            last_hidden_state=encoding.token_states,
            token_mask=encoding.token_mask.long(),
        )

    @torch.no_grad()
    def sample(
        self,
        num_samples: int = 1,
        latents: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
        **decoding,
    ) -> dict[str, torch.Tensor]:
        """Draw molecules.

        Args:
            num_samples: Number of molecules whose latents are drawn from the prior, where none are given.
            latents: Latent tokens to decode, shape (B, K, L).
            generator: Of the random numbers.
            **decoding: `temperature`, `greedy`, `max_nodes`, as of the decoder's `sample`.

        Returns:
            `node_types` (B, N), `edge_index` (B, 2, E) and `edge_types` (B, E), for the processor's `batch_decode`.

        Raises:
            ValueError: If the model has no decoder, no sample is asked for, or the latents do not have the config's
                shape.
        """
        decoder = self._decoder()
        shape = (self.config.num_latent_tokens, self.config.latent_size)
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1; got {num_samples}.")
        if latents is None:
            latents = self.latent_prior.draw(num_samples, generator)
        elif tuple(latents.shape[1:]) != shape:
            raise ValueError(f"latents must have the shape (B, {shape[0]}, {shape[1]}); got {tuple(latents.shape)}.")
        return decoder.sample(self.latents.open(latents), generator=generator, **decoding)

    @torch.no_grad()
    def reconstruct(self, node_types: torch.LongTensor, **graph: torch.Tensor) -> dict[str, torch.Tensor]:
        """Decode the likeliest atoms and bonds, one after another, from the means of graphs."""
        return self.sample(latents=self.encode(node_types, **graph).mean, greedy=True)

    @torch.no_grad()
    def interpolate(
        self, start: dict[str, torch.Tensor], end: dict[str, torch.Tensor], steps: int = 7, **decoding
    ) -> dict[str, torch.Tensor]:
        """Decode points on straight lines between the means of pairs of graphs.

        Args:
            start: Graphs at which the lines begin, as the processor gives them.
            end: As many graphs at which they end.
            steps: Points of a line, both ends included.
            **decoding: As of `sample`; greedy unless it says otherwise.

        Returns:
            As `sample`, the points of a line one after another: B * steps molecules.

        Raises:
            ValueError: If the numbers of graphs differ or there are fewer than two steps.
        """
        if steps < 2:
            raise ValueError(f"steps must be at least 2, both ends of the line; got {steps}.")
        first, last = self.encode(**start).mean, self.encode(**end).mean
        if len(first) != len(last):
            raise ValueError(f"start and end must have as many graphs; got {len(first)} and {len(last)}.")
        shares = torch.linspace(0, 1, steps, dtype=first.dtype, device=first.device)[:, None, None]
        line = torch.lerp(first[:, None], last[:, None], shares)
        return self.sample(latents=line.flatten(0, 1), **{"greedy": True, **decoding})

    def _decoder(self) -> nn.Module:
        if self.decoder is None:
            raise ValueError("this model was made without a decoder and only reads graphs; load AstroGraphVAEModel.")
        return self.decoder
