"""The encoder: what it must not depend on, what must reach its parameters, and its kernels against one another.

Tolerances: float64 1e-10 and float32 1e-5, some layers of roundings.
"""

import pytest
import torch
from reference_graphs import batch_of, permuted, random_graph, six_ring
from transformers.modeling_utils import PreTrainedModel

from modeling_astrobio.configuration_astro_graph_vae import AstroGraphVAEConfig
from modeling_astrobio.graph_encoder import GraphAttention, GraphEncoder


EXACT, CLOSE = {"rtol": 0, "atol": 1e-10}, {"rtol": 0, "atol": 1e-5}
TOLERANCE = {torch.float64: EXACT, torch.float32: CLOSE}
ALL_ENCODINGS = ("random_walk", "degree", "eigenspace", "laplacian_eigenvectors")


class Holder(PreTrainedModel):
    """What turns gradient checkpointing on, as the model does."""

    config_class = AstroGraphVAEConfig
    supports_gradient_checkpointing = True

    def __init__(self, config):
        super().__init__(config)
        self.encoder = GraphEncoder(config)


def encoder_of(dtype=torch.float64, implementation="sdpa", **fields):
    """An encoder whose every parameter is random, so that nothing hides behind a zero or a one."""
    config = AstroGraphVAEConfig.from_preset("tiny", **fields)
    config._attn_implementation = implementation
    encoder = GraphEncoder(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return encoder.to(dtype).eval()


def mixed_graphs():
    return [
        random_graph(11, motifs=3, seed=1),
        random_graph(7, motifs=2, seed=2, network=True),
        random_graph(6, motifs=1, seed=3, bonds=[(0, 1), (2, 3)]),
        random_graph(1, motifs=1, seed=4),
    ]


def token_places(graph, batch):
    """Places in the batch's tokens of those of one graph: itself, motifs, nodes, edges."""
    kinds = ("motif_types", "node_types", "edge_types")
    places, start = [torch.zeros(1, dtype=torch.long)], 1
    for kind in kinds:
        places.append(start + torch.arange(len(graph[kind])))
        start += batch[kind].shape[1]
    return torch.cat(places)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_relabelling_moves_the_states_and_changes_none(dtype):
    encoder = encoder_of(dtype)
    for graph in (random_graph(11, motifs=3, seed=1), random_graph(7, seed=2, network=True), six_ring()):
        generator = torch.Generator().manual_seed(1)
        orders = [
            torch.randperm(len(graph[k]), generator=generator) for k in ("node_types", "edge_types", "motif_types")
        ]
        nodes, edges, motifs = orders
        before = encoder(**batch_of([graph], dtype)).token_states[0]
        after = encoder(**batch_of([permuted(graph, nodes, edges, motifs)], dtype)).token_states[0]
        counts = (1, len(motifs), len(nodes), len(edges))
        start = before.split(counts)
        expected = torch.cat((start[0], start[1][motifs], start[2][nodes], start[3][edges]))
        torch.testing.assert_close(after, expected, **TOLERANCE[dtype])
        assert expected[1:].std(0).max() > 0.01 or len(graph["node_types"]) == 6


def test_an_edge_is_read_off_its_two_nodes_after_the_last_layer():
    encoder, graphs = encoder_of(), mixed_graphs()
    batch = batch_of(graphs, padding=1)
    seen = []
    encoder.layers[-1].register_forward_hook(lambda _module, _inputs, states: seen.append(states))
    found = encoder(**batch).token_states
    nodes = seen[0][:, 1 + batch["motif_types"].shape[1] :]
    start = found.shape[1] - batch["edge_types"].shape[1]
    for row, graph in enumerate(graphs):
        for edge, (first, second) in enumerate(graph["edge_index"].t().tolist()):
            expected = (
                nodes[row, first] + nodes[row, second] + encoder.edge_embedding.weight[graph["edge_types"][edge]]
            )
            expected = expected + encoder.edge_proj.weight @ graph["edge_features"][edge].double()
            torch.testing.assert_close(found[row, start + edge], encoder.norm(expected), **EXACT)


def test_plain_eigenvectors_do_depend_on_the_order_of_a_six_ring():
    graph, order = six_ring(), torch.tensor([2, 5, 0, 3, 1, 4])
    moved = permuted(graph, order, torch.arange(6), torch.arange(1))
    found = {}
    for name in ("eigenspace", "laplacian_eigenvectors"):
        encoder = encoder_of(structural_encodings=[name])
        before, after = (encoder(**batch_of([each])).token_states[0, 2:8] for each in (graph, moved))
        found[name] = (before[order] - after).abs().max().item()
    assert found["eigenspace"] < 1e-10
    assert found["laplacian_eigenvectors"] > 0.01


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("padding", [0, 3])
def test_graphs_of_a_batch_do_not_know_of_one_another_nor_of_padding(dtype, padding):
    encoder = encoder_of(dtype)
    graphs = mixed_graphs()
    batch = batch_of(graphs, dtype, padding)
    together = encoder(**batch)
    assert together.token_states.dtype == dtype
    for row, graph in enumerate(graphs):
        alone = encoder(**batch_of([graph], dtype))
        assert alone.token_mask.all()
        places = token_places(graph, batch)
        assert torch.equal(together.token_mask[row].nonzero().flatten(), places)
        torch.testing.assert_close(together.token_states[row, places], alone.token_states[0], **TOLERANCE[dtype])
        assert not together.token_states[row][~together.token_mask[row]].any()


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_gradients_reach_every_parameter(implementation):
    encoder = encoder_of(implementation=implementation, structural_encodings=ALL_ENCODINGS)
    # A weighting of tokens, as the norm makes the sum over a state constant.
    star = random_graph(9, bonds=[(0, place) for place in range(1, 9)])
    wheel = random_graph(8, bonds=[(0, 1), (0, 2), (0, 3), (0, 4), (0, 5), (0, 6), (1, 2), (1, 3), (1, 4), (1, 5)])
    encoding = encoder(**batch_of([*mixed_graphs(), star, wheel], padding=1))
    weights = torch.randn(encoding.token_states.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (encoding.token_states * weights).sum().backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if name.endswith("bias_proj.weight") or "encoding_projs" in name:
            dead = (parameter.grad.abs().sum(0) < 1e-12).nonzero().flatten().tolist()
            # The walk cannot be back after one step.
            assert dead == ([0] if "random_walk" in name else []), (name, dead)
        elif name.endswith("bias_table.weight"):
            assert (parameter.grad.abs().sum(1) > 1e-12).sum() >= 25, name
        else:
            assert parameter.grad.abs().max() > 1e-9, name
    assert encoder.encoding_projs.keys() == set(ALL_ENCODINGS)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("dropped", [0.0, 1e-30])
def test_kernels_agree_in_values_and_gradients(dtype, dropped):
    # A dropout that is on but drops nothing makes sdpa leave the kernel of small graphs for torch's.
    found = {}
    for implementation in ("eager", "sdpa"):
        encoder = encoder_of(dtype, implementation, attention_dropout=dropped).train()
        states = encoder(**batch_of(mixed_graphs(), dtype, padding=2)).token_states
        weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        (states * weights.to(dtype)).sum().backward()
        found[implementation] = [states, *(parameter.grad for parameter in encoder.parameters())]
    for ours, oracle in zip(found["sdpa"], found["eager"], strict=True):
        scale = max(1.0, oracle.abs().max().item())
        torch.testing.assert_close(ours / scale, oracle / scale, **TOLERANCE[dtype])


def test_eager_attention_returns_weights_that_sum_to_one_over_real_tokens():
    encoder = encoder_of(implementation="eager")
    attention = encoder.layers[0].self_attn
    seen = []
    attention.register_forward_hook(lambda _module, _inputs, output: seen.append(output[1]))
    encoding = encoder(**batch_of(mixed_graphs(), padding=1))
    (weights,) = seen
    total = weights.shape[-1]
    assert weights.shape == (4, 3, total, total)
    torch.testing.assert_close(weights.sum(-1), torch.ones(4, 3, total).double(), **EXACT)
    assert not weights[~encoding.token_mask[:, None, None, :total].expand_as(weights)].any()
    assert isinstance(attention, GraphAttention)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("encodings", [[], *([name] for name in ALL_ENCODINGS)], ids=str)
def test_the_smallest_graphs_give_finite_states_and_gradients(implementation, encodings):
    encoder = encoder_of(torch.float32, implementation, structural_encodings=encodings)
    atom = random_graph(1, motifs=0)
    nothing = {name: value[:0] if name != "edge_index" else value for name, value in atom.items()}
    nothing["motif_nodes"] = atom["motif_nodes"][:, :0]
    for graphs in ([atom], [random_graph(5, bonds=[])], [random_graph(5, motifs=0)], [atom, random_graph(5), nothing]):
        encoder.zero_grad()
        encoding = encoder(**batch_of(graphs, torch.float32))
        encoding.token_states.square().sum().backward()
        assert encoding.token_states.isfinite().all()
        assert all(p.grad.isfinite().all() for p in encoder.parameters() if p.grad is not None)


def test_edge_direction_and_features_change_the_states():
    graph = random_graph(7, seed=2, network=True)
    encoder = encoder_of()
    before = encoder(**batch_of([graph])).token_states
    turned = {**graph, "edge_index": graph["edge_index"].flip(0)}
    scaled = {**graph, "edge_features": graph["edge_features"] * 2}
    for changed in (turned, scaled):
        assert (encoder(**batch_of([changed])).token_states - before).abs().max() > 0.01
    bonds = random_graph(7, seed=2)
    turned = {**bonds, "edge_index": bonds["edge_index"].flip(0)}
    found = [encoder(**batch_of([each])).token_states for each in (bonds, turned)]
    torch.testing.assert_close(*found, **EXACT)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_gives_equal_gradients(use_reentrant):
    found = []
    for checkpointing in (False, True):
        config = AstroGraphVAEConfig.from_preset("tiny")
        torch.manual_seed(0)
        model = Holder(config).double().train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
            assert all(layer.gradient_checkpointing for layer in model.encoder.layers)
        states = model.encoder(**batch_of(mixed_graphs(), padding=1)).token_states
        weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        (states * weights).sum().backward()
        found.append([parameter.grad for parameter in model.encoder.parameters()])
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, **EXACT)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_bfloat16_is_near_float32(implementation):
    encoder = encoder_of(torch.float32, implementation)
    batch = batch_of(mixed_graphs(), torch.float32, padding=1)
    expected = encoder(**batch).token_states
    with torch.autocast("cpu", torch.bfloat16):
        mixed = encoder(**batch).token_states
    narrow = encoder.to(torch.bfloat16)(**batch).token_states
    assert narrow.dtype == torch.bfloat16
    # Some twenty products in a row, each rounded to 2^-8.
    spread = expected.std()
    for found in (mixed, narrow):
        assert found.isfinite().all()
        assert (found.float() - expected).std() < 0.1 * spread
    narrow.float().square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())


def test_dropout_is_drawn_in_training_alone():
    encoder = encoder_of(hidden_dropout=0.3, attention_dropout=0.2)
    batch = batch_of(mixed_graphs())
    assert torch.equal(encoder(**batch).token_states, encoder(**batch).token_states)
    encoder.train()
    first, second = encoder(**batch).token_states, encoder(**batch).token_states
    assert (first - second).abs().max() > 0.01


def test_the_largest_preset_has_the_layers_of_the_small_ones():
    with torch.device("meta"):
        large = GraphEncoder(AstroGraphVAEConfig.from_preset("1b2"))
    small = GraphEncoder(AstroGraphVAEConfig.from_preset("nano", num_encoder_layers=len(large.layers)))
    assert large.state_dict().keys() == small.state_dict().keys()


@pytest.mark.gpu
def test_a_gpu_gives_what_the_cpu_gives():
    batch = batch_of(mixed_graphs(), torch.float32, padding=1)
    found = {}
    for device, implementation in (("cpu", "eager"), ("cuda", "eager"), ("cuda", "sdpa")):
        encoder = encoder_of(torch.float32, implementation).to(device)
        states = encoder(**{name: value.to(device) for name, value in batch.items()}).token_states
        weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(0))
        (states * weights.to(device)).sum().backward()
        gradients = [parameter.grad.cpu() for parameter in encoder.parameters()]
        found[device, implementation] = [states.detach().cpu(), *gradients]
    oracle = found.pop(("cpu", "eager"))
    for other in found.values():
        for ours, expected in zip(other, oracle, strict=True):
            scale = max(1.0, expected.abs().max().item())
            torch.testing.assert_close(ours / scale, expected / scale, rtol=0, atol=1e-4)
