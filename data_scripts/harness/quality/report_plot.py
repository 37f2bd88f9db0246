"""The quality report as a plot: one row a configuration, one panel a score, its gate as a line."""

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from data_scripts.harness.quality.gates import GATES, failed_gates, grade_of
from data_scripts.harness.quality.report import QualityReport
from data_scripts.harness.quality.scores import Score


__all__ = ["save_plot"]

PASSED, FAILED, INK, GREY = "#2a7f8e", "#c8452e", "#30343a", "#7b8089"


def save_plot(report: QualityReport, path: Path) -> None:
    """Write the plot as PNG; the same report gives the same bytes."""
    rows = len(report.tables)
    figure = Figure(figsize=(11.0, 1.75 + 0.5 * rows), dpi=140, facecolor="white")
    FigureCanvasAgg(figure)
    # Inches, so that rows are as high in a plot of one configuration as in one of twelve.
    height = figure.get_figheight()
    grid = figure.add_gridspec(1, 4, left=0.235, right=0.925, bottom=0.5 / height, top=1 - 1.05 / height, wspace=0.09)
    axes = [figure.add_subplot(grid[0, place]) for place in range(4)]
    scores = [each.scores for each in report.tables]
    for axis, place in zip(axes, range(4), strict=True):
        _draw_panel(axis, [of_table.all[place] for of_table in scores])
    for position, (each, of_table) in enumerate(zip(report.tables, scores, strict=True)):
        lost = each.table.tallies.rejected + each.table.duplicates
        counts = f"{each.table.rows:,} rows, {lost:,} rejected"
        _write_beside(axes[0], position - 0.14, each.config.name, size=10)
        _write_beside(axes[0], position + 0.24, counts, size=7.5, color=GREY)
        grade = grade_of(of_table.overall).replace(" ", "\n")
        overall = "" if of_table.overall is None else f"\n{_percent(of_table.overall)}"
        color = FAILED if failed_gates(of_table) else INK
        beside = axes[3].get_yaxis_transform()
        axes[3].text(1.06, position, grade + overall, transform=beside, va="center", fontsize=9, color=color)
    failed = len(report.failed_gates)
    verdict = f"{failed} gate{'s' if failed > 1 else ''} failed" if failed else "all gates passed"
    top = 1 - 0.3 / height
    figure.text(0.012, top, f"Quality of {report.source}", fontsize=13, weight="bold", va="center")
    figure.text(0.985, top, verdict, fontsize=11, ha="right", va="center", color=FAILED if failed else PASSED)
    figure.savefig(path, metadata={"Software": None})


def _write_beside(axis: Axes, position: float, text: str, *, size: float, color: str = INK) -> None:
    place = axis.get_yaxis_transform()
    axis.text(-0.06, position, text, transform=place, ha="right", va="center", fontsize=size, color=color)


def _draw_panel(axis: Axes, scores: list[Score]) -> None:
    gate = GATES[scores[0].name]
    values = [score.value for score in scores]
    # The scale begins low enough for the worst score and always well before the gate.
    least = min([value for value in values if value is not None] + [gate])
    left = max(0.0, min(0.8, math.floor(20 * least - 2) / 20))
    axis.set_xlim(left, 1.0)
    axis.set_ylim(len(scores) - 0.5, -0.5)
    for position, value in enumerate(values):
        axis.barh(position, 1 - left, left=left, height=0.56, color="#eef0f2", zorder=1)
        if value is None:
            _write_in(axis, position, left + 0.03 * (1 - left), "not judged", GREY)
            continue
        color = PASSED if value > gate else FAILED
        axis.barh(position, value - left, left=left, height=0.56, color=color, zorder=2)
        _write_score(axis, position, value, left, color)
    axis.axvline(gate, color=INK, linewidth=1.1, linestyle=(0, (3, 2)), zorder=3)
    axis.set_title(f"{scores[0].name}\ngate {100 * gate:g} %", fontsize=10, pad=7, linespacing=1.35)
    axis.set_yticks([])
    axis.set_xticks([left, 1.0], [f"{100 * left:.0f} %", "100 %"])
    axis.tick_params(axis="x", labelsize=8, colors=GREY, length=0)
    # The labels at the ends stay within their panel.
    first, last = axis.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")
    for side in axis.spines.values():
        side.set_visible(False)


def _write_score(axis: Axes, position: float, value: float, left: float, color: str) -> None:
    """Write a score at the beginning of its bar, or after the bar where it does not fit into it."""
    width = 1 - left
    inside = value - left > 0.33 * width
    place = left + 0.03 * width if inside else value + 0.03 * width
    ink = "white" if inside else color
    _write_in(axis, position, place, _percent(value), ink)


def _write_in(axis: Axes, position: float, place: float, text: str, color: str) -> None:
    axis.text(place, position, text, ha="left", va="center", fontsize=8.5, color=color, zorder=4)


def _percent(share: float) -> str:
    # Cut, not rounded: 99.996 % is not 100 %.
    return f"{math.floor(share * 10_000 + 1e-9) / 100:.2f} %"
