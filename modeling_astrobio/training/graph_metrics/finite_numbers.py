"""Numbers that a metric reads: of the right shape and finite."""

import numpy as np
from numpy.typing import ArrayLike

from modeling_astrobio.training.errors import DataError


__all__ = ["finite_numbers"]


def finite_numbers(values: ArrayLike, name: str, axes: int = 1) -> np.ndarray:
    """Return values as float64.

    Args:
        values: Numbers.
        name: What a message calls them.
        axes: How many axes they must have.

    Raises:
        DataError: If there are none, the number of axes is another, rows have different lengths, or one is not finite.
    """
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} must be numbers in rows of one length; got others ({error}).") from error
    if numbers.ndim != axes or not numbers.size:
        raise DataError(f"{name} must have {axes} axes and at least one number; got shape {numbers.shape}.")
    if not np.isfinite(numbers).all():
        place = np.argwhere(~np.isfinite(numbers))[0].tolist()
        raise DataError(f"{name} must be finite; got {numbers[tuple(place)]} at {place}. Find where it comes from.")
    return numbers
