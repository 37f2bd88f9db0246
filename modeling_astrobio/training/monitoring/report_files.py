"""What a run has left in its folder, read without trusting any file to be there or to be whole."""

import json
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from modeling_astrobio.training.checkpoints import find_checkpoints, verify_checkpoint

from .metrics_file import METRICS_NAME, row_kind


__all__ = ["Curve", "Metrics", "RunFiles", "read_run_files"]


_KINDS = ("training", "evaluation", "other")
# Of a step; room is left for its kind in 64 bits.
_MOST_STEPS = 2**60
_LOG_TAIL_BYTES = 16_384


@dataclass(frozen=True)
class Curve:
    """One figure over the run.

    Attributes:
        steps: Ascending, shape (N,), int64.
        values: Shape (N,); NaN and infinities are what was logged.
    """

    steps: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]

    @property
    def last(self) -> float:
        return float(self.values[-1])

    @property
    def finite(self) -> npt.NDArray[np.float64]:
        return self.values[np.isfinite(self.values)]


@dataclass(frozen=True)
class Metrics:
    """The rows that a run has logged, by figure.

    Attributes:
        source: File they were read from; empty if there is none.
        curves: Name of a figure to its values; a figure that was never logged is not there.
        times: First and last moment, unix seconds; `None` if the rows have none.
        last_step: Of the last row; `None` without rows.
    """

    source: str = ""
    curves: dict[str, Curve] = field(default_factory=dict)
    times: tuple[float, float] | None = None
    last_step: int | None = None


@dataclass
class RunFiles:
    """Everything a report is made of; what is absent is `None` or empty.

    Attributes:
        metrics: See `Metrics`.
        recipe: Of recipe.yaml.
        recipe_text: The same as text.
        plan: Of plan.json.
        result: Of result.json, which only a finished run has.
        state: Of the trainer_state.json of the newest checkpoint that has a readable one.
        alerts: Lines of alerts.jsonl.
        rollbacks: Of rollbacks.json.
        checkpoints: Name, bytes and fault (`None`: whole) of each, newest first.
        snapshots: Names of memory snapshots, with their bytes.
        log_tail: The last lines of logs/run.log.
        notes: What could not be read, as texts.
    """

    metrics: Metrics = field(default_factory=Metrics)
    recipe: dict[str, Any] | None = None
    recipe_text: str = ""
    plan: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    state: dict[str, Any] | None = None
    alerts: list[dict[str, Any]] = field(default_factory=list)
    rollbacks: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: list[tuple[str, int, str | None]] = field(default_factory=list)
    snapshots: list[tuple[str, int]] = field(default_factory=list)
    log_tail: str = ""
    notes: list[str] = field(default_factory=list)


def read_run_files(run_dir: Path) -> RunFiles:
    """Read the folder of a run; what cannot be read is named in `notes`."""
    files = RunFiles()
    notes = files.notes
    files.plan = _read_json(run_dir / "plan.json", dict, notes)
    files.result = _read_json(run_dir / "result.json", dict, notes)
    files.recipe, files.recipe_text = _read_recipe(run_dir / "recipe.yaml", notes)
    files.alerts = list(_mappings(_read_lines(run_dir / "alerts.jsonl", notes)))
    files.rollbacks = list(_mappings(_read_json(run_dir / "rollbacks.json", list, notes) or []))
    for folder in find_checkpoints(run_dir):
        files.checkpoints.append((folder.name, _folder_bytes(folder), verify_checkpoint(folder)))
        files.state = files.state or _read_json(folder / "trainer_state.json", dict, notes)
    files.snapshots = [
        (path.name, path.stat().st_size) for path in sorted((run_dir / "snapshots").glob("*")) if path.is_file()
    ]
    files.metrics = _read_metrics(run_dir, files.state, notes)
    log = run_dir / "logs" / "run.log"
    if log.is_file():
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_TAIL_BYTES))
            files.log_tail = "\n".join(file.read().decode("utf-8", errors="replace").splitlines()[-40:])
    return files


def _read_json(path: Path, kind: type, notes: list[str]) -> Any:
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        notes.append(f"{path.name} cannot be read ({type(error).__name__}: {error})")
        return None
    if isinstance(content, kind):
        return content
    notes.append(f"{path.name} cannot be read (it holds {type(content).__name__} in place of {kind.__name__})")
    return None


def _read_recipe(path: Path, notes: list[str]) -> tuple[dict[str, Any] | None, str]:
    if not path.is_file():
        return None, ""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        recipe = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        notes.append(f"{path.name} cannot be read ({type(error).__name__}: {error})")
        return None, text
    return (recipe if isinstance(recipe, dict) else None), text


def _read_lines(path: Path, notes: list[str]) -> Iterator[Any]:
    """Yield the objects of a file of JSON lines; a process that was killed leaves its last line torn."""
    if not path.is_file():
        return
    torn = 0
    with path.open("rb") as file:
        for line in file:
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                torn += bool(line.strip())
    if torn:
        notes.append(f"{torn} line(s) of {path.name} cannot be read, as after a process was killed while it wrote")


def _mappings(rows: Iterable[Any]) -> Iterator[dict[str, Any]]:
    return (row for row in rows if isinstance(row, dict))


def _folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _read_metrics(run_dir: Path, state: Mapping[str, Any] | None, notes: list[str]) -> Metrics:
    path = run_dir / METRICS_NAME
    if path.is_file():
        return _collect(path.name, _mappings(_read_lines(path, notes)))
    history = (state or {}).get("log_history")
    if isinstance(history, list) and history:
        return _collect("trainer_state.json of the newest checkpoint", _mappings(history))
    return Metrics()


def _collect(source: str, rows: Iterable[Mapping[str, Any]]) -> Metrics:
    """Sort rows into curves; each figure keeps the rows that have it, since most rows lack most figures."""
    steps, kinds = array("q"), array("b")
    # Of each figure the places of its rows, and its values there. A long run has half a million rows.
    columns: dict[str, tuple[array, array]] = {}
    for row in rows:
        step = row.get("step")
        if type(step) is not int or not 0 <= step < _MOST_STEPS:
            continue
        place = len(steps)
        for key, value in row.items():
            if type(value) is not float:
                # JSON has no number that is not finite; what cannot be known has no key at all.
                if value is not None and type(value) is not int:
                    continue
                value = math.nan if value is None else _as_float(value)
            if key not in columns:
                columns[key] = array("q"), array("d")
            places, values = columns[key]
            places.append(place)
            values.append(value)
        steps.append(step)
        kinds.append(_KINDS.index(row_kind(row)))
    if not steps:
        return Metrics()
    all_steps = np.frombuffer(steps, dtype=np.int64)
    counts = _last_of_each(all_steps, np.frombuffer(kinds, dtype=np.int8))
    curves = {}
    for key, (places, values) in columns.items():
        rows_of_key = np.frombuffer(places, dtype=np.int64)
        kept = counts[rows_of_key]
        if kept.any():
            curves[key] = Curve(all_steps[rows_of_key][kept], np.frombuffer(values, dtype=np.float64)[kept])
    moments = np.frombuffer(columns["time"][1], dtype=np.float64) if "time" in columns else np.empty(0)
    moments = moments[np.isfinite(moments)]
    times = (float(moments.min()), float(moments.max())) if moments.size else None
    curves.pop("time", None)
    return Metrics(source, curves, times, int(all_steps[-1]))


def _as_float(number: int) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _last_of_each(steps: npt.NDArray[np.int64], kinds: npt.NDArray[np.int8]) -> npt.NDArray[np.bool_]:
    """Mark the rows that count.

    After a resume the steps since the checkpoint come again: of a step's rows of one kind the last one counts, and a
    row is void if a lower step was logged after it, since that part of the run was given up.
    """
    lowest_from_here = np.minimum.accumulate(steps[::-1])[::-1]
    codes = steps * len(_KINDS) + kinds
    _, from_the_end = np.unique(codes[::-1], return_index=True)
    counts = np.zeros(len(steps), dtype=bool)
    counts[len(steps) - 1 - from_the_end] = True
    return counts & (steps <= lowest_from_here)
