"""A split whose rows are made one after another and never lie in memory together."""

from collections.abc import Callable, Iterator
from typing import Any

from datasets import Dataset, Features


__all__ = ["generated_dataset"]


def generated_dataset(
    generate: Callable[..., Iterator[dict[str, Any]]], features: Features, **arguments: Any
) -> Dataset:
    """Return the rows that a function yields, written to a file as they come.

    Args:
        generate: Yields rows; may yield none.
        features: Of the rows.
        arguments: Of the function. `datasets` takes the file of an earlier call with equal arguments, so they must
            name the content that is read, by its SHA-256, and not only its place.
    """
    if next(generate(**arguments), None) is None:
        return Dataset.from_dict({name: [] for name in features}, features=features)
    dataset = Dataset.from_generator(generate, features=features, gen_kwargs=arguments, writer_batch_size=4)
    assert isinstance(dataset, Dataset)
    return dataset
