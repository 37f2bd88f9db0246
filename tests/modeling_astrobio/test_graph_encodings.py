"""Structural encodings, against PyTorch Geometric, against matrix functions, and under relabelling.

Tolerances: PyTorch Geometric walks in float32 (1e-6); in float64 a few roundings of an eigendecomposition (1e-10).
"""

import networkx
import numpy as np
import pytest
import torch
from numpy.polynomial.chebyshev import chebinterpolate
from reference_graphs import batch_of, random_graph, six_ring

from modeling_astrobio.graph_dense import dense_graph
from modeling_astrobio.graph_encodings import (
    degree_encoding,
    laplacian_eigenvectors,
    laplacian_spectrum,
    normalised_adjacency,
    random_walk_return_probabilities,
    spectral_filter_diagonals,
    spectral_filters,
)


EXACT = {"rtol": 0, "atol": 1e-10}


def dense_of(graphs, padding=0, dtype=torch.float64):
    batch = batch_of(graphs, dtype=dtype, padding=padding)
    names = ("node_types", "edge_index", "edge_types", "edge_features")
    return dense_graph(*(batch[name] for name in names), num_edge_types=6)


def spectrum_of(dense):
    return laplacian_spectrum(normalised_adjacency(dense.adjacency), dense.node_mask)


def several_graphs():
    return [random_graph(13, seed=1), random_graph(7, seed=2), random_graph(1, motifs=1), random_graph(4, bonds=[])]


def pyg_data(graph):
    torch_geometric = pytest.importorskip("torch_geometric", reason="torch_geometric is the reference")
    index = torch.cat((graph["edge_index"], graph["edge_index"].flip(0)), dim=1)
    return torch_geometric.data.Data(edge_index=index, num_nodes=len(graph["node_types"]))


@pytest.mark.parametrize("num_steps", [1, 2, 7, 16])
def test_random_walks_equal_pytorch_geometric(num_steps):
    graphs = several_graphs()
    transforms = pytest.importorskip("torch_geometric.transforms", reason="torch_geometric is the reference")
    dense = dense_of(graphs, padding=2)
    found = random_walk_return_probabilities(normalised_adjacency(dense.adjacency), num_steps)
    assert found.shape == (4, 15, num_steps)
    for row, graph in zip(found, graphs, strict=True):
        expected = transforms.AddRandomWalkPE(num_steps)(pyg_data(graph)).random_walk_pe
        torch.testing.assert_close(row[: len(expected)].float(), expected, rtol=0, atol=1e-6)
        assert not row[len(expected) :].any()


def test_random_walks_equal_powers_of_the_walk_matrix():
    dense = dense_of([random_graph(13, seed=1)])
    walk = dense.adjacency / dense.adjacency.sum(-1, keepdim=True)
    expected = torch.stack([torch.linalg.matrix_power(walk, step).diagonal(0, 1, 2) for step in range(1, 12)], -1)
    found = random_walk_return_probabilities(normalised_adjacency(dense.adjacency), 11)
    torch.testing.assert_close(found, expected, **EXACT)


def test_degrees_are_counted():
    star = random_graph(6, bonds=[(0, place) for place in range(1, 5)])
    found = degree_encoding(dense_of([star]).adjacency, num_degrees=3)[0]
    torch.testing.assert_close(found[:, 0].exp() - 1, torch.tensor([4.0, 1, 1, 1, 1, 0]).double(), **EXACT)
    assert found[:, 1:].tolist() == [[0, 0, 1], *[[0, 1, 0]] * 4, [1, 0, 0]]


def test_eigenvectors_equal_pytorch_geometric_up_to_sign():
    graphs = [random_graph(13, seed=3), random_graph(9, seed=2)]
    transforms = pytest.importorskip("torch_geometric.transforms", reason="torch_geometric is the reference")
    dense = dense_of(graphs, padding=2)
    values, vectors = spectrum_of(dense)
    found = laplacian_eigenvectors(values, vectors, 6, random_signs=False)
    for row, (graph, own, eigenvalues) in enumerate(zip(graphs, found, values, strict=True)):
        nodes = len(graph["node_types"])
        assert eigenvalues[:nodes].diff().min() > 1e-3, "the spectrum must be simple"
        assert (eigenvalues[:nodes] < 2 + 1e-12).all(), row
        expected = transforms.AddLaplacianEigenvectorPE(6, is_undirected=True)(pyg_data(graph))
        expected = expected.laplacian_eigenvector_pe.double()
        signs = (own[:nodes] * expected).sum(0).sign()
        torch.testing.assert_close(own[:nodes] * signs, expected, rtol=0, atol=1e-6)
        assert not own[nodes:].any()


def test_signs_are_drawn_in_training_alone_and_missing_vectors_are_zero():
    dense = dense_of([random_graph(4, seed=1)], padding=1)
    values, vectors = spectrum_of(dense)
    fixed = laplacian_eigenvectors(values, vectors, 6, random_signs=False)
    assert fixed.shape == (1, 5, 6)
    assert torch.equal(fixed, laplacian_eigenvectors(values, -vectors, 6, random_signs=False))
    assert fixed[0, :4, :3].abs().sum(0).min() > 0
    assert not fixed[..., 3:].any()
    torch.manual_seed(0)
    drawn = torch.stack([laplacian_eigenvectors(values, vectors, 6, random_signs=True) for _ in range(64)])
    torch.testing.assert_close(drawn.abs(), fixed.abs().expand_as(drawn), **EXACT)
    signs = (drawn * fixed).sum((1, 2))[:, :3].sign()
    assert signs.mean(0).abs().max() < 0.5
    assert len({tuple(row) for row in signs.tolist()}) == 8


@pytest.mark.parametrize("num_filters", [2, 5, 8])
def test_filters_are_functions_of_the_laplacian(num_filters):
    # exp(-(L - c)^2 / 2 s^2) as a series of Chebyshev polynomials of L - 1, which knows no eigenvectors.
    dense = dense_of([random_graph(13, seed=1), random_graph(7, seed=2)], padding=2)
    found = spectral_filters(*spectrum_of(dense), num_filters)
    assert found.shape == (2, num_filters, 15, 15)
    for row, nodes in ((0, 13), (1, 7)):
        eye = torch.eye(nodes).double()
        shifted = -normalised_adjacency(dense.adjacency)[row, :nodes, :nodes]
        for place, centre in enumerate(np.linspace(0, 2, num_filters)):
            series = chebinterpolate(lambda x, c=centre: np.exp(-0.5 * ((x + 1 - c) * (num_filters - 1)) ** 2), 80)
            before, now, expected = eye, shifted, series[0] * eye
            for coefficient in series[1:]:
                expected = expected + coefficient * now
                before, now = now, 2 * shifted @ now - before
            torch.testing.assert_close(found[row, place, :nodes, :nodes], expected, **EXACT)
        assert found[row, :, nodes:].abs().max() < 1e-12
        assert found[row, :, :, nodes:].abs().max() < 1e-12


def test_six_ring_moves_plain_eigenvectors_under_relabelling_but_not_filters():
    order = torch.tensor([2, 5, 0, 3, 1, 4])
    adjacency = dense_of([six_ring()]).adjacency
    moved = adjacency[:, order][:, :, order]
    mask = torch.ones(1, 6, dtype=torch.bool)
    spectra = [laplacian_spectrum(normalised_adjacency(each), mask) for each in (adjacency, moved)]
    filters = [spectral_filters(*spectrum, 8) for spectrum in spectra]
    torch.testing.assert_close(filters[1], filters[0][:, :, order][:, :, :, order], **EXACT)
    nodes = [spectral_filter_diagonals(each) for each in filters]
    torch.testing.assert_close(nodes[1], nodes[0][:, order], **EXACT)
    plain = [laplacian_eigenvectors(*spectrum, 5, random_signs=False) for spectrum in spectra]
    assert (plain[1].abs() - plain[0][:, order].abs()).abs().max() > 0.1


def test_filters_tell_the_cube_from_another_graph_of_eight_nodes_with_three_neighbours_each():
    cube, wagner = networkx.hypercube_graph(3), networkx.circulant_graph(8, [1, 4])
    found = []
    for graph in (cube, wagner):
        adjacency = torch.tensor(networkx.to_numpy_array(graph))[None]
        spectrum = laplacian_spectrum(normalised_adjacency(adjacency), torch.ones(1, 8, dtype=torch.bool))
        found.append(spectral_filter_diagonals(spectral_filters(*spectrum, 8))[0, 0])
    assert (found[0] - found[1]).abs().max() > 0.01


def test_half_of_the_precision_is_not_lost_in_float32():
    dense = dense_of([random_graph(37, seed=1)])
    exact = spectral_filters(*spectrum_of(dense), 8)
    narrow = dense_of([random_graph(37, seed=1)], dtype=torch.float32)
    values, vectors = spectrum_of(narrow)
    assert values.dtype == vectors.dtype == torch.float64
    torch.testing.assert_close(spectral_filters(values.float(), vectors.float(), 8).double(), exact, rtol=0, atol=2e-6)
