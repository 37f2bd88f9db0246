"""Cosine of the angle between two tables of counts."""

import math
from collections import Counter

from modeling_astrobio.training.errors import DataError


__all__ = ["count_similarity"]


def count_similarity(first: Counter[str], second: Counter[str], metric: str) -> float:
    """Return the cosine of two vectors of counts, 0 to 1; 0 if the first is empty, which has nothing in common.

    Raises:
        DataError: If the second, that of the reference, is empty; `metric` is named.
    """
    if not second:
        raise DataError(f"{metric} needs a reference that has some; got none in it. Leave this metric out.")
    if not first:
        return 0.0
    product = sum(count * second[key] for key, count in first.items())
    return product / math.sqrt(sum(n * n for n in first.values()) * sum(n * n for n in second.values()))
