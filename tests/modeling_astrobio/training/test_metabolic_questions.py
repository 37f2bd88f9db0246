"""The questions of a step: drawn as they always were, and the same for the same seed and number."""

import numpy as np
import pytest
import torch


pytest.importorskip("cobra", reason="the extra chem is not installed")
from metabolic_models import small_network

from modeling_astrobio.training.errors import DataError
from modeling_astrobio.training.metabolic_completion import completion_config
from modeling_astrobio.training.metabolic_data import Organism, split_organisms
from modeling_astrobio.training.metabolic_questions import CompletionQuestions, CompletionSteps, QuestionSettings


SETTINGS = QuestionSettings(draws=2, shares=[0.2, 0.4], questions=4, wrong_candidates=3, directions=6, pointers=4)
EXCHANGES = ("glc", "lac", "h", "h2o", "pi")


@pytest.fixture(scope="module")
def organisms():
    left_out = {"A": ("ADK", "FBP"), "B": ("PPS", "FBP"), "C": ("ADK",), "D": ("PPS", "LDH", "TPI")}
    return Organism.group([(name, small_network(name, out, EXCHANGES)) for name, out in left_out.items()])


def questions_of(asked, known, seed=0, settings=SETTINGS):
    return CompletionQuestions(asked, known, settings, completion_config(), np.random.default_rng(seed))


def same(first, second) -> bool:
    return first.keys() == second.keys() and all(
        first[part].keys() == second[part].keys()
        and all(torch.equal(first[part][name], second[part][name]) for name in first[part])
        for part in first
    )


def test_questions_are_those_that_were_always_drawn(organisms):
    # Figures that were published come from this order of random numbers.
    known = organisms[1:]
    generator = np.random.default_rng(0)
    questions = CompletionQuestions(known, known, SETTINGS, completion_config(), generator)
    steps = [questions.draw(generator) for _ in range(3)]
    assert [each["direction"]["direction_labels"].tolist() for each in steps] == [
        [1, 1, 1, 1, 0, 1],
        [1, 1, 1, 2, 1, 1],
        [1, 2, 1, 1, 1, 0],
    ]
    assert [each["candidate"]["node_types"].sum().item() for each in steps] == [4403, 5377, 4448]
    assert [each["pointer"]["pointer_labels"].abs().sum().item() for each in steps] == [5.0, 10.0, 7.0]
    offsets = [each["candidate"]["candidate_offsets"].abs().sum().item() for each in steps]
    assert offsets == pytest.approx([13.183348, 8.960776, 1.44299], rel=1e-5)


def test_a_step_depends_on_seed_and_number_alone(organisms):
    known = organisms[1:]
    steps, again = (CompletionSteps(questions_of(known, known), 5, seed=3) for _ in range(2))
    assert len(steps) == 5
    assert same(steps[4], again[4])
    assert all(same(first, second) for first, second in zip(list(steps), list(again), strict=True))
    assert not same(steps[0], steps[1])
    assert not same(steps[0], CompletionSteps(questions_of(known, known), 5, seed=4)[0])
    with pytest.raises(IndexError, match="step must be from 0 to 4; got 5"):
        steps[5]


def test_candidates_come_from_the_others_alone(organisms):
    held_out, known = organisms[0], organisms[1:]
    asked = questions_of([held_out], known)
    pools = {tuple(each.species for each in about.pool.organisms) for about in asked._about}
    assert pools == {("B", "C", "D")}
    pools = [tuple(each.species for each in about.pool.organisms) for about in questions_of(known, known)._about]
    assert pools == [("C", "D"), ("B", "D"), ("B", "C")]
    with pytest.raises(DataError, match="organisms must be at least two, one of them asked about; got 1"):
        questions_of(known[:1], known[:1])


def test_what_is_not_asked_is_not_in_the_step(organisms):
    known = organisms[1:]
    settings = QuestionSettings(**{**vars(SETTINGS), "directions": 0, "pointers": 0})
    assert set(questions_of(known, known, settings=settings).draw(np.random.default_rng(0))) == {"candidate"}


@pytest.mark.parametrize(
    ("names", "held_out"), [(None, ["D"]), ([], []), (["B"], ["B"]), (["B", "A"], ["A", "B"])], ids=str
)
def test_organisms_are_held_out_by_name(organisms, names, held_out):
    known, others = split_organisms(organisms, names)
    assert [each.species for each in others] == held_out
    assert sorted(each.species for each in (*known, *others)) == ["A", "B", "C", "D"]


def test_too_few_organisms_are_refused(organisms):
    assert [each.species for each in split_organisms(organisms[:2], None)[0]] == ["A", "B"]
    with pytest.raises(DataError, match=r"at least two species must be left .* got \['A'\], held out \[\]"):
        split_organisms(organisms[:1], None)
    with pytest.raises(DataError, match=r"got \['D'\], held out \['A', 'B', 'C'\]\. Put models of other species"):
        split_organisms(organisms, ["A", "B", "C"])
    with pytest.raises(DataError, match=r"data\.held_out must be of the species \['A', .*; got \['E'\]\. Name one"):
        split_organisms(organisms, ["E"])
