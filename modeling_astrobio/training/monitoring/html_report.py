"""The report of a run: one HTML file that needs neither network nor script.

    python -m modeling_astrobio.training.monitoring.html_report RUN_DIR

writes RUN_DIR/report.html for a run that could not write its own, because it was killed or is going on.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from modeling_astrobio.training.errors import RunFolderError, UserError
from modeling_astrobio.training.memory_plan import GIB
from modeling_astrobio.training.whole_files import write_text_whole

from .report_files import Curve, RunFiles, read_run_files
from .report_plots import Line, Marks, bar_plot, line_plot
from .report_text import ABSENT, as_text, duration, flat, gib, is_number, moment
from .secrets import redact


__all__ = ["REPORT_NAME", "write_report"]


REPORT_NAME = "report.html"
_TEMPLATE = Path(__file__).with_name("report.html.j2")
_MOST_ALERTS = 200
_ALERT_KEYS = ("step", "kind", "level", "title", "text")
# Of what transformers logs at the ends of training and evaluation, not of a step.
_SUMMARIES = ("train_", "eval_", "test_")


class _Plot(NamedTuple):
    title: str
    caption: str
    svg: Markup


class _Table(NamedTuple):
    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def write_report(run_dir: Path, status: str, error: str = "") -> Path:
    """Write the report of a run, whole or not at all.

    Args:
        run_dir: Folder of the run; any of its files may be absent, torn or unreadable.
        status: "finished", "stopped", "failed", or another short text.
        error: What ended the run, if an error did.

    Returns:
        Path of the report.

    Raises:
        RunFolderError: If there is no such folder.
    """
    if not run_dir.is_dir():
        raise RunFolderError(f"RUN_DIR must be the folder of a run; got {run_dir}, which is no folder.")
    files = read_run_files(run_dir)
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = page.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        name=run_dir.resolve().name,
        status=status,
        tone={"finished": "good", "stopped": "warn", "failed": "bad"}.get(status, "plain"),
        error=error,
        written=moment(time.time()),
        facts=_facts(files),
        source=files.metrics.source,
        plots=_plots(files),
        tables=_tables(files),
        recipe=redact(files.recipe_text),
        log_tail=files.log_tail,
        notes=files.notes,
        absent=ABSENT,
    )
    target = run_dir / REPORT_NAME
    # JSON may hold half of a pair of surrogates, for which UTF-8 has nothing.
    write_text_whole(target, text.encode("utf-8", errors="replace").decode("utf-8"))
    return target


def _section(source: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    section = (source or {}).get(name)
    return section if isinstance(section, dict) else {}


def _facts(files: RunFiles) -> list[tuple[str, str]]:
    """Return what stands below the headline."""
    curves, result = files.metrics.curves, files.result
    model, training = _section(result, "model"), _section(result, "training")
    of_recipe = _section(files.recipe, "model")
    start = model.get("start") or of_recipe.get("preset") or of_recipe.get("checkpoint")
    parameters = as_text(model.get("parameters"))
    if model.get("trainable_parameters") not in (None, model.get("parameters")):
        parameters += f" ({as_text(model['trainable_parameters'])} trained)"
    steps = training.get("steps", files.metrics.last_step)
    planned = (files.state or {}).get("max_steps", _section(files.recipe, "training").get("max_steps"))
    has_planned = isinstance(planned, int) and planned > 0
    times = files.metrics.times
    started, span = (times[0], times[1] - times[0]) if times else (None, None)
    left = curves.get("eta_seconds")
    return [
        ("Model", as_text(start)),
        ("Parameters", parameters),
        ("Steps", f"{as_text(steps)} of {as_text(planned)}" if has_planned else as_text(steps)),
        ("Started (first log entry)", moment(started)),
        ("From first to last log entry", duration(span)),
        ("Training time of the last process", duration(training.get("seconds"))),
        ("Still to go at the last log entry", duration(left.last) if left is not None and not result else "–"),
        ("Last training loss", _last(curves.get("loss"))),
        ("Last validation loss", _last(curves.get("eval_loss"))),
        ("Last validation accuracy", _last(curves.get("eval_accuracy"))),
    ]


def _last(curve: Curve | None) -> str:
    return ABSENT if curve is None else f"{as_text(curve.last)} (step {as_text(int(curve.steps[-1]))})"


def _summary(curve: Curve) -> str:
    """Return a curve in words, for those who cannot see it."""
    finite = curve.finite
    if not finite.size:
        return f"{len(curve.values)} values, none finite."
    text = f"Last {as_text(curve.last)}; least {as_text(float(finite.min()))}, greatest {as_text(float(finite.max()))}"
    broken = len(curve.values) - finite.size
    return text + (f"; {broken:,} of {len(curve.values):,} values are not finite." if broken else ".")


def _plots(files: RunFiles) -> list[_Plot]:
    curves = files.metrics.curves
    plots = []

    def draw(title: str, unit: str, lines: list[tuple[str, str, str, bool]], **options: Any) -> None:
        there = [Line(label, curves[key], colour, mean) for key, label, colour, mean in lines if key in curves]
        if not there:
            plots.append(_Plot(title, "", Markup("")))
            return
        caption = " ".join(
            f"{line.label.capitalize()}: {_summary(line.curve)}" if len(lines) > 1 else _summary(line.curve)
            for line in there
        )
        if options.get("marks", Marks()).windows:
            caption += " Shaded: trained again after a rollback; the data of the step at its end was skipped."
        name = f"plot-{len(plots)}"
        plots.append(_Plot(title, caption, line_plot(name, title, caption, unit, there, **options)))

    draw(
        "Loss",
        "loss",
        [("loss", "training", "series-1", True), ("eval_loss", "validation", "series-2", False)],
        log_above=20.0,
        marks=_marks(files),
    )
    draw("Validation accuracy", "share of tokens", [("eval_accuracy", "validation", "series-2", False)])
    draw("Learning rate", "learning rate", [("learning_rate", "learning rate", "series-1", False)])
    draw("Gradient norm", "norm", [("grad_norm", "gradient norm", "series-1", True)], log_above=5.0)
    items = [key for key in curves if key.endswith("s_per_second") and not key.startswith((*_SUMMARIES, "steps_"))]
    for key in items or ["tokens_per_second"]:
        item = key.removesuffix("_per_second")
        draw(f"{item.capitalize()} per second", f"{item}/s", [(key, item, "series-1", True)])
    draw("Steps per second", "steps/s", [("steps_per_second", "steps", "series-1", True)])
    draw("Waiting for data", "share of the time", [("data_wait_share", "waiting", "series-1", True)])
    for key, title, unit in (
        ("model_flops_utilisation", "Model-FLOPs utilisation", "share of the peak"),
        ("gpu_utilisation_percent", "GPU utilisation", "%"),
    ):
        # A machine without a GPU, or one whose peak is not known, has no place to measure them.
        if key in curves:
            draw(title, unit, [(key, title, "series-1", True)])
    plots.append(_memory_plot(files))
    return plots


def _marks(files: RunFiles) -> Marks:
    events: dict[str, list[int]] = {}
    for alert in files.alerts:
        if isinstance(alert.get("step"), int):
            events.setdefault(as_text(alert.get("kind")), []).append(alert["step"])
    windows = []
    for rollback in files.rollbacks:
        last = rollback.get("step")
        if isinstance(last, int):
            windows.append((_step_of(rollback.get("resumed_from"), last), last))
            events.setdefault("rollback", []).append(last)
    return Marks(events, windows)


def _step_of(checkpoint: Any, otherwise: int) -> int:
    """Return the step of a checkpoint that is given as a number or as the name of its folder; `None` is the start."""
    if checkpoint is None:
        return 0
    digits = str(checkpoint).rpartition("-")[2]
    return int(digits) if digits.isdecimal() else otherwise


def _memory_plot(files: RunFiles) -> _Plot:
    title = "Memory, planned and measured"
    curves, plan = files.metrics.curves, files.plan or {}
    parts = ("parameters", "gradients", "optimizer")
    of_plan = {name: _section(plan, "device").get(name) for name in parts} | {"peak": plan.get("device_bytes")}
    planned: dict[str, Any] = {name: size for name, size in of_plan.items() if is_number(size)}
    if len(planned) == len(of_plan):
        planned["other"] = planned["peak"] - sum(planned[name] for name in parts)
    rows: list[tuple[str, float | None, float | None]] = []
    for name in (*parts, "other", "peak"):
        curve = curves.get(f"memory_{name}_gib")
        measured = float(curve.finite.max()) * GIB if curve is not None and curve.finite.size else None
        rows.append((name, planned.get(name), measured))
    sizes = [size for row in rows for size in row[1:] if size is not None]
    if not sizes:
        return _Plot(title, "", Markup(""))
    unit, factor = ("GiB", GIB) if max(sizes) >= 0.5 * GIB else ("MiB", 2**20)
    scaled = [
        (name, None if before is None else before / factor, None if after is None else after / factor)
        for name, before, after in rows
    ]
    caption = "; ".join(
        f"{name}: {_size(before, 'planned')}, {_size(after, 'measured')}" for name, before, after in rows
    )
    caption = f"The most of the whole run, of the first process. {caption}."
    bars = bar_plot("plot-memory", title, caption, unit, scaled, lambda value: gib(value * factor))
    return _Plot(title, caption, bars)


def _size(size: float | None, what: str) -> str:
    return f"not {what}" if size is None else f"{what} {gib(size)}"


def _tables(files: RunFiles) -> list[_Table]:
    result, plan = files.result or {}, files.plan or {}
    evaluation = _section(result, "evaluation")
    figures = {**_section(result, "training"), **{k: v for k, v in evaluation.items() if k != "models"}}
    scored = _section(evaluation, "models")
    models = {name: flat(scores, 2) for name, scores in scored.items() if isinstance(scores, Mapping)}
    columns = list(dict.fromkeys(key for scores in models.values() for key in scores))
    kinds = Counter(as_text(alert.get("kind")) for alert in files.alerts)
    shown = files.alerts[-_MOST_ALERTS:]
    note = f"The last {len(shown)} of {len(files.alerts):,}: {dict(kinds)}" if len(shown) < len(files.alerts) else ""
    hardware = _section(result, "hardware")
    return [
        _Table("Final figures", ("figure", "value"), _pairs(flat(figures, 3))),
        _Table(
            "Evaluation",
            ("model", *(column.replace("_", " ").replace(".", ": ") for column in columns)),
            [(name, *(as_text(scores.get(column)) for column in columns)) for name, scores in models.items()],
        ),
        _Table(
            "Alerts",
            ("time", *_ALERT_KEYS, "sent to"),
            [
                [
                    moment(row.get("time")),
                    *(as_text(row.get(key)) for key in _ALERT_KEYS),
                    as_text(row.get("sent_to", [])),
                ]
                for row in shown
            ],
            note,
        ),
        _Table(
            "Rollbacks",
            ("step", "reason", "loss", "resumed from"),
            [
                tuple(as_text(row.get(k)) for k in ("step", "reason", "loss", "resumed_from"))
                for row in files.rollbacks
            ],
        ),
        _Table(
            "Checkpoints",
            ("checkpoint", "size", "against its manifest"),
            [(name, gib(size), "whole" if fault is None else fault) for name, size, fault in files.checkpoints],
        ),
        _Table(
            "Plan",
            ("part", "value"),
            [(name, _planned(name, value)) for name, value in flat(plan, 3).items()],
        ),
        _Table("Hardware", ("part", "value"), _pairs(hardware)),
        _Table("Versions", ("package", "version"), _pairs(_section(result, "versions"))),
        _Table("Memory snapshots", ("file", "size"), [(name, gib(size)) for name, size in files.snapshots]),
    ]


def _planned(name: str, value: Any) -> str:
    if value is None:
        return "not estimated"
    return gib(value) if name.endswith("_bytes") or name.startswith(("device.", "host.", "disk.")) else as_text(value)


def _pairs(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), as_text(value)) for name, value in values.items()]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path, help="folder of the run")
    run_dir = parser.parse_args(arguments).run_dir
    try:
        # Only a run that came to its end has one.
        path = write_report(run_dir, "finished" if (run_dir / "result.json").is_file() else "not finished")
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
