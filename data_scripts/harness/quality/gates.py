"""Least scores that a table must exceed to be published, and the grade of what is published."""

from data_scripts.harness.quality.scores import Scores, share_text


__all__ = ["GATES", "failed_gates", "grade_of"]

GATES = {"completeness": 0.95, "consistency": 0.90, "accuracy": 0.95, "validity": 0.98}
GRADES = (("A+", 0.95), ("A", 0.90), ("B", 0.80), ("C", 0.70), ("D", 0.60))


def failed_gates(scores: Scores) -> list[str]:
    """Say which gates a table fails, with score and bound; a score that could not be judged fails none."""
    return [
        f"{score.name} must be above {GATES[score.name]:.2f}; got {share_text(score.value)}"
        for score in scores.all
        if score.value is not None and not score.value > GATES[score.name]
    ]


def grade_of(overall: float | None) -> str:
    """Return the grade of a mean of scores: A+, A, B, C, D, F; `not judged` without any."""
    if overall is None:
        return "not judged"
    return next((grade for grade, least in GRADES if overall >= least), "F")
