"""What a run of the graph VAE leaves for its reader: model card, loss plot, drawn molecules."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from .graph_metrics.molecule_grid import draw_molecule_grid


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
    """Fill a card template with a result; every number in the card comes from it."""
    card = ModelCard.from_template(
        ModelCardData(
            license="apache-2.0",
            library_name="transformers",
            pipeline_tag="graph-ml",
            tags=["astrobiology", "chemistry", "molecules", "modeling_astrobio"],
            datasets=[result["data"]["name"]] if result["data"]["hub"] else None,
        ),
        template_path=str(template),
        result=result,
        columns=_COLUMNS,
    )
    path.write_text(str(card), encoding="utf-8")
