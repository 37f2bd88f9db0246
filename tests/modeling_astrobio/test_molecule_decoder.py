"""The decoder's likelihood is exact, what it samples has that likelihood, and nothing else changes it.

Tolerances: float64, sums of tens of terms of order 1.
"""

import itertools

import pytest
import torch
from graph_vae_models import (
    GRAPH,
    SMILES,
    as_batch,
    every_graph,
    keys_of,
    molecule_batch,
    processor_of,
    randomised,
    tiny_config,
)
from transformers.cache_utils import DynamicCache

from modeling_astrobio.molecule_decoder import MoleculeDecoder
from modeling_astrobio.molecule_grammar import MoleculeState


EXACT = {"rtol": 1e-10, "atol": 1e-10}
# Carbon, oxygen, a halogen-like atom and one that bonds to nothing: all the ways in which a row can end.
FEW = {"atom_types": [[6, 0, 0, 4], [8, 0, 0, 2], [9, 0, 0, 1], [18, 0, 0, 0]], "max_nodes": 3}


def decoder_of(seed: int = 0, **overrides) -> MoleculeDecoder:
    """A decoder with random weights in float64."""
    return randomised(MoleculeDecoder(tiny_config(**overrides)), seed).double().eval()


def latent_tokens(batch: int, decoder: MoleculeDecoder, seed: int = 1) -> torch.Tensor:
    width = decoder.norm.weight.shape[0]
    return torch.randn(batch, 2, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def graphs_of(smiles=SMILES, **overrides) -> dict[str, torch.Tensor]:
    batch = molecule_batch(smiles, **overrides)
    return {name: batch[name] for name in GRAPH}


def enumerated(decoder: MoleculeDecoder, tokens: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    graphs = as_batch(every_graph(decoder.grammar.valences, decoder.grammar.max_nodes), decoder.grammar.max_nodes)
    with torch.no_grad():
        decoded = decoder(tokens.expand(len(graphs["node_types"]), -1, -1), **graphs)
    return graphs, decoded


@pytest.mark.parametrize("seed", [0, 1])
def test_probabilities_of_all_molecules_sum_to_one(seed):
    decoder = decoder_of(seed, **FEW)
    graphs, decoded = enumerated(decoder, latent_tokens(1, decoder, seed))
    assert len(set(keys_of(graphs))) == len(decoded.log_likelihood) == 122
    assert decoded.log_likelihood.exp().sum().item() == pytest.approx(1, abs=1e-10)
    # Not all on a few of them.
    assert decoded.log_likelihood.exp().max() < 0.9


def test_without_the_constraint_valid_molecules_have_what_the_violation_leaves():
    decoder, free = decoder_of(**FEW), decoder_of(**FEW, constrain_decoding=False)
    tokens = latent_tokens(1, decoder)
    _, decoded = enumerated(decoder, tokens)
    _, unmasked = enumerated(free, tokens)
    assert 0 < unmasked.log_likelihood.exp().sum() < 0.9
    torch.testing.assert_close(unmasked.violation, decoded.violation, **EXACT)
    torch.testing.assert_close(unmasked.log_likelihood, decoded.log_likelihood - decoded.violation, **EXACT)
    assert decoded.violation.min() > 0


def test_violation_is_zero_where_nothing_forbidden_has_a_chance():
    decoder = decoder_of(atom_types=[[6, 0, 0, 4], [18, 0, 0, 0]], max_nodes=1)
    tokens, graph = latent_tokens(1, decoder), as_batch([((0,), ())], 1)
    with torch.no_grad():
        chances = decoder.atom_head(decoder.norm(step_states(decoder, tokens))).softmax(-1)[0]
    # A stop at the beginning is forbidden; later there is room for nothing else.
    found = decoder(tokens, **graph).violation.item()
    assert found == pytest.approx(-chances[:2].sum().log().item(), abs=1e-10)
    assert found > 0.01
    with torch.no_grad():
        decoder.atom_head.bias[2] = -1e4
    assert decoder(tokens, **graph).violation.item() == 0


def step_states(decoder: MoleculeDecoder, states: torch.Tensor) -> torch.Tensor:
    """State from which the first action is chosen, before the last norm, shape (B, D)."""
    for layer in decoder.layers:
        states = layer(states)
    return states[:, -1]


def step_by_step(decoder: MoleculeDecoder, tokens: torch.Tensor, choose) -> tuple[torch.Tensor, MoleculeState]:
    """Draw molecules one action at a time; the log-probability of the actions, (B,), and what they drew."""
    state = MoleculeState(decoder.grammar, len(tokens))
    keys = [[] for _ in tokens]
    cache, states, total = DynamicCache(), tokens, torch.zeros(len(tokens), dtype=tokens.dtype)
    for step in itertools.count():
        for layer in decoder.layers:
            states = layer(states, cache)
        last = decoder.norm(states[:, -1])
        scores = torch.full((len(tokens), 1 + decoder.grammar.stop + 3 * decoder.grammar.max_nodes), -torch.inf)
        scores = scores.to(tokens.dtype)
        admitted = state.admitted() if decoder.is_constrained else state.expressible()
        for row in range(len(tokens)):
            count = int(state.node_count[row])
            scores[row, : decoder.grammar.first_bond] = decoder.atom_head(last[row])
            query = decoder.bond_query(last[row]).view(3, -1)
            # The key of an atom is the state after its last action.
            keys[row] = [*keys[row][: max(count - 1, 0)], decoder.bond_key(last[row])]
            for place in range(count - 1):
                bias = decoder.distance_bias.weight[min(count - 1 - place, 31)]
                bias = bias + decoder.valence_bias.weight[min(max(int(state.residual[row, place]), 0), 8)]
                begin = decoder.grammar.first_bond + 3 * place
                scores[row, begin : begin + 3] = query @ keys[row][place] / len(last[row]) ** 0.5 + bias
        log_chances = scores.masked_fill(~admitted, -torch.inf).log_softmax(-1)
        actions = choose(step, log_chances)
        chosen = log_chances.gather(1, actions[:, None])[:, 0]
        total = total + torch.where(state.is_done, torch.zeros_like(chosen), chosen)
        state.apply(torch.where(state.is_done, decoder.grammar.stop, actions))
        if state.is_done.all():
            return total, state
        states = decoder._embed(actions, state.node_count - 1, state.residual)[:, None]


@pytest.mark.parametrize("overrides", [{}, {"constrain_decoding": False}, {"max_nodes": 37}])
def test_likelihood_equals_the_one_computed_step_by_step(overrides):
    decoder = decoder_of(**overrides)
    tokens, graphs = latent_tokens(len(SMILES), decoder), graphs_of(**overrides)
    actions = decoder.grammar.sequences(**graphs).actions
    with torch.no_grad():
        expected, state = step_by_step(decoder, tokens, lambda step, _: actions[:, step])
        torch.testing.assert_close(decoder(tokens, **graphs).log_likelihood, expected, **EXACT)
    assert keys_of(state.graphs()) == keys_of(graphs)


@pytest.mark.parametrize("overrides", [{}, {"constrain_decoding": False}])
def test_greedy_takes_the_likeliest_action_each_time(overrides):
    decoder = decoder_of(seed=2, **overrides)
    with torch.no_grad():
        # Stops and bonds are likely.
        decoder.atom_head.bias[decoder.grammar.stop] += 2
        decoder.valence_bias.weight += 1
    tokens = latent_tokens(17, decoder)
    found = decoder.sample(tokens, greedy=True)
    with torch.no_grad():
        most = 5 * decoder.grammar.max_nodes if overrides else 10**6

        def likeliest(step, log_chances):
            if step >= most - 1:
                return torch.full((17,), decoder.grammar.stop)
            return log_chances.argmax(-1)

        _, state = step_by_step(decoder, tokens, likeliest)
    expected, found = keys_of(state.graphs()), keys_of(found)
    assert len(set(found)) > 3
    if overrides:
        # One that does not stop in time is empty.
        assert () in [kinds for kinds, _ in found]
        expected = [each if found_one[0] else ((), ()) for each, found_one in zip(expected, found, strict=True)]
    assert found == expected


@pytest.mark.parametrize("seed", [0, 3])
def test_samples_are_as_frequent_as_they_are_likely(seed):
    decoder, draws = decoder_of(seed, **FEW), 20_000
    tokens = latent_tokens(1, decoder, seed)
    graphs, decoded = enumerated(decoder, tokens)
    expected = dict(zip(keys_of(graphs), (decoded.log_likelihood.exp() * draws).tolist(), strict=True))
    drawn = keys_of(
        decoder.sample(tokens.expand(draws, -1, -1), generator=torch.Generator().manual_seed(seed), temperature=1.0)
    )
    assert set(drawn) <= expected.keys()
    counts = dict.fromkeys(expected, 0)
    for key in drawn:
        counts[key] += 1
    common = [key for key, value in expected.items() if value >= 5]
    rare = expected.keys() - set(common)
    bins = [(counts[key], expected[key]) for key in common]
    bins.append((sum(counts[key] for key in rare), sum(expected[key] for key in rare)))
    chi_square = sum((count - mean) ** 2 / mean for count, mean in bins)
    freedom = len(bins) - 1
    assert freedom > 30
    # Four standard deviations: one seed in thirty thousand.
    assert abs(chi_square - freedom) < 4 * (2 * freedom) ** 0.5


def test_temperature_divides_the_scores():
    decoder, cooler = decoder_of(), decoder_of()
    with torch.no_grad():
        for module in (cooler.atom_head, cooler.bond_query, cooler.valence_bias, cooler.distance_bias):
            for parameter in module.parameters():
                parameter.mul_(1 / 0.7)
    tokens = latent_tokens(31, decoder)
    found = decoder.sample(tokens, generator=torch.Generator().manual_seed(0), temperature=0.7)
    expected = cooler.sample(tokens, generator=torch.Generator().manual_seed(0))
    assert keys_of(found) == keys_of(expected) != keys_of(decoder.sample(tokens, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("temperature", [1e-320, 1e-30])
def test_the_coldest_is_greedy(temperature):
    decoder = decoder_of()
    tokens = latent_tokens(7, decoder)
    assert keys_of(decoder.sample(tokens, temperature=temperature)) == keys_of(decoder.sample(tokens, greedy=True))


def test_samples_have_finite_likelihood_and_follow_the_generator():
    decoder = decoder_of()
    tokens = latent_tokens(101, decoder)
    drawn = [decoder.sample(tokens, generator=torch.Generator().manual_seed(seed)) for seed in (5, 5, 6)]
    assert keys_of(drawn[0]) == keys_of(drawn[1]) != keys_of(drawn[2])
    assert decoder(tokens, **drawn[0]).log_likelihood.isfinite().all()
    assert None not in processor_of(tiny_config()).batch_decode(**drawn[0])


def test_fewer_atoms_than_the_config_allows():
    decoder = decoder_of()
    tokens = latent_tokens(101, decoder)
    sizes = [(decoder.sample(tokens, max_nodes=most)["node_types"] > 0).sum(1).max().item() for most in (1, 2, 13)]
    assert sizes[:2] == [1, 2]
    assert 2 < sizes[2] <= 13


def test_later_actions_do_not_change_earlier_terms():
    decoder = decoder_of()
    tokens = latent_tokens(1, decoder).expand(2, -1, -1)
    # C, C single, then N double to the second or O single to the first, then what there is.
    graphs = {
        "node_types": torch.tensor([[3, 3, 8, 3], [3, 3, 13, 0]]),
        "edge_index": torch.tensor([[[1, 2, 3], [0, 1, 2]], [[1, 2, 0], [0, 0, 0]]]),
        "edge_types": torch.tensor([[1, 2, 1], [1, 1, 0]]),
    }
    sequences = decoder.grammar.sequences(**graphs)
    assert (sequences.actions[0] == sequences.actions[1]).tolist()[:4] == [True, True, True, False]
    states = decoder._read(tokens, sequences)
    scores = decoder._scores(
        states, decoder._atom_keys(states, sequences.row_end), sequences.node_count, sequences.residual
    )
    shared = decoder.grammar.first_bond + 3
    # The fourth action is chosen by what the first three drew.
    torch.testing.assert_close(scores[0, :4, :shared], scores[1, :4, :shared], **EXACT)
    assert (scores[0, 4] - scores[1, 4]).abs().max() > 1e-3


def test_padding_and_company_change_nothing():
    decoder = decoder_of()
    tokens, graphs = latent_tokens(len(SMILES), decoder), graphs_of()
    together = decoder(tokens, **graphs)
    wider = {
        "node_types": torch.nn.functional.pad(graphs["node_types"], (0, 2)),
        "edge_index": torch.nn.functional.pad(graphs["edge_index"], (0, 3)),
        "edge_types": torch.nn.functional.pad(graphs["edge_types"], (0, 3)),
    }
    alone = [decoder(tokens[row : row + 1], **graphs_of([each])) for row, each in enumerate(SMILES)]
    for name in ("log_likelihood", "violation"):
        torch.testing.assert_close(getattr(decoder(tokens, **wider), name), getattr(together, name), **EXACT)
        torch.testing.assert_close(
            torch.cat([getattr(each, name) for each in alone]), getattr(together, name), **EXACT
        )


def test_order_of_the_bonds_changes_nothing():
    decoder = decoder_of()
    tokens, graphs = latent_tokens(len(SMILES), decoder), graphs_of()
    turned = {
        "node_types": graphs["node_types"],
        "edge_index": graphs["edge_index"].flip(1, 2),
        "edge_types": graphs["edge_types"].flip(1),
    }
    assert torch.equal(decoder(tokens, **turned).log_likelihood, decoder(tokens, **graphs).log_likelihood)


@pytest.mark.parametrize("constrain_decoding", [True, False])
def test_gradients_reach_every_parameter(constrain_decoding):
    decoder = decoder_of(constrain_decoding=constrain_decoding).train()
    tokens = latent_tokens(len(SMILES), decoder).requires_grad_()
    (-decoder(tokens, **graphs_of()).log_likelihood.mean()).backward()
    unreached = [name for name, value in decoder.named_parameters() if value.grad is None or value.grad.norm() < 1e-9]
    assert unreached == []
    assert (tokens.grad.flatten(1).norm(dim=1) > 1e-6).all()
    assert all(value.grad.isfinite().all() for value in decoder.parameters())


def test_half_precision_is_finite_and_near():
    decoder = decoder_of()
    tokens, graphs = latent_tokens(len(SMILES), decoder), graphs_of()
    expected = decoder(tokens, **graphs)
    half = decoder.to(torch.bfloat16)
    found = half(tokens.bfloat16(), **graphs)
    assert found.log_likelihood.dtype == torch.float32
    # Eight bits of mantissa over two layers, summed over tens of actions.
    torch.testing.assert_close(found.log_likelihood.double(), expected.log_likelihood, rtol=0.05, atol=0.5)
    (-found.log_likelihood.mean()).backward()
    assert all(value.grad.isfinite().all() for value in half.parameters())
    assert None not in processor_of(tiny_config()).batch_decode(**half.sample(tokens.bfloat16()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"node_types": torch.full((1, 14), 3)}, r"at most max_nodes \(13\) atoms; got 14"),
        # The second atom has no bond to an earlier one.
        ({"edge_types": torch.tensor([[0, 1]])}, "graph 0 is none that can be drawn"),
        ({"edge_index": torch.tensor([[[1, 2], [0, 2]]])}, "graph 0 is none that can be drawn"),
        # A fluorine with a double bond.
        ({"node_types": torch.tensor([[3, 3, 17]]), "edge_types": torch.tensor([[1, 2]])}, "graph 0 is none"),
        # Compounds and reactions.
        ({"node_types": torch.tensor([[3, 3, 32]])}, "graph 0 is none that can be drawn"),
        ({"node_types": torch.tensor([[3, 3, 33]])}, "graph 0 is none that can be drawn"),
        ({"edge_types": torch.tensor([[1, 4]])}, "graph 0 is none that can be drawn"),
        ({"edge_types": torch.tensor([[1, 5]])}, "graph 0 is none that can be drawn"),
        # No atom, a gap, a bond twice, bonds to no atom.
        ({"node_types": torch.tensor([[0, 0, 0]]), "edge_types": torch.tensor([[0, 0]])}, "graph 0 is none"),
        ({"node_types": torch.tensor([[0, 3, 0]]), "edge_types": torch.tensor([[0, 0]])}, "graph 0 is none"),
        ({"node_types": torch.tensor([[3, 0, 3]])}, "graph 0 is none"),
        ({"edge_index": torch.tensor([[[1, 1], [0, 0]]]), "node_types": torch.tensor([[3, 3, 0]])}, "graph 0 is none"),
        ({"edge_index": torch.tensor([[[2, 2], [0, 1]]]), "node_types": torch.tensor([[3, 0, 0]])}, "graph 0 is none"),
        (
            {
                "node_types": torch.tensor([[3, 3, 0]]),
                "edge_index": torch.tensor([[[1, 2, 2], [0, 0, 1]]]),
                "edge_types": torch.tensor([[1, 1, 1]]),
            },
            "graph 0 is none",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(change, message):
    decoder = decoder_of()
    graph = {
        "node_types": torch.tensor([[3, 3, 13]]),
        "edge_index": torch.tensor([[[1, 2], [0, 1]]]),
        "edge_types": torch.tensor([[1, 1]]),
    }
    assert decoder(latent_tokens(1, decoder), **graph).log_likelihood.isfinite().all()
    with pytest.raises(ValueError, match=message):
        decoder(latent_tokens(1, decoder), **{**graph, **change})


def test_the_refusal_names_the_graph():
    decoder = decoder_of(constrain_decoding=False)
    graphs = graphs_of(["CCO", "CCC", "CCCC"])
    graphs["edge_types"][2, 1] = 0
    with pytest.raises(ValueError, match="graph 2 is none that can be drawn"):
        decoder(latent_tokens(3, decoder), **graphs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0 and finite; got 0.0. Pass greedy=True"),
        ({"temperature": -1.0}, "temperature must be above 0 and finite; got -1"),
        ({"temperature": float("nan")}, "temperature must be above 0 and finite; got nan"),
        ({"temperature": float("inf")}, "temperature must be above 0.*; got inf"),
        ({"max_nodes": 0}, "max_nodes must be from 1 to 13, that of the config; got 0"),
        ({"max_nodes": 14}, "max_nodes must be from 1 to 13, that of the config; got 14"),
    ],
)
def test_sampling_out_of_range_is_refused(arguments, message):
    decoder = decoder_of()
    with pytest.raises(ValueError, match=message):
        decoder.sample(latent_tokens(1, decoder), **arguments)
