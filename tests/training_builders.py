"""Small tokenizers, models, documents and folders for the tests of training."""

import functools
import random
from pathlib import Path

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from modeling_astrobio import AstroLLMConfig, AstroLLMForCausalLM
from modeling_astrobio.training.tokenizer import train_tokenizer


CORPUS = (
    "Planet: GJ 9827 b\nStar mass: 0.61 M☉\nRadius: 1.577 (+0.027) R⊕\nOrbital period: 1.2089 days",
    "Is HAT-P-64 b more than 300 times as heavy as Earth? The record does not say.",
    "The planet orbits its star at 0.05 au; its atmosphere holds H₂O, CO₂ and CH₄ at 1 bar.",
)
WORDS = ("planet", "star", "orbit", "5 km", "12.5 M⊕", "né", "λ", "\n", "0.05 au", "the", "Radius:", "?")


@functools.cache
def small_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of 700 tokens or fewer; shared by all tests, so none may change it."""
    return train_tokenizer(CORPUS, 700, 128)


def small_model(**overrides) -> AstroLLMForCausalLM:
    """A tiny model in float32 with the shared tokenizer's tokens and weights large enough to prefer some of them."""
    tokenizer = small_tokenizer()
    torch.manual_seed(0)
    config = AstroLLMConfig.from_preset(
        "tiny",
        **{
            "vocab_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "initializer_range": 0.2,
            **overrides,
        },
    )
    return AstroLLMForCausalLM(config).eval()


def words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(count))


def text_row(rng: random.Random, count: int) -> dict:
    return {"text": words(rng, count), "messages": None, "kind": "record"}


def question_row(rng: random.Random, count: int, kind: str = "value") -> dict:
    messages = [
        {"role": "user", "content": words(rng, count)},
        {"role": "assistant", "content": words(rng, 1 + count % 3)},
    ]
    return {"text": None, "messages": messages, "kind": kind}


def mixed_rows(count: int, seed: int = 0) -> list[dict]:
    """Texts and conversations of 1 to 29 words in random order."""
    rng = random.Random(seed)
    return [rng.choice((text_row, question_row))(rng, rng.randrange(1, 30)) for _ in range(count)]


def write_data_folder(folder: Path, **splits: list[dict]) -> Path:
    """Write a folder that `load_dataset` opens, one JSON-lines file for each split."""
    folder.mkdir(parents=True)
    for split, rows in splits.items():
        Dataset.from_list(rows).to_json(folder / f"{split}.jsonl")
    return folder


def random_documents(rng: random.Random, count: int, longest: int) -> list[dict[str, list[int]]]:
    """Documents of distinct tokens, so that each can be found again; some labels are -100."""
    documents, token = [], 1
    for _ in range(count):
        size = rng.randrange(1, longest + 1)
        ids = list(range(token, token + size))
        token += size
        prompt = rng.randrange(size)
        documents.append({"input_ids": ids, "labels": [-100] * prompt + ids[prompt:]})
    return documents


def small_data_folder(folder: Path) -> Path:
    """Texts and conversations: 60 rows to train on, 9 to validate and 9 to test."""
    return write_data_folder(folder, train=mixed_rows(60), validation=mixed_rows(9, 1), test=mixed_rows(9, 2))
