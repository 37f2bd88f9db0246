"""What a check found: PASS, FAIL or NOT TESTED, with its evidence."""

import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UserError


__all__ = [
    "FAIL",
    "NOT_TESTED",
    "PASS",
    "ModelCheck",
    "NotTestable",
    "Outcome",
    "failed",
    "guarded",
    "not_tested",
    "passed",
]


PASS, FAIL, NOT_TESTED = "PASS", "FAIL", "NOT TESTED"


@dataclass(frozen=True)
class Outcome:
    """One line of the table.

    Attributes:
        status: `PASS`, `FAIL` or `NOT_TESTED`.
        text: What was found, with its figures; for `NOT_TESTED` the reason.
        evidence: The same and more, for the JSON file.
    """

    status: str
    text: str
    evidence: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields for a JSON file."""
        return asdict(self)


@dataclass(frozen=True)
class ModelCheck:
    """A check that only one kind of model has.

    Attributes:
        title: What is checked.
        run: Takes the prepared task and its trainer, before any training.
    """

    title: str
    run: Callable[[Any, Any], Outcome]


class NotTestable(Exception):
    """Raised by a check that cannot be run here; its text is the reason."""


def passed(text: str, **evidence: Any) -> Outcome:
    """Return the outcome of a check that was run and found nothing wrong."""
    return Outcome(PASS, text, evidence)


def failed(text: str, **evidence: Any) -> Outcome:
    """Return the outcome of a check that found something wrong."""
    return Outcome(FAIL, text, evidence)


def not_tested(text: str, **evidence: Any) -> Outcome:
    """Return the outcome of a check that was not run."""
    return Outcome(NOT_TESTED, text, evidence)


def guarded(run: Callable[[], Outcome]) -> Outcome:
    """Run a check; one that crashes has failed, and says where."""
    try:
        return run()
    except NotTestable as reason:
        return not_tested(str(reason))
    except UserError as error:
        return failed(" ".join(str(error).split()))
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(last.filename).name}:{last.lineno}"
        return failed(
            f"it ended in {type(error).__name__}: {' '.join(str(error).split())} ({where})",
            traceback=traceback.format_exc(),
        )
