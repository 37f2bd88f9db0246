"""A preflight from its first check to its report."""

import functools
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from ..errors import RecipeError, RunFolderError
from .catalogue import all_checks, choose
from .context import Context
from .outcome import FAIL, guarded
from .report import JSON_NAME, Line, Report
from .signoff import signoff_items
from .source import Source, recipe_digest


__all__ = ["run_preflight"]


def run_preflight(
    source: Source,
    out: Path,
    *,
    command: str,
    launch: Sequence[str] = (),
    only: Sequence[str] = (),
    steps: int = 100,
    days: float | None = None,
) -> Report:
    """Make the checks and write the report after each of them.

    Args:
        source: What is examined.
        out: Folder of the report; new, empty, or that of an earlier preflight, whose report is written over.
        command: How the preflight was started.
        launch: What starts the script; empty is this Python.
        only: Names or groups of checks; empty is all.
        steps: Of the child runs.
        days: Time that the run may take; `None` is without limit.

    Raises:
        UserError: If nothing can be checked: script, recipe, folder or a number does not do.
    """
    context = Context(source, out, launch, steps, days)
    checks, unknown = choose(all_checks(context.task), list(only))
    if unknown:
        known = ", ".join(check.name for check in all_checks(context.task))
        raise RecipeError(f"--only must name checks or groups among {known}; got {', '.join(unknown)}.")
    context.selected = tuple(check.name for check in checks)
    _claim(out)
    report = Report(command, recipe_digest(context.recipe))
    report.write(out)
    try:
        for check in checks:
            started = time.monotonic()
            outcome = guarded(functools.partial(check.run, context))
            report.lines.append(Line(check.name, check.title, outcome, time.monotonic() - started))
            print(report.lines[-1].console(), flush=True)
            report.write(out)
        report.is_finished = True
    finally:
        made = {line.name for line in report.lines}
        missing = [check.name for check in all_checks(context.task) if check.name not in made]
        report.is_complete = not missing
        stopped = [] if report.is_finished else ["The preflight was stopped before its end, and is run again."]
        report.signoff = [*stopped, *signoff_items(context, report.lines, missing)]
        report.write(out)
    if not report.count(FAIL):
        # What the child runs wrote is as large as two runs; their logs stay.
        shutil.rmtree(out / "runs", ignore_errors=True)
    print(f"\n{report.summary()}\n\n{report.signoff_page()}\n\n{out / JSON_NAME}", flush=True)
    return report


def _claim(out: Path) -> None:
    """Make the folder, without what an earlier preflight left in it."""
    try:
        _make_empty(out)
    except OSError as error:
        raise RunFolderError(
            f"--out must be a folder that can be written; got {out} ({error.strerror}). Name another folder."
        ) from error


def _make_empty(out: Path) -> None:
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / JSON_NAME).is_file())):
        raise RunFolderError(f"--out must be new, empty, or of an earlier preflight; got {out}. Name another folder.")
    for name in ("runs", "logs"):
        shutil.rmtree(out / name, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out):
        pass
