"""What attention knows of two tokens of a graph: a code of what joins them, and numbers of two nodes.

Codes and numbers are constants of a batch. Each head of each layer looks the codes up in a table of its own and adds a
linear function of the numbers (after Ying et al. 2021, arXiv:2106.05234, who have one table for all layers).

Shape suffixes: B graphs, C numbers of a pair of nodes, M motifs, N nodes, T tokens (1 + M + N), H heads, K codes.
"""

from typing import NamedTuple

import torch

from .graph_dense import DenseGraph, num_edge_codes
from .graph_distances import num_distances, shortest_path_distances


__all__ = ["AttentionPairs", "GraphRelations", "attention_bias", "num_pair_codes", "pair_codes"]

# Codes of two tokens that are not both nodes, by the kinds of query and key.
_RELATIONS = {
    "graph_graph": 1,
    "graph_motif": 1,
    "graph_node": 1,
    "motif_graph": 1,
    "motif_motif": 4,  # far, joined by an edge, sharing nodes, the same
    "motif_node": 2,  # outside, member
    "node_graph": 1,
    "node_motif": 2,
}


class GraphRelations(NamedTuple):
    """What the codes are made from.

    Attributes:
        dense: Edges by the places of their nodes.
        motif_nodes: Members of a motif, float, shape (B, M, N).
    """

    dense: DenseGraph
    motif_nodes: torch.Tensor


class AttentionPairs(NamedTuple):
    """Pairs of tokens as attention reads them.

    Attributes:
        codes: Of query and key, 0 where the key is padding, int64, shape (B, T, T).
        node_numbers: Of two nodes, shape (C, B, N, N).
        sizes: Number of coarse tokens (graph and motifs) and of nodes; their sum is T.
    """

    codes: torch.Tensor
    node_numbers: torch.Tensor
    sizes: tuple[int, int]


def num_pair_codes(num_edge_types: int, max_distance: int) -> int:
    """Return K, the codes of `pair_codes` that a table holds: all but that of padding."""
    of_nodes = 2 * (num_edge_codes(num_edge_types) + num_distances(max_distance) - 1)
    return of_nodes + sum(_RELATIONS.values())


def _node_codes(relations: GraphRelations, num_edge_types: int, max_distance: int) -> torch.Tensor:
    """Return the code of two nodes from 0, shape (B, N, N): edge or else distance, in one motif or not."""
    dense, members = relations.dense, relations.motif_nodes
    lengths = shortest_path_distances(dense.adjacency, max_distance)
    # Nodes at distance 1 have the codes of their edges.
    apart = num_edge_codes(num_edge_types) + lengths - (lengths > 1).long()
    codes = torch.where(dense.codes > 0, dense.codes - 1, apart)
    num_codes = num_edge_codes(num_edge_types) + num_distances(max_distance) - 1
    return codes + ((members.mT @ members) > 0).long() * num_codes


def _relation_codes(relations: GraphRelations) -> dict[str, torch.Tensor | int]:
    """Return the codes of tokens that are not both nodes, each from 0."""
    members, adjacency = relations.motif_nodes, relations.dense.adjacency
    codes: dict[str, torch.Tensor | int] = dict.fromkeys(_RELATIONS, 0)
    motif_of = members.long()
    joined, shared = (members @ adjacency @ members.mT) > 0, (members @ members.mT) > 0
    motifs = torch.where(shared, 2, joined.long())
    codes["motif_motif"] = motifs + torch.eye(members.shape[1], dtype=torch.long, device=members.device) * (3 - motifs)
    codes["motif_node"], codes["node_motif"] = motif_of, motif_of.mT
    return codes


def pair_codes(
    relations: GraphRelations, token_mask: torch.Tensor, num_edge_types: int, max_distance: int
) -> torch.Tensor:
    """Return the codes of all pairs of tokens, shape (B, T, T), 0 where the key is padding.

    Args:
        relations: What they are made from.
        token_mask: Where a token is real, of the graph, the motifs and the nodes, bool, shape (B, T).
        num_edge_types: Types of edges, "none" included.
        max_distance: Largest distance that is told apart, in edges.
    """
    (batch, tokens), (_, motifs, _) = token_mask.shape, relations.motif_nodes.shape
    at = {"graph": slice(0, 1), "motif": slice(1, 1 + motifs), "node": slice(1 + motifs, tokens)}
    codes = token_mask.new_empty((batch, tokens, tokens), dtype=torch.long)
    codes[:, at["node"], at["node"]] = 1 + _node_codes(relations, num_edge_types, max_distance)
    start = 1 + 2 * (num_edge_codes(num_edge_types) + num_distances(max_distance) - 1)
    of_kinds = _relation_codes(relations)
    for kinds, size in _RELATIONS.items():
        query, key = kinds.split("_")
        codes[:, at[query], at[key]] = start + of_kinds[kinds]
        start += size
    return codes * token_mask[:, None, :]


def attention_bias(pairs: AttentionPairs, table: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return what is added to the scores of a layer, shape (H, B, T, T), the lowest number where the key is padding.

    Args:
        pairs: Pairs of tokens.
        table: Of each code, shape (K, H).
        weight: Of each number of two nodes, shape (H, C).
    """
    codes, numbers, (coarse, _) = pairs
    # The lookup of a whole head at a time is several times as fast as that of all heads of a code.
    padding = table.new_full((1, table.shape[1]), torch.finfo(table.dtype).min)
    bias = torch.cat((padding, table)).t().contiguous().index_select(1, codes.flatten())
    bias = bias.view(-1, *codes.shape)
    of_nodes = bias[:, :, coarse:, coarse:]
    of_nodes += (weight @ numbers.flatten(1)).view(of_nodes.shape)
    return bias
