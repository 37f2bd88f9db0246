"""Configuration of AstroGraphVAE: a graph transformer encoder, latent tokens, and a decoder that builds molecules."""

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers.configuration_utils import PreTrainedConfig
from transformers.utils.type_validators import interval

from .configuration_presets import config_from_preset
from .graph_features import DEFAULT_ATOM_TYPES, EDGE_TYPES, MOTIF_TYPES, NODE_FEATURES


__all__ = ["ASTRO_GRAPH_VAE_PRESETS", "AstroGraphVAEConfig"]


ASTRO_GRAPH_VAE_PRESETS: dict[str, dict[str, Any]] = {
    # Tests: every size differs, so that swapped axes fail.
    "tiny": {
        "hidden_size": 24,
        "intermediate_size": 56,
        "num_attention_heads": 3,
        "num_encoder_layers": 3,
        "num_decoder_layers": 2,
        "num_latent_tokens": 2,
        "latent_size": 10,
        "max_nodes": 13,
    },
    # The default run: minutes on two CPU cores.
    "nano": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_encoder_layers": 2,
        "num_decoder_layers": 2,
        "num_latent_tokens": 4,
        "latent_size": 16,
        "num_prior_components": 32,
        "max_nodes": 16,
    },
    # QM9 in half an hour of CPU.
    "small": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_encoder_layers": 2,
        "num_decoder_layers": 2,
        "num_latent_tokens": 4,
        "latent_size": 16,
        "num_prior_components": 32,
        "max_nodes": 9,
    },
    # 1.20B parameters.
    "1b2": {
        "hidden_size": 2048,
        "intermediate_size": 8256,
        "num_attention_heads": 16,
        "num_encoder_layers": 9,
        "num_decoder_layers": 8,
        "num_latent_tokens": 16,
        "latent_size": 64,
        "max_nodes": 128,
    },
}
_ENCODINGS = ("random_walk", "degree", "eigenspace", "laplacian_eigenvectors")


@strict
class AstroGraphVAEConfig(PreTrainedConfig):
    r"""Shape and numerics of an AstroGraphVAE.

    Args:
        hidden_size: Width of the tokens, in encoder and decoder.
        intermediate_size: Width of the feed-forward blocks.
        num_attention_heads: Number of heads; divides `hidden_size`.
        num_encoder_layers: Number of encoder layers.
        num_decoder_layers: Number of decoder layers.
        num_latent_tokens: Number of latent tokens of a graph.
        latent_size: Width of a latent token.
        num_prior_components: Gaussians of the prior that latents are drawn from: the standard normal, until it is
            fitted to the latents of a trained model. Each has `(num_latent_tokens * latent_size) ** 2` numbers.
        atom_types: `[atomic number, formal charge, radical electrons, total valence]` of each atom type; the valence
            counts the orders of all bonds, those to hydrogens included. Node type `i + 1` is `atom_types[i]`, node
            type 0 is padding; the two after the last are compound and reaction.
        max_nodes: Most atoms of a molecule that is decoded.
        max_distance: Shortest paths longer than this are alike, in edges.
        num_random_walk_steps: Lengths of random walks whose return probability describes a node.
        structural_encodings: Of `"random_walk"`, `"degree"`, `"eigenspace"`, `"laplacian_eigenvectors"`. The last
            depends on the basis of an eigenspace, so the latents change with the order of the nodes.
        num_node_features: Number of node features, those of `graph_features.NODE_FEATURES`.
        num_edge_types: Kinds of edges, "none" included.
        num_motif_types: Kinds of motifs, "none" included.
        constrain_decoding: Whether the decoder's probabilities are renormalised over what valence and connectedness
            admit, in training and in sampling.
        decoder_type: `"autoregressive"`, or `"one_shot"`, which draws all atoms and bonds at one time.
        hidden_dropout: Dropout on the output of a block, in training.
        attention_dropout: Dropout on attention probabilities, in training.
        layer_norm_eps: Added to the variance before the root.
        initializer_range: Standard deviation of the normal initialisation; `None` is `hidden_size ** -0.5`. At a fixed
            0.02 a narrow model attends evenly for thousands of steps, and its decoder does not read the latents.
        free_bits: Divergence of a latent token below which it is not pressed further, in nats.
        kl_weight: Factor of the divergence in the loss; a trainer changes it while it warms up.
        label_means: Of each property of `id2label`, the mean of its labels, in their unit; `None` counts as 0.
        label_scales: Of each, their standard deviation; `None` counts as 1.

    Raises:
        huggingface_hub.errors.StrictDataclassError: If a field has the wrong type or a size does not fit the others;
            the message names the field, what it needs and what it got.

    Example:
        >>> AstroGraphVAEConfig.from_preset("1b2").num_attention_heads
        16
    """

    model_type = "astro_graph_vae"
    attribute_map = {"num_hidden_layers": "num_encoder_layers"}

    hidden_size: int = 128
    intermediate_size: int = 256
    num_attention_heads: int = 8
    num_encoder_layers: int = 4
    num_decoder_layers: int = 4
    num_latent_tokens: int = 4
    latent_size: int = 16
    num_prior_components: int = 1
    atom_types: list | tuple = tuple(list(kind) for kind in DEFAULT_ATOM_TYPES)
    max_nodes: int = 40
    max_distance: int = 8
    num_random_walk_steps: int = 16
    structural_encodings: list | tuple = ("random_walk", "degree", "eigenspace")
    num_node_features: int = len(NODE_FEATURES)
    num_edge_types: int = len(EDGE_TYPES)
    num_motif_types: int = len(MOTIF_TYPES)
    constrain_decoding: bool = True
    decoder_type: str = "autoregressive"
    hidden_dropout: int | float = interval(min=0.0, max=1.0)(default=0.0)
    attention_dropout: int | float = interval(min=0.0, max=1.0)(default=0.0)
    layer_norm_eps: float = interval(min=0.0)(default=1e-5)
    initializer_range: int | float | None = None
    free_bits: int | float = interval(min=0.0)(default=0.1)
    kl_weight: int | float = interval(min=0.0)(default=1.0)
    label_means: list | tuple | None = None
    label_scales: list | tuple | None = None

    def __post_init__(self, **kwargs):
        self.atom_types = [list(kind) for kind in self.atom_types]
        self.structural_encodings = list(self.structural_encodings)
        if self.initializer_range is None and self.hidden_size > 0:
            self.initializer_range = self.hidden_size**-0.5
        super().__post_init__(**kwargs)

    @property
    def compound_type(self) -> int:
        """Node type of a compound of a metabolic network."""
        return len(self.atom_types) + 1

    @property
    def reaction_type(self) -> int:
        """Node type of a reaction of a metabolic network."""
        return len(self.atom_types) + 2

    @property
    def num_node_types(self) -> int:
        """Padding, atom types, compound and reaction."""
        return len(self.atom_types) + 3

    def validate_architecture(self):
        """Check that the sizes fit one another; run by `@strict` at construction and before saving."""
        positive = (
            *("hidden_size", "intermediate_size", "num_attention_heads", "num_encoder_layers", "num_decoder_layers"),
            *("num_latent_tokens", "latent_size", "max_nodes", "max_distance", "num_random_walk_steps"),
            *("num_prior_components", "num_node_features"),
        )
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}.")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_attention_heads ({self.num_attention_heads}); got "
                f"{self.hidden_size}."
            )
        if self.num_edge_types < len(EDGE_TYPES) or self.num_motif_types < 1:
            raise ValueError(
                f"num_edge_types must be at least {len(EDGE_TYPES)} and num_motif_types at least 1; got "
                f"{self.num_edge_types} and {self.num_motif_types}."
            )
        if self.decoder_type not in ("autoregressive", "one_shot"):
            raise ValueError(f"decoder_type must be autoregressive or one_shot; got {self.decoder_type!r}.")
        if not 0 <= self.initializer_range <= 1:
            raise ValueError(f"initializer_range must be from 0 to 1; got {self.initializer_range}.")
        for name in self.structural_encodings:
            if name not in _ENCODINGS:
                raise ValueError(f"structural_encodings must be of {_ENCODINGS}; got {name!r}.")
        self._validate_atom_types()

    def _validate_atom_types(self) -> None:
        if not self.atom_types:
            raise ValueError("atom_types must name at least one atom type; got none.")
        for kind in self.atom_types:
            is_whole = len(kind) == 4 and all(isinstance(value, int) for value in kind)
            if not is_whole or not 1 <= kind[0] <= 118 or kind[2] < 0 or not 0 <= kind[3] <= 8:
                raise ValueError(
                    "atom_types must hold [atomic number 1 to 118, formal charge, radical electrons, total valence 0 "
                    f"to 8]; got {kind}."
                )
        if len({tuple(kind) for kind in self.atom_types}) < len(self.atom_types):
            raise ValueError("atom_types must name each atom type once; got one twice.")

    @classmethod
    def from_preset(cls, name: str, **overrides) -> "AstroGraphVAEConfig":
        """Build the configuration of a named preset.

        Args:
            name: One of `ASTRO_GRAPH_VAE_PRESETS`: "tiny", "nano", "small", "1b2".
            **overrides: Fields to change.

        Raises:
            ValueError: If the preset or an overridden field is unknown; the message names the nearest one.
        """
        return config_from_preset(
            cls, ASTRO_GRAPH_VAE_PRESETS, name, overrides, properties=("num_labels", "id2label", "label2id")
        )
