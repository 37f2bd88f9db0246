"""Write the quality report of a data set: JSON for programs, Markdown for people, a plot."""

from pathlib import Path

from data_scripts.harness.quality.report import QualityReport
from data_scripts.harness.quality.report_json import json_text
from data_scripts.harness.quality.report_markdown import markdown_text
from data_scripts.harness.quality.report_plot import save_plot


__all__ = ["write_quality"]


def write_quality(report: QualityReport, out: Path) -> None:
    """Write `quality.json`, `quality.md` and `quality.png` to `out/quality`; one report gives the same bytes."""
    folder = out / "quality"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "quality.json").write_text(json_text(report), encoding="utf-8", newline="\n")
    (folder / "quality.md").write_text(markdown_text(report), encoding="utf-8", newline="\n")
    save_plot(report, folder / "quality.png")
