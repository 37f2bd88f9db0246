"""Codes of pairs of tokens and the bias they give, against loops over pairs."""

import itertools

import networkx
import pytest
import torch
from reference_graphs import batch_of, random_graph, to_networkx

from modeling_astrobio.attention_graph_bias import (
    AttentionPairs,
    GraphRelations,
    attention_bias,
    num_pair_codes,
    pair_codes,
)
from modeling_astrobio.graph_dense import dense_graph


MAX_DISTANCE = 3


def relations_of(batch):
    dense = dense_graph(*(batch[name] for name in ("node_types", "edge_index", "edge_types", "edge_features")), 6)
    return GraphRelations(dense, batch["motif_nodes"].double())


def codes_of(batch):
    graph = torch.ones(len(batch["node_types"]), 1, dtype=torch.bool)
    mask = torch.cat([graph, batch["motif_types"] > 0, batch["node_types"] > 0], 1)
    return pair_codes(relations_of(batch), mask, 6, MAX_DISTANCE), mask


def described_pairs(graph):
    """What is known of each two tokens of a graph, in words, as a list of lists."""
    members, index, types = graph["motif_nodes"], graph["edge_index"].t().tolist(), graph["edge_types"].tolist()
    lengths = dict(networkx.all_pairs_shortest_path_length(to_networkx(graph)))
    between = {}
    for (start, end), kind in zip(index, types, strict=True):
        between.setdefault((start, end), []).append(kind)
        between.setdefault((end, start), []).append(kind if kind <= 3 else -kind)
    tokens = [("graph", 0)]
    for kind, name in (("motif", "motif_types"), ("node", "node_types")):
        tokens += [(kind, place) for place in range(len(graph[name]))]

    def nodes_of(motif):
        return set(members[motif].nonzero().flatten().tolist())

    def relation(query, key):
        (kind, first), (other, second) = query, key
        pair = {kind, other}
        if kind == other == "node":
            edges = between.get((first, second), [])
            joined = ("several",) if len(edges) > 1 else tuple(edges)
            length = lengths[first].get(second, "none")
            far = length if length == "none" else min(length, MAX_DISTANCE + 1)
            return joined or far, any(members[:, first] & members[:, second])
        if kind == other == "motif":
            shared = bool(nodes_of(first) & nodes_of(second))
            touching = any((a, b) in between for a in nodes_of(first) for b in nodes_of(second))
            return "same" if first == second else "shared" if shared else "joined" if touching else "far"
        if pair == {"motif", "node"}:
            motif, node = (first, second) if kind == "motif" else (second, first)
            return bool(members[motif, node])
        return None

    return [[(query[0], key[0], relation(query, key)) for key in tokens] for query in tokens]


@pytest.mark.parametrize("padding", [0, 2])
def test_codes_tell_apart_what_words_tell_apart_and_nothing_else(padding):
    graphs = [
        random_graph(11, motifs=3, seed=1),
        random_graph(7, motifs=2, seed=2, network=True),
        random_graph(6, motifs=5, seed=3, bonds=[(0, 1), (2, 3)]),
        random_graph(9, motifs=1, seed=4, bonds=[(place, place + 1) for place in range(8)]),
    ]
    codes, mask = codes_of(batch_of(graphs, padding=padding))
    word_of_code: dict[int, tuple] = {}
    code_of_word: dict[tuple, int] = {}
    for row, graph in enumerate(graphs):
        described = described_pairs(graph)
        assert not codes[row][:, ~mask[row]].any()
        real = codes[row][mask[row]][:, mask[row]]
        assert real.shape == (len(described), len(described))
        for (query, words), (key, _) in itertools.product(enumerate(described), enumerate(described)):
            code, word = int(real[query, key]), words[key]
            assert 0 < code <= num_pair_codes(6, MAX_DISTANCE)
            assert word_of_code.setdefault(code, word) == word
            assert code_of_word.setdefault(word, code) == code
    assert len(word_of_code) > 25


def test_bias_is_a_lookup_and_a_linear_function_of_two_nodes():
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 5, (2, 6, 6), generator=generator)
    numbers = torch.randn(3, 2, 4, 4, generator=generator, dtype=torch.float64)
    table = torch.randn(4, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    pairs = AttentionPairs(codes, numbers, (2, 4))
    expected = torch.zeros(5, 2, 6, 6, dtype=torch.float64)
    for head, graph, query, key in itertools.product(range(5), range(2), range(6), range(6)):
        code = int(codes[graph, query, key])
        expected[head, graph, query, key] = table[code - 1, head].item() if code else torch.finfo(torch.float64).min
        if query >= 2 and key >= 2:
            product = weight[head] @ numbers[:, graph, query - 2, key - 2]
            expected[head, graph, query, key] += product.item()
    found = attention_bias(pairs, table, weight)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)
    found[codes.expand_as(found) > 0].sum().backward()
    counts = torch.bincount(codes.flatten(), minlength=5)[1:].double()
    torch.testing.assert_close(table.grad, counts[:, None].expand(4, 5), rtol=0, atol=1e-12)
    real = (codes[:, 2:, 2:] > 0).double()
    torch.testing.assert_close(weight.grad, (numbers * real).sum((1, 2, 3)).expand(5, 3), rtol=0, atol=1e-12)
