"""Questions about rows of archives' tables, each with the context that its answer is read from."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from data_scripts.derived.biology_questions import BIOLOGY_TOPICS, Topic
from data_scripts.derived.planet_questions import FEWEST_FIELDS, MOST_FIELDS, PAIR_FIELDS, UNANSWERABLE_ANSWER
from data_scripts.derived.question_topics import TOO_CLOSE_TO_COMPARE
from data_scripts.derived.text_fields import TextField
from data_scripts.derived.text_tables import TextRow, TextTable


__all__ = ["TextQuestion", "text_questions"]

VALUES_PER_ROW = 2
# Rows of one split that are tried before a row is not compared.
_PARTNERS = 8
# Longer cells are for records; a question is answered in a few words.
_LONGEST_ANSWER = 80
# Of these more or less says nothing: places, moments, and numbers that are names.
_NOT_COMPARED = re.compile(
    r"(?i)\b(start|end|time of|day|days from|julian|date|year|number|identifier|taxon|version|ascension|declination|"
    r"longitude|latitude|angle|azimuth|argument|position|coordinate|camera|chip|sector|quarter|release|flag|code|"
    r"priority|strand|base, from|last base|component|calib level|bjd|catalogue?)\b"
)
# A label that is more than a noun with its attributes is quoted, since it does not stand in a sentence.
_QUOTED_LABEL = re.compile(r"[,=]|\b(that|which|who|whose|where|whether|as|if)\b")
_WITH_ARTICLE = re.compile(r"\bof the\b|\bof a\b")
_ONE = ("What is the {label} of {name}?", "{name}: what is its {label}?", "What {label} does {name} have?")
_SEVERAL = ("What are the {label} of {name}?", "{name}: what are its {label}?")
_COUNT = ("How many {label} does {name} have?", "{name}: how many {label}?")
_QUOTED = (
    "What does the record of {name} give as {label}?",
    "{name}: what stands under {label}?",
    "What does the record of {name} say under {label}?",
)
_LARGER_QUOTED = (
    "For which is {label} larger, {first} or {second}?",
    "{first} or {second}: for which is {label} larger?",
)
_LARGER = ("Which has the larger {label}, {first} or {second}?", "{first} or {second}: which {label} is larger?")
_MORE = ("Which has more {label}, {first} or {second}?", "{first} or {second}: which has more {label}?")


@dataclass(frozen=True)
class TextQuestion:
    """A context, a question about it, and the answer that follows from the context alone."""

    kind: str
    rows: tuple[TextRow, ...]
    context: str
    question: str
    answer: str


def text_questions(rows: Sequence[TextRow], rng: random.Random) -> list[TextQuestion]:
    """Ask about every row.

    A row is asked for values, compared with another of the table, and asked for something that its context does not
    show; rows of biology also for what the table is about: taxonomy, organism, enzyme, function.

    Args:
        rows: Rows of one table and one split, which may meet in one context.
        rng: Source of every choice.
    """
    questions: list[TextQuestion | None] = []
    for row in rows:
        asked = [field for field in _askable(row) if not _stands_in(row.values[field.column], row.name)]
        for field in rng.sample(asked, min(VALUES_PER_ROW, len(asked))):
            questions.append(_value(row, field, rng))
        questions.append(_comparison(row, rows, rng))
        questions.append(_unanswerable(row, rng))
        questions += [_biology(row, topic, rng) for topic in BIOLOGY_TOPICS.get(row.table.name, ())]
    return [question for question in questions if question is not None]


def _askable(row: TextRow) -> list[TextField]:
    """Return the fields that a question can name and a few words can answer."""
    return [
        field
        for field in _named(row.table)
        if field.column in row.values and len(row.values[field.column]) <= _LONGEST_ANSWER
    ]


@lru_cache(maxsize=256)
def _named(table: TextTable) -> tuple[TextField, ...]:
    return tuple(field for field in table.fields if field.kind in ("number", "text") and field.phrase is not None)


@lru_cache(maxsize=256)
def _compared(table: TextTable) -> tuple[TextField, ...]:
    return tuple(field for field in _named(table) if field.kind == "number" and not _NOT_COMPARED.search(field.label))


def _context(row: TextRow, needed: Sequence[str], rng: random.Random, hidden: str | None = None) -> str:
    """Return the title and lines of a few fields, those needed among them, but none on the hidden topic."""
    return _text_of(row, _chosen(row, needed, rng.randint(FEWEST_FIELDS, MOST_FIELDS), rng, hidden), rng)


def _chosen(
    row: TextRow, needed: Sequence[str], count: int, rng: random.Random, hidden: str | None = None
) -> list[TextField]:
    """Choose fields, no two of which tell the same in other words."""
    chosen = [field for field in row.table.fields if field.column in needed]
    others = _askable(row)
    topics = {field.topic for field in chosen} | {hidden}
    for field in rng.sample(others, len(others)):
        if len(chosen) >= count:
            break
        if field.topic not in topics:
            topics.add(field.topic)
            chosen.append(field)
    return chosen


def _text_of(row: TextRow, fields: Sequence[TextField], rng: random.Random) -> str:
    lines = [f"{field.label}: {row.values[field.column]}" for field in fields]
    rng.shuffle(lines)
    return "\n".join([row.title, *lines])


def _question(field: TextField, name: str, rng: random.Random) -> str:
    if _is_quoted(field):
        return rng.choice(_QUOTED).format(label=_quoted(field), name=name)
    phrasings: tuple[str, ...] = (
        _ONE if not field.plural else _COUNT if field.kind == "number" and not field.unit else _SEVERAL
    )
    if phrasings is _ONE and _WITH_ARTICLE.search(field.label):
        phrasings = _ONE[:1]
    return rng.choice(phrasings).format(label=field.asked, name=name)


def _is_quoted(field: TextField) -> bool:
    is_count = field.plural and field.kind == "number" and not field.unit
    return _QUOTED_LABEL.search(field.label) is not None and not (is_count and "," not in field.label)


def _quoted(field: TextField) -> str:
    return f'"{field.label}" in {field.unit}' if field.shared and field.unit else f'"{field.label}"'


def _stands_in(value: str, name: str) -> bool:
    """Return whether a row's name tells a value, as `HD 1 b` does the planet's letter."""
    return re.search(rf"(?<![^\W_]){re.escape(value)}(?![^\W_])", name, re.IGNORECASE) is not None


def _value(row: TextRow, field: TextField, rng: random.Random) -> TextQuestion:
    question = _question(field, row.name, rng)
    return TextQuestion("value", (row,), _context(row, [field.column], rng), question, row.values[field.column])


def _comparison(row: TextRow, rows: Sequence[TextRow], rng: random.Random) -> TextQuestion | None:
    fields = [field for field in _compared(row.table) if field.column in row.values]
    if not fields:
        return None
    field = rng.choice(fields)
    for other in rng.choices(rows, k=_PARTNERS):
        if other.name == row.name or field.column not in other.values:
            continue
        value, other_value = row.cells[field.column], other.cells[field.column]
        if abs(value - other_value) <= float(TOO_CLOSE_TO_COMPARE) * max(abs(value), abs(other_value)):
            continue
        pair = rng.sample((row, other), 2)
        context = "\n".join(_text_of(each, _chosen(each, [field.column], PAIR_FIELDS, rng), rng) for each in pair)
        first, second = rng.sample((row.name, other.name), 2)
        if _is_quoted(field):
            question = rng.choice(_LARGER_QUOTED).format(label=_quoted(field), first=first, second=second)
        else:
            phrasings = _MORE if field.plural else _LARGER[:1] if _WITH_ARTICLE.search(field.label) else _LARGER
            question = rng.choice(phrasings).format(label=field.asked, first=first, second=second)
        answer = row.name if value > other_value else other.name
        return TextQuestion("comparison", tuple(pair), context, question, answer)
    return None


def _unanswerable(row: TextRow, rng: random.Random) -> TextQuestion | None:
    fields = _compared(row.table)
    if not fields or not row.values:
        return None
    field = rng.choice(fields)
    context = _context(row, (), rng, hidden=field.topic)
    question = _question(field, row.name, rng)
    return TextQuestion("unanswerable", (row,), context, question, UNANSWERABLE_ANSWER)


def _biology(row: TextRow, topic: Topic, rng: random.Random) -> TextQuestion | None:
    made = topic(row, rng)
    if made is None:
        return None
    context = "\n".join([_context(row, made.columns, rng), *made.lines])
    return TextQuestion(made.kind, (row,), context, made.question, made.answer)
