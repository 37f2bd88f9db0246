"""From rows to packed rows: nothing is lost, learned twice or learned across documents, and bad data are refused."""

import random
import re

import pytest
import torch
from datasets import Dataset, DatasetDict, IterableDataset
from training_builders import (
    mixed_rows,
    question_row,
    random_documents,
    small_model,
    small_tokenizer,
    text_row,
    write_data_folder,
)
from transformers import AutoTokenizer

from modeling_astrobio.training.errors import DataError
from modeling_astrobio.training.llm_data import (
    collate_packed,
    corpus_texts,
    load_splits,
    pack_documents,
    packed_rows,
    render_conversation,
    tokenize_rows,
)
from modeling_astrobio.training.llm_recipe import DataSection


PAD = 0
LENGTH = 13


def no_embedded() -> DatasetDict:
    raise AssertionError("the embedded data set was not asked for")


def unpack(row: dict[str, list[int]]) -> list[dict[str, list[int]]]:
    """Split a packed row where positions start again; padding comes back as a piece of its own."""
    starts = [place for place, position in enumerate(row["position_ids"]) if position == 0]
    ends = [*starts[1:], len(row["position_ids"])]
    return [{key: row[key][start:end] for key in row} for start, end in zip(starts, ends, strict=True)]


def naive_pieces(documents: list[dict[str, list[int]]], length: int) -> list[tuple]:
    """Every document cut into rows, as (tokens, labels) whose first token is not learned."""
    pieces = []
    for document in documents:
        for start in range(0, len(document["input_ids"]), length):
            ids, labels = (document[key][start : start + length] for key in ("input_ids", "labels"))
            pieces.append((tuple(ids), (-100, *labels[1:])))
    return pieces


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize(("count", "longest"), [(1, 5), (7, 13), (150, 9), (300, 13), (40, 37)])
def test_packing_keeps_every_document_once(pack, count, longest):
    documents = random_documents(random.Random(count), count, longest)
    rows = list(pack_documents(documents, LENGTH, PAD, pack))
    found = []
    for row in rows:
        assert {len(values) for values in row.values()} == {LENGTH}
        pieces = unpack(row)
        padding = [piece for piece in pieces if set(piece["input_ids"]) == {PAD}]
        assert len(padding) <= 1
        assert all(label == -100 for piece in padding for label in piece["labels"])
        real = [piece for piece in pieces if piece not in padding]
        assert len(real) >= 1 if pack else len(real) == 1
        for piece in pieces:
            assert piece["position_ids"] == list(range(len(piece["input_ids"])))
            assert piece["labels"][0] == -100
        found += [(tuple(piece["input_ids"]), tuple(piece["labels"])) for piece in real]
    assert sorted(found) == sorted(naive_pieces(documents, LENGTH))


def test_packing_fills_rows_about_as_well_as_best_fit():
    # First best fit over all rows is the bound that open rows cannot beat; a few rows more are left unfilled.
    documents = random_documents(random.Random(0), 1000, LENGTH)
    tokens = sum(len(document["input_ids"]) for document in documents)
    rows = list(pack_documents(documents, LENGTH, PAD))
    assert len(rows) <= 1.05 * tokens / LENGTH + 1
    assert len(list(pack_documents(documents, LENGTH, PAD, pack=False))) == 1000


def test_packing_of_nothing_is_nothing():
    assert list(pack_documents([], LENGTH, PAD)) == []
    assert list(pack_documents([{"input_ids": [], "labels": []}], LENGTH, PAD)) == []


def test_packed_documents_give_the_losses_of_documents_alone():
    model, tokenizer = small_model(), small_tokenizer()
    data = DataSection(sequence_length=64)
    documents = [d for d in tokenize_rows(mixed_rows(40), tokenizer, data) if len(d["input_ids"]) <= 64]
    packed = collate_packed(list(pack_documents(documents, 64, tokenizer.pad_token_id)))
    with torch.no_grad():
        together = model(**packed, num_items_in_batch=1).loss
        alone = sum(
            torch.nn.functional.cross_entropy(
                model(input_ids=torch.tensor([d["input_ids"]])).logits[0, :-1],
                torch.tensor(d["labels"][1:]),
                reduction="sum",
            )
            for d in documents
        )
    # float32 sums of about a thousand terms.
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=0)


def test_rows_become_documents_that_learn_texts_and_answers():
    tokenizer = small_tokenizer()
    rng = random.Random(3)
    text, question = text_row(rng, 9), question_row(rng, 8)
    both = {"text": text["text"], "messages": question["messages"]}
    blank = {"text": None, "messages": None}
    found = list(tokenize_rows([text, question, blank, both], tokenizer, DataSection()))
    assert len(found) == 4
    assert found[2:] == found[:2]
    document, conversation = found[:2]
    assert tokenizer.decode(document["input_ids"]) == f"<|bos|>{text['text']}<|eos|>"
    assert document["labels"] == [-100, *document["input_ids"][1:]]
    learned = [token for token in conversation["labels"] if token != -100]
    assert tokenizer.decode(learned) == question["messages"][-1]["content"] + "<|eos|>"
    assert conversation["input_ids"][-len(learned) :] == learned
    assert tokenizer.decode(conversation["input_ids"]) == render_conversation(question["messages"], tokenizer)[1]


def test_only_the_last_of_several_answers_is_learned():
    tokenizer = small_tokenizer()
    messages = [
        {"role": "system", "content": "short"},
        {"role": "user", "content": "star?"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "planet?"},
        {"role": "assistant", "content": "no"},
    ]
    (document,) = tokenize_rows([{"messages": messages}], tokenizer, DataSection())
    assert tokenizer.decode([token for token in document["labels"] if token != -100]) == "no<|eos|>"


def test_documents_do_not_depend_on_their_batch():
    rows = mixed_rows(300)
    alone = [document for row in rows for document in tokenize_rows([row], small_tokenizer(), DataSection())]
    assert list(tokenize_rows(rows, small_tokenizer(), DataSection())) == alone


@pytest.mark.parametrize(
    ("template", "message"),
    [
        # The generation prompt is not how the whole begins.
        (
            "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
            "{% if add_generation_prompt %}<answer>{% endif %}",
            "the chat template must extend its generation prompt",
        ),
        # It is, but the answer's first letters merge with the prompt's last ones.
        ("{% for m in messages %}{{ m['content'] }}{% endfor %}", "must tokenise a prompt alone as it does before"),
        (None, "conversations need a tokenizer with a chat template"),
    ],
)
def test_templates_whose_answer_cannot_be_found_are_refused(tmp_path, template, message):
    small_tokenizer().save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.chat_template = template
    messages = [{"role": "user", "content": "the plan"}, {"role": "assistant", "content": "et orbits"}]
    with pytest.raises(DataError, match=message):
        list(tokenize_rows([{"messages": messages}], tokenizer, DataSection()))


def test_stream_gives_the_rows_of_the_map_path():
    rows = Dataset.from_list(mixed_rows(90))
    data = DataSection(sequence_length=37)
    packed = packed_rows(rows, small_tokenizer(), data)
    streamed = packed_rows(rows.to_iterable_dataset(), small_tokenizer(), data)
    assert isinstance(streamed, IterableDataset)
    assert list(streamed) == list(packed)
    # A stream can be read again.
    assert list(streamed) == list(packed)
    assert list(streamed.repeat(None).take(len(packed) + 2)) == [*packed, packed[0], packed[1]]


def test_collated_rows_are_int64():
    batch = collate_packed(list(pack_documents(random_documents(random.Random(0), 5, 9), LENGTH, PAD)))
    assert set(batch) == {"input_ids", "labels", "position_ids"}
    assert all(values.dtype == torch.int64 and values.shape[1] == LENGTH for values in batch.values())


@pytest.mark.parametrize("streaming", [True, False])
def test_splits_and_columns_by_other_names(tmp_path, streaming):
    rows = [{"body": row["text"], "chat": row["messages"]} for row in mixed_rows(30)]
    rows.sort(key=lambda row: row["body"] is None)
    folder = write_data_folder(tmp_path / "data", train=rows, test=rows[:3])
    data = DataSection(
        dataset_name=str(folder),
        streaming=streaming,
        validation_split="test",
        text_column="body",
        messages_column="chat",
        max_rows=7,
    )
    splits = load_splits(data, no_embedded)
    assert sorted(splits) == ["test", "train", "validation"]
    assert [len(list(splits[role])) for role in ("train", "validation", "test")] == [7, 3, 3]
    assert next(iter(corpus_texts(splits["train"], data))) == rows[0]["body"]
    assert len(list(packed_rows(splits["train"], small_tokenizer(), data))) > 0


def test_the_embedded_data_set_can_be_streamed():
    embedded = DatasetDict({"train": Dataset.from_list(mixed_rows(5)), "test": Dataset.from_list(mixed_rows(3, 1))})
    plain = load_splits(DataSection(), lambda: embedded)
    streamed = load_splits(DataSection(streaming=True), lambda: embedded)
    assert sorted(plain) == sorted(streamed) == ["test", "train"]
    assert isinstance(streamed["train"], IterableDataset)
    assert list(streamed["train"]) == list(plain["train"])


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"dataset_name": "absent"}, "cannot be opened: .* Pass a folder or Hub id"),
        ({"dataset_config": "other"}, "data.dataset_config='other' cannot be opened"),
        ({"train_split": "training"}, r"data.train_split must be one of \['test', 'train'\]; got 'training'"),
        ({"validation_split": "dev"}, r"data.validation_split must be one of \['test', 'train'\]; got 'dev'"),
        ({"test_split": "held_out"}, r"data.test_split must be one of \['test', 'train'\]; got 'held_out'"),
        ({"text_column": "body"}, r"data.text_column must be a column of the train split, .*; got 'body'"),
        ({"messages_column": "chat"}, r"data.messages_column must be a column of the train split, .*; got 'chat'"),
        ({"text_column": "a", "messages_column": "b"}, r"must have the column 'a' \(data.text_column\) or 'b'"),
        ({"text_column": "number"}, r"data.text_column='number' must hold text; got 3 \(int\)"),
        ({"messages_column": "turns"}, "must hold conversations, lists of mappings with 'role' and 'content'; got"),
    ],
)
def test_unusable_data_are_refused(tmp_path, streaming, section, message):
    row = {"text": "star", "messages": None, "number": 3, "turns": [{"from": "user", "value": "star?"}]}
    folder = write_data_folder(tmp_path / "data", train=[row], test=[row])
    section = {"dataset_name": str(folder), "streaming": streaming, **section}
    if section["dataset_name"] == "absent":
        section["dataset_name"] = str(tmp_path / "absent")
    with pytest.raises(DataError, match=message):
        load_splits(DataSection(**section), no_embedded)


def test_empty_splits_are_refused():
    embedded = DatasetDict({"train": Dataset.from_dict({"text": []})})
    with pytest.raises(DataError, match="the train split of 'the embedded data set' is empty"):
        load_splits(DataSection(), lambda: embedded)


@pytest.mark.parametrize("streaming", [True, False])
def test_folder_without_rows_is_refused(tmp_path, streaming):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text("", encoding="utf-8")
    with pytest.raises(DataError, match=re.escape(repr(str(tmp_path / "data")))):
        load_splits(DataSection(dataset_name=str(tmp_path / "data"), streaming=streaming), no_embedded)


@pytest.mark.parametrize("streaming", [True, False])
def test_damaged_parquet_is_refused(tmp_path, streaming):
    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "train.parquet"
    Dataset.from_list([{"text": "star"}] * 5).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"cannot be (opened|read)"):
        load_splits(DataSection(dataset_name=str(tmp_path / "data"), streaming=streaming), no_embedded)


@pytest.mark.parametrize("streaming", [True, False])
def test_data_without_a_token_to_learn_are_refused(streaming):
    rows = Dataset.from_dict({"text": ["star", None], "messages": [None, None]}).select([1, 1])
    rows = rows.to_iterable_dataset() if streaming else rows
    with pytest.raises(DataError, match="no token to learn"):
        packed_rows(rows, small_tokenizer(), DataSection())
