"""What a run that completes metabolic networks leaves for its reader: model card, lines of figures."""

from pathlib import Path
from typing import Any

from .metabolic_ranking import RECALL_AT
from .model_card import write_card


__all__ = ["recall_lines", "write_metabolic_card"]

# Way of ranking to what a reader is told of it, the model last.
_WAYS = {
    "frequency": "frequency among known organisms",
    "nearest_organism": "nearest organism",
    "nearest_then_frequency": "nearest organism, ties by frequency",
    "similar_organisms": "known organisms, weighted by their similarity",
    "compounds_present": "rule: fewest new compounds, then similar organisms",
    "priors_alone": "linear fit of four such features, no graph",
    "model": "this model",
}


def recall_lines(figures: dict[str, Any]) -> list[str]:
    """Return the recall of each way of ranking, of `short_figures`, as lines of text."""
    recall = figures["ranking"]["recall"]
    width = max(len(_WAYS[way]) for way in recall)
    lines = [f"{'recall':{width}}  " + "  ".join(f"{f'top {k}':>6}" for k in RECALL_AT)]
    for way, name in _WAYS.items():
        lines.append(f"{name:{width}}  " + "  ".join(f"{recall[way][f'top_{k}']:>6.3f}" for k in RECALL_AT))
    return lines


def write_metabolic_card(result: dict[str, Any], template: Path, path: Path) -> None:
    """Write the card of a model that completes metabolic networks, see `write_card`."""
    tags = ("metabolism", "gap-filling")
    write_card(result, template, path, pipeline_tag="graph-ml", tags=tags, recall_at=RECALL_AT, ways=_WAYS)
