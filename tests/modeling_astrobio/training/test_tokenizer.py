"""The tokenizer: digits and units are tokens, every text survives, and saving changes nothing."""

import random

import pytest
from training_builders import CORPUS, small_tokenizer
from transformers import AutoTokenizer

from modeling_astrobio.training.tokenizer import SPECIAL_TOKENS, UNITS, train_tokenizer


def pieces(text: str) -> list[str]:
    tokenizer = small_tokenizer()
    return [tokenizer.decode([token]) for token in tokenizer(text, add_special_tokens=False)["input_ids"]]


def random_text(rng: random.Random) -> str:
    """Any code points but surrogates, which no text has; control characters, combining marks and emoji among them."""
    ranges = ((0, 0x7F), (0x80, 0x24F), (0x300, 0x36F), (0x370, 0x2FFF), (0x3000, 0xD7FF), (0xE000, 0x10FFFF))
    return "".join(chr(rng.randint(*rng.choice(ranges))) for _ in range(rng.randrange(40)))


def test_digits_are_split_one_by_one():
    assert pieces("1234567890") == list("1234567890")
    assert pieces("-0.0123e-45") == [*"-0.0123", "e", *"-45"]


def test_no_token_holds_two_digits():
    tokenizer = small_tokenizer()
    for token in range(len(tokenizer)):
        assert sum(character.isdigit() and character.isascii() for character in tokenizer.decode([token])) <= 1


@pytest.mark.parametrize("unit", UNITS)
def test_every_unit_is_one_token(unit):
    assert pieces(unit) == [unit]
    assert pieces(f" {unit}") == [f" {unit}"]
    assert pieces(f"5{unit}") == ["5", unit]
    assert pieces(f"5 {unit}") == ["5", f" {unit}"]
    assert unit in pieces(f"{unit}, {unit}; [ {unit}]")


def test_the_longest_unit_is_taken():
    assert pieces("3 km/s") == ["3", " km/s"]
    assert pieces("3 m/s²") == ["3", " m/s²"]


def test_any_text_survives():
    tokenizer = small_tokenizer()
    rng = random.Random(0)
    texts = [random_text(rng) for _ in range(500)]
    texts += ["", " ", "  \n\t ", "a  b", " leading", "trailing ", "\r\n", "e\u0301", "👩‍🚀🪐", "5 µm 5 μm", "it 's ."]
    for text in texts:
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_special_tokens_are_distinct_and_single():
    tokenizer = small_tokenizer()
    names = [name for value in SPECIAL_TOKENS.values() for name in ([value] if isinstance(value, str) else value)]
    numbers = [tokenizer(name, add_special_tokens=False)["input_ids"] for name in names]
    assert all(len(ids) == 1 for ids in numbers)
    assert len({ids[0] for ids in numbers}) == len(names) == 6
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert tokenizer.decode([ids[0] for ids in numbers], skip_special_tokens=True) == ""


def test_chat_template_writes_every_role():
    tokenizer = small_tokenizer()
    messages = [
        {"role": "system", "content": "Answer briefly."},
        {"role": "user", "content": "Mass?"},
        {"role": "assistant", "content": "5 M⊕"},
    ]
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    assert whole == "<|bos|><|system|>Answer briefly.<|user|>Mass?<|assistant|>5 M⊕<|eos|>"
    prompt = tokenizer.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True)
    assert prompt == "<|bos|><|system|>Answer briefly.<|user|>Mass?<|assistant|>"
    ids = tokenizer.apply_chat_template(messages, return_dict=False)
    assert ids == tokenizer(whole, add_special_tokens=False)["input_ids"]


def test_vocabulary_keeps_its_limit():
    tokenizer = train_tokenizer(CORPUS, 263, 77)
    assert len(tokenizer) == 263
    assert tokenizer.model_max_length == 77
    text = "δ Cep, 0.05 au"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text


def test_vocabulary_without_room_for_bytes_is_refused():
    with pytest.raises(ValueError, match=r"at least 262 \(256 bytes and 6 special tokens\); got 261"):
        train_tokenizer(CORPUS, 261, 77)


def test_saved_and_loaded_tokenizer_is_the_same(tmp_path):
    tokenizer = small_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    rng = random.Random(1)
    texts = [*CORPUS, *(random_text(rng) for _ in range(50)), "<|bos|><|user|>a<|assistant|>b<|eos|>", " R⊕5 R⊕"]
    assert loaded(texts)["input_ids"] == tokenizer(texts)["input_ids"]
    assert loaded.decode(loaded(texts[0])["input_ids"]) == texts[0]
    for name in ("chat_template", "pad_token_id", "bos_token_id", "eos_token_id", "model_max_length", "padding_side"):
        assert getattr(loaded, name) == getattr(tokenizer, name), name
    assert set(loaded.all_special_tokens) == set(tokenizer.all_special_tokens)
    assert len(loaded) == len(tokenizer)


def test_training_is_deterministic():
    assert train_tokenizer(CORPUS, 700, 128).get_vocab() == small_tokenizer().get_vocab()
