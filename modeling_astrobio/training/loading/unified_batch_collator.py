"""Rows that have some of five modalities as one batch, with masks for what is absent."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch


__all__ = ["MODALITIES", "UnifiedBatchCollator"]


MODALITIES = ("planet_parameters", "climate", "metabolic_graph", "spectrum", "text")
_GRAPH = ("node_features", "edge_index", "edge_features")
_SPECTRUM = ("wavelength_um", "flux", "flux_error")


class UnifiedBatchCollator:
    """Stack rows of the data set `astro_multimodal`.

    A row is a dictionary as `ArrowRows` and `ParquetRows` give it; a modality that is None, or not there, is absent.
    An absent or missing value is 0 in the batch and False in its mask: no mask, no meaning.

    The batch has for each modality `m`:
        `m_present` (B,) bool, and `m_quality` (B,) float32 from 0 to 1, 0 where absent;
    and, for the modalities that at least one row has:
        `planet_parameters` (B, P) float32 and `planet_parameters_mask` (B, P) bool: True where known;
        `climate` (B, V, T, L, Y, X) float32, padded at the end of each axis, and `climate_mask` of the same shape:
        True where the cube has a value; `climate_shape` (B, 5) int64, zeros where absent;
        `node_features` (N, F), `edge_index` (2, E) int64 over the nodes of the whole batch, `edge_features` (E, G) and
        `node_row` (N,), `edge_row` (E,) int64: the row in the batch that a node or an edge is of;
        `wavelength_um`, `flux`, `flux_error` (B, S) float32 and `spectrum_mask` (B, S) bool: True where usable;
        `input_ids`, `attention_mask` (B, L) int64 of the texts.

    Args:
        climate_variables: Names of the V variables of the batch, in order; a row's others are left out, and those that
            it has not are masked.
        tokenizer: Called with the texts, `padding=True` and `return_tensors="pt"`; None leaves texts out. An absent
            text is the empty one, and all of its `attention_mask` is 0.
        max_length: Most tokens of a text; the rest is cut.

    Raises:
        ValueError: If the rows of a batch differ where they may not, in the number of parameters or of features of a
            node, or a modality is there in part. Names the modality and the row.
    """

    def __init__(
        self,
        climate_variables: Sequence[str] = ("ta", "ua", "va", "hus", "wap"),
        tokenizer: Callable[..., Any] | None = None,
        max_length: int = 2048,
    ):
        if not climate_variables or len(set(climate_variables)) != len(climate_variables):
            raise ValueError(f"climate_variables must be different names; got {list(climate_variables)}.")
        self.climate_variables = list(climate_variables)
        self.tokenizer, self.max_length = tokenizer, max_length

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        present = {
            "planet_parameters": _has(rows, "planet_parameters"),
            "climate": _has(rows, "climate", "climate_variables"),
            "metabolic_graph": _has(rows, *_GRAPH),
            "spectrum": _has(rows, *_SPECTRUM, "spectrum_mask"),
            "text": _has(rows, "text") if self.tokenizer is not None else [False] * len(rows),
        }
        parts = {
            "planet_parameters": _parameters,
            "climate": self._climate,
            "metabolic_graph": _graphs,
            "spectrum": _spectra,
            "text": self._texts,
        }
        batch: dict[str, torch.Tensor] = {}
        for modality, here in present.items():
            batch[f"{modality}_present"] = torch.tensor(here)
            qualities = [_quality(row, modality, number) if here[number] else 0.0 for number, row in enumerate(rows)]
            batch[f"{modality}_quality"] = torch.tensor(qualities)
            if any(here):
                batch |= parts[modality](rows, here)
        return batch

    def _climate(self, rows: Sequence[Mapping[str, Any]], here: Sequence[bool]) -> dict[str, torch.Tensor]:
        shapes = torch.zeros(len(rows), 5, dtype=torch.int64)
        for number, row in enumerate(rows):
            if here[number]:
                shape = np.shape(row["climate"])
                if len(shape) != 5 or shape[0] != len(row["climate_variables"]):
                    raise ValueError(
                        f"climate of row {number} must have the axes (V, T, L, Y, X) and a name for each of V; got "
                        f"{shape} and {len(row['climate_variables'])} names. Read it with `climate_shape`."
                    )
                shapes[number] = torch.tensor((len(self.climate_variables), *shape[1:]))
        size = shapes.amax(0).tolist()
        cubes, masks = torch.zeros(len(rows), *size), torch.zeros(len(rows), *size, dtype=torch.bool)
        for number, row in enumerate(rows):
            if not here[number]:
                continue
            _, times, levels, latitudes, longitudes = shapes[number].tolist()
            for place, name in enumerate(self.climate_variables):
                if name in row["climate_variables"]:
                    values, mask = _finite(row["climate"][list(row["climate_variables"]).index(name)])
                    cubes[number, place, :times, :levels, :latitudes, :longitudes] = values
                    masks[number, place, :times, :levels, :latitudes, :longitudes] = mask
        return {"climate": cubes, "climate_mask": masks, "climate_shape": shapes}

    def _texts(self, rows: Sequence[Mapping[str, Any]], here: Sequence[bool]) -> dict[str, torch.Tensor]:
        assert self.tokenizer is not None
        texts = [row["text"] if it_is else "" for row, it_is in zip(rows, here, strict=True)]
        tokens = self.tokenizer(texts, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt")
        # A tokenizer may put a token of its own into an empty text.
        mask = tokens["attention_mask"] * torch.tensor(here)[:, None]
        return {"input_ids": tokens["input_ids"], "attention_mask": mask}


def _has(rows: Sequence[Mapping[str, Any]], *columns: str) -> list[bool]:
    found = []
    for number, row in enumerate(rows):
        there = [row.get(column) is not None for column in columns]
        if any(there) and not all(there):
            absent = [column for column, it_is in zip(columns, there, strict=True) if not it_is]
            raise ValueError(
                f"row {number} must have all of {', '.join(columns)} or none; {', '.join(absent)} is absent."
            )
        found.append(all(there))
    return found


def _quality(row: Mapping[str, Any], modality: str, number: int) -> float:
    quality = row.get(f"{modality}_quality")
    if quality is None or not 0.0 <= quality <= 1.0:
        raise ValueError(f"{modality}_quality of row {number} must be from 0 to 1; got {quality!r}.")
    return float(quality)


def _finite(values: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    tensor = torch.tensor(values, dtype=torch.float32)
    mask = torch.isfinite(tensor)
    return torch.where(mask, tensor, 0.0), mask


def _parameters(rows: Sequence[Mapping[str, Any]], here: Sequence[bool]) -> dict[str, torch.Tensor]:
    count = _one_size("planet_parameters", rows, here, lambda row: len(row["planet_parameters"]))
    values = np.full((len(rows), count), np.nan, dtype=np.float32)
    for number, row in enumerate(rows):
        if here[number]:
            values[number] = row["planet_parameters"]
    tensor, mask = _finite(values)
    return {"planet_parameters": tensor, "planet_parameters_mask": mask}


def _graphs(rows: Sequence[Mapping[str, Any]], here: Sequence[bool]) -> dict[str, torch.Tensor]:
    _one_size("node_features", rows, here, lambda row: row["node_features"].shape[-1])
    _one_size("edge_features", rows, here, lambda row: row["edge_features"].shape[-1])
    nodes, edges, features, node_rows, edge_rows, first = [], [], [], [], [], 0
    for number, row in enumerate(rows):
        if not here[number]:
            continue
        count, edge_index = len(row["node_features"]), np.asarray(row["edge_index"], dtype=np.int64)
        if edge_index.size and not 0 <= edge_index.min() <= edge_index.max() < count:
            raise ValueError(f"edge_index of row {number} must name nodes from 0 to {count - 1}.")
        nodes.append(torch.tensor(row["node_features"], dtype=torch.float32))
        edges.append(torch.tensor(edge_index) + first)
        features.append(torch.tensor(row["edge_features"], dtype=torch.float32))
        node_rows.append(torch.full((count,), number))
        edge_rows.append(torch.full((edge_index.shape[1],), number))
        first += count
    return {
        "node_features": torch.cat(nodes),
        "edge_index": torch.cat(edges, dim=1),
        "edge_features": torch.cat(features),
        "node_row": torch.cat(node_rows),
        "edge_row": torch.cat(edge_rows),
    }


def _spectra(rows: Sequence[Mapping[str, Any]], here: Sequence[bool]) -> dict[str, torch.Tensor]:
    longest = max(len(row["flux"]) for row, it_is in zip(rows, here, strict=True) if it_is)
    values = np.full((len(rows), len(_SPECTRUM), longest), np.nan, dtype=np.float32)
    usable = torch.zeros(len(rows), longest, dtype=torch.bool)
    for number, row in enumerate(rows):
        if not here[number]:
            continue
        lengths = {column: len(row[column]) for column in (*_SPECTRUM, "spectrum_mask")}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"spectrum of row {number} must have columns of one length; got {lengths}.")
        for place, column in enumerate(_SPECTRUM):
            values[number, place, : lengths[column]] = row[column]
        usable[number, : lengths["flux"]] = torch.tensor(np.asarray(row["spectrum_mask"], dtype=bool))
    tensor, finite = _finite(values)
    # Without its error a flux is still usable; without wavelength or flux it is not.
    usable &= finite[:, 0] & finite[:, 1]
    return {**dict(zip(_SPECTRUM, tensor.unbind(1), strict=True)), "spectrum_mask": usable}


def _one_size(
    what: str, rows: Sequence[Mapping[str, Any]], here: Sequence[bool], size: Callable[[Mapping[str, Any]], int]
) -> int:
    sizes = {number: size(row) for number, row in enumerate(rows) if here[number]}
    first = next(iter(sizes.values()))
    for number, found in sizes.items():
        if found != first:
            raise ValueError(f"{what} must be of one size in a batch; it is {first}, and {found} in row {number}.")
    return first
