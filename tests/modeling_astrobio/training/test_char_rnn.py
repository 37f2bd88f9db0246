"""The character RNN: its probabilities add up, its samples follow them, and its size can be chosen."""

import itertools
import math

import pytest
import torch
from torch import nn

from modeling_astrobio.training.char_rnn import CharRNN, characters_of, length_batches, matching_width
from modeling_astrobio.training.errors import DataError


TEXTS = ["CCO", "C", "c1ccccc1", "", "NCC(=O)O", "C#N", "O"]


def tiny(characters="CO", width=5, layers=2, scale=1.0, dtype=torch.float64):
    torch.manual_seed(0)
    model = CharRNN(characters, width, layers).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=scale)
    return model


def naive_log_likelihood(model, text):
    """Walk through the text one character at a time, gate by gate."""
    layers = model.lstm.num_layers
    hidden = [torch.zeros(model.lstm.hidden_size, dtype=torch.float64) for _ in range(layers)]
    cell = list(hidden)
    total, given = torch.zeros((), dtype=torch.float64), 0
    for follows in [*(model.characters.index(character) + 1 for character in text), 0]:
        value = model.embedding.weight[given]
        for layer in range(layers):
            weights = [
                getattr(model.lstm, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            ]
            gates = weights[0] @ value + weights[1] @ hidden[layer] + weights[2] + weights[3]
            enter, forget, new, leave = gates.chunk(4)
            cell[layer] = forget.sigmoid() * cell[layer] + enter.sigmoid() * new.tanh()
            value = hidden[layer] = leave.sigmoid() * cell[layer].tanh()
        logits = model.head.weight @ value + model.head.bias
        total = total + logits[follows] - logits.exp().sum().log()
        given = follows
    return total


def test_log_likelihood_and_its_gradients_are_those_of_a_walk_through_each_text():
    model = tiny(characters_of(TEXTS), width=7, scale=0.4)
    found = model.log_likelihood(model.encode(TEXTS))
    naive = torch.stack([naive_log_likelihood(model, text) for text in TEXTS])
    torch.testing.assert_close(found, naive, rtol=1e-12, atol=1e-12)
    weights = torch.arange(1.0, 8.0, dtype=torch.float64)
    gradients = [torch.autograd.grad((weights * each).sum(), list(model.parameters())) for each in (found, naive)]
    for (name, _), one, other in zip(model.named_parameters(), *gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
        assert one.abs().max() > 0, name
    loss = model(model.encode(TEXTS))
    torch.testing.assert_close(loss, -naive.sum() / (sum(map(len, TEXTS)) + len(TEXTS)))


def test_probabilities_of_all_texts_add_up():
    model = tiny("CO=", width=3)
    with torch.no_grad():
        totals = []
        for most in range(4):
            texts = ["".join(text) for length in range(most + 1) for text in itertools.product("CO=", repeat=length)]
            totals.append(model.log_likelihood(model.encode(texts)).exp().sum().item())
        # The rest are the texts that go on after three characters: what an end is not given there.
        longer = ["".join(text) for text in itertools.product("CO=", repeat=3)]
        given = torch.nn.functional.pad(model.encode(longer)[:, :3], (1, 0))
        ends = model.head(model.lstm(model.embedding(given))[0])[:, -1].log_softmax(-1)[:, 0]
        rest = (model.log_likelihood(model.encode(longer)) - ends).exp() * (1 - ends.exp())
    assert 0 < totals[0] < totals[1] < totals[2] < totals[3] < 1
    assert totals[3] + rest.sum().item() == pytest.approx(1, abs=1e-12)


def test_padding_and_the_company_in_a_batch_change_nothing():
    model = tiny(characters_of(TEXTS), width=7)
    together = model.log_likelihood(model.encode(TEXTS))
    alone = torch.cat([model.log_likelihood(model.encode([text])) for text in TEXTS])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


def test_samples_follow_the_probabilities():
    model, count, most = tiny(width=3, scale=0.7), 20_000, 2
    drawn = model.sample(count, torch.Generator().manual_seed(5), max_length=most)
    texts = ["".join(text) for length in range(most + 1) for text in itertools.product("CO", repeat=length)]
    with torch.no_grad():
        expected = model.log_likelihood(model.encode(texts)).exp() * count
    counts = torch.tensor([drawn.count(text) for text in texts], dtype=torch.float64)
    # The cell of those that did not end is the last one.
    expected = torch.cat((expected, count - expected.sum()[None]))
    counts = torch.cat((counts, torch.tensor([drawn.count(None)], dtype=torch.float64)))
    assert counts.sum() == count
    assert expected.min() > 50
    chi_square = ((counts - expected).square() / expected).sum().item()
    # 7 degrees of freedom: 24.3 is exceeded once in a thousand seeds.
    assert chi_square < 24.3
    uniform = count / len(counts)
    assert ((counts - uniform).square() / uniform).sum() > 1000


def test_a_seeded_generator_repeats_the_samples():
    model = tiny("CON", width=3)
    first = model.sample(37, torch.Generator().manual_seed(1))
    assert model.sample(37, torch.Generator().manual_seed(1)) == first
    assert model.sample(37, torch.Generator().manual_seed(2)) != first


def test_it_learns_a_small_language():
    texts = ["CCO", "CCN", "OC", "NC"] * 8
    torch.manual_seed(0)
    model = CharRNN(characters_of(texts), 16, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    batches = length_batches(model.encode(texts), 32, seed=0)
    for _ in range(150):
        loss = model(next(batches))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # Four texts of equal probability: ln 4 nats are left in each.
    with torch.no_grad():
        assert -model.log_likelihood(model.encode(texts)).mean().item() == pytest.approx(math.log(4), abs=0.01)
    drawn = model.sample(200, torch.Generator().manual_seed(0))
    assert set(drawn) == set(texts)
    assert min(drawn.count(text) for text in set(texts)) > 30


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("parameters", [50_000, 654_321, 1_234_567])
def test_a_width_of_equal_parameters(parameters, layers):
    characters = "#()+-1234=CFHNO[]cno"
    width = matching_width(parameters, len(characters), layers)

    def count(width):
        with torch.device("meta"):
            model: nn.Module = CharRNN(characters, width, layers)
        return sum(parameter.numel() for parameter in model.parameters())

    assert abs(count(width) - parameters) <= 0.02 * parameters
    assert abs(count(width) - parameters) <= min(abs(count(width + step) - parameters) for step in (-1, 1))


def test_batches_hold_texts_of_like_length_and_all_of_them():
    model = tiny(characters_of(TEXTS))
    texts = [text * repeat for repeat in range(1, 7) for text in TEXTS]
    codes = model.encode(texts)
    batches = length_batches(codes, 5, seed=3)
    epochs = []
    for _ in range(2):
        epoch = [next(batches) for _ in range(-(-len(texts) // 5))]
        rows = sorted(tuple(code for code in row.tolist() if code >= 0) for batch in epoch for row in batch)
        assert rows == sorted(tuple(code for code in row.tolist() if code >= 0) for row in codes)
        # Every column is needed, and little of it is padding.
        assert all((batch[:, -1] >= 0).any() for batch in epoch)
        assert sum((batch < 0).sum().item() for batch in epoch) < 0.25 * sum(batch.numel() for batch in epoch)
        epochs.append([batch.tolist() for batch in epoch])
    assert epochs[0] != epochs[1]
    again = length_batches(codes, 5, seed=3)
    assert [next(again).tolist() for _ in epochs[0]] == epochs[0]


def test_wrong_input_is_refused():
    model = tiny()
    with pytest.raises(DataError, match=r"only characters of 'CO'; got 'N' in 'CN' at 1"):
        model.encode(["CO", "CN"])
    with pytest.raises(DataError, match="each once; got 'CC'"):
        CharRNN("CC", 3)
    with pytest.raises(DataError, match="at least one character, each once; got ''"):
        CharRNN("", 3)
    with pytest.raises(DataError, match="texts must hold at least one character; got none"):
        characters_of(["", ""])
    with pytest.raises(DataError, match="must be at least 1; got 0 and 200"):
        model.sample(0)
    with pytest.raises(DataError, match="must be at least 1; got 3 and 0"):
        model.sample(3, max_length=0)
    with pytest.raises(DataError, match="within 2% of; got 300, and width"):
        matching_width(300, 20)
    with pytest.raises(DataError, match="got 0 rows, batch_size=5"):
        next(length_batches(model.encode([]), 5, seed=0))
    with pytest.raises(DataError, match="got 1 rows, batch_size=0"):
        next(length_batches(model.encode(["C"]), 0, seed=0))
