"""Plots of a report as inline SVG whose colours are the page's, so that they follow its light or dark scheme."""

import html
import io
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from .report_files import Curve


__all__ = ["Line", "Marks", "bar_plot", "downsample", "line_plot"]


# Stand-ins that no palette has; each becomes a variable of the page's style sheet.
_INK, _MUTED, _GRID = "#010203", "#010204", "#010205"
_COLOURS = {
    "ink": _INK,
    "muted": _MUTED,
    "grid": _GRID,
    "series-1": "#010206",
    "series-1-soft": "#010207",
    "series-2": "#010208",
    "warn": "#010209",
    "bad": "#01020a",
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 8.5,
    "text.color": _INK,
    "axes.edgecolor": _MUTED,
    "axes.labelcolor": _INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
}
_WIDTH, _HEIGHT = 5.2, 2.9
_BINS = 400
_MEAN_BINS = 60
_MOST_MARKS = 200


@dataclass(frozen=True)
class Line:
    """One curve of a plot.

    Attributes:
        label: In the legend.
        curve: What to draw.
        colour: Name in the style sheet.
        mean: Draw the curve softly, and the means of at most sixty parts of the run in its colour.
    """

    label: str
    curve: Curve
    colour: str = "series-1"
    mean: bool = False


@dataclass(frozen=True)
class Marks:
    """What happened, on a strip below the curves and as lines through them.

    Attributes:
        events: Kind to the steps at which it happened.
        windows: First and last step of what was given up and trained again; the last one's data was skipped.
    """

    events: Mapping[str, Sequence[int]] = field(default_factory=dict)
    windows: Sequence[tuple[int, int]] = ()


def downsample(curve: Curve, bins: int = _BINS) -> Curve:
    """Keep the least and the greatest finite value of each of `bins` equal parts, in their order, and both ends.

    A curve of no more than twice as many finite values is kept whole.
    """
    finite = np.flatnonzero(np.isfinite(curve.values))
    if len(finite) <= 2 * bins:
        return Curve(curve.steps[finite], curve.values[finite])
    edges = np.linspace(0, len(finite), bins + 1).astype(int)
    kept = {int(finite[0]), int(finite[-1])}
    for first, last in itertools.pairwise(edges):
        part = curve.values[finite[first:last]]
        kept |= {int(finite[first + part.argmin()]), int(finite[first + part.argmax()])}
    places = np.array(sorted(kept))
    return Curve(curve.steps[places], curve.values[places])


def _means(curve: Curve) -> Curve:
    finite = np.flatnonzero(np.isfinite(curve.values))
    parts = [part for part in np.array_split(finite, min(_MEAN_BINS, max(1, len(finite) // 4))) if len(part)]
    middles = np.array([int(curve.steps[part].mean()) for part in parts], dtype=np.int64)
    return Curve(middles, np.array([curve.values[part].mean() for part in parts]))


def line_plot(
    name: str,
    title: str,
    description: str,
    unit: str,
    lines: Sequence[Line],
    *,
    log_above: float = math.inf,
    marks: Marks | None = None,
) -> Markup:
    """Draw curves over steps; a cross at the upper edge is a value that was logged and is not finite.

    Args:
        name: Unique in the page.
        title: Of the plot, for those who cannot see it.
        description: What it shows, likewise.
        unit: Of the values.
        lines: At least one.
        log_above: Logarithmic values where all are above 0 and the greatest is more than so many times the least.
        marks: What happened.
    """
    marks = marks or Marks()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        has_strip = bool(marks.events)
        strip = 0.22 + 0.17 * len(marks.events) if has_strip else 0.0
        figure = Figure(figsize=(_WIDTH, _HEIGHT + strip), layout="constrained")
        if has_strip:
            axes, below = figure.subplots(2, 1, sharex=True, height_ratios=[_HEIGHT, strip])
            _draw_strip(below, marks.events)
            axes.tick_params(labelbottom=False)
        else:
            axes = below = figure.subplots()
        for line in lines:
            _draw_line(axes, line)
        shown = np.concatenate([line.curve.finite for line in lines])
        if shown.size and shown.min() > 0 and shown.max() > log_above * shown.min():
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_minor_locator(NullLocator())
        for first, last in marks.windows[:_MOST_MARKS]:
            axes.axvspan(first, last, color=_COLOURS["warn"], alpha=0.2, linewidth=0)
            axes.axvline(last, color=_COLOURS["warn"], linewidth=0.9, linestyle="--")
        axes.set_ylabel(unit)
        below.set_xlabel("step")
        below.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        if len(lines) > 1 or len(shown) < sum(len(line.curve.values) for line in lines):
            figure.legend(loc="outside upper center", ncols=4)
        return _svg(figure, name, title, description)


def _draw_line(axes: Axes, line: Line) -> None:
    colour = _COLOURS[line.colour]
    drawn = downsample(line.curve)
    means = _means(line.curve) if line.mean and len(drawn.steps) >= 40 else None
    marker = "o" if len(drawn.steps) <= 30 else None
    if means is None:
        axes.plot(drawn.steps, drawn.values, color=colour, linewidth=1.4, marker=marker, ms=3, label=line.label)
    else:
        soft = _COLOURS.get(f"{line.colour}-soft", colour)
        axes.plot(drawn.steps, drawn.values, color=soft, linewidth=0.7)
        axes.plot(means.steps, means.values, color=colour, linewidth=1.5, label=line.label)
    broken = line.curve.steps[~np.isfinite(line.curve.values)]
    if broken.size:
        broken = broken[:: -(-len(broken) // _MOST_MARKS)]
        axes.plot(
            broken,
            np.full(len(broken), 0.98),
            "x",
            color=_COLOURS["bad"],
            ms=5,
            transform=axes.get_xaxis_transform(),
            label="not finite",
        )


def _draw_strip(axes: Axes, events: Mapping[str, Sequence[int]]) -> None:
    names = [_plain(kind) for kind in events]
    for row, steps in enumerate(events.values()):
        drawn = np.unique(np.array(steps))
        drawn = drawn[:: -(-len(drawn) // _MOST_MARKS)]
        axes.plot(drawn, np.full(len(drawn), row), "d", color=_COLOURS["bad"], ms=4)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def bar_plot(
    name: str,
    title: str,
    description: str,
    unit: str,
    rows: Sequence[tuple[str, float | None, float | None]],
    as_text: Callable[[float], str],
) -> Markup:
    """Draw what was planned beside what was measured.

    Args:
        name: Unique in the page.
        title: Of the plot, for those who cannot see it.
        description: What it shows, likewise.
        unit: Of the values.
        rows: Label, planned and measured value; `None` is written as text, not drawn as a bar.
        as_text: Writes a value beside its bar.
    """
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(_WIDTH, 0.75 + 0.44 * len(rows)), layout="constrained")
        axes = figure.subplots()
        _, planned, measured = zip(*rows, strict=True)
        sides = (("planned", "series-1-soft", planned, -0.19), ("measured", "series-1", measured, 0.19))
        for label, colour, values, shift in sides:
            places = [row + shift for row in range(len(rows))]
            axes.barh(places, [value or 0.0 for value in values], height=0.36, color=_COLOURS[colour], label=label)
            for place, value in zip(places, values, strict=True):
                text = f"not {label}" if value is None else as_text(value)
                tint = _MUTED if value is None else _INK
                end = (value or 0.0, place)
                axes.annotate(text, end, (3, 0), textcoords="offset points", va="center", fontsize=7, color=tint)
        axes.set_yticks(range(len(rows)), [_plain(row[0]) for row in rows])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.margins(x=0.2)
        axes.set_xlim(left=0)
        axes.set_xlabel(unit)
        figure.legend(loc="outside upper right", ncols=2)
        return _svg(figure, name, title, description)


def _plain(text: str) -> str:
    """Keep matplotlib from reading formulas into a text."""
    return text.replace("$", r"\$")


def _svg(figure: Figure, name: str, title: str, description: str) -> Markup:
    file = io.StringIO()
    none = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(file, format="svg", transparent=True, metadata=none)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    for colour, code in _COLOURS.items():
        text = text.replace(code, f"var(--{colour})")
    box = re.search(r'viewBox="[^"]*"', text)
    assert box is not None
    opening = (
        f'<svg {box[0]} role="img" aria-labelledby="{name}-title {name}-text" xmlns="http://www.w3.org/2000/svg" '
    )
    opening += 'xmlns:xlink="http://www.w3.org/1999/xlink">'
    names = (
        f'<title id="{name}-title">{html.escape(title)}</title>'
        f'<desc id="{name}-text">{html.escape(description)}</desc>'
    )
    body = text[text.index(">") + 1 :]
    # Names that matplotlib gives to the parts of every figure must be this figure's own.
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r"(xlink:href=\"#|url\(#)", rf"\g<1>{name}-", body)
    # Every text in it was escaped, here or by matplotlib.
    return Markup(opening + names + re.sub(r"\s*\n\s*", "\n", body))
