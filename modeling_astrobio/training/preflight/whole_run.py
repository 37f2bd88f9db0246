"""The whole run: its folder, and from what was measured the room for its checkpoints and its time."""

import math
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

from ..monitoring.metrics_file import METRICS_NAME, read_metrics, row_kind
from .child_runs import RunRecord
from .context import Context
from .outcome import NotTestable, Outcome, failed, passed


__all__ = ["check_disk", "check_folder", "check_time", "whole_run_counts"]


_GIB = 2**30
_DAY = 86_400.0


def check_folder(context: Context) -> Outcome:
    """The run's folder can be made, or is empty, or holds a run that can be gone on with."""
    folder = Path(context.recipe.output_dir).absolute()
    nearest = _nearest(folder)
    if not nearest.is_dir():
        return failed(f"output_dir {folder} cannot be made: {nearest} is a file. Choose another output_dir")
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        return failed(f"nothing can be written into {nearest}: {error.strerror}. Choose another output_dir")
    if nearest != folder or not any(folder.iterdir()):
        return passed(f"{folder} can be written")
    if (folder / "recipe.yaml").is_file():
        return passed(f"{folder} holds a run: it is gone on with by --resume, and refused without")
    return failed(f"{folder} holds files that are of no run. Choose another output_dir, or remove them")


def check_disk(context: Context) -> Outcome:
    """All checkpoints that lie there at one time, the one being written, the model and the logs fit onto the disk."""
    run = context.reference
    checkpoint = run.checkpoint()
    if checkpoint is None:
        raise NotTestable(f"the run wrote no checkpoint; it ended with status {run.status}")
    counts = whole_run_counts(context)
    limit = context.recipe.training["save_total_limit"] or math.inf
    kept = int(min(limit, counts["saves"])) + 1
    size, model = _size(checkpoint), _size(run.folder / "model")
    # What is logged grows with the steps: the state in each checkpoint, the metrics and the logs.
    logs = _size(run.folder) - sum(_size(path) for path in run.checkpoints()) - model
    logs = max(0, logs) * math.ceil(counts["steps"] / context.steps)
    grown = (checkpoint / "trainer_state.json").stat().st_size * max(0, counts["steps"] / context.steps - 1)
    needed = int(kept * (size + grown) + model + logs)
    free = shutil.disk_usage(_nearest(Path(context.recipe.output_dir).absolute())).free
    text = (
        f"{kept:,} checkpoints of {size / _GIB:.3f} GiB, the model and the logs need {needed / _GIB:,.2f} GiB where "
        f"output_dir is; {free / _GIB:,.2f} GiB are free"
    )
    evidence = {
        "checkpoint_bytes": size,
        "checkpoints_at_one_time": kept,
        "model_bytes": model,
        "log_bytes": logs,
        "needed_bytes": needed,
        "free_bytes": free,
    }
    if needed > free:
        return failed(f"{text}. Set training.save_total_limit, or another output_dir", **evidence)
    return passed(text, **evidence)


def check_time(context: Context) -> Outcome:
    """The run is done in the days that there are."""
    run, facts = context.reference, context.probe["facts"]
    if run.status != 0 or "save_seconds" not in facts:
        raise NotTestable(f"the steps could not be measured: the run ended with status {run.status}")
    times = _step_times(run)
    if not times:
        raise NotTestable(f"the run left no times in {METRICS_NAME}")
    step, evaluation = statistics.fmean(times), facts.get("evaluation_seconds") or 0.0
    newest = run.checkpoints()[0] / "trainer_state.json"
    # The run's end: its model, its last evaluation and its report.
    ending = (run.folder / "result.json").stat().st_mtime - newest.stat().st_mtime
    counts = whole_run_counts(context)
    parts = {
        "steps": counts["steps"] * step,
        "evaluations": counts["evaluations"] * evaluation,
        "saves": counts["saves"] * facts["save_seconds"],
        "ending": ending,
    }
    days = sum(parts.values()) / _DAY
    text = (
        f"{counts['steps']:,} steps of {step:.3g} s, {counts['evaluations']:,} evaluations of {evaluation:.3g} s and "
        f"{counts['saves']:,} saves of {facts['save_seconds']:.3g} s take {_duration(sum(parts.values()))}"
    )
    evidence = {
        "seconds": parts,
        "days": days,
        "step_seconds": step,
        "seconds_between_saves": counts["save_interval"] * step if counts["save_interval"] else None,
        **counts,
    }
    if context.days is None:
        return passed(f"{text}; no limit was given (--days)", **evidence)
    if days > context.days:
        return failed(f"{text}: longer than the {context.days:g} days that there are", **evidence)
    return passed(f"{text}, of {context.days:g} days", **evidence)


def _nearest(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    while not folder.exists():
        folder = folder.parent
    return folder


def _step_times(run: RunRecord) -> list[float]:
    """Return the seconds of the second half's steps, without the first, which waits for an evaluation and a save."""
    times = {row["step"]: row["time"] for row in read_metrics(run.folder) if row_kind(row) == "training"}
    start = max(times, default=0) // 2
    return [times[step] - times[step - 1] for step in sorted(times) if step > start + 1 and step - 1 in times]


def whole_run_counts(context: Context) -> dict[str, Any]:
    """Return steps, evaluations and saves of the whole run, and the steps between two saves."""
    training = context.recipe.training
    steps = training.get("max_steps", -1)
    if steps <= 0:
        steps = context.probe["facts"].get("total_steps")
        if steps is None:
            raise NotTestable("the number of steps is not known, since the trainer could not be built")
    counts: dict[str, Any] = {"steps": steps}
    for key, name in (("evaluations", "eval"), ("saves", "save")):
        interval = _interval(training, name, steps)
        counts[key] = math.ceil(steps / interval) if interval else 0
        counts[f"{name}_interval"] = interval
    return counts


def _interval(training: dict[str, Any], name: str, steps: int) -> int | None:
    """Steps between two evaluations or saves; a share of the run is one of its steps."""
    strategy = training[f"{name}_strategy"]
    if strategy == "no":
        return None
    if strategy == "epoch":
        return max(1, math.ceil(steps / max(1.0, training["num_train_epochs"])))
    each = training.get(f"{name}_steps") or 500
    return math.ceil(steps * each) if each < 1 else int(each)


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _duration(seconds: float) -> str:
    for unit, size in (("days", _DAY), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
