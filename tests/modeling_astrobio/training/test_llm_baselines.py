"""The n-gram baseline: a probability distribution, Witten and Bell's formula, and the most probable token."""

import math
import random

import pytest

from modeling_astrobio.training.llm_baselines import NGramModel


VOCAB_SIZE = 37


def corpus(seed: int = 0, vocab_size: int = VOCAB_SIZE, count: int = 40) -> list[list[int]]:
    """Documents in which some tokens are far more frequent than others, as in text."""
    rng = random.Random(seed)
    return [
        [min(int(rng.expovariate(0.2)), vocab_size - 2) for _ in range(rng.randrange(1, 30))] for _ in range(count)
    ]


def naive_probability(documents, order, vocab_size, history, token) -> float:
    """The definition, by counting again in every call."""
    if order == 0:
        return 1 / vocab_size
    context = tuple(history[len(history) - (order - 1) :]) if order > 1 else ()
    if len(context) < order - 1:
        return naive_probability(documents, order - 1, vocab_size, history, token)
    followers = [
        document[end]
        for document in documents
        for end in range(max(1, order - 1), len(document))
        if tuple(document[end - order + 1 : end]) == context
    ]
    shorter = naive_probability(documents, order - 1, vocab_size, history, token)
    kinds = len(set(followers))
    return (followers.count(token) + kinds * shorter) / (len(followers) + kinds) if followers else shorter


def histories(documents, seed: int = 1) -> list[list[int]]:
    rng = random.Random(seed)
    seen = [document[: rng.randrange(len(document) + 1)] for document in documents[:15]]
    return [[], *seen, *([rng.randrange(VOCAB_SIZE) for _ in range(size)] for size in (1, 2, 3, 7))]


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_sum_to_one(order):
    documents = corpus()
    model = NGramModel(documents, order, VOCAB_SIZE)
    for history in histories(documents):
        probabilities = [model.probability(history, token) for token in range(VOCAB_SIZE)]
        assert all(probability > 0 for probability in probabilities)
        assert math.fsum(probabilities) == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_probabilities_equal_the_definition(order):
    documents = corpus()
    model = NGramModel(documents, order, VOCAB_SIZE)
    for history in histories(documents):
        for token in range(VOCAB_SIZE):
            expected = naive_probability(documents, order, VOCAB_SIZE, history, token)
            assert model.probability(history, token) == pytest.approx(expected, rel=1e-12)


def test_probabilities_by_hand():
    # After a 1: 2 twice and 3 once, of 2 kinds. Tokens but the first of a document: 2, 1, 2, 1, 3, of 3 kinds.
    model = NGramModel([[1, 2, 1, 2], [1, 1, 3]], 2, 10)
    unigram = (2 + 3 * 0.1) / (5 + 3)
    assert model.probability([], 2) == pytest.approx(unigram)
    # After 1: 2, 2, 1, 3, of 3 kinds.
    assert model.probability([1], 2) == pytest.approx((2 + 3 * unigram) / (4 + 3))
    # 7 was never seen, nor was anything after it.
    assert model.probability([7], 2) == pytest.approx(unigram)
    assert model.probability([], 7) == pytest.approx(3 * 0.1 / 8)


@pytest.mark.parametrize("order", [1, 3])
def test_likelihood_is_the_sum_over_tokens_but_the_first(order):
    documents = corpus()
    model = NGramModel(documents, order, VOCAB_SIZE)
    document = corpus(seed=5)[0]
    expected = -sum(
        math.log(naive_probability(documents, order, VOCAB_SIZE, document[:end], document[end]))
        for end in range(1, len(document))
    )
    assert model.negative_log_likelihood(document) == pytest.approx(expected, rel=1e-12)
    assert model.negative_log_likelihood(document[:1]) == 0


def naive_greedy(model, history, stop, count) -> list[int]:
    tokens = list(history)
    while len(tokens) - len(history) < count:
        token = max(range(model.vocab_size), key=lambda token: model.probability(tokens, token))
        if token == stop:
            break
        tokens.append(token)
    return tokens[len(history) :]


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_greedy_continuation_is_the_most_probable_of_all_tokens(order, seed):
    documents = corpus(seed)
    model = NGramModel(documents, order, VOCAB_SIZE)
    for history in histories(documents, seed):
        assert model.continue_greedily(history, 9, 12) == naive_greedy(model, history, 9, 12)


def test_most_probable_token_need_not_lead_any_count():
    # Token 90 is ninth both after 0 and overall; no token that leads one count is near in the other.
    after_zero = [[0, token] for token in range(10, 18) for _ in range(10)] + [[0, 90]] * 9
    # Many kinds of followers give the overall counts their weight.
    after_zero += [[0, token] for token in range(40, 80)]
    overall = [[5, token] for token in range(20, 28) for _ in range(300)] + [[6, 90]] * 280
    model = NGramModel(after_zero + overall, 2, 100)
    assert naive_greedy(model, [0], 1, 1) == [90]
    assert model.continue_greedily([0], 1, 1) == [90]


def test_corpus_without_a_token_to_predict_is_uniform():
    model = NGramModel([[3], []], 3, 4)
    assert [model.probability([3], token) for token in range(4)] == [0.25] * 4
    assert model.continue_greedily([], 3, 2) == [0, 0]
