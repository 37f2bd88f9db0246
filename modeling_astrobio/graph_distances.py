"""Lengths of shortest paths between the nodes of a batch of graphs.

Shape suffixes: B graphs, N nodes.
"""

import torch


__all__ = ["num_distances", "shortest_path_distances"]


def num_distances(max_distance: int) -> int:
    """Return how many values `shortest_path_distances` can take."""
    return max_distance + 3


def shortest_path_distances(adjacency: torch.Tensor, max_distance: int) -> torch.Tensor:
    """Return the number of edges on the shortest path between each two nodes.

    Sets of nodes within k edges grow by one product with the adjacency at a time, so that all graphs go at once.

    Args:
        adjacency: 1 where two nodes are joined, symmetric, float, shape (B, N, N).
        max_distance: Largest length that is told apart, at least 1.

    Returns:
        0 to `max_distance` edges, `max_distance + 1` for longer paths and `max_distance + 2` where there is none,
        int64, shape (B, N, N).
    """
    nodes = adjacency.shape[-1]
    step = (adjacency + torch.eye(nodes, dtype=adjacency.dtype, device=adjacency.device)).clamp(max=1)
    reached = torch.eye(nodes, dtype=adjacency.dtype, device=adjacency.device).expand_as(adjacency)
    missed = 1 - reached
    for _ in range(max_distance):
        reached = (reached @ step).clamp(max=1)
        missed = missed + (1 - reached)
    length = max_distance
    while length < nodes - 1:
        reached = (reached @ reached).clamp(max=1)
        length *= 2
    return (missed + (1 - reached)).round().long()
