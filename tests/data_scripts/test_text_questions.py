"""Questions: every answer stands in its context, and only there where it should."""

import random
import re
from collections import Counter

import pytest
from text_rows import made_up_text_row, text_row

from data_scripts.derived.biology_questions import BIOLOGY_KINDS, BIOLOGY_TOPICS
from data_scripts.derived.planet_questions import UNANSWERABLE_ANSWER
from data_scripts.derived.text_questions import VALUES_PER_ROW, text_questions
from data_scripts.registry import ARCHIVES, archive_named


TABLES = [(source, table.name) for source in sorted(ARCHIVES) for table in archive_named(source).tables]


def lines_of(question):
    return [line.partition(": ") for line in question.context.splitlines()]


def asked_field(question):
    """The field with the longest label of the question; shorter ones may be part of it."""
    quoted = re.search(r'"(.+)"(?: in (.+?))?[ ?,]', question.question)
    fields = [field for field in question.rows[0].table.fields if field.asked]
    if quoted:
        return next(
            f for f in fields if f.label == quoted[1] and (not f.shared or not f.unit or f.unit in question.question)
        )
    return max((field for field in fields if field.asked in question.question), key=lambda field: len(field.asked))


@pytest.fixture(scope="module")
def asked():
    """Questions about made-up rows of every table."""
    found = []
    for source, config in TABLES:
        rows = [made_up_text_row(source, config, number) for number in range(7)]
        found += text_questions(rows, random.Random(f"{source}.{config}"))
    return found


def test_every_kind_is_asked(asked):
    kinds = Counter(question.kind for question in asked)
    assert set(kinds) == {"value", "comparison", "unanswerable", *BIOLOGY_KINDS}
    assert min(kinds.values()) > 3, kinds
    assert kinds["value"] > VALUES_PER_ROW * 6 * len(TABLES)


def test_contexts_name_their_rows_and_show_no_topic_twice(asked):
    for question in asked:
        titles = [line for line in question.context.splitlines() if line in {row.title for row in question.rows}]
        assert sorted(titles) == sorted(row.title for row in question.rows)
        if len(question.rows) == 1:
            labels = [label for label, _, _ in lines_of(question)]
            assert len(set(labels)) == len(labels), question.context


def test_values_stand_in_their_context(asked):
    for question in asked:
        if question.kind == "value":
            row = question.rows[0]
            field = asked_field(question)
            assert f"{field.label}: {question.answer}" in question.context.splitlines()
            assert question.answer == field.value(row.cells)
            assert row.name in question.question


def test_questions_are_sentences_that_do_not_tell_the_answer(asked):
    for question in asked:
        assert not re.search(r"what is its [^\"?]* of (the|a) ", question.question), question.question
        if question.kind == "value":
            name = question.rows[0].name
            assert question.answer.casefold() not in re.split(r"[\W_]+", name.casefold()), question
    letter = {"NAME": "Test-1 b", "COMP": "b", "STAR": "Test-1", "PER": 3.5}
    answers = {answer for _, answer in asked_of("exoplanets_org", "planets", letter, "value")}
    assert answers == {"3.5 days"}


@pytest.mark.parametrize(
    ("label_of", "expected"),
    [
        ("size", {"What is the size of the file of X?"}),
        (
            "partner_whose_time_it_was",
            {
                'What does the record of X give as "Partner whose time it was"?',
                'X: what stands under "Partner whose time it was"?',
                'What does the record of X say under "Partner whose time it was"?',
            },
        ),
    ],
)
def test_labels_that_are_no_nouns_are_quoted(label_of, expected):
    columns = {field.label: field.column for field in made_up_text_row("eso_vlt", "apex_quicklooks", 0).table.fields}
    column = columns["Size of the file" if label_of == "size" else "Partner whose time it was"]
    cells = {"quicklook_id": "X", column: 7.0 if label_of == "size" else "ESO"}
    assert {question for question, _ in asked_of("eso_vlt", "apex_quicklooks", cells, "value")} == expected


def test_the_larger_of_two_rows_is_the_answer(asked):
    places = Counter()
    for question in asked:
        if question.kind != "comparison":
            continue
        first, second = question.rows
        assert first.name != second.name
        assert first.table is second.table
        field = asked_field(question)
        values = [row.cells[field.column] for row in question.rows]
        assert abs(values[0] - values[1]) > 0.05 * max(map(abs, values))
        assert question.answer == question.rows[values[1] > values[0]].name
        for row in question.rows:
            assert f"{field.label}: {field.value(row.cells)}" in question.context.splitlines()
        places["context"] += question.context.startswith(f"{first.table.noun}: {question.answer}\n")
        places["question"] += question.question.index(question.answer) == min(
            question.question.index(row.name) for row in question.rows
        )
        places["all"] += 1
    # Its place must not give the answer away.
    assert places["all"] > 100
    for place in ("context", "question"):
        assert 0.4 < places[place] / places["all"] < 0.6, places


def test_what_is_unanswerable_is_not_shown(asked):
    for question in asked:
        if question.kind == "unanswerable":
            row = question.rows[0]
            field = asked_field(question)
            assert question.answer == UNANSWERABLE_ANSWER
            assert field.topic not in {
                each.topic for each in row.table.fields if each.label in {label for label, _, _ in lines_of(question)}
            }


def test_answers_about_organisms_stand_in_their_context(asked):
    for question in asked:
        if question.kind in BIOLOGY_KINDS:
            assert question.rows[0].table.name in BIOLOGY_TOPICS
            assert question.answer in question.context


PROTEIN = {
    "id": "TEST_ECOLI",
    "accession": "X00001",
    "organism_name": "Escherichia coli (strain K12)",
    "organism_id": 83333,
    "species": "Escherichia coli",
    "lineage": ["Bacteria", "Pseudomonadota", "Escherichia"],
    "ec": ["1.1.1.1"],
    "cc_function": "Makes one thing of another. Is made up. Does nothing else",
    "sequence": "MK" * 100,
    "length": 200,
    "mass": 25000,
}


def asked_of(source, config, cells, kind, tries=20):
    rng = random.Random(0)
    return {
        (question.question, question.answer): question.context
        for _ in range(tries)
        for question in text_questions([text_row(source, config, cells)], rng)
        if question.kind == kind
    }


def test_a_protein_is_asked_what_it_is():
    assert {answer for _, answer in asked_of("uniprotkb", "entries", PROTEIN, "enzyme")} == {"1.1.1.1"}
    taxonomy = asked_of("uniprotkb", "entries", PROTEIN, "taxonomy")
    organism = "Escherichia coli (strain K12)"
    assert taxonomy.keys() == {
        (f"Which domain of life does {organism} belong to?", "Bacteria"),
        (f"Which taxon stands directly above {organism} in its lineage?", "Escherichia"),
    }
    organisms = asked_of("uniprotkb", "entries", PROTEIN, "organism")
    assert {answer for _, answer in organisms} == {organism}
    assert all(f"Letters: {'MK' * 48} (first 96 of 200)" in context for context in organisms.values())
    functions = asked_of("uniprotkb", "entries", PROTEIN, "function")
    assert {answer for _, answer in functions} == {PROTEIN["cc_function"]}
    long = PROTEIN | {"cc_function": "Catalyses the first step of it. " + "Then others. " * 40}
    assert asked_of("uniprotkb", "entries", long, "function").keys() == {
        (
            "What is the first thing that the record says about the function of TEST_ECOLI?",
            "Catalyses the first step of it.",
        )
    }


@pytest.mark.parametrize(
    ("missing", "kind"),
    [
        ({"ec": []}, "enzyme"),
        ({"cc_function": None}, "function"),
        ({"lineage": []}, "taxonomy"),
        ({"organism_name": None}, "organism"),
        ({"cc_function": "no end " * 99}, "function"),
    ],
)
def test_what_a_record_lacks_is_not_asked(missing, kind):
    assert asked_of("uniprotkb", "entries", PROTEIN | missing, kind) == {}


def test_a_lineage_that_is_cut_is_not_asked_for_its_end():
    lineage = ["Eukaryota", *(f"Taxon {number}" for number in range(30))]
    assert asked_of("uniprotkb", "entries", PROTEIN | {"lineage": lineage}, "taxonomy") == {}


def test_reactions_and_ranks():
    cells = PROTEIN | {"activity": 0, "reaction": "A + B = C", "rhea_id": "RHEA:1", "ec_number": "1.1.1.1"}
    answers = {answer for _, answer in asked_of("uniprotkb", "catalytic_activities", cells, "enzyme")}
    assert answers == {"A + B = C", "RHEA:1", "1.1.1.1"}
    ranks = {"accession": "GB_GCA_1", "domain": "Archaea", "phylum": None, "gtdb_species": "Testia prima"}
    answers = {answer for _, answer in asked_of("gtdb", "taxonomy", ranks, "taxonomy")}
    assert answers == {"Archaea", "Testia prima"}


def test_rows_that_cannot_be_compared_are_not():
    cells = {"pl_name": "Test-1 b", "pl_rade": 2.0}
    rows = [text_row("nasa_exoplanet_archive", "pscomppars", cells | {"pl_name": name}) for name in "ab"]
    assert not [each for each in text_questions(rows, random.Random(0)) if each.kind == "comparison"]
    same_name = [text_row("nasa_exoplanet_archive", "ps", cells | {"pl_rade": radius}) for radius in (1.0, 9.0)]
    assert not [each for each in text_questions(same_name, random.Random(0)) if each.kind == "comparison"]
    limits = [
        text_row("nasa_exoplanet_archive", "ps", {"pl_name": name, "pl_rade": radius, "pl_radelim": 1})
        for name, radius in (("a", 1.0), ("b", 9.0))
    ]
    assert text_questions(limits, random.Random(0)) == []
