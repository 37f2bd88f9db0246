"""Questions with computed answers about planets, each with the context that it is answered from."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from data_scripts.derived.balanced_quotas import balanced_quotas
from data_scripts.derived.planet_context import available_fields, planet_context
from data_scripts.derived.question_topics import (
    PAIR_TOPICS,
    QUESTION_KINDS,
    TOO_CLOSE_TO_COMPARE,
    TOPICS,
    UNRECORDED_QUESTIONS,
    PairTopic,
    QuestionKind,
    Topic,
)
from data_scripts.embedded.planets import Planet


__all__ = [
    "UNANSWERABLE_ANSWER",
    "PlanetQuestion",
    "pair_question",
    "planet_questions",
    "topic_question",
    "unanswerable_question",
]

UNANSWERABLE_ANSWER = "The record does not say."
# Lines of a context besides the planet's name: few enough for a small model, many enough to have to search.
FEWEST_FIELDS, MOST_FIELDS = 4, 8
PAIR_FIELDS = 2
# One unanswerable question in four asks for something that no record holds.
UNRECORDED_EVERY = 4
# Random draws that may fail, as duplicates or near ties, before the planets are taken to be too few.
MOST_ATTEMPTS = 200
# Fields whose absence proves nothing: the host star's name is most often the first part of the planet's name.
NEVER_UNANSWERABLE = frozenset({"host_star_name"})


@dataclass(frozen=True)
class PlanetQuestion:
    """A context, a question about it and the answer that follows from the context alone."""

    kind: QuestionKind
    topic: str
    planets: tuple[Planet, ...]
    context: str
    question: str
    answer: str


def topic_question(topic: Topic, planet: Planet, rng: random.Random) -> PlanetQuestion | None:
    """Ask about one planet, in a context of random fields that holds the one needed.

    Returns:
        The question, or None if the planet lacks the field or the topic's rule says not to ask.
    """
    fields = available_fields(planet)
    if topic.column not in fields:
        return None
    columns = _random_fields(fields, {topic.column}, rng)
    context = planet_context(planet, columns)
    answer = topic.answer(context)
    if answer is None:
        return None
    question = rng.choice(topic.phrasings).format(planet=planet.planet_name)
    return PlanetQuestion(topic.kind, topic.name, (planet,), context.text, question, answer)


def pair_question(topic: PairTopic, first: Planet, second: Planet, rng: random.Random) -> PlanetQuestion | None:
    """Ask which of two planets has more or less of a quantity, in two short contexts.

    Returns:
        The question, or None if a planet lacks the field or the two are too close to compare.
    """
    contexts = []
    for planet in (first, second):
        others = [field for field in available_fields(planet) if field != topic.column]
        if len(others) == len(available_fields(planet)):
            return None
        columns = [topic.column, *rng.sample(others, PAIR_FIELDS - 1)]
        rng.shuffle(columns)
        contexts.append(planet_context(planet, columns))
    values = [context.number(topic.column) for context in contexts]
    if max(values) < min(values) * (1 + TOO_CLOSE_TO_COMPARE):
        return None
    winner = first if (values[0] > values[1]) == topic.larger_wins else second
    named = [first.planet_name, second.planet_name]
    rng.shuffle(named)
    question = rng.choice(topic.phrasings).format(first=named[0], second=named[1])
    text = "\n".join(context.text for context in contexts)
    return PlanetQuestion("comparison", topic.name, (first, second), text, question, winner.planet_name)


def unanswerable_question(topic: Topic | str, planet: Planet, rng: random.Random) -> PlanetQuestion:
    """Ask about something that the context does not show.

    Args:
        topic: A topic whose field is left out of the context, or a question of `UNRECORDED_QUESTIONS`.
        planet: The planet asked about.
        rng: Source of the choice of fields and phrasing.
    """
    fields = available_fields(planet)
    if isinstance(topic, str):
        name, phrasing = "unanswerable:unrecorded", topic
    else:
        name, phrasing = f"unanswerable:{topic.column}", rng.choice(topic.phrasings)
        fields = tuple(field for field in fields if field != topic.column)
    context = planet_context(planet, _random_fields(fields, set(), rng))
    question = phrasing.format(planet=planet.planet_name)
    return PlanetQuestion("unanswerable", name, (planet,), context.text, question, UNANSWERABLE_ANSWER)


def planet_questions(
    planets: Sequence[Planet], questions_per_planet: int, seed: str, most_repeats: int = 2
) -> list[PlanetQuestion]:
    """Return questions about planets, balanced over kinds, topics and answers.

    Each of the five kinds gets the same number of questions, each topic of a kind the same as far as its answers can
    be balanced (`balanced_quotas`), and the planets take turns. No pair of context and question occurs twice.

    Args:
        planets: Planets that may meet in one context; pass one split only.
        questions_per_planet: Mean number of questions, over all kinds.
        seed: The same arguments give the same questions.
        most_repeats: How often a planet with a rare answer may be asked the same, each time in another context.

    Raises:
        ValueError: If there are fewer than two planets, fewer than one question per planet or repeat, or the planets
            do not differ enough to be compared.
    """
    if len(planets) < 2 or questions_per_planet < 1 or most_repeats < 1:
        raise ValueError(
            "planets must be at least 2, questions_per_planet and most_repeats at least 1; got "
            f"{len(planets)}, {questions_per_planet} and {most_repeats}. Pass all planets of a split."
        )
    return _QuestionMaker(planets, seed, most_repeats).make(questions_per_planet)


class _QuestionMaker:
    """Makes the questions of one split: remembers what was asked and how often each planet had its turn."""

    def __init__(self, planets: Sequence[Planet], seed: str, most_repeats: int) -> None:
        self.planets = planets
        self.most_repeats = most_repeats
        self.rng = random.Random(f"planet_questions:{seed}")
        self.turns: Counter[str] = Counter()
        self.asked: set[tuple[str, str]] = set()

    def make(self, questions_per_planet: int) -> list[PlanetQuestion]:
        total = len(self.planets) * questions_per_planet // len(QUESTION_KINDS)
        questions: list[PlanetQuestion] = []
        for kind in ("value", "class", "unit_conversion"):
            questions += self._kind([topic for topic in TOPICS if topic.kind == kind], total)
        references = self._kind([topic for topic in TOPICS if topic.kind == "comparison"], total * 2 // 3)
        questions += references
        questions += self._pairs(total - len(references))
        questions += self._unanswerable(total)
        return questions

    def _kind(self, topics: list[Topic], total: int) -> list[PlanetQuestion]:
        """Ask `total` questions; what a topic with few answers cannot take goes to the others."""
        labels = {topic.name: self._planets_of_labels(topic) for topic in topics}

        def quotas(topic: Topic, wanted: int) -> dict[str, int]:
            capacities = {label: len(planets) * self.most_repeats for label, planets in labels[topic.name].items()}
            return balanced_quotas(capacities, wanted, max(1, len(topic.answer_labels)))

        questions: list[PlanetQuestion] = []
        scarcest_first = sorted(topics, key=lambda topic: sum(quotas(topic, total).values()))
        for position, topic in enumerate(scarcest_first):
            wanted = (total - len(questions)) // (len(topics) - position)
            for label, quota in quotas(topic, wanted).items():
                questions += self._topic(topic, labels[topic.name][label], quota)
        return questions

    def _planets_of_labels(self, topic: Topic) -> dict[str, list[Planet]]:
        """Group the planets that the topic can be asked of by answer, in one group if answers need no balance."""
        groups: dict[str, list[Planet]] = {}
        for planet in self.planets:
            if topic.column not in available_fields(planet):
                continue
            answer = topic.answer(planet_context(planet, [topic.column]))
            if answer is not None:
                groups.setdefault(answer if topic.answer_labels else "", []).append(planet)
        return groups

    def _topic(self, topic: Topic, planets: list[Planet], quota: int) -> list[PlanetQuestion]:
        questions: list[PlanetQuestion] = []
        for _ in range(MOST_ATTEMPTS):
            if len(questions) == quota:
                return questions
            for planet in self._by_turn(planets)[: quota - len(questions)]:
                self._add(questions, topic_question(topic, planet, self.rng))
        raise self._exhausted(topic.name, quota)

    def _pairs(self, total: int) -> list[PlanetQuestion]:
        questions: list[PlanetQuestion] = []
        for _ in range(total * MOST_ATTEMPTS):
            if len(questions) == total:
                return questions
            pair_round, position = divmod(len(questions), len(PAIR_TOPICS))
            topic = PAIR_TOPICS[position]
            one = self._by_turn(self.planets)[0]
            other = self.rng.choice([planet for planet in self.planets if planet is not one])
            if getattr(one, topic.column) is None or getattr(other, topic.column) is None:
                one, other = other, self.rng.choice(self.planets)
            # The answer stands first in every second round: its place must not give it away.
            first_wins = pair_round % 2 == 0
            if first_wins == self._wins(topic, one, other):
                self._add(questions, pair_question(topic, one, other, self.rng))
            else:
                self._add(questions, pair_question(topic, other, one, self.rng))
        raise self._exhausted("comparisons of two planets", total)

    @staticmethod
    def _wins(topic: PairTopic, one: Planet, other: Planet) -> bool:
        """Say whether the first planet is the answer; false where a value is null, which `pair_question` refuses."""
        value, other_value = getattr(one, topic.column), getattr(other, topic.column)
        if value is None or other_value is None:
            return False
        return (value > other_value) == topic.larger_wins

    def _unanswerable(self, total: int) -> list[PlanetQuestion]:
        topics = [topic for topic in TOPICS if topic.column not in NEVER_UNANSWERABLE]
        # As many questions on each field, however many topics share it.
        columns = sorted({topic.column for topic in topics})
        questions: list[PlanetQuestion] = []
        for _ in range(total * MOST_ATTEMPTS):
            number = len(questions)
            if number == total:
                return questions
            chosen: Topic | str
            if number % UNRECORDED_EVERY == 0:
                chosen = UNRECORDED_QUESTIONS[number // UNRECORDED_EVERY % len(UNRECORDED_QUESTIONS)]
            else:
                column = columns[number % len(columns)]
                chosen = self.rng.choice([topic for topic in topics if topic.column == column])
            planet = self._by_turn(self.planets)[0]
            self._add(questions, unanswerable_question(chosen, planet, self.rng))
        raise self._exhausted("unanswerable questions", total)

    def _by_turn(self, planets: Sequence[Planet]) -> list[Planet]:
        """Return the planets with the fewest questions first, equals in random order."""
        return sorted(planets, key=lambda planet: (self.turns[planet.planet_name], self.rng.random()))

    def _add(self, questions: list[PlanetQuestion], made: PlanetQuestion | None) -> None:
        """Add a question, unless it cannot be asked or was asked before."""
        if made is None or (made.context, made.question) in self.asked:
            return
        self.asked.add((made.context, made.question))
        for planet in made.planets:
            self.turns[planet.planet_name] += 1
        questions.append(made)

    def _exhausted(self, topic_name: str, quota: int) -> ValueError:
        return ValueError(
            f"planets must differ enough for {quota} different questions on {topic_name}; got {len(self.planets)} "
            f"planets that do not. Pass more planets or lower questions_per_planet."
        )


def _random_fields(fields: Sequence[str], needed: set[str], rng: random.Random) -> list[str]:
    """Choose fields at random, those needed among them, in random order."""
    others = [field for field in fields if field not in needed]
    count = rng.randint(FEWEST_FIELDS, MOST_FIELDS) - len(needed)
    chosen = [*sorted(needed), *rng.sample(others, min(count, len(others)))]
    rng.shuffle(chosen)
    return chosen
