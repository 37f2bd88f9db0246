"""Checks that only a causal language model has: splits apart, vocabulary, causality and alignment of the labels."""

import hashlib
import itertools
import json
import math
from collections.abc import Iterable
from typing import Any

import torch
from datasets import Dataset, IterableDataset
from torch import nn
from torch.nn import functional as F

from ..llm_data import IGNORE_INDEX
from ..trainer import AstroTrainer
from .building import without_dropout
from .outcome import ModelCheck, NotTestable, Outcome, failed, passed


__all__ = ["LLM_CHECKS", "check_causality", "check_labels", "check_splits", "check_vocabulary"]


# A stream may have no end.
_STREAM_ROWS = 10_000
_MOST_UNKNOWN = 0.01
_LONGEST_ROW = 2048
_LABELS_TRIED = 8
# Of the change of later logits, the share by which earlier ones may change: what rounding leaves, far below any leak.
_MOST_LEAK = {"float32": 1e-4, "16 bit": 1e-2}
# Relative, of a loss computed by another route.
_MOST_LOSS = {"float32": 1e-4, "16 bit": 3e-2}


def check_splits(task: Any, trainer: AstroTrainer) -> Outcome:
    """No row of the training split stands in another one."""
    data = task.recipe.data
    seen: dict[str, dict[bytes, int]] = {}
    for split, rows in task.splits.items():
        seen[split] = {}
        for index, row in enumerate(_first(rows, _STREAM_ROWS)):
            text = json.dumps([row.get(data.text_column), row.get(data.messages_column)], sort_keys=True)
            seen[split].setdefault(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest(), index)
    others = [split for split in seen if split != "train"]
    if not others:
        raise NotTestable("there is a training split only")
    counts = {split: len(seen["train"].keys() & seen[split].keys()) for split in others}
    sizes = {split: len(rows) for split, rows in seen.items()}
    limit = f"; of each stream its first {_STREAM_ROWS:,} rows" if data.streaming else ""
    text = ", ".join(f"{count} rows of train are in {split}" for split, count in counts.items())
    evidence = {"shared": counts, "distinct_rows": sizes}
    if any(counts.values()):
        split = max(counts, key=lambda split: counts[split])
        shared = min(seen["train"].keys() & seen[split].keys(), key=lambda key: seen["train"][key])
        example = f"such as row {seen['train'][shared]} of train, which is row {seen[split][shared]} of {split}"
        return failed(f"{text}, {example}{limit}", **evidence)
    return passed(
        f"{text} ({', '.join(f'{split}: {size:,} distinct' for split, size in sizes.items())}){limit}", **evidence
    )


def check_vocabulary(task: Any, trainer: AstroTrainer) -> Outcome:
    """Every token has a row of embedding and head, special tokens agree, and text is not full of unknown tokens."""
    model = _model(trainer)
    tokenizer: Any = trainer.processing_class
    rows = {"embedding": model.get_input_embeddings().weight.shape[0]}
    head = model.get_output_embeddings()
    if head is not None:
        rows["head"] = head.weight.shape[0]
    counts = _token_counts(trainer)
    highest, total = max(counts), sum(counts.values())
    unknown = counts.get(tokenizer.unk_token_id, 0) / total if tokenizer.unk_token_id is not None else 0.0
    wrong = [
        f"the {name} has {size:,} rows for {len(tokenizer):,} tokens of the tokenizer"
        for name, size in rows.items()
        if size < len(tokenizer)
    ]
    wrong += [
        f"token {highest} of the data has no row in the {name} ({size:,})"
        for name, size in rows.items()
        if highest >= size
    ]
    if highest >= len(tokenizer):
        wrong.append(f"token {highest} of the data is none of the tokenizer's {len(tokenizer):,}")
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        configured, own = getattr(model.config, name, None), getattr(tokenizer, name)
        allowed = configured if isinstance(configured, list) else [configured]
        if configured is not None and own not in allowed:
            wrong.append(f"{name} is {configured} in the model and {own} in the tokenizer")
    if unknown > _MOST_UNKNOWN:
        wrong.append(f"{unknown:.1%} of the data are unknown tokens, at most {_MOST_UNKNOWN:.0%} are allowed")
    evidence = {
        "tokenizer": len(tokenizer),
        "rows": rows,
        "highest_token": highest,
        "tokens_seen": total,
        "distinct_tokens": len(counts),
        "unknown_share": unknown,
    }
    if wrong:
        return failed("; ".join(wrong), **evidence)
    sizes = ", ".join(f"{name} {size:,}" for name, size in rows.items())
    return passed(
        f"{len(tokenizer):,} tokens, {sizes} rows; of {total:,} tokens of data the highest is {highest}, "
        f"{unknown:.1%} unknown; special tokens agree; {max(rows.values()) - len(tokenizer):,} rows are of no token",
        **evidence,
    )


@torch.no_grad()
def check_causality(task: Any, trainer: AstroTrainer) -> Outcome:
    """Changing the tokens after a place changes no logit up to it, and no logit of another document in its row.

    Both as in training and as in evaluation.
    """
    model = _model(trainer)
    without_dropout(model)
    length = min(task.recipe.data.sequence_length, _LONGEST_ROW)
    size = model.get_input_embeddings().weight.shape[0]
    device = _device(trainer, model)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(size, (1, length), generator=generator).to(device)
    others = (tokens + torch.randint(1, size, (1, length), generator=generator).to(device)) % size
    whole = torch.arange(length, device=device)[None]
    least = _MOST_LEAK[_precision(model)]
    leaks: dict[str, float] = {}
    for place in sorted({0, length // 3, length // 2, length - 2}):
        changed = torch.where(whole > place, others, tokens)
        leaks[f"after position {place}"] = _leak(model, tokens, changed, whole, whole[0] <= place)
    if task.recipe.data.pack and length >= 4:
        first = length // 2 + 1
        positions = torch.where(whole < first, whole, whole - first)
        changed = torch.where(whole < first, others, tokens)
        leaks["in the document before"] = _leak(model, tokens, changed, positions, whole[0] >= first)
        changed = torch.where(whole >= first, others, tokens)
        leaks["in the document after"] = _leak(model, tokens, changed, positions, whole[0] < first)
    worst = max(leaks, key=lambda name: leaks[name])
    model.eval()
    text = f"logits that must not change do so by at most {leaks[worst]:.1e} of those that may (allowed {least:g})"
    evidence = {"leaks": leaks, "allowed": least, "row_length": length}
    if not all(leak <= least for leak in leaks.values()):
        return failed(f"the future or another document is seen: {text}, for tokens changed {worst}", **evidence)
    return passed(f"{text}; {len(leaks)} changes of rows of {length} tokens, in training and evaluation", **evidence)


@torch.no_grad()
def check_labels(task: Any, trainer: AstroTrainer) -> Outcome:
    """The loss of training is that of the next token: of logits before a place against the label at it.

    The naive one is computed here, from the logits of evaluation.
    """
    model = _model(trainer).eval()
    without_dropout(model)
    rows = list(itertools.islice(iter(_rows(trainer.train_dataset)), 2))
    batch = {name: value.to(_device(trainer, model)) for name, value in trainer.data_collator(rows).items()}
    labels, tokens = batch.pop("labels"), batch["input_ids"]
    misplaced = int(((labels != IGNORE_INDEX) & (labels != tokens)).sum())
    if misplaced:
        return failed(
            f"{misplaced} labels are not the token at their own place; the model shifts labels, so that data must not",
            misplaced=misplaced,
        )
    logits = model(**batch).logits
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    scores = F.log_softmax(logits, dim=-1)
    # Not at the ends: a label that is shifted wrongly is still in its row.
    inner = torch.zeros_like(labels, dtype=torch.bool)
    inner[:, 2:-1] = True
    places = ((labels != IGNORE_INDEX) & inner).nonzero()
    if not len(places):
        raise NotTestable("the first rows of the data have no token to learn")
    chosen = places[torch.linspace(0, len(places) - 1, min(_LABELS_TRIED, len(places))).long()]
    errors: dict[int, list[float]] = {0: [], 1: [], 2: []}
    for row, place in chosen.tolist():
        single = torch.full_like(labels, IGNORE_INDEX)
        single[row, place] = labels[row, place]
        loss = _training_loss(trainer, {**batch, "labels": single})
        for shift, found in errors.items():
            naive = -float(scores[row, place - shift, labels[row, place]])
            apart = abs(loss - naive) / max(abs(naive), 1e-6)
            found.append(apart if math.isfinite(apart) else math.inf)
    worst = {shift: max(found) for shift, found in errors.items()}
    every = _training_loss(trainer, {**batch, "labels": labels})
    naive = float(F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE_INDEX))
    whole = abs(every - naive) / abs(naive)
    least = _MOST_LOSS[_precision(model)]
    evidence = {
        "worst_difference_by_shift": {str(shift): value for shift, value in worst.items()},
        "loss": every,
        "naive_loss": naive,
        "labels_tried": len(chosen),
    }
    text = (
        f"the loss differs from the naive one of the next token by at most {worst[1]:.1e} for {len(chosen)} single "
        f"labels and {whole:.1e} for all (allowed {least:g})"
    )
    if worst[1] <= least and whole <= least:
        return passed(text, **evidence)
    nearest = min(worst, key=lambda shift: worst[shift])
    meaning = {
        0: "; it is the loss of the token itself, which the model sees",
        1: "",
        2: "; it is that of the token after the next",
    }
    return failed(text + (meaning[nearest] if worst[nearest] <= least else ""), **evidence)


LLM_CHECKS = {
    "data.splits": ModelCheck("splits apart", check_splits),
    "model.vocabulary": ModelCheck("vocabulary fits", check_vocabulary),
    "model.causality": ModelCheck("no look into the future", check_causality),
    "model.labels": ModelCheck("loss of the next token", check_labels),
}


def _leak(
    model: nn.Module, tokens: torch.Tensor, changed: torch.Tensor, positions: torch.Tensor, kept: torch.Tensor
) -> float:
    """Return the largest change of logits at the places kept, as a share of the largest at the others.

    The worse of training and evaluation.
    """
    leaks = []
    for is_training in (True, False):
        model.train(is_training)
        before, after = (model(input_ids=ids, position_ids=positions).logits.float() for ids in (tokens, changed))
        change = (before - after).abs().amax(-1)[0]
        reference = float(change[~kept].max())
        if not reference > 0:
            raise NotTestable("the logits do not depend on the tokens")
        leaks.append(float(change[kept].max()) / reference)
    # A leak that is no number is one.
    return next((leak for leak in leaks if math.isnan(leak)), max(leaks))


def _training_loss(trainer: AstroTrainer, batch: dict[str, torch.Tensor]) -> float:
    """Return the mean loss of a batch as a training step computes it, without terms that are added to it."""
    model = _model(trainer)
    # Each process has the same batch here, and its part is made that of a mean over all.
    items = int((batch["labels"][:, 1:] != IGNORE_INDEX).sum()) * trainer.accelerator.num_processes
    terms, trainer.loss_terms = trainer.loss_terms, ()
    model.train()
    try:
        return float(
            trainer.compute_loss(model, batch, num_items_in_batch=torch.tensor(items, device=batch["labels"].device))
        )
    finally:
        model.eval()
        trainer.loss_terms = terms


def _model(trainer: AstroTrainer) -> Any:
    return trainer.accelerator.unwrap_model(trainer.model)


def _device(trainer: AstroTrainer, model: nn.Module) -> torch.device:
    device = next(model.parameters()).device
    if device.type != trainer.args.device.type:
        raise NotTestable("the model comes to its device only when the training shards it")
    return device


def _precision(model: nn.Module) -> str:
    return (
        "float32"
        if all(parameter.dtype in (torch.float32, torch.float64) for parameter in model.parameters())
        else "16 bit"
    )


def _first(rows: Dataset | IterableDataset, count: int) -> Iterable[dict[str, Any]]:
    return rows.take(count) if isinstance(rows, IterableDataset) else rows


def _rows(rows: Any) -> Iterable[dict[str, Any]]:
    if rows is None:
        return ()
    return _first(rows, _STREAM_ROWS)


def _token_counts(trainer: AstroTrainer) -> dict[int, int]:
    counts: dict[int, int] = {}
    for row in itertools.chain(_rows(trainer.train_dataset), _rows(trainer.eval_dataset)):
        for token in row["input_ids"]:
            counts[token] = counts.get(token, 0) + 1
    return counts
