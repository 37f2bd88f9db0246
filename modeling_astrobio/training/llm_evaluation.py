"""What a language model has learned: perplexity of held-out documents and accuracy of its answers."""

import contextlib
import dataclasses
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from peft import PeftModel
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .llm_baselines import NGramModel
from .llm_data import render_conversation, tokenize_rows
from .llm_recipe import DataSection, EvaluationSection


__all__ = [
    "answer_accuracy",
    "compare_models",
    "evaluate_model",
    "evaluate_ngram",
    "generate_answers",
    "held_out_questions",
    "most_frequent_answers",
    "perplexity",
    "sample_continuations",
    "wilson_interval",
]


def wilson_interval(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927, J. Am. Stat. Assoc. 22, 209)."""
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def held_out_questions(rows: Iterable[dict[str, Any]], data: DataSection, most: int) -> list[dict[str, Any]]:
    """Return the first `most` rows that are conversations."""
    questions: list[dict[str, Any]] = []
    for row in rows:
        if len(questions) == most:
            break
        if row.get(data.messages_column):
            questions.append(row)
    return questions


@torch.no_grad()
def perplexity(
    model: PreTrainedModel, documents: Sequence[dict[str, list[int]]], byte_count: int, pad_token_id: int
) -> dict[str, float]:
    """Score documents, each on its own.

    Args:
        model: A causal model.
        documents: From `tokenize_rows`; places labelled -100 and the first place do not count.
        byte_count: UTF-8 bytes of the scored texts, for a figure that does not depend on the tokenizer.
        pad_token_id: Pads a batch.

    Returns:
        `perplexity` = exp(nats per token), `bits_per_byte`, `tokens`.
    """
    model.eval()
    nats, tokens = 0.0, 0
    longest = model.config.max_position_embeddings
    # Pieces of a document longer than the model overlap by the token that the next piece is conditioned on first, so
    # that every token is scored once.
    pieces = [
        {key: values[start : start + longest] for key, values in document.items()}
        for document in documents
        for start in range(0, max(1, len(document["input_ids"]) - 1), longest - 1)
    ]
    by_length = sorted(pieces, key=lambda piece: len(piece["input_ids"]))
    for start in range(0, len(by_length), 16):
        batch = by_length[start : start + 16]
        width = len(batch[-1]["input_ids"])
        ids = torch.full((len(batch), width), pad_token_id)
        labels = torch.full((len(batch), width), -100)
        mask = torch.zeros((len(batch), width), dtype=torch.long)
        for row, document in enumerate(batch):
            size = len(document["input_ids"])
            ids[row, :size] = torch.tensor(document["input_ids"])
            labels[row, :size] = torch.tensor(document["labels"])
            mask[row, :size] = 1
        counted = int((labels[:, 1:] != -100).sum())
        output = model(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            labels=labels.to(model.device),
            num_items_in_batch=1,
            use_cache=False,
        )
        nats += float(output.loss)
        tokens += counted
    return _perplexity_figures(nats, tokens, byte_count)


def _perplexity_figures(nats: float, tokens: int, byte_count: int) -> dict[str, float]:
    return {
        "perplexity": math.exp(min(nats / max(tokens, 1), 700.0)),
        "bits_per_byte": nats / math.log(2) / max(byte_count, 1),
        "tokens": tokens,
    }


@torch.no_grad()
def generate_answers(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str], settings: EvaluationSection
) -> list[str]:
    """Answer prompts greedily, in batches padded on the left."""
    model.eval()
    answers = []
    for start in tqdm(range(0, len(prompts), settings.batch_size), desc="answering", unit="batch", leave=False):
        batch = tokenizer(
            prompts[start : start + settings.batch_size],
            return_tensors="pt",
            padding=True,
            padding_side="left",
            add_special_tokens=False,
            return_token_type_ids=False,
            verbose=False,
        ).to(model.device)
        generated = model.generate(  # type: ignore[operator]  # a mixin that PreTrainedModel does not show
            **batch,
            max_new_tokens=settings.max_new_tokens,
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        answers += tokenizer.batch_decode(generated[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return answers


def answer_accuracy(questions: Sequence[dict[str, Any]], answers: Sequence[str], data: DataSection) -> dict[str, Any]:
    """Compare answers with the expected ones, character by character but for white space at the ends.

    Returns:
        `accuracy`, its 95 % interval, `questions`, and the same for each value of a column `kind` if there is one.
    """
    right: dict[str, list[bool]] = defaultdict(list)
    for question, answer in zip(questions, answers, strict=True):
        expected = question[data.messages_column][-1]["content"]
        right[str(question.get("kind", "question"))].append(answer.strip() == expected.strip())

    def figures(outcomes: list[bool]) -> dict[str, Any]:
        low, high = wilson_interval(sum(outcomes), len(outcomes))
        return {
            "accuracy": sum(outcomes) / max(len(outcomes), 1),
            "interval_95": [low, high],
            "questions": len(outcomes),
        }

    everything = figures([outcome for outcomes in right.values() for outcome in outcomes])
    return {**everything, "by_kind": {kind: figures(outcomes) for kind, outcomes in sorted(right.items())}}


def _score(
    rows: Sequence[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    data: DataSection,
    settings: EvaluationSection,
    score_documents: Callable[[list[dict[str, list[int]]], int], dict[str, float]],
    answer: Callable[[list[str]], list[str]],
) -> dict[str, Any]:
    texts = [row for row in rows if row.get(data.text_column) is not None]
    result: dict[str, Any] = {}
    if texts:
        only_text = [{data.text_column: row[data.text_column]} for row in texts]
        byte_count = sum(len(row[data.text_column].encode("utf-8")) for row in texts)
        result["documents"] = score_documents(list(tokenize_rows(only_text, tokenizer, data)), byte_count)
    questions = held_out_questions(rows, data, settings.max_questions)
    if questions:
        prompts = [render_conversation(row[data.messages_column], tokenizer)[0] for row in questions]
        result["answers"] = answer_accuracy(questions, answer(prompts), data)
    return result


def evaluate_model(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[dict[str, Any]],
    data: DataSection,
    settings: EvaluationSection,
) -> dict[str, Any]:
    """Evaluate a model on the rows of a held-out split: `documents` and `answers`, whichever the rows allow."""
    return _score(
        rows,
        tokenizer,
        data,
        settings,
        lambda documents, byte_count: perplexity(model, documents, byte_count, tokenizer.pad_token_id),
        lambda prompts: generate_answers(model, tokenizer, prompts, settings),
    )


def evaluate_ngram(
    ngram: NGramModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[dict[str, Any]],
    data: DataSection,
    settings: EvaluationSection,
) -> dict[str, Any]:
    """Evaluate an n-gram model on the same rows and in the same way."""

    def score(documents: list[dict[str, list[int]]], byte_count: int) -> dict[str, float]:
        nats = sum(ngram.negative_log_likelihood(document["input_ids"]) for document in documents)
        tokens = sum(len(document["input_ids"]) - 1 for document in documents)
        return _perplexity_figures(nats, tokens, byte_count)

    def answer(prompts: list[str]) -> list[str]:
        histories = (tokenizer(prompt, add_special_tokens=False, verbose=False)["input_ids"] for prompt in prompts)
        continuations = (
            ngram.continue_greedily(history, tokenizer.eos_token_id, settings.max_new_tokens) for history in histories
        )
        return [str(tokenizer.decode(continuation, skip_special_tokens=True)) for continuation in continuations]

    return _score(rows, tokenizer, data, settings, score, answer)


def most_frequent_answers(rows: Iterable[dict[str, Any]], data: DataSection) -> dict[str, str]:
    """Return the answer seen most often in each kind of question."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        if row.get(data.messages_column):
            counts[str(row.get("kind", "question"))][row[data.messages_column][-1]["content"]] += 1
    return {kind: counter.most_common(1)[0][0] for kind, counter in counts.items()}


def compare_models(
    trained: PreTrainedModel,
    start: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train_rows: Iterable[dict[str, Any]],
    test_rows: Sequence[dict[str, Any]],
    data: DataSection,
    settings: EvaluationSection,
) -> dict[str, Any]:
    """Evaluate the trained model, the model it started from, and the baselines, on the same held-out rows.

    The n-gram models count every token of the training rows, prompts included.

    Args:
        trained: The model after training.
        start: The model before training, or `trained` itself where only its adapter was trained, which is then
            switched off.
        tokenizer: Of both.
        train_rows: What the baselines count.
        test_rows: Held-out rows.
        data: Names the columns.
        settings: Of the evaluation.

    Returns:
        Name to the figures of `evaluate_model`: "trained", "untrained" (the model before training), "n-gram",
        "unigram", "most frequent answer".
    """
    documents = [document["input_ids"] for document in tokenize_rows(train_rows, tokenizer, data)]
    ngram = NGramModel(documents, settings.ngram_order, len(tokenizer))
    frequent = most_frequent_answers(train_rows, data)
    questions = held_out_questions(test_rows, data, settings.max_questions)
    guesses = [frequent.get(str(row.get("kind", "question")), "") for row in questions]
    results = {"trained": evaluate_model(trained, tokenizer, test_rows, data, settings)}
    adapter_off = cast(PeftModel, start).disable_adapter if start is trained else contextlib.nullcontext
    with adapter_off():
        results["untrained"] = evaluate_model(start, tokenizer, test_rows, data, settings)
    results |= {
        f"{settings.ngram_order}-gram": evaluate_ngram(ngram, tokenizer, test_rows, data, settings),
        "unigram": evaluate_ngram(NGramModel(documents, 1, len(tokenizer)), tokenizer, test_rows, data, settings),
    }
    if questions:
        results["most frequent answer"] = {"answers": answer_accuracy(questions, guesses, data)}
    return results


def sample_continuations(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    test_rows: Sequence[dict[str, Any]],
    data: DataSection,
    settings: EvaluationSection,
) -> list[dict[str, str | None]]:
    """Generate from two held-out prompts: the first question, and the beginning of the first document."""
    samples: list[dict[str, str | None]] = []
    for row in held_out_questions(test_rows, data, 1):
        prompt = render_conversation(row[data.messages_column], tokenizer)[0]
        answer = generate_answers(model, tokenizer, [prompt], settings)[0]
        expected = row[data.messages_column][-1]["content"]
        samples.append({"prompt": prompt, "continuation": answer, "expected": expected})
    longer = dataclasses.replace(settings, max_new_tokens=80)
    texts = [row[data.text_column] for row in test_rows if row.get(data.text_column)]
    for text in texts[: 2 - len(samples)]:
        words = text.split(" ")
        prompt = " ".join(words[: max(1, len(words) // 5)])
        continuation = generate_answers(model, tokenizer, [(tokenizer.bos_token or "") + prompt], longer)[0]
        samples.append({"prompt": prompt, "continuation": continuation, "expected": None})
    return samples
