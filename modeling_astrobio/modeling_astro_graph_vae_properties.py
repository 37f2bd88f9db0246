"""AstroGraphVAE that predicts properties of graphs, each as a Gaussian.

The config names the properties (`id2label`) and carries the scale of their labels (`label_means`, `label_scales`), so
that saved weights answer in the label's units.

Shape suffixes: B graphs, N nodes, E edges, M motifs, T tokens, K latent tokens, D width, P properties.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers.utils import ModelOutput, can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from .configuration_astro_graph_vae import AstroGraphVAEConfig
from .graph_readout import graph_readout, readout_length
from .loss_gaussian import gaussian_loss
from .modeling_astro_graph_vae import AstroGraphVAEModel, AstroGraphVAEPreTrainedModel


__all__ = ["AstroGraphVAEForPropertyPrediction", "AstroGraphVAEPropertyOutput"]

# Of the variance of a standardised label, as in Lakshminarayanan et al. 2017 (arXiv:1612.01474).
_LEAST_VARIANCE = 1e-6


@dataclass
class AstroGraphVAEPropertyOutput(ModelOutput):
    """Predicted properties of a batch of graphs.

    Attributes:
        loss: Negative log-likelihood of the known labels, each divided by its standard deviation, mean, nats.
        mean: Shape (B, P), in the label's units, at least float32.
        variance: Shape (B, P), squared units, at least float32.
        readout: Tokens that the heads read, shape (B, K + 1, D); few-shot adapters read them too.
        hidden_states: States after each encoder layer, where asked for.
        attentions: Attention of each encoder layer, where asked for.
    """

    loss: torch.Tensor | None = None
    mean: torch.Tensor | None = None
    variance: torch.Tensor | None = None
    readout: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class PropertyHead(nn.Module):
    """Mean and variance of each standardised property, from the tokens of a readout."""

    def __init__(self, config: AstroGraphVAEConfig, num_properties: int):
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dense = nn.Linear(readout_length(config) * config.hidden_size, config.hidden_size)
        # The norm of a single token hides how large the sum is.
        self.sum_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.mean_proj = nn.Linear(config.hidden_size, num_properties)
        self.variance_proj = nn.Linear(config.hidden_size, num_properties)

    def forward(self, readout: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and variance, each (B, P) and at least float32, of tokens (B, K + 1, D)."""
        hidden = self.dense(self.norm(readout).flatten(1)) + self.sum_proj(readout[:, -1])
        hidden = self.dropout(nn.functional.gelu(hidden))
        wide = torch.promote_types(hidden.dtype, torch.float32)
        spread = nn.functional.softplus(self.variance_proj(hidden).to(wide))
        return self.mean_proj(hidden).to(wide), spread + _LEAST_VARIANCE


class AstroGraphVAEForPropertyPrediction(AstroGraphVAEPreTrainedModel):
    """Encoder, pooled tokens and a head with mean and variance of `config.num_labels` properties.

    Args:
        config: Its shape. `label_means` and `label_scales` hold a number for each of `id2label`, in the label's units;
            without them the scale is 0 and 1.

    Raises:
        ValueError: If they do not have an entry for each property, or a standard deviation is not above 0.
    """

    # The loss is a mean over the batch: the Trainer must divide it by the number of batches accumulated.
    accepts_loss_kwargs = False
    _keys_to_ignore_on_load_unexpected = [r"^(model\.)?(decoder|latent_prior)\."]

    def __init__(self, config: AstroGraphVAEConfig):
        super().__init__(config)
        self.property_names = list((config.id2label or {}).values())
        self.label_means = _label_scale("label_means", config.label_means, len(self.property_names), 0.0)
        self.label_scales = _label_scale("label_scales", config.label_scales, len(self.property_names), 1.0)
        self.model = AstroGraphVAEModel(config, with_decoder=False)
        self.head = PropertyHead(config, len(self.property_names))
        self._freeze_unread()
        self.post_init()

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """Load as `PreTrainedModel.from_pretrained` does, which makes all weights trainable again."""
        loaded = super().from_pretrained(*args, **kwargs)
        (loaded[0] if isinstance(loaded, tuple) else loaded)._freeze_unread()
        return loaded

    def _freeze_unread(self) -> None:
        """Freeze what is kept for `AutoModel` and not read by the heads: processes in parallel would wait for it."""
        latents = self.model.latents
        for unread in (*latents.posterior_proj.parameters(), *latents.open_proj.parameters(), latents.open_places):
            unread.requires_grad_(False)

    def save_pretrained(self, save_directory, **kwargs):
        """Save as `AstroGraphVAEModel` does; `AutoModelForSequenceClassification` opens this class."""
        modeling = AstroGraphVAEForPropertyPrediction.__module__.rsplit(".", 1)[-1]
        self.config.auto_map = {
            **(getattr(self.config, "auto_map", None) or {}),
            "AutoModelForSequenceClassification": f"{modeling}.AstroGraphVAEForPropertyPrediction",
        }
        return super().save_pretrained(save_directory, **kwargs)

    def embed(self, node_types: torch.LongTensor, **graph: torch.Tensor) -> torch.Tensor:
        """Return the tokens that the heads read, shape (B, K + 1, D); arguments as of `forward`."""
        encoding = self.model.encoder(node_types=node_types, **graph)
        return graph_readout(self.model.latents, encoding.token_states, encoding.token_mask, self.config.max_nodes)

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
        labels: torch.Tensor | None = None,
        **kwargs,
    ) -> AstroGraphVAEPropertyOutput:
        """Predict properties; the graphs are as of `AstroGraphVAEModel.forward`.

        Args:
            node_types: Shape (B, N), 0 is padding.
            node_features: Shape (B, N, F).
            edge_index: Shape (B, 2, E).
            edge_types: Shape (B, E), 0 is padding.
            edge_features: Shape (B, E, 1).
            motif_types: Shape (B, M), 0 is padding.
            motif_nodes: Shape (B, M, N).
            labels: Shape (B, P), in the label's units; NaN is unknown.

        Raises:
            ValueError: If the labels do not have this shape, or one is infinite.
        """
        readout = self.embed(
            node_types=node_types,
            node_features=node_features,
            edge_index=edge_index,
            edge_types=edge_types,
            edge_features=edge_features,
            motif_types=motif_types,
            motif_nodes=motif_nodes,
        )
        mean, variance = self.head(readout)
        means, stds = mean.new_tensor(self.label_means), mean.new_tensor(self.label_scales)
        loss = None
        if labels is not None:
            self._check_labels(labels, len(node_types))
            # The labels may be of more digits than the mean, and their mean large.
            wide = torch.promote_types(labels.dtype, mean.dtype)
            loss = gaussian_loss(mean, variance, (labels.to(wide) - means) / stds)
        return AstroGraphVAEPropertyOutput(
            loss=loss, mean=means + stds * mean, variance=stds.square() * variance, readout=readout
        )

    def _check_labels(self, labels: torch.Tensor, graphs: int) -> None:
        if tuple(labels.shape) != (graphs, len(self.property_names)):
            raise ValueError(
                f"labels must have the shape ({graphs}, {len(self.property_names)}), a column for each of "
                f"config.id2label; got {tuple(labels.shape)}."
            )
        infinite = labels.isinf()
        if infinite.any():
            row, column = infinite.nonzero()[0].tolist()
            raise ValueError(
                f"labels must be finite, or NaN where unknown; got {labels[row, column].item()} of graph {row} for "
                f"{self.property_names[column]!r}. Mark it as NaN."
            )


def _label_scale(name: str, values: Sequence[float] | None, count: int, default: float) -> list[float]:
    if values is None:
        return [default] * count
    scale = [float(value) for value in values]
    if len(scale) != count or not all(map(math.isfinite, scale)):
        raise ValueError(
            f"{name} must have {count} finite entries, one for each of id2label; got {scale}. Take those of the "
            "training labels."
        )
    if name == "label_scales" and min(scale) <= 0:
        raise ValueError(f"label_scales must be above 0; got {scale}. Leave out a property that never varies.")
    return scale
