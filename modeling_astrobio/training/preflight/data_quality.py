"""The quality grade that a build of a data set leaves beside it."""

import json
from pathlib import Path

from .context import Context
from .outcome import NotTestable, Outcome, failed, passed


__all__ = ["QUALITY_NAME", "check_quality"]


QUALITY_NAME = "quality.json"


def check_quality(context: Context) -> Outcome:
    """No gate of the data's quality has failed.

    The file has a "grade", and under "gates" by name whether each was passed: true or false, or a mapping that has it
    as "passed".
    """
    name = getattr(getattr(context.recipe, "data", None), "dataset_name", None)
    path = Path(name) / QUALITY_NAME if name else None
    if path is None or not path.is_file():
        raise NotTestable(f"the data set has no {QUALITY_NAME}")
    content = json.loads(path.read_text(encoding="utf-8"))
    gates = {
        gate: bool(found["passed"]) if isinstance(found, dict) else found is True
        for gate, found in content["gates"].items()
    }
    wrong = sorted(gate for gate, is_passed in gates.items() if not is_passed)
    evidence = {"grade": content.get("grade"), "gates": gates}
    if wrong or not gates:
        return failed(
            f"grade {content.get('grade')}; gates not passed: {', '.join(wrong) or 'there is none'}", **evidence
        )
    return passed(f"grade {content.get('grade')}; passed: {', '.join(sorted(gates))}", **evidence)
