"""A graph as arrays, before it is put into a batch."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch

from .graph_features import NODE_FEATURES


__all__ = ["GraphError", "GraphRecord", "collate_graphs"]


class GraphError(ValueError):
    """An item that is no graph that the model can read; the message says why."""


@dataclass(frozen=True)
class GraphRecord:
    """A molecule or a metabolic network.

    Attributes:
        node_types: Shape (N,), int64; see `AstroGraphVAEConfig`.
        node_features: Shape (N, F), float32, as `graph_features.NODE_FEATURES` says.
        edge_index: Places of the two nodes of an edge, shape (2, E), int64.
        edge_types: Shape (E,), int64, places in `graph_features.EDGE_TYPES`.
        edge_features: Shape (E, 1), float32: sign times log(1 + |stoichiometric coefficient|); of a bond
            log(1 + order), the order 1.5 where it is aromatic.
        motif_types: Shape (M,), int64, places in `graph_features.MOTIF_TYPES`.
        motif_nodes: Members of each motif, shape (M, N), bool.
    """

    node_types: np.ndarray
    node_features: np.ndarray
    edge_index: np.ndarray
    edge_types: np.ndarray
    edge_features: np.ndarray
    motif_types: np.ndarray
    motif_nodes: np.ndarray

    def __post_init__(self) -> None:
        nodes, edges, motifs = len(self.node_types), len(self.edge_types), len(self.motif_types)
        if not nodes:
            raise GraphError("a graph must have at least one node; got none")
        shapes = {
            "node_types": (nodes,),
            "node_features": (nodes, len(NODE_FEATURES)),
            "edge_index": (2, edges),
            "edge_types": (edges,),
            "edge_features": (edges, 1),
            "motif_types": (motifs,),
            "motif_nodes": (motifs, nodes),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise GraphError(f"{name} must have the shape {shape}; got {getattr(self, name).shape}")
        for name in ("node_features", "edge_features"):
            if not np.isfinite(getattr(self, name)).all():
                raise GraphError(f"{name} must be finite; got NaN or infinity")
        if edges and not 0 <= self.edge_index.min() <= self.edge_index.max() < nodes:
            raise GraphError(
                f"edge_index must be of nodes 0 to {nodes - 1}; got {self.edge_index.min()} to {self.edge_index.max()}"
            )

    @property
    def size(self) -> int:
        """Number of nodes."""
        return len(self.node_types)


def collate_graphs(graphs: Sequence[GraphRecord]) -> dict[str, torch.Tensor]:
    """Put graphs into a batch, padded to the largest of each size.

    Returns:
        The fields of `GraphRecord` as tensors with a first axis of graphs; padding is 0 or false.
    """
    batch = {}
    for field in fields(GraphRecord):
        arrays = [getattr(graph, field.name) for graph in graphs]
        shape = np.max([array.shape for array in arrays], axis=0)
        padded = np.zeros((len(arrays), *shape), dtype=arrays[0].dtype)
        for row, array in zip(padded, arrays, strict=True):
            row[tuple(slice(size) for size in array.shape)] = array
        batch[field.name] = torch.from_numpy(padded)
    return batch
