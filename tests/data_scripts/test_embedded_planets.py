"""The data set as a whole: splits, rows, determinism."""

from collections import Counter

import pytest
from naive_answers import check_answer

from data_scripts.derived.embedded_planets import (
    EMBEDDED_PLANETS_FEATURES,
    NAME_SEPARATOR,
    SOURCE,
    build_embedded_planets,
)
from data_scripts.embedded.planets import load_planets
from data_scripts.splits import split_of


HOST_OF = {planet.planet_name: planet.host_star_name for planet in load_planets()}


@pytest.fixture(scope="module")
def splits():
    return build_embedded_planets()


def test_splits_and_columns(splits):
    assert list(splits) == ["train", "validation", "test"]
    for rows in splits.values():
        assert rows.features == EMBEDDED_PLANETS_FEATURES
        assert set(rows["source"]) == {SOURCE}


def test_no_host_star_is_in_two_splits(splits):
    hosts = {
        split: {host for row in rows["host_star_name"] for host in row.split(NAME_SEPARATOR)}
        for split, rows in splits.items()
    }
    for split, names in hosts.items():
        assert {split_of(name) for name in names} == {split}
    assert set.union(*hosts.values()) == set(HOST_OF.values())
    assert sum(map(len, hosts.values())) == len(set(HOST_OF.values()))


def test_nothing_in_train_names_a_held_out_planet(splits):
    held_out = {name for name, host in HOST_OF.items() if split_of(host) != "train"}
    held_out_texts = {text for split in ("validation", "test") for text in splits[split]["text"] if text}
    for row in splits["train"]:
        names = row["planet_name"].split(NAME_SEPARATOR)
        assert not held_out & set(names)
        content = row["text"] or row["messages"][0]["content"]
        assert row["text"] not in held_out_texts
        if row["text"]:
            assert names[0] in content
        else:
            lines = content.split("\n")
            assert [line.removeprefix("Planet: ") for line in lines if line.startswith("Planet: ")] == names


def test_a_row_is_a_record_or_a_conversation(splits):
    for rows in splits.values():
        for row in rows:
            if row["kind"] == "record":
                assert row["text"]
                assert row["messages"] is None
            else:
                assert row["text"] is None
                assert [message["role"] for message in row["messages"]] == ["user", "assistant"]


def test_every_answer_follows_from_its_context(splits):
    for rows in splits.values():
        for row in rows:
            if row["kind"] != "record":
                context, question = row["messages"][0]["content"].split("\n\n")
                check_answer(context, question, row["messages"][1]["content"])
                if row["kind"] == "unanswerable":
                    assert row["messages"][1]["content"] == "The record does not say."


def test_no_row_occurs_twice(splits):
    for rows in splits.values():
        contents = [row["text"] or row["messages"][0]["content"] for row in rows]
        assert len(set(contents)) == len(contents)


def test_sizes(splits):
    for split, rows in splits.items():
        planets = sum(split_of(host) == split for host in HOST_OF.values())
        counts = Counter(rows["kind"])
        records = counts.pop("record")
        assert records == planets * (5 if split == "train" else 1)
        expected = 16 if split == "train" else 8
        assert counts.total() == pytest.approx(planets * expected, rel=0.03)
        assert max(counts.values()) <= 1.05 * min(counts.values())


def test_same_seed_same_rows(splits):
    again, other = build_embedded_planets(seed=0), build_embedded_planets(seed=1)
    for split, rows in splits.items():
        assert again[split].to_list() == rows.to_list()
        assert other[split].to_list() != rows.to_list()
        assert set(other[split]["host_star_name"]) & set(rows["host_star_name"])
