"""The decoder that draws all at one time: exact over all graphs, with the interface of the other."""

import itertools

import pytest
import torch
from graph_vae_models import GRAPH, SMILES, as_batch, keys_of, molecule_batch, randomised, tiny_config

from modeling_astrobio import AstroGraphVAEModel
from modeling_astrobio.molecule_decoder_one_shot import OneShotMoleculeDecoder


ONE_SHOT = {"decoder_type": "one_shot", "constrain_decoding": False}
FEW = {"atom_types": [[6, 0, 0, 4], [8, 0, 0, 2]], "max_nodes": 3}
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def decoder_of(seed: int = 0, **overrides) -> OneShotMoleculeDecoder:
    return randomised(OneShotMoleculeDecoder(tiny_config(**ONE_SHOT, **overrides)), seed).double().eval()


def latent_tokens(batch: int) -> torch.Tensor:
    return torch.randn(batch, 2, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def every_labelled_graph() -> dict[str, torch.Tensor]:
    """Up to three atoms of two types with any bonds, none among them."""
    found = [
        (kinds, orders)
        for size in range(4)
        for kinds in itertools.product(range(2), repeat=size)
        for orders in itertools.product(range(4), repeat=size * (size - 1) // 2)
    ]
    return as_batch(found, 3)


def test_probabilities_of_all_graphs_sum_to_one_and_samples_have_them():
    decoder, draws = decoder_of(**FEW), 20_000
    tokens, graphs = latent_tokens(1), every_labelled_graph()
    assert len(graphs["node_types"]) == 1 + 2 + 4 * 4 + 8 * 64
    with torch.no_grad():
        chances = decoder(tokens.expand(len(graphs["node_types"]), -1, -1), **graphs).log_likelihood.exp()
    assert chances.sum().item() == pytest.approx(1, abs=1e-10)
    expected = dict(zip(keys_of(graphs), (chances * draws).tolist(), strict=True))
    counts = dict.fromkeys(expected, 0)
    for key in keys_of(decoder.sample(tokens.expand(draws, -1, -1), generator=torch.Generator().manual_seed(0))):
        counts[key] += 1
    common = {key for key, value in expected.items() if value >= 5}
    bins = [(counts[key], expected[key]) for key in common]
    rare = expected.keys() - common
    bins.append((sum(counts[key] for key in rare), sum(expected[key] for key in rare)))
    chi_square = sum((count - mean) ** 2 / mean for count, mean in bins)
    freedom = len(bins) - 1
    assert freedom > 30
    # Four standard deviations: one seed in thirty thousand.
    assert abs(chi_square - freedom) < 4 * (2 * freedom) ** 0.5


def test_likelihood_is_the_sum_over_places_and_pairs():
    decoder = decoder_of()
    batch = molecule_batch()
    graphs, tokens = {name: batch[name] for name in GRAPH}, latent_tokens(len(SMILES))
    found = decoder(tokens, **graphs)
    atoms, bonds = decoder._logits(tokens)
    for row, (kinds, drawn) in enumerate(keys_of(graphs)):
        order = {(late, early): order for late, early, order in drawn}
        expected = sum(atoms[row, place, kind] for place, kind in enumerate(kinds))
        if len(kinds) < decoder.max_nodes:
            expected = expected + atoms[row, len(kinds), 0]
        for late in range(len(kinds)):
            for early in range(late):
                expected = expected + bonds[row, late, early, order.get((late, early), 0)]
        torch.testing.assert_close(found.log_likelihood[row], expected, **EXACT)
    assert not found.violation.any()


def test_company_padding_and_order_of_the_bonds_change_nothing():
    decoder = decoder_of()
    batch = molecule_batch()
    tokens = latent_tokens(len(SMILES))
    together = decoder(tokens, **{name: batch[name] for name in GRAPH}).log_likelihood
    alone = []
    for row, each in enumerate(SMILES):
        one = molecule_batch([each])
        alone.append(
            decoder(
                tokens[row : row + 1], **{name: one[name].flip(-1) for name in GRAPH[1:]}, node_types=one["node_types"]
            )
        )
    torch.testing.assert_close(torch.cat([each.log_likelihood for each in alone]), together, **EXACT)


def test_gradients_reach_every_parameter():
    decoder = decoder_of(max_nodes=13).train()
    batch = molecule_batch()
    (-decoder(latent_tokens(len(SMILES)), **{name: batch[name] for name in GRAPH}).log_likelihood.mean()).backward()
    unreached = [name for name, value in decoder.named_parameters() if value.grad is None or value.grad.norm() < 1e-9]
    assert unreached == []


def test_samples_follow_generator_temperature_and_size():
    decoder = decoder_of()
    tokens = latent_tokens(31)
    drawn = [keys_of(decoder.sample(tokens, generator=torch.Generator().manual_seed(seed))) for seed in (5, 5, 6)]
    assert drawn[0] == drawn[1] != drawn[2]
    greedy = keys_of(decoder.sample(tokens, greedy=True))
    assert greedy == keys_of(decoder.sample(tokens, temperature=1e-320)) != drawn[0]
    assert max(len(kinds) for kinds, _ in keys_of(decoder.sample(tokens, max_nodes=2))) == 2


def test_model_with_it_trains_and_samples():
    model = AstroGraphVAEModel(tiny_config(**ONE_SHOT))
    model(**molecule_batch()).loss.backward()
    assert all(value.grad is not None for value in model.parameters())
    assert model.sample(3, generator=torch.Generator().manual_seed(0))["node_types"].shape == (3, 13)


def test_constraint_is_refused():
    with pytest.raises(ValueError, match=r"constrain_decoding must be false where decoder_type is one_shot.*got true"):
        AstroGraphVAEModel(tiny_config(decoder_type="one_shot"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"node_types": torch.full((1, 14), 3)}, r"at most max_nodes \(13\) atoms; got 14"),
        ({"node_types": torch.tensor([[3, 3, 32]])}, "graph 0 has something else"),
        ({"node_types": torch.tensor([[3, 0, 3]])}, "graph 0 has something else"),
        ({"edge_types": torch.tensor([[1, 4]])}, "graph 0 has something else"),
        ({"edge_index": torch.tensor([[[1, 1], [0, 0]]])}, "graph 0 has something else"),
        ({"edge_index": torch.tensor([[[1, 2], [0, 2]]])}, "graph 0 has something else"),
        ({"node_types": torch.tensor([[3, 3, 0]])}, "graph 0 has something else"),
    ],
)
def test_what_is_no_molecule_is_refused(change, message):
    graph = {
        "node_types": torch.tensor([[3, 3, 13]]),
        "edge_index": torch.tensor([[[1, 2], [0, 1]]]),
        "edge_types": torch.tensor([[1, 1]]),
    }
    decoder = decoder_of()
    assert decoder(latent_tokens(1), **graph).log_likelihood.isfinite()
    with pytest.raises(ValueError, match=message):
        decoder(latent_tokens(1), **{**graph, **change})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0 and finite; got 0.0. Pass greedy=True"),
        ({"temperature": float("inf")}, "temperature must be above 0 and finite; got inf"),
        ({"max_nodes": 0}, "max_nodes must be from 1 to 13, that of the config; got 0"),
        ({"max_nodes": 14}, "max_nodes must be from 1 to 13, that of the config; got 14"),
    ],
)
def test_sampling_out_of_range_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        decoder_of().sample(latent_tokens(1), **arguments)
