"""Baselines of a language model: unigram and interpolated n-gram with Witten-Bell smoothing."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np


__all__ = ["NGramModel"]


class NGramModel:
    """Next-token probabilities from counts.

    p(w | h) = (c(h, w) + t(h) p(w | h')) / (c(h) + t(h)), with h' the history without its oldest token, t(h) the
    number of different tokens seen after h, and the uniform distribution below the unigram (Witten and Bell 1991,
    IEEE Trans. Inf. Theory 37, 1085). Order 1 is the unigram.

    Args:
        documents: Token ids of the training documents.
        order: Tokens that a probability looks at, the predicted one included.
        vocab_size: Number of tokens.
    """

    def __init__(self, documents: Iterable[Sequence[int]], order: int, vocab_size: int):
        self.order = order
        self.vocab_size = vocab_size
        self.followers: list[dict[tuple[int, ...], Counter[int]]] = [defaultdict(Counter) for _ in range(order)]
        self.totals: list[Counter[tuple[int, ...]]] = [Counter() for _ in range(order)]
        for document in documents:
            tokens = tuple(document)
            for end in range(1, len(tokens)):
                for size in range(min(order, end + 1)):
                    history = tokens[end - size : end]
                    self.followers[size][history][tokens[end]] += 1
                    self.totals[size][history] += 1
        self._unigram = self._interpolate(np.full(vocab_size, 1.0 / vocab_size), ())

    def probability(self, history: Sequence[int], token: int) -> float:
        """Return p(token | history); only the last `order - 1` tokens of the history count."""
        probability = 1.0 / self.vocab_size
        for size in range(min(self.order, len(history) + 1)):
            context = tuple(history[len(history) - size :])
            total = self.totals[size].get(context, 0)
            if total == 0:
                break
            followers = self.followers[size][context]
            probability = (followers.get(token, 0) + len(followers) * probability) / (total + len(followers))
        return probability

    def negative_log_likelihood(self, document: Sequence[int]) -> float:
        """Return -sum ln p over a document, its first token given, in nats."""
        tokens = tuple(document)
        reach = self.order - 1
        return -sum(
            math.log(self.probability(tokens[max(0, end - reach) : end], tokens[end])) for end in range(1, len(tokens))
        )

    def continue_greedily(self, history: Sequence[int], stop: int, max_new_tokens: int) -> list[int]:
        """Append the most probable token until `stop`, which is left out, or `max_new_tokens`."""
        tokens = list(history)
        start = len(tokens)
        while len(tokens) - start < max_new_tokens:
            token = self._most_probable(tokens)
            if token == stop:
                break
            tokens.append(token)
        return tokens[start:]

    def _most_probable(self, tokens: list[int]) -> int:
        probabilities = self._unigram
        for size in range(1, min(self.order, len(tokens) + 1)):
            probabilities = self._interpolate(probabilities, tuple(tokens[len(tokens) - size :]))
        return int(probabilities.argmax())

    def _interpolate(self, shorter: np.ndarray, context: tuple[int, ...]) -> np.ndarray:
        """Return p(. | context), shape (vocab_size,), from that of the context without its oldest token."""
        followers = self.followers[len(context)].get(context)
        if not followers:
            return shorter
        probabilities = shorter * len(followers)
        probabilities[list(followers)] += list(followers.values())
        return probabilities / (self.totals[len(context)][context] + len(followers))
