"""Perplexity and accuracy equal what a loop over single documents and single answers gives."""

import math
import random

import pytest
import torch
from training_builders import mixed_rows, question_row, small_model, small_tokenizer, text_row

from modeling_astrobio.training.llm_baselines import NGramModel
from modeling_astrobio.training.llm_data import render_conversation, tokenize_rows
from modeling_astrobio.training.llm_evaluation import (
    answer_accuracy,
    compare_models,
    evaluate_model,
    evaluate_ngram,
    generate_answers,
    held_out_questions,
    most_frequent_answers,
    perplexity,
    sample_continuations,
    wilson_interval,
)
from modeling_astrobio.training.llm_recipe import DataSection, EvaluationSection


DATA = DataSection()
SETTINGS = EvaluationSection(max_questions=5, max_new_tokens=4, batch_size=3, ngram_order=3)


def texts(count: int, seed: int = 0, longest: int = 25) -> list[dict]:
    rng = random.Random(seed)
    return [text_row(rng, rng.randrange(1, longest)) for _ in range(count)]


def documents(rows: list[dict]) -> list[dict[str, list[int]]]:
    return list(tokenize_rows(rows, small_tokenizer(), DATA))


@torch.no_grad()
def naive_nats(model, document) -> tuple[float, int]:
    """Plain logits and cross-entropy of one document."""
    logits = model(input_ids=torch.tensor([document["input_ids"]])).logits[0, :-1].double()
    labels = torch.tensor(document["labels"][1:])
    nats = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
    return float(nats), int((labels != -100).sum())


@pytest.mark.parametrize("rows", [texts(23), mixed_rows(23)], ids=["texts", "mixed"])
def test_perplexity_equals_a_loop_over_documents(rows):
    model, found = small_model(max_position_embeddings=512), documents(rows)
    nats, tokens = (sum(values) for values in zip(*(naive_nats(model, document) for document in found), strict=True))
    figures = perplexity(model, found, 1000, small_tokenizer().pad_token_id)
    assert figures["tokens"] == tokens
    # float32 logits in other batch shapes.
    assert math.log(figures["perplexity"]) == pytest.approx(nats / tokens, rel=1e-5)
    assert figures["bits_per_byte"] == pytest.approx(nats / math.log(2) / 1000, rel=1e-5)


def test_perplexity_depends_neither_on_order_nor_on_padding():
    model, found = small_model(max_position_embeddings=512), documents(texts(40))
    pad = small_tokenizer().pad_token_id
    figures = perplexity(model, found, 1000, pad)
    shuffled = random.Random(1).sample(found, len(found))
    assert perplexity(model, shuffled, 1000, pad)["perplexity"] == pytest.approx(figures["perplexity"], rel=1e-5)
    # Another token as padding; alone, no document is padded at all.
    assert perplexity(model, found, 1000, 7)["perplexity"] == pytest.approx(figures["perplexity"], rel=1e-5)
    alone = [perplexity(model, [document], 1000, pad) for document in found]
    assert sum(one["tokens"] for one in alone) == figures["tokens"]
    assert sum(one["bits_per_byte"] for one in alone) == pytest.approx(figures["bits_per_byte"], rel=1e-5)


def test_every_token_of_a_document_longer_than_the_model_is_scored_once():
    model, longest = small_model(max_position_embeddings=16), 16
    (document,) = documents(texts(1, seed=2, longest=60)[:1])
    ids = document["input_ids"]
    assert len(ids) > 3 * longest
    for size in (len(ids), 2 * longest - 1, 2 * longest, longest + 1, longest, longest - 1):
        cut = {key: values[:size] for key, values in document.items()}
        figures = perplexity(model, [cut], 1000, 0)
        assert figures["tokens"] == size - 1
        # A piece begins with the last token of the one before.
        naive = sum(
            naive_nats(model, {"input_ids": piece, "labels": piece})[0]
            for start in range(0, size - 1, longest - 1)
            if len(piece := ids[:size][start : start + longest]) > 1
        )
        assert figures["bits_per_byte"] == pytest.approx(naive / math.log(2) / 1000, rel=1e-5)


def test_ngram_is_scored_on_the_same_tokens_and_bytes():
    model, tokenizer = small_model(), small_tokenizer()
    rows = texts(9, longest=80)
    ngram = NGramModel([document["input_ids"] for document in documents(texts(20, seed=4))], 3, len(tokenizer))
    ours = evaluate_model(model, tokenizer, rows, DATA, SETTINGS)["documents"]
    theirs = evaluate_ngram(ngram, tokenizer, rows, DATA, SETTINGS)["documents"]
    assert ours["tokens"] == theirs["tokens"]
    byte_count = sum(len(row["text"].encode()) for row in rows)
    for figures in (ours, theirs):
        bits = math.log2(figures["perplexity"]) * figures["tokens"]
        assert figures["bits_per_byte"] == pytest.approx(bits / byte_count, rel=1e-9)


def test_answers_do_not_depend_on_the_batch():
    model, tokenizer = small_model(), small_tokenizer()
    rng = random.Random(0)
    prompts = [render_conversation(question_row(rng, size)["messages"], tokenizer)[0] for size in (1, 9, 3, 14, 6)]
    together = generate_answers(model, tokenizer, prompts, EvaluationSection(batch_size=5, max_new_tokens=6))
    alone = generate_answers(model, tokenizer, prompts, EvaluationSection(batch_size=1, max_new_tokens=6))
    naive = []
    for prompt in prompts:
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        start = len(ids)
        while len(ids) - start < 6 and ids[-1] != tokenizer.eos_token_id:
            with torch.no_grad():
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        naive.append(tokenizer.decode(ids[start:], skip_special_tokens=True))
    assert together == alone == naive


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe 1998, Stat. Med. 17, 857, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0000),
    ],
)
def test_wilson_interval_has_the_published_values(successes, trials, low, high):
    assert wilson_interval(successes, trials) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_wilson_interval_of_nothing_is_everything():
    assert wilson_interval(0, 0) == (0.0, 1.0)


def question(answer: str, kind: str | None) -> dict:
    row = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]}
    return row if kind is None else {**row, "kind": kind}


def test_accuracy_counts_each_kind():
    questions = [question("5 M⊕", "value"), question("no", "comparison"), question("yes", "comparison")]
    found = answer_accuracy(questions, [" 5 M⊕\n", "No", "yes"], DATA)
    assert (found["accuracy"], found["questions"]) == (2 / 3, 3)
    assert found["interval_95"] == list(wilson_interval(2, 3))
    assert list(found["by_kind"]) == ["comparison", "value"]
    assert {kind: one["accuracy"] for kind, one in found["by_kind"].items()} == {"comparison": 0.5, "value": 1.0}
    assert list(answer_accuracy([question("a", None)], ["b"], DATA)["by_kind"]) == ["question"]
    with pytest.raises(ValueError, match="shorter"):
        answer_accuracy(questions, ["5 M⊕"], DATA)


def test_most_frequent_answers_are_those_of_each_kind():
    rows = [question("no", "a"), question("yes", "a"), question("no", "a"), question("yes", "b"), {"text": "x"}]
    assert most_frequent_answers(rows, DATA) == {"a": "no", "b": "yes"}


def test_held_out_questions_are_the_first_conversations():
    rows = mixed_rows(40)
    conversations = [row for row in rows if row["messages"]]
    assert held_out_questions(rows, DATA, 5) == conversations[:5]
    assert held_out_questions(rows, DATA, 1000) == conversations
    assert held_out_questions(rows, DATA, 0) == []


def test_comparison_has_every_model_on_the_same_rows():
    model, start = small_model(), small_model(initializer_range=0.02)
    train, test = mixed_rows(30), mixed_rows(12, seed=1)
    found = compare_models(model, start, small_tokenizer(), train, test, DATA, SETTINGS)
    assert list(found) == ["trained", "untrained", "3-gram", "unigram", "most frequent answer"]
    assert len({figures["documents"]["tokens"] for name, figures in found.items() if "documents" in figures}) == 1
    assert {figures["answers"]["questions"] for figures in found.values()} == {5}
    assert found["trained"] == evaluate_model(model, small_tokenizer(), test, DATA, SETTINGS)
    # Random weights of this size say next to nothing: about as many choices as tokens.
    assert found["untrained"]["documents"]["perplexity"] == pytest.approx(len(small_tokenizer()), rel=0.1)


@pytest.mark.parametrize("rows", [texts(5), [row for row in mixed_rows(20) if row["messages"]], []])
def test_whatever_the_rows_hold_is_evaluated(rows):
    found = compare_models(small_model(), small_model(), small_tokenizer(), mixed_rows(9), rows, DATA, SETTINGS)
    expected = set()
    if rows:
        expected = {"documents"} if rows[0]["text"] else {"answers"}
    assert all(set(found[name]) == expected for name in ("trained", "untrained", "3-gram", "unigram"))
    assert ("most frequent answer" in found) == (expected == {"answers"})
    samples = sample_continuations(small_model(), small_tokenizer(), rows, DATA, SETTINGS)
    assert len(samples) == (0 if not rows else 2 if rows[0]["text"] else 1)
    assert all((sample["expected"] is None) == (expected == {"documents"}) for sample in samples)
