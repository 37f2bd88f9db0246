"""What a run of the graph VAE leaves for its reader: model card, loss plot, drawn molecules."""

from pathlib import Path
from typing import Any

from .graph_metrics.molecule_grid import draw_molecule_grid
from .model_card import write_card


__all__ = ["draw_samples", "generation_lines", "write_graph_card"]

_COLUMNS = ("validity", "uniqueness", "novelty", "descriptor_distance", "fragment_similarity", "nearest_similarity")


def draw_samples(samples: list[str | None], path: Path) -> None:
    """Draw molecules as a grid; nothing where there is none."""
    if samples:
        draw_molecule_grid(samples, path)


def generation_lines(generation: dict[str, dict[str, float]]) -> list[str]:
    """Return a table of rows by metric, as lines of text."""
    width = max(map(len, generation), default=0)
    lines = [f"{'':{width}}  " + "  ".join(f"{name:>19}" for name in _COLUMNS)]
    for name, report in generation.items():
        cells = (f"{report[column]:>19.4f}" if column in report else f"{'-':>19}" for column in _COLUMNS)
        lines.append(f"{name:{width}}  " + "  ".join(cells))
    return lines


def write_graph_card(result: dict[str, Any], template: Path, path: Path) -> None:
    """Write the card of a graph VAE, see `write_card`."""
    tags = ("chemistry", "molecules")
    write_card(result, template, path, pipeline_tag="graph-ml", tags=tags, columns=_COLUMNS)
