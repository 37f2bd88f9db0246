"""Edges by the places of their nodes, against a loop over edges."""

import pytest
import torch
from reference_graphs import batch_of, random_graph

from modeling_astrobio.graph_dense import dense_graph, num_edge_codes


def dense_of(batch, num_edge_types=6):
    names = ("node_types", "edge_index", "edge_types", "edge_features")
    return dense_graph(*(batch[name] for name in names), num_edge_types=num_edge_types)


@pytest.mark.parametrize("padding", [0, 3])
def test_codes_and_features_are_those_of_a_loop_over_edges(padding):
    graphs = [random_graph(7, seed=1), random_graph(5, seed=2, network=True), random_graph(1, seed=3, motifs=1)]
    batch = batch_of(graphs, padding=padding)
    dense = dense_of(batch)
    nodes = batch["node_types"].shape[1]
    codes, features = torch.zeros(3, nodes, nodes, dtype=torch.long), torch.zeros(2, 3, nodes, nodes).double()
    for row, graph in enumerate(graphs):
        for (start, end), kind, value in zip(
            graph["edge_index"].t().tolist(), graph["edge_types"].tolist(), graph["edge_features"], strict=True
        ):
            directed = kind > 3
            for first, second, code, way in ((start, end, kind, 0), (end, start, kind + 2 * directed, int(directed))):
                codes[row, first, second] = 8 if codes[row, first, second] else code
                features[way, row, first, second] += value.item()
    assert num_edge_codes(6) == 8
    assert (codes == 8).sum() == 2  # the pair of the network with two edges, seen from each end
    assert torch.equal(dense.codes, codes)
    torch.testing.assert_close(dense.features, features, rtol=0, atol=1e-15)
    assert torch.equal(dense.adjacency, (codes > 0).double())
    assert torch.equal(dense.adjacency, dense.adjacency.mT)
    assert torch.equal(dense.node_mask.sum(1), torch.tensor([7, 5, 1]))


def test_types_beyond_the_named_ones_are_directed():
    batch = batch_of([random_graph(3, bonds=[(0, 1), (1, 2)])])
    batch["edge_types"][:] = torch.tensor([6, 2])
    dense = dense_of(batch, num_edge_types=7)
    assert dense.codes[0].tolist() == [[0, 6, 0], [9, 0, 2], [0, 2, 0]]


def test_edge_to_a_place_outside_the_graph_raises():
    batch = batch_of([random_graph(3)])
    batch["edge_index"][0, 0, 0] = 9
    with pytest.raises((IndexError, RuntimeError), match=r"out of (range|bounds)"):
        dense_of(batch)
