"""The order in which rows are read."""

from collections.abc import Iterator

from accelerate.data_loader import SeedableRandomSampler
from torch.utils.data import Sampler


__all__ = ["ShuffledFirst"]


class ShuffledFirst(Sampler[int]):
    """The first rows in an order that depends on seed and epoch alone, then the rest as they stand.

    The rows that fill up the last step of several processes come last, so that a change of their number leaves the
    order of the others as it is: that of `accelerate.data_loader.SeedableRandomSampler`.

    Args:
        shuffled: How many rows are shuffled.
        total: How many rows there are.
        seed: Of the first epoch; `None` is torch's initial seed.
    """

    def __init__(self, shuffled: int, total: int, seed: int | None = None):
        self.shuffled, self.total = shuffled, total
        self._first = SeedableRandomSampler(range(shuffled), data_seed=seed)

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[int]:
        yield from self._first
        yield from range(self.shuffled, self.total)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch whose order comes next."""
        self._first.set_epoch(epoch)
