"""Encoder of AstroGraphVAE: a graph transformer over tokens of the graph, its motifs, its nodes and its edges.

Nothing in it depends on the order of nodes, edges or motifs, but for the option of plain Laplacian eigenvectors. The
graph, its motifs and its nodes attend to one another; what edges join is known to attention by its bias. The tokens of
edges are read off the nodes of the last layer, so that the latents pool them too: a molecule has as many bonds as
atoms, and edges that attended made a step of the encoder up to 1.4 times as long.

Shape suffixes: B graphs, M motifs, N nodes, E edges, T tokens (1 + M + N + E), D width.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .attention_eager import eager_attention_forward
from .attention_graph_bias import AttentionPairs, GraphRelations, attention_bias, num_pair_codes, pair_codes
from .attention_small_graphs import small_graph_attention
from .configuration_astro_graph_vae import AstroGraphVAEConfig
from .graph_dense import DenseGraph, dense_graph
from .graph_encodings import (
    degree_encoding,
    laplacian_eigenvectors,
    laplacian_spectrum,
    normalised_adjacency,
    random_walk_return_probabilities,
    spectral_filter_diagonals,
    spectral_filters,
)


__all__ = ["GraphAttention", "GraphEncoder", "GraphEncoderLayer", "GraphEncoding"]

_NUM_DEGREES = 8
_NUM_FILTERS = 8
_NUM_EIGENVECTORS = 8


class GraphEncoding(NamedTuple):
    """Tokens of graphs: the graph, its motifs, its nodes, its edges.

    Attributes:
        token_states: Shape (B, T, D), 0 where a token is padding.
        token_mask: Where a token is real, bool, shape (B, T).
    """

    token_states: torch.Tensor
    token_mask: torch.Tensor


class GraphAttention(nn.Module):
    """Attention of all tokens of a graph to one another, with a learned bias from what joins them.

    With `attn_implementation="sdpa"`, the CPU takes `small_graph_attention`, which returns no weights, and a GPU takes
    torch's kernel, to which the bias is an additive mask.
    """

    def __init__(self, config: AstroGraphVAEConfig, layer_idx: int):
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = config.attention_dropout
        self.is_causal = False
        num_codes = num_pair_codes(config.num_edge_types, config.max_distance)
        num_numbers = 2 + _NUM_FILTERS * ("eigenspace" in config.structural_encodings)
        self.bias_table = nn.Embedding(num_codes, config.num_attention_heads)
        self.bias_proj = nn.Linear(num_numbers, config.num_attention_heads, bias=False)
        self.qkv_proj = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.output_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor, pairs: AttentionPairs) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attend; `hidden_states` is (B, T, D)."""
        qkv = self.qkv_proj(hidden_states)
        bias_weights = (self.bias_table.weight, self.bias_proj.weight)
        dropout = self.attention_dropout if self.training else 0.0
        implementation = self.config._attn_implementation or "sdpa"
        is_wide = qkv.dtype == bias_weights[0].dtype in (torch.float32, torch.float64)
        if implementation == "sdpa" and qkv.device.type == "cpu" and is_wide and not dropout:
            return self.output_proj(small_graph_attention(qkv, *bias_weights, pairs)), None

        query, key, value = (part.transpose(1, 2) for part in qkv.unflatten(-1, (3, -1, self.head_dim)).unbind(2))
        attend: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
        bias = attention_bias(pairs, *bias_weights).transpose(0, 1).to(qkv.dtype)
        attended, weights = attend(self, query, key, value, bias, dropout=dropout, scaling=self.scaling)
        return self.output_proj(attended.flatten(2)), weights


class GraphMLP(nn.Module):
    """Feed-forward block with a GELU (Hendrycks and Gimpel 2016, arXiv:1606.08415)."""

    def __init__(self, config: AstroGraphVAEConfig):
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.down_proj(nn.functional.gelu(self.up_proj(hidden_states)))


class GraphEncoderLayer(GradientCheckpointingLayer):
    """Pre-norm residual layer: attention of all tokens, then a feed-forward block for each kind of token.

    The kinds are coarse tokens (graph and motifs) and nodes; attention is what they share (as Bao et al. 2021,
    arXiv:2111.02358, for image and text).
    """

    def __init__(self, config: AstroGraphVAEConfig, layer_idx: int):
        super().__init__()
        self.self_attn = GraphAttention(config, layer_idx)
        self.mlps = nn.ModuleList(GraphMLP(config) for _ in ("coarse", "node"))
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, hidden_states: torch.Tensor, pairs: AttentionPairs) -> torch.Tensor:
        attended, _ = self.self_attn(self.attention_norm(hidden_states), pairs)
        hidden_states = hidden_states + self.dropout(attended)
        kinds = self.mlp_norm(hidden_states).split(pairs.sizes, dim=1)
        fed = torch.cat([mlp(states) for mlp, states in zip(self.mlps, kinds, strict=True)], dim=1)
        return hidden_states + self.dropout(fed)


class GraphEncoder(nn.Module):
    """Tokens of graphs from what the processor gives.

    Args:
        config: Its shape.
        with_edge_tokens: Whether edges have tokens of their own in the result.
    """

    def __init__(self, config: AstroGraphVAEConfig, with_edge_tokens: bool = True):
        super().__init__()
        self.config = config
        width = config.hidden_size
        sizes = {
            "random_walk": config.num_random_walk_steps,
            "degree": 1 + _NUM_DEGREES,
            "eigenspace": _NUM_FILTERS,
            "laplacian_eigenvectors": _NUM_EIGENVECTORS,
        }
        self.graph_embedding = nn.Embedding(1, width)
        self.graph_size_proj = nn.Linear(3, width)
        self.motif_embedding = nn.Embedding(config.num_motif_types, width, padding_idx=0)
        self.node_embedding = nn.Embedding(config.num_node_types, width, padding_idx=0)
        self.node_proj = nn.Linear(config.num_node_features, width)
        self.encoding_projs = nn.ModuleDict(
            {name: nn.Linear(sizes[name], width, bias=False) for name in config.structural_encodings}
        )
        self.with_edge_tokens = with_edge_tokens
        if with_edge_tokens:
            self.edge_embedding = nn.Embedding(config.num_edge_types, width, padding_idx=0)
            self.edge_proj = nn.Linear(1, width, bias=False)
        self.layers = nn.ModuleList(GraphEncoderLayer(config, index) for index in range(config.num_encoder_layers))
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(
        self,
        node_types: torch.LongTensor,
        node_features: torch.Tensor,
        edge_index: torch.LongTensor,
        edge_types: torch.LongTensor,
        edge_features: torch.Tensor,
        motif_types: torch.LongTensor,
        motif_nodes: torch.BoolTensor,
    ) -> GraphEncoding:
        """Encode graphs.

        Args:
            node_types: Shape (B, N), 0 is padding.
            node_features: Shape (B, N, F), as `graph_features.NODE_FEATURES` says.
            edge_index: Places of the two nodes of an edge, shape (B, 2, E).
            edge_types: Shape (B, E), 0 is padding.
            edge_features: Shape (B, E, 1).
            motif_types: Shape (B, M), 0 is padding.
            motif_nodes: Members of a motif, bool, shape (B, M, N).
        """
        dtype = self.node_embedding.weight.dtype
        wide = torch.promote_types(dtype, torch.float32)
        with torch.no_grad():
            dense = dense_graph(node_types, edge_index, edge_types, edge_features.to(wide), self.config.num_edge_types)
            encodings, filters = self._encodings(dense)
            relations = GraphRelations(dense, motif_nodes.to(wide))
            token_mask = self._token_mask(node_types, motif_types)
            pairs = self._pairs(relations, token_mask, filters, dtype)
        states = self._initial_states(dtype, relations, encodings, node_types, node_features, edge_types, motif_types)
        for layer in self.layers:
            states = layer(states, pairs)
        if self.with_edge_tokens:
            edges = self._edge_states(states[:, pairs.sizes[0] :], edge_index, edge_types, edge_features)
            states, token_mask = torch.cat((states, edges), dim=1), torch.cat((token_mask, edge_types > 0), dim=1)
        return GraphEncoding(self.norm(states) * token_mask[..., None], token_mask)

    def _encodings(self, dense: DenseGraph) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Encodings of nodes by name, each (B, N, size), and the spectral filters (B, C or 0, N, N)."""
        wanted, adjacency = self.config.structural_encodings, dense.adjacency
        filters = adjacency.new_zeros(len(adjacency), 0, *adjacency.shape[1:])
        normalised = normalised_adjacency(adjacency)
        found = {}
        if "random_walk" in wanted:
            found["random_walk"] = random_walk_return_probabilities(normalised, self.config.num_random_walk_steps)
        if "degree" in wanted:
            found["degree"] = degree_encoding(adjacency, _NUM_DEGREES)
        if "eigenspace" in wanted or "laplacian_eigenvectors" in wanted:
            values, vectors = (part.to(adjacency.dtype) for part in laplacian_spectrum(normalised, dense.node_mask))
        if "eigenspace" in wanted:
            filters = spectral_filters(values, vectors, _NUM_FILTERS)
            found["eigenspace"] = spectral_filter_diagonals(filters)
        if "laplacian_eigenvectors" in wanted:
            found["laplacian_eigenvectors"] = laplacian_eigenvectors(
                values, vectors, _NUM_EIGENVECTORS, random_signs=self.training
            )
        return found, filters

    @staticmethod
    def _token_mask(node_types, motif_types) -> torch.Tensor:
        graph = torch.ones(len(node_types), 1, dtype=torch.bool, device=node_types.device)
        return torch.cat((graph, motif_types > 0, node_types > 0), dim=1)

    def _initial_states(
        self, dtype, relations, encodings, node_types, node_features, edge_types, motif_types
    ) -> torch.Tensor:
        """States of graph, motifs and nodes before the first layer, shape (B, 1 + M + N, D)."""
        nodes = self.node_embedding(node_types) + self.node_proj(node_features.to(dtype))
        for name, projection in self.encoding_projs.items():
            nodes = nodes + projection(encodings[name].to(dtype))
        members = relations.motif_nodes
        shares = (members / members.sum(-1, keepdim=True).clamp(min=1)).to(dtype)
        motifs = self.motif_embedding(motif_types) + shares @ nodes
        counts = torch.stack([(types > 0).sum(-1) for types in (motif_types, node_types, edge_types)], dim=-1)
        graphs = self.graph_embedding.weight + self.graph_size_proj(counts.to(members.dtype).log1p().to(dtype))
        return torch.cat((graphs[:, None], motifs, nodes), dim=1)

    def _pairs(self, relations, token_mask, filters, dtype) -> AttentionPairs:
        """Pairs of the tokens that attend."""
        codes = pair_codes(relations, token_mask, self.config.num_edge_types, self.config.max_distance)
        numbers = torch.cat((relations.dense.features, filters.transpose(0, 1))).to(dtype)
        nodes = numbers.shape[-1]
        return AttentionPairs(codes, numbers, (token_mask.shape[1] - nodes, nodes))

    def _edge_states(self, nodes, edge_index, edge_types, edge_features) -> torch.Tensor:
        """States of edges from those of their two nodes, shape (B, E, D)."""
        batch, count, width = nodes.shape
        rows = torch.arange(batch, device=nodes.device)[:, None, None] * count + edge_index
        first, second = nodes.reshape(-1, width).index_select(0, rows.flatten()).view(*rows.shape, width).unbind(1)
        return self.edge_embedding(edge_types) + self.edge_proj(edge_features.to(nodes.dtype)) + first + second
