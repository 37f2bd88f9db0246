"""The loss of the first steps is finite and falls, and nothing was rolled back."""

import json
import math
import statistics

from .child_runs import RunRecord
from .context import Context
from .outcome import Outcome, failed, passed


__all__ = ["check_learning", "judge_learning"]


_MOST_IDLE = 0.25


def check_learning(context: Context) -> Outcome:
    """Judge the run that nobody interrupted."""
    return judge_learning(context.reference, context.steps)


def judge_learning(run: RunRecord, steps: int) -> Outcome:
    """Judge a run of some steps that logged each of them."""
    rollbacks = run.folder / "rollbacks.json"
    if rollbacks.is_file():
        found = json.loads(rollbacks.read_text(encoding="utf-8"))
        said = "; ".join(f"step {row.get('step')}: {row.get('reason')}" for row in found)
        return failed(
            f"{len(found)} windows of data were skipped: {said} (the run ended with {run.status})", rollbacks=found
        )
    rows = run.losses()
    losses = {step: row["loss"] for step, row in rows.items()}
    for step, row in sorted(rows.items()):
        for name in ("loss", "grad_norm"):
            if name in row and not math.isfinite(row[name]):
                return failed(f"{name} of step {step} is {row[name]}, not a finite number", step=step, losses=losses)
    if run.status != 0:
        return failed(f"the run ended with status {run.status} after step {max(rows, default=0)}: {run.tail()}")
    checkpoint = run.checkpoint()
    done = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    if done != steps:
        return failed(f"of {steps} steps {done} were made", losses=losses)
    # The trainer passes over a step whose rows have nothing to learn, and logs nothing of it.
    idle = steps - len(rows)
    if idle > _MOST_IDLE * steps:
        return failed(
            f"{idle} of {steps} steps had nothing to learn, at most {_MOST_IDLE:.0%} may. Learn more of each row, or "
            "put more rows into a step",
            losses=losses,
        )
    part = max(1, len(rows) // 5)
    values = [losses[step] for step in sorted(losses)]
    first, last = statistics.median(values[:part]), statistics.median(values[-part:])
    text = f"{steps} steps, all finite; median loss {first:.4f} in the first {part}, {last:.4f} in the last"
    text += f"; {idle} steps had nothing to learn" if idle else ""
    evidence = {
        "steps_with_nothing_to_learn": idle,
        "median_first_fifth": first,
        "median_last_fifth": last,
        "losses": losses,
    }
    return passed(text, **evidence) if last < first else failed(f"{text}: it does not fall", **evidence)
