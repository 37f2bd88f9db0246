"""The file that the rows of a comparison of generators end up in, and the pictures of it."""

import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

from filelock import FileLock
from matplotlib.figure import Figure

from modeling_astrobio.training.graph_metrics.molecule_grid import draw_molecule_grid
from modeling_astrobio.training.whole_files import write_json_whole


__all__ = ["COLUMNS", "add_run", "draw_results", "table_lines"]

# Name of a column, the entry of a run that it shows, and its format.
COLUMNS = {
    "valid": ("validity", ".3f"),
    "unique": ("uniqueness", ".3f"),
    "novel": ("novelty", ".3f"),
    "descriptor distance (sd)": ("descriptor_distance", ".3f"),
    "fragments": ("fragment_similarity", ".3f"),
    "scaffolds": ("scaffold_similarity", ".3f"),
    "SNN": ("nearest_similarity", ".3f"),
    "internal diversity": ("internal_diversity", ".3f"),
    "reconstruction": ("reconstruction", ".3f"),
    "parameters": ("parameters", ",d"),
    "training (s)": ("training_seconds", ",.0f"),
    "samples": ("samples", ",d"),
}
_BARS = tuple(COLUMNS)[:9]
_GRID_CELLS = 48
_COLOURS = ("#c8501e", "#2e8b57")


def add_run(path: Path, run: dict[str, Any], fixed: dict[str, Any], rows: tuple[str, ...]) -> dict[str, Any]:
    """Add a run to the file of results, which other processes may add theirs to.

    Args:
        path: JSON file; made if it is absent.
        run: With `row`, `status`, and the entries that `COLUMNS` names in `metrics`.
        fixed: What stands in the file beside the runs.
        rows: Their order in the table, which shows the latest finished run of each.

    Returns:
        The content of the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(Path(tempfile.gettempdir()) / f"{path.name}.lock"):
        runs = json.loads(path.read_text(encoding="utf-8"))["runs"] if path.exists() else []
        runs.append(run)
        latest = {each["row"]: each for each in runs if each["status"] == "finished"}
        table = {
            row: {name: latest[row]["metrics"].get(key) for name, (key, _) in COLUMNS.items()}
            for row in rows
            if row in latest
        }
        content = {**fixed, "table": table, "runs": runs}
        write_json_whole(path, content)
    return content


def table_lines(table: dict[str, dict[str, Any]]) -> list[str]:
    """Return a table as lines of Markdown; a dash is where a row has no such value."""
    lines = ["| row | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row, values in table.items():
        cells = ["—" if values[name] is None else format(values[name], form) for name, (_, form) in COLUMNS.items()]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    return lines


def draw_results(path: Path, content: dict[str, Any], marks: dict[str, dict[str, tuple[float, float]]]) -> list[Path]:
    """Draw the table as bars, and the first samples of each row that was drawn from, as PNG files beside it.

    Args:
        path: The JSON file.
        content: Of `add_run`.
        marks: Of a column, values to show as lines and ranges to show as bands behind its bars, by their label.

    Returns:
        The pictures.
    """
    pictures = [path.with_suffix(".png")]
    table = content["table"]
    figure = Figure(figsize=(13, 2.2 + 1.05 * len(table)), layout="constrained")
    colours = dict(zip(dict.fromkeys(itertools.chain.from_iterable(marks.values())), _COLOURS, strict=False))
    handles = {}
    for axes, column in zip(figure.subplots(3, 3, sharey=True).flat, _BARS, strict=True):
        for label, (low, high) in marks.get(column, {}).items():
            if low < high:
                axes.axvspan(low, high, color=colours[label], alpha=0.15)
            else:
                handles[label] = axes.axvline(low, color=colours[label], linestyle="--", linewidth=1)
        for place, row in enumerate(table):
            value = table[row][column]
            bar = axes.barh(place, value or 0, color="#1f4e8c" if row == "ours" else "#9db7d5")
            axes.bar_label(bar, ["—" if value is None else f"{value:.3f}"], padding=2, fontsize=8)
        axes.set_title(column, fontsize=10)
        axes.set_yticks(range(len(table)), list(table), fontsize=8)
        axes.margins(x=0.18)
        axes.set_xlim(left=0)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), fontsize=9)
    figure.axes[0].invert_yaxis()
    figure.savefig(pictures[0], dpi=130)
    latest = {run["row"]: run for run in content["runs"] if run["status"] == "finished"}
    for row, run in latest.items():
        if run.get("first_samples"):
            pictures.append(path.with_name(f"{path.stem}_{row}.png"))
            draw_molecule_grid(run["first_samples"][:_GRID_CELLS], pictures[-1], columns=8)
    return pictures
