"""The quality report that a build of a data set leaves beside it."""

import json
from pathlib import Path

from .context import Context
from .outcome import NotTestable, Outcome, failed, passed


__all__ = ["QUALITY_NAME", "check_quality"]


QUALITY_NAME = "quality/quality.json"


def check_quality(context: Context) -> Outcome:
    """No gate of the data's quality has failed.

    The report is that of `python -m data_scripts build`: the list `failed_gates`, and under `configs` the `grade` of
    each configuration. The configuration of the recipe is judged, or all of them if it names none.
    """
    data = getattr(context.recipe, "data", None)
    name, config = getattr(data, "dataset_name", None), getattr(data, "dataset_config", None)
    path = Path(name) / QUALITY_NAME if name else None
    if path is None or not path.is_file():
        raise NotTestable(f"the data set has no {QUALITY_NAME}")
    content = json.loads(path.read_text(encoding="utf-8"))
    judged = {each: found for each, found in content["configs"].items() if config in (None, each)}
    if not judged:
        raise NotTestable(f"{QUALITY_NAME} says nothing of {config or 'any configuration'}")
    grades = {each: found["grade"] for each, found in judged.items()}
    wrong = [f"{each}: {gate}" for each, found in judged.items() for gate in found["failed_gates"]]
    missing = content["missing"]
    text = ", ".join(f"{each} {grade or 'not judged'}" for each, grade in grades.items())
    evidence = {"grades": grades, "failed_gates": wrong, "missing": missing}
    if wrong or missing:
        return failed(f"{text}; not passed: {'; '.join([*wrong, *missing])}", **evidence)
    return passed(text, **evidence)
