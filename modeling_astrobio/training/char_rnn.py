"""A recurrent network over the characters of SMILES, the baseline of molecule generators."""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import nn

from .errors import DataError


__all__ = ["CharRNN", "characters_of", "length_batches", "matching_width"]

# Code that stands before the first character and after the last.
_BOUNDARY = 0
_PADDING = -100


def characters_of(texts: Iterable[str]) -> str:
    """Return the different characters of texts, sorted.

    Raises:
        DataError: If there are none.
    """
    characters = "".join(sorted(set().union(*texts)))
    if not characters:
        raise DataError("texts must hold at least one character; got none. Pass the SMILES of the training set.")
    return characters


class CharRNN(nn.Module):
    """LSTM that gives the probability of each next character, trained by maximum likelihood.

    After Segler et al., ACS Central Science 4, 120 (2018), and the CharRNN of MOSES. A text begins and ends with one
    and the same code, 0; code i + 1 is `characters[i]`. Its probability is the product of those of its characters
    and of the end after them, so that those of all texts add up to 1.

    Args:
        characters: Each character once, as `characters_of` gives them.
        hidden_size: Width of embedding and LSTM.
        num_layers: Layers of the LSTM.
    """

    def __init__(self, characters: str, hidden_size: int, num_layers: int = 2):
        super().__init__()
        if not characters or len(set(characters)) < len(characters):
            raise DataError(
                f"characters must name at least one character, each once; got {characters!r}. Use characters_of."
            )
        self.characters = characters
        self._codes = {character: code for code, character in enumerate(characters, start=1)}
        self.embedding = nn.Embedding(len(characters) + 1, hidden_size)
        self.lstm = nn.LSTM(hidden_size, hidden_size, num_layers, batch_first=True)
        self.head = nn.Linear(hidden_size, len(characters) + 1)

    def encode(self, texts: Sequence[str]) -> torch.Tensor:
        """Return the codes that follow one another in each text, shape (B, T), long.

        The characters come first, then 0 for the end, then -100 for padding.

        Raises:
            DataError: If a text has a character that is not in `characters`.
        """
        codes = torch.full((len(texts), max(map(len, texts), default=0) + 1), _PADDING)
        for row, text in enumerate(texts):
            try:
                followed = [self._codes[character] for character in text]
            except KeyError as error:
                raise DataError(
                    f"texts must hold only characters of {self.characters!r}; got {error.args[0]!r} in {text!r} at "
                    f"{row}. Take the characters from this text too, or leave it out."
                ) from error
            codes[row, : len(text) + 1] = torch.tensor([*followed, _BOUNDARY])
        return codes

    def log_likelihood(self, codes: torch.Tensor) -> torch.Tensor:
        """Return ln of the probability of each text, shape (B,), nats.

        Args:
            codes: As `encode` gives them, shape (B, T).
        """
        # The padding is behind all that counts, and the LSTM looks only back.
        given = nn.functional.pad(codes[:, :-1].clamp(min=_BOUNDARY), (1, 0), value=_BOUNDARY)
        logits = self.head(self.lstm(self.embedding(given))[0])
        return (
            -nn.functional.cross_entropy(
                logits.flatten(0, 1), codes.flatten(), ignore_index=_PADDING, reduction="none"
            )
            .view(codes.shape)
            .sum(1)
        )

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the loss, -ln of the probability of a character or end, mean over those of the batch, nats."""
        return -self.log_likelihood(codes).sum() / (codes != _PADDING).sum()

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator | None = None, max_length: int = 200) -> list[str | None]:
        """Draw texts.

        Args:
            count: How many.
            generator: Of the random numbers.
            max_length: Most characters; a text that has not ended after them is `None`.

        Raises:
            DataError: If `count` or `max_length` is below 1.
        """
        if count < 1 or max_length < 1:
            raise DataError(f"count and max_length must be at least 1; got {count} and {max_length}.")
        drawn: list[list[str]] = [[] for _ in range(count)]
        device = self.head.weight.device
        # Rows of texts that have not ended; only these are computed.
        open_rows = torch.arange(count)
        given = torch.full((count, 1), _BOUNDARY, device=device)
        state = None
        for _ in range(max_length + 1):
            hidden, state = self.lstm(self.embedding(given), state)
            probabilities = self.head(hidden[:, 0]).softmax(-1)
            given = torch.multinomial(probabilities, 1, generator=generator)
            codes = given[:, 0].cpu()
            goes_on = codes != _BOUNDARY
            open_rows, codes = open_rows[goes_on], codes[goes_on]
            if not len(open_rows):
                break
            for row, code in zip(open_rows.tolist(), codes.tolist(), strict=True):
                drawn[row].append(self.characters[code - 1])
            kept = goes_on.to(device)
            given, state = given[kept], (state[0][:, kept], state[1][:, kept])
        unended = set(open_rows.tolist())
        return [None if row in unended else "".join(text) for row, text in enumerate(drawn)]


def matching_width(parameters: int, num_characters: int, num_layers: int = 2, tolerance: float = 0.02) -> int:
    """Return the `hidden_size` of the `CharRNN` whose number of parameters is nearest to a given one.

    Args:
        parameters: Number to match.
        num_characters: Length of `characters`.
        num_layers: Layers of the LSTM.
        tolerance: Largest difference, as a share of `parameters`.

    Raises:
        DataError: If no width comes as near as that.
    """
    codes = num_characters + 1

    def count(width: int) -> int:
        # Embedding and head; then of each layer four gates, each with two matrices and two biases.
        return (2 * width + 1) * codes + num_layers * 8 * width * (width + 1)

    # Positive root of count(width) = parameters.
    half = codes + 4 * num_layers
    root = (math.sqrt(half**2 + 8 * num_layers * max(parameters - codes, 0)) - half) / (8 * num_layers)
    width = min(range(max(int(root), 1), int(root) + 3), key=lambda each: abs(count(each) - parameters))
    if abs(count(width) - parameters) > tolerance * parameters:
        raise DataError(
            f"parameters must be a number that a CharRNN of {num_layers} layers, {num_characters} characters, comes "
            f"within {tolerance:.0%} of; got {parameters}, and width {width} has {count(width)}. Change num_layers."
        )
    return width


def length_batches(codes: torch.Tensor, batch_size: int, seed: int) -> Iterator[torch.Tensor]:
    """Give batches of texts of like length without end; each epoch has other batches, in another order.

    Args:
        codes: As `CharRNN.encode` gives them, shape (N, T).
        batch_size: Texts of a batch; the last one of an epoch's longest has fewer where it does not divide N.
        seed: Of the orders.

    Yields:
        Rows of `codes` without the columns that are padding in all of them.

    Raises:
        DataError: If there is no text, or `batch_size` is below 1.
    """
    if not len(codes) or batch_size < 1:
        raise DataError(f"codes and batch_size must be at least one; got {len(codes)} rows, batch_size={batch_size}.")
    lengths = (codes != _PADDING).sum(1).numpy()
    rng = np.random.default_rng(seed)
    while True:
        order = np.lexsort((rng.random(len(lengths)), lengths))
        batches = np.split(order, range(batch_size, len(order), batch_size))
        for place in rng.permutation(len(batches)):
            rows = batches[place]
            yield codes[torch.from_numpy(rows), : int(lengths[rows].max())]
