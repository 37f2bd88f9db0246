"""The edges of a batch of graphs by the places of their nodes, written once; all that looks at pairs reads it.

Shape suffixes: B graphs, N nodes, E edges.
"""

from typing import NamedTuple

import torch

from .graph_features import EDGE_TYPES


__all__ = ["DenseGraph", "dense_graph", "num_edge_codes"]

# Both ends of a bond are alike. All other edges run from their first node to their second, and are seen from each end.
_NUM_SYMMETRIC = sum(kind in ("single", "double", "triple") for kind in EDGE_TYPES)


class DenseGraph(NamedTuple):
    """Edges of graphs by the places of their nodes.

    Attributes:
        codes: Of the edge from row to column, int64, shape (B, N, N): 0 none; its type; for the way against a directed
            edge its type and the number of directed ones; the last of `num_edge_codes` for several edges.
        features: Sum of the edges' features, shape (2, B, N, N): along edges, and against directed ones.
        adjacency: 1 where edges of any type join two nodes, symmetric, shape (B, N, N).
        node_mask: Where a node is real, bool, shape (B, N).
    """

    codes: torch.Tensor
    features: torch.Tensor
    adjacency: torch.Tensor
    node_mask: torch.Tensor


def num_edge_codes(num_edge_types: int) -> int:
    """Return how many values `DenseGraph.codes` can take but 0, for so many types of edges, "none" included."""
    return (num_edge_types - 1) + (num_edge_types - 1 - _NUM_SYMMETRIC) + 1


def dense_graph(
    node_types: torch.LongTensor,
    edge_index: torch.LongTensor,
    edge_types: torch.LongTensor,
    edge_features: torch.Tensor,
    num_edge_types: int,
) -> DenseGraph:
    """Write the edges of graphs by the places of their nodes.

    Args:
        node_types: Shape (B, N), 0 is padding.
        edge_index: Places of the two nodes of an edge, shape (B, 2, E).
        edge_types: Shape (B, E), 0 is padding.
        edge_features: Shape (B, E, 1), at least float32.
        num_edge_types: Types of edges, "none" included.

    Returns:
        In the dtype of `edge_features`.
    """
    batch, nodes = node_types.shape
    area = batch * nodes * nodes
    start, end = edge_index.unbind(1)
    graph = torch.arange(batch, device=node_types.device)[:, None] * nodes
    along, against = (graph + start) * nodes + end, (graph + end) * nodes + start
    # These run from their first node to their second.
    directed = edge_types > _NUM_SYMMETRIC
    real = (edge_types > 0).to(edge_features.dtype)
    feature = edge_features[..., 0] * real
    code = edge_types.to(real.dtype)
    back_code = code + directed * (num_edge_types - 1 - _NUM_SYMMETRIC)
    # Sums of codes, of edges, and of features either way.
    places = (along, against, along + area, against + area, along + 2 * area, against + 2 * area + directed * area)
    values = (code, back_code, real, real, feature, feature)
    dense = code.new_zeros(4 * area).index_add_(0, torch.cat(places, 1).flatten(), torch.cat(values, 1).flatten())
    codes, count, along_features, against_features = dense.view(4, batch, nodes, nodes).unbind(0)
    codes = torch.where(count > 1, num_edge_codes(num_edge_types), codes).long()
    features = torch.stack((along_features, against_features))
    return DenseGraph(codes, features, count.clamp(max=1), node_types > 0)
