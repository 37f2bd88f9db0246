"""A byte-level BPE tokenizer for scientific text."""

import re
from collections.abc import Iterable, Iterator

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast


__all__ = ["CHAT_TEMPLATE", "SPECIAL_TOKENS", "UNITS", "train_tokenizer"]


SPECIAL_TOKENS = {
    "pad_token": "<|pad|>",
    "bos_token": "<|bos|>",
    "eos_token": "<|eos|>",
    "additional_special_tokens": ["<|system|>", "<|user|>", "<|assistant|>"],
}

# Units and symbols that are one token each, wherever they stand as a word of their own.
UNITS = (
    *("R⊕", "M⊕", "S⊕", "R☉", "M☉", "L☉", "RJ", "MJ", "au", "AU", "pc", "kpc", "Mpc", "ly", "arcsec", "mas"),
    *("K", "°C", "Pa", "hPa", "kPa", "bar", "mbar", "W/m²", "erg/s", "J/kg/K"),
    *("m", "km", "cm", "mm", "µm", "μm", "nm", "Å", "m/s", "km/s", "m/s²", "g/cm³", "kg/m³", "kg"),
    *("s", "min", "h", "d", "days", "yr", "Myr", "Gyr", "Hz", "kHz", "MHz", "GHz", "ppm", "ppb", "mol", "kDa", "bp"),
    *("CO₂", "H₂O", "CH₄", "NH₃", "O₂", "O₃", "N₂", "H₂", "SO₂", "H₂S", "N₂O"),
    *("±", "×", "≈", "≤", "≥", "→", "⇌", "∝", "√", "∞", "σ", "α", "β", "γ", "δ", "λ", "μ", "Δ"),
)

# The prompt ends where the answer begins, so that a conversation without its last message is a prefix of the whole.
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|>' + message['content'] + eos_token }}"
    "{% else %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

_UNIT_PATTERN = "|".join(re.escape(unit) for unit in sorted(UNITS, key=len, reverse=True))
# Whole units first, after a space or after anything but a letter; then single digits, words, punctuation, white space.
_PIECES = (
    rf"(?: |(?<!\p{{L}}))(?:{_UNIT_PATTERN})(?![\p{{L}}\p{{N}}/])"
    r"|\p{N}| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)
# Added to the corpus, so that every unit is merged before rare words compete for the last places of a vocabulary.
_UNIT_REPEATS = 5_000


def train_tokenizer(texts: Iterable[str], vocab_size: int, model_max_length: int) -> PreTrainedTokenizerFast:
    """Train a tokenizer.

    Every digit is a token, so that numbers are read and written place by place; from a `vocab_size` of about 700 on,
    each of `UNITS` is a token; any text survives encoding and decoding unchanged.

    Args:
        texts: The corpus.
        vocab_size: Number of tokens at most, special tokens and the 256 bytes included. A small corpus gives fewer.
        model_max_length: Longest sequence of the model, in tokens.

    Returns:
        Tokenizer with a chat template and distinct padding, begin and end tokens.

    Raises:
        ValueError: If `vocab_size` has no room for the bytes and the special tokens.
    """
    specials = [token for value in SPECIAL_TOKENS.values() for token in ([value] if isinstance(value, str) else value)]
    least = 256 + len(specials)
    if vocab_size < least:
        raise ValueError(
            f"vocab_size must be at least {least} (256 bytes and {len(specials)} special tokens); got {vocab_size}."
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_with_units(texts), trainer=trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=CHAT_TEMPLATE,
        model_max_length=model_max_length,
        padding_side="left",
        clean_up_tokenization_spaces=False,
        **SPECIAL_TOKENS,
    )


def _with_units(texts: Iterable[str]) -> Iterator[str]:
    yield from texts
    # Each follows a space, the first too.
    line = "".join(f" {unit}" for unit in UNITS)
    for _ in range(_UNIT_REPEATS // 100):
        yield "\n".join([line] * 100)
        yield "\n".join(UNITS * 100)
