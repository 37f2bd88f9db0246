"""Lengths of shortest paths, against networkx."""

import networkx
import pytest
import torch

from modeling_astrobio.graph_distances import num_distances, shortest_path_distances


def two_pieces(nodes, edges, seed):
    """A sparse random graph, a path of all sizes up to a third of it beside it."""
    graph = networkx.gnm_random_graph(nodes - nodes // 3, edges, seed=seed)
    return networkx.disjoint_union(graph, networkx.path_graph(nodes // 3))


@pytest.mark.parametrize("max_distance", [1, 2, 8, 40])
@pytest.mark.parametrize(("nodes", "edges"), [(1, 0), (7, 4), (37, 30), (61, 45)])
def test_distances_are_those_of_networkx(nodes, edges, max_distance):
    graphs = [two_pieces(nodes, edges, seed) for seed in range(3)]
    adjacency = torch.stack([torch.tensor(networkx.to_numpy_array(graph)) for graph in graphs])
    found = shortest_path_distances(adjacency, max_distance)
    for row, graph in enumerate(graphs):
        lengths = dict(networkx.all_pairs_shortest_path_length(graph))
        for first in graph:
            for second in graph:
                expected = min(lengths[first].get(second, max_distance + 2), max_distance + 2)
                if second in lengths[first]:
                    expected = min(lengths[first][second], max_distance + 1)
                assert found[row, first, second] == expected
    assert found.max() < num_distances(max_distance)


def test_longer_paths_and_no_path_are_told_apart():
    line = torch.tensor(networkx.to_numpy_array(networkx.path_graph(13)))
    line[11, 12] = line[12, 11] = 0
    assert shortest_path_distances(line[None], 3)[0, 0].tolist() == [0, 1, 2, 3, *[4] * 8, 5]
    assert shortest_path_distances(line[None].float(), 3)[0, 12].tolist() == [*[5] * 12, 0]
