"""From a data set to packed rows: read, tokenise, pack, collate.

A document is a dict of `input_ids` and `labels`, lists of equal length; labels are -100 where nothing is learned.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import datasets
import torch
from datasets import Dataset, DatasetDict, IterableDataset, concatenate_datasets
from transformers import PreTrainedTokenizerBase

from .data_splits import Splits, open_splits
from .errors import DataError
from .llm_recipe import DataSection


__all__ = [
    "collate_packed",
    "corpus_texts",
    "fill_rows",
    "load_splits",
    "pack_documents",
    "packed_rows",
    "tokenize_rows",
]


IGNORE_INDEX = -100
# Rows that wait for a document that fits; more fill better and hold more in memory.
_OPEN_ROWS = 64
_TOKENIZE_BATCH = 256


def load_splits(data: DataSection, embedded: Callable[[], DatasetDict]) -> Splits:
    """Open the data set of a recipe and check what can be checked without reading it all.

    Args:
        data: The recipe's section.
        embedded: Builds the data set used where `dataset_name` is `None`.

    Returns:
        At least the train split; validation and test where the source has them.

    Raises:
        DataError: If it cannot be opened, a split is absent or empty, or no known column is there.
    """
    splits = open_splits(data, embedded)
    for role, rows in splits.items():
        _check_columns(rows, data, role)
    return splits


def _check_columns(rows: Dataset | IterableDataset, data: DataSection, role: str) -> None:
    name = data.dataset_name or "the embedded data set"
    try:
        first = next(iter(rows), None)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"the {role} split of {name!r} cannot be read: {error}. Build it again.") from error
    if first is None:
        raise DataError(f"the {role} split of {name!r} is empty; it must have at least one row.")
    if data.text_column not in first and data.messages_column not in first:
        raise DataError(
            f"the {role} split must have the column {data.text_column!r} (data.text_column) or "
            f"{data.messages_column!r} (data.messages_column); got {sorted(first)}. Name the right one in the recipe."
        )
    for key in ("text_column", "messages_column"):
        column = getattr(data, key)
        # Only the columns of the default names may be absent.
        if column not in first and column != getattr(DataSection, key):
            raise DataError(f"data.{key} must be a column of the {role} split, {sorted(first)}; got {column!r}.")
    text, messages = first.get(data.text_column), first.get(data.messages_column)
    if not isinstance(text, str | None):
        raise DataError(f"data.text_column={data.text_column!r} must hold text; got {text!r} ({type(text).__name__}).")
    if messages is not None and not _is_conversation(messages):
        raise DataError(
            f"data.messages_column={data.messages_column!r} must hold conversations, lists of mappings with 'role' "
            f"and 'content'; got {str(messages)[:80]}."
        )


def _is_conversation(messages: Any) -> bool:
    return isinstance(messages, list) and all(
        isinstance(message, dict) and {"role", "content"} <= message.keys() for message in messages
    )


def corpus_texts(rows: Iterable[dict[str, Any]], data: DataSection) -> Iterator[str]:
    """Yield every text and every message of a split, to train a tokenizer on."""
    for row in rows:
        if row.get(data.text_column) is not None:
            yield row[data.text_column]
        for message in row.get(data.messages_column) or ():
            yield message["content"]


def tokenize_rows(
    rows: Iterable[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, data: DataSection
) -> Iterator[dict[str, list[int]]]:
    """Turn rows into documents.

    A text becomes begin, tokens, end, all learned but the first. A conversation goes through the chat template, and
    its last message is learned.

    Raises:
        DataError: If a conversation's prompt is not how the whole begins, so that the answer cannot be found.
    """
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _TOKENIZE_BATCH:
            yield from _tokenize_batch(batch, tokenizer, data)
            batch = []
    yield from _tokenize_batch(batch, tokenizer, data)


def _tokenize_batch(rows, tokenizer, data) -> Iterator[dict[str, list[int]]]:
    prompts, wholes = [], []
    begin = tokenizer.bos_token or ""
    for row in rows:
        text, messages = row.get(data.text_column), row.get(data.messages_column)
        if text is not None:
            prompts.append(begin)
            wholes.append(begin + text + tokenizer.eos_token)
        if messages:
            prompt, whole = render_conversation(messages, tokenizer)
            prompts.append(prompt)
            wholes.append(whole)
    if not wholes:
        return
    # A document may be longer than the model, since it is cut into rows: no warning of its length.
    prompt_ids = tokenizer(prompts, add_special_tokens=False, verbose=False)["input_ids"]
    whole_ids = tokenizer(wholes, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
    for prompt, whole, text in zip(prompt_ids, whole_ids, wholes, strict=True):
        if whole[: len(prompt)] != prompt:
            raise DataError(
                "the chat template must tokenise a prompt alone as it does before its answer; it does not for "
                f"{text[:80]!r}. Use a template whose generation prompt ends in a special token."
            )
        unlearned = 0 if data.learn_prompts else len(prompt)
        yield {"input_ids": whole, "labels": [IGNORE_INDEX] * unlearned + whole[unlearned:]}


def render_conversation(messages: list[dict[str, str]], tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """Return the prompt up to the last message, and the whole conversation, as the chat template writes them.

    Raises:
        DataError: If the tokenizer has no chat template, or the template does not extend its own prompt.
    """
    if tokenizer.chat_template is None:
        raise DataError("conversations need a tokenizer with a chat template; this one has none. Set tokenizer.path.")
    prompt = str(tokenizer.apply_chat_template(messages[:-1], tokenize=False, add_generation_prompt=True))
    whole = str(tokenizer.apply_chat_template(messages, tokenize=False))
    if not whole.startswith(prompt):
        raise DataError(f"the chat template must extend its generation prompt; it does not for {prompt[-60:]!r}.")
    return prompt, whole


def pack_documents(
    documents: Iterable[dict[str, list[int]]], length: int, pad_token_id: int, pack: bool = True
) -> Iterator[dict[str, list[int]]]:
    """Put documents into rows of `length` tokens, whole wherever they fit.

    Each document goes into the fullest open row that has room. One longer than a row is cut into rows. Positions start
    again with each document, which is how the model tells them apart; the first token of a document is not learned,
    since nothing of it stands before. What is left of a row is padding, a document of its own.

    Args:
        documents: From `tokenize_rows`.
        length: Tokens in a row.
        pad_token_id: Fills rows.
        pack: Whether a row may hold more than one document.

    Yields:
        `input_ids`, `labels` and `position_ids`, each of `length`.
    """
    open_rows: list[dict[str, list[int]]] = []
    most_open = _OPEN_ROWS if pack else 0
    for document in documents:
        for start in range(0, len(document["input_ids"]), length):
            piece = {key: values[start : start + length] for key, values in document.items()}
            size = len(piece["input_ids"])
            fitting = [row for row in open_rows if len(row["input_ids"]) + size <= length]
            row = max(fitting, key=lambda row: len(row["input_ids"]), default=None)
            if row is None:
                row = {"input_ids": [], "labels": [], "position_ids": []}
                open_rows.append(row)
            row["input_ids"] += piece["input_ids"]
            row["labels"] += [IGNORE_INDEX, *piece["labels"][1:]]
            row["position_ids"] += range(size)
            if len(row["input_ids"]) == length or len(open_rows) > most_open:
                fullest = max(open_rows, key=lambda row: len(row["input_ids"]))
                open_rows.remove(fullest)
                yield _padded(fullest, length, pad_token_id)
    for row in open_rows:
        yield _padded(row, length, pad_token_id)


def _padded(row: dict[str, list[int]], length: int, pad_token_id: int) -> dict[str, list[int]]:
    missing = length - len(row["input_ids"])
    return {
        "input_ids": row["input_ids"] + [pad_token_id] * missing,
        "labels": row["labels"] + [IGNORE_INDEX] * missing,
        "position_ids": row["position_ids"] + list(range(missing)),
    }


def packed_rows(
    rows: Dataset | IterableDataset, tokenizer: PreTrainedTokenizerBase, data: DataSection
) -> Dataset | IterableDataset:
    """Tokenise and pack a split; a stream stays a stream.

    Raises:
        DataError: If nothing to learn is left.
    """

    def generate() -> Iterator[dict[str, list[int]]]:
        documents = tokenize_rows(rows, tokenizer, data)
        yield from pack_documents(documents, data.sequence_length, tokenizer.pad_token_id, data.pack)

    streams = isinstance(rows, IterableDataset)
    # Of a stream only its first row can be checked, which may be all prompt.
    packed = list(itertools.islice(generate(), 1) if streams else generate())
    if not packed or (not streams and all(label == IGNORE_INDEX for row in packed for label in row["labels"])):
        raise DataError("the data set has no token to learn; its texts and answers are empty.")
    return IterableDataset.from_generator(generate) if streams else Dataset.from_list(packed)


def fill_rows(rows: Dataset, multiple: int, pad_token_id: int) -> Dataset:
    """Append rows of padding, from which nothing is learned, until all processes have equally many micro-batches.

    Without them Accelerate gives the processes that would have none the first rows of the epoch again, which then
    count twice in the gradient of the last window.

    Args:
        rows: With `input_ids` and `labels`; other columns are copied from the first row.
        multiple: Number of processes times rows of a micro-batch; the length becomes a multiple of it.
        pad_token_id: Token of the rows appended.

    Returns:
        `rows`, or a longer data set.

    Raises:
        DataError: If there is no row, or `multiple` is less than 1.
    """
    if multiple < 1 or not len(rows):
        raise DataError(
            f"rows to fill must be at least 1 and multiple at least 1; got {len(rows)} rows and {multiple}. Pass the "
            "training split, and processes times rows of a micro-batch."
        )
    missing = -len(rows) % multiple
    if not missing:
        return rows
    length = len(rows[0]["input_ids"])
    blank = {**rows[0], "input_ids": [pad_token_id] * length, "labels": [IGNORE_INDEX] * length}
    return concatenate_datasets([rows, Dataset.from_list([blank] * missing, features=rows.features)])


def collate_packed(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    """Stack packed rows: `input_ids`, `labels` and `position_ids`, each (B, T), int64."""
    return {key: torch.tensor([row[key] for row in rows]) for key in rows[0]}
