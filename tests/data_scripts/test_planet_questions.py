"""Questions: answers follow from contexts, kinds and answers are balanced, input is checked."""

import dataclasses
import random
import re
from collections import Counter
from itertools import pairwise

import pytest
from naive_answers import DOES_NOT_SAY, check_answer, parse_context

from data_scripts.derived.planet_questions import (
    UNANSWERABLE_ANSWER,
    pair_question,
    planet_questions,
    topic_question,
    unanswerable_question,
)
from data_scripts.derived.question_topics import PAIR_TOPICS, QUESTION_KINDS, TOPICS
from data_scripts.embedded.planets import load_planets


PLANETS = load_planets()[::5]


@pytest.fixture(scope="module")
def questions():
    return planet_questions(PLANETS, 15, seed="test", most_repeats=4)


def test_every_topic_and_phrasing_has_the_naive_answer():
    rng = random.Random(7)
    asked = Counter()
    for topic in TOPICS:
        for planet in PLANETS:
            question = topic_question(topic, planet, rng)
            if question is not None:
                check_answer(question.context, question.question, question.answer)
                asked[topic.name] += 1
    assert set(asked) == {topic.name for topic in TOPICS}


def test_every_pair_topic_has_the_naive_answer():
    rng = random.Random(7)
    asked = Counter()
    for topic in PAIR_TOPICS:
        for first, second in pairwise(PLANETS):
            question = pair_question(topic, first, second, rng)
            if question is not None:
                check_answer(question.context, question.question, question.answer)
                asked[topic.name] += 1
    assert set(asked) == {topic.name for topic in PAIR_TOPICS}


def test_what_is_left_out_is_not_answered():
    rng = random.Random(7)
    assert UNANSWERABLE_ANSWER == DOES_NOT_SAY
    for topic in TOPICS:
        if topic.column != "host_star_name":
            for planet in PLANETS[:13]:
                question = unanswerable_question(topic, planet, rng)
                check_answer(question.context, question.question, question.answer)
                assert question.answer == UNANSWERABLE_ANSWER


def test_null_fields_are_not_asked_for():
    planet = dataclasses.replace(PLANETS[0], insolation_earth_flux=None, equilibrium_temperature_k=None)
    rng = random.Random(0)
    for topic in TOPICS:
        if topic.column in ("insolation_earth_flux", "equilibrium_temperature_k"):
            assert topic_question(topic, planet, rng) is None
    warmer = next(topic for topic in PAIR_TOPICS if topic.name == "pair:warmer")
    assert pair_question(warmer, planet, PLANETS[1], rng) is None


def test_near_ties_are_not_asked():
    planet = PLANETS[0]
    twin = dataclasses.replace(
        planet, planet_name="Twin b", planet_radius_earth_radii=planet.planet_radius_earth_radii
    )
    assert pair_question(PAIR_TOPICS[0], planet, twin, random.Random(0)) is None


def test_kinds_have_equal_shares(questions):
    counts = Counter(question.kind for question in questions)
    assert set(counts) == set(QUESTION_KINDS)
    assert len(questions) == pytest.approx(15 * len(PLANETS), rel=0.05)
    assert max(counts.values()) <= 1.1 * min(counts.values())


def test_no_answer_dominates_its_topic(questions):
    answers = {}
    for question in questions:
        if question.kind in ("comparison", "class") and len(question.planets) == 1:
            answers.setdefault(question.topic, Counter())[question.answer] += 1
    for topic, counter in answers.items():
        assert len(counter) > 1, topic
        assert max(counter.values()) <= 0.75 * counter.total(), (topic, counter)


def test_the_place_of_a_planet_does_not_give_the_answer_away(questions):
    pairs = [question for question in questions if len(question.planets) == 2]
    first = sum(question.answer == question.planets[0].planet_name for question in pairs)
    assert 0.4 < first / len(pairs) < 0.6


def test_contexts_are_short(questions):
    for question in questions:
        # One token per digit, word, sign and line break is more than a trained vocabulary needs.
        assert len(re.findall(r"\d|[^\W\d]+|[^\w\s]|\n", question.context)) <= 130
        for planet in parse_context(question.context):
            assert 2 <= len(planet) <= 9


def test_every_planet_has_its_turn(questions):
    turns = Counter(planet.planet_name for question in questions for planet in question.planets)
    assert set(turns) == {planet.planet_name for planet in PLANETS}
    assert min(turns.values()) >= 8


def test_no_question_occurs_twice(questions):
    assert len({(question.context, question.question) for question in questions}) == len(questions)


def test_same_seed_same_questions(questions):
    assert planet_questions(PLANETS, 15, seed="test", most_repeats=4) == questions
    assert planet_questions(PLANETS, 15, seed="other", most_repeats=4) != questions


@pytest.mark.parametrize(("planets", "count", "repeats"), [(PLANETS[:1], 5, 1), (PLANETS, 0, 1), (PLANETS, 5, 0)])
def test_too_little_to_ask_about_is_refused(planets, count, repeats):
    with pytest.raises(
        ValueError, match="planets must be at least 2, questions_per_planet and most_repeats at least 1"
    ):
        planet_questions(planets, count, seed="test", most_repeats=repeats)


def test_planets_that_cannot_be_compared_are_refused():
    twins = [dataclasses.replace(PLANETS[0], planet_name=name) for name in ("Twin b", "Twin c")]
    with pytest.raises(ValueError, match=r"planets must differ enough for .* comparisons of two planets"):
        planet_questions(twins, 15, seed="test")


def test_the_naive_check_notices_wrong_answers(questions):
    caught = 0
    for question in questions[::11]:
        others = {"larger": "smaller", "yes": "no", "no": "yes", DOES_NOT_SAY: "3 days"}
        wrong = others.get(question.answer, "9" + question.answer)
        with pytest.raises(AssertionError):
            check_answer(question.context, question.question, wrong)
        caught += 1
    assert caught > 50
