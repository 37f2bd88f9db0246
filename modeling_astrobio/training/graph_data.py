"""Molecules of a data set as graphs, read once and kept as arrays in Arrow memory."""

import logging
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from datasets import Dataset, Features, List, Value

from modeling_astrobio import AstroGraphVAEProcessor
from modeling_astrobio.graph_record import GraphError, GraphRecord

from .data_splits import Splits
from .errors import DataError
from .graph_recipe import GraphDataSection
from .loading import ArrowRows, SizeBatches


__all__ = ["GraphRows", "graph_batches", "molecule_graphs"]

_logger = logging.getLogger(__name__)

_DTYPES = {
    "node_types": "int16",
    "node_features": "float32",
    "edge_index": "int32",
    "edge_types": "int8",
    "edge_features": "float32",
    "motif_types": "int8",
    "motif_nodes": "bool",
}
_FEATURES = Features(
    {
        **{name: List(Value(dtype)) for name, dtype in _DTYPES.items()},
        **{f"{name}_shape": List(Value("int32")) for name in _DTYPES},
        "smiles": Value("string"),
        "problem": Value("string"),
    }
)
_KINDS = {"i": np.int64, "u": np.int64, "f": np.float32, "b": np.bool_}


class GraphRows:
    """Graphs by their number, read from Arrow memory.

    Args:
        rows: Rows of `molecule_graphs`.

    Attributes:
        smiles: Of each.
        sizes: Nodes, motifs and edges of each, shape (N, 3).
    """

    def __init__(self, rows: Dataset):
        self.smiles: Sequence[str] = rows["smiles"]
        self._rows = ArrowRows(rows, [name for field in _DTYPES for name in (field, f"{field}_shape")])
        self.sizes = np.concatenate(
            [rows.with_format("numpy")[f"{name}_types_shape"] for name in ("node", "motif", "edge")], axis=1
        )

    @property
    def group_sizes(self) -> list[int]:
        """Every row can be read alone."""
        return self._rows.group_sizes

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, row: int) -> GraphRecord:
        cells = self._rows[row]
        return GraphRecord(**{name: cells[name].astype(_KINDS[cells[name].dtype.kind]) for name in _DTYPES})


def molecule_graphs(
    splits: Splits, processor: AstroGraphVAEProcessor, data: GraphDataSection
) -> tuple[dict[str, GraphRows], dict[str, dict[str, int]]]:
    """Read the molecules of every split.

    What is no molecule that the processor reads is left out and logged.

    Args:
        splits: Data of the recipe.
        processor: The model's.
        data: Names the column.

    Returns:
        The graphs of each split, and how many rows each split has and how many of them were read.

    Raises:
        DataError: If the column is absent, or no row of a split can be read.
    """
    graphs, coverage = {}, {}
    for role, rows in splits.items():
        if data.smiles_column not in rows.column_names:
            raise DataError(
                f"data.smiles_column must be a column of split {role!r}; got {data.smiles_column!r}, columns "
                f"{rows.column_names}."
            )
        read = rows.map(
            _cells,
            fn_kwargs={"column": data.smiles_column, "processor": processor},
            remove_columns=rows.column_names,
            features=_FEATURES,
            desc=f"reading {role}",
        )
        problems = read["problem"]
        kept = [row for row, problem in enumerate(problems) if problem is None]
        coverage[str(role)] = {"rows": len(read), "graphs": len(kept)}
        if len(kept) < len(read):
            example = next(problem for problem in problems if problem is not None)
            _logger.warning(
                "%d of %d rows of %s left out; the first: %s", len(read) - len(kept), len(read), role, example
            )
        if not kept:
            raise DataError(f"split {role!r} must hold a molecule that the model can read; got none of {len(read)}.")
        graphs[str(role)] = GraphRows(read.select(kept) if len(kept) < len(read) else read)
    return graphs, coverage


def _cells(row: dict[str, Any], column: str, processor: AstroGraphVAEProcessor) -> dict[str, Any]:
    cells: dict[str, Any] = dict.fromkeys(_FEATURES)
    cells["smiles"] = row[column]
    try:
        record = processor.record(row[column])
    except GraphError as error:
        return {**cells, "problem": str(error)}
    for field in fields(GraphRecord):
        array = getattr(record, field.name)
        cells[field.name], cells[f"{field.name}_shape"] = array.ravel(), array.shape
    return cells


def graph_batches(rows: GraphRows, most_nodes: int, seed: int) -> SizeBatches:
    """Return batches of graphs of like size, padding included at most `most_nodes` nodes each.

    Raises:
        DataError: If a graph alone is larger.
    """
    try:
        return SizeBatches(rows, rows.sizes, most_nodes, seed)
    except ValueError as error:
        raise DataError(f"data.batch_nodes does not do: {error}") from error
