"""The splits that a recipe trains and evaluates on."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import datasets
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict

from .errors import DataError


__all__ = ["Splits", "open_splits"]


Splits: TypeAlias = "DatasetDict | IterableDatasetDict"


def open_splits(data: Any, embedded: Callable[[], DatasetDict]) -> Splits:
    """Open the data set of a recipe.

    Args:
        data: The recipe's section, a dataclass with `dataset_name`, `dataset_config`, `train_split`,
            `validation_split`, `test_split` and `max_rows`; where it has `streaming` too, rows may be streamed.
        embedded: Builds the data set used where `dataset_name` is `None`.

    Returns:
        Of "train", "validation" and "test" the first, and the others where the source has them.

    Raises:
        DataError: If it cannot be opened or a split is absent.
    """
    name, streaming = data.dataset_name, getattr(data, "streaming", False)
    if name is None:
        splits: Splits = embedded()
        if streaming:
            splits = IterableDatasetDict({split: rows.to_iterable_dataset() for split, rows in splits.items()})
    else:
        try:
            splits = datasets.load_dataset(name, data.dataset_config, streaming=streaming)
        # An empty JSON file ends in a StopIteration.
        except (OSError, ValueError, StopIteration, datasets.exceptions.DatasetsError) as error:
            raise DataError(
                f"data.dataset_name={name!r} with data.dataset_config={data.dataset_config!r} cannot be opened: "
                f"{type(error).__name__}: {error}. Pass a folder or Hub id that datasets.load_dataset opens."
            ) from error
    defaults = {field.name: field.default for field in dataclasses.fields(data)}
    chosen = {}
    for role in ("train", "validation", "test"):
        split = getattr(data, f"{role}_split")
        if split in splits:
            chosen[role] = splits[split]
        # Only the splits of the default names may be absent.
        elif role == "train" or split != defaults[f"{role}_split"]:
            raise DataError(f"data.{role}_split must be one of {sorted(map(str, splits))}; got {split!r}.")
    if data.max_rows:
        chosen = {role: _take(rows, data.max_rows) for role, rows in chosen.items()}
    return IterableDatasetDict(chosen) if streaming else DatasetDict(chosen)


def _take(rows: Dataset | IterableDataset, count: int) -> Dataset | IterableDataset:
    return rows.take(count) if isinstance(rows, IterableDataset) else rows.select(range(min(count, len(rows))))
