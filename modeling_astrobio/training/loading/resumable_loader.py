"""Batches in a shuffled order that a stopped run goes on with at the very next row."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from .row_order import row_order


__all__ = ["ResumableLoader", "Rows", "read_rows"]


class Rows(Protocol):
    """What is read from: `ArrowRows`, `ParquetRows`, or the like."""

    @property
    def group_sizes(self) -> Sequence[int]:
        """Number of rows in each group that is read together, in the order of the table."""

    def __len__(self) -> int:
        """Number of rows."""

    def __getitem__(self, row: int) -> Any:
        """A row, such as its cells by column."""


def read_rows(rows: Rows, numbers: Sequence[int]) -> Any:
    """Read several rows, at once where the data can gather them."""
    gather = getattr(rows, "__getitems__", None)
    return gather(numbers) if gather is not None else [rows[number] for number in numbers]


class ResumableLoader:
    """Batches of an epoch; iterate again for the next one.

    The order of an epoch is `row_order(rows.group_sizes, seed, epoch)`, cut into steps of `batch_size * world_size`
    rows, of which each rank takes its `batch_size`. The last rows of an epoch that fill no step are left out on all
    ranks, others come in each epoch. Workers read ahead; what they have read and the loop has not seen is not
    counted, so `state_dict()` between two batches is exact. The state holds for another number of ranks or workers.
    It is no `DataLoader`: `Accelerator.prepare` leaves it as it is, so give it the rank and move batches yourself.

    Args:
        rows: The data.
        batch_size: Rows of a batch on one rank.
        collate: Makes a batch of a list of rows.
        seed: Of the order.
        rank: Of this process.
        world_size: Processes.
        num_workers: Threads that read ahead. 0, the default, reads when asked, and is faster where a batch takes less
            than a millisecond or so, as small rows from memory do: handing it over costs as much. Copies and decoding
            leave Python's lock, and a batch from a thread needs no copy, where one from a process costs more than the
            reading.
        prefetch_factor: Batches that each worker reads ahead; bounds the memory.
    """

    def __init__(
        self,
        rows: Rows,
        batch_size: int,
        collate: Callable[[list[dict[str, Any]]], Any],
        *,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        prefetch_factor: int = 2,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}.")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be from 0 to world_size - 1 = {world_size - 1}; got {rank}.")
        if len(rows) < batch_size * world_size:
            raise ValueError(
                f"rows must fill a step of {batch_size} rows on {world_size} ranks; got {len(rows)}. "
                "Take a smaller batch_size."
            )
        self.rows, self.batch_size, self.collate = rows, batch_size, collate
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.epoch, self.rows_seen = 0, 0
        if num_workers < 0 or prefetch_factor < 1:
            raise ValueError(
                f"num_workers must be at least 0 and prefetch_factor at least 1; got {num_workers}, {prefetch_factor}."
            )
        self.num_workers, self.prefetch_factor = num_workers, prefetch_factor

    @property
    def rows_per_step(self) -> int:
        """Rows that all ranks read together."""
        return self.batch_size * self.world_size

    def __len__(self) -> int:
        """Batches of a whole epoch on this rank."""
        return len(self.rows) // self.rows_per_step

    def __iter__(self) -> Iterator[Any]:
        if len(self.rows) - self.rows_seen < self.rows_per_step:
            # The epoch was read to its end: no empty pass comes before the next one.
            self.epoch, self.rows_seen = self.epoch + 1, 0
        order = row_order(self.rows.group_sizes, self.seed, self.epoch)
        starts = range(self.rows_seen, len(order) - self.rows_per_step + 1, self.rows_per_step)
        mine = self.rank * self.batch_size
        batches = [order[start + mine : start + mine + self.batch_size].tolist() for start in starts]
        for batch in self._batches(batches):
            self.rows_seen += self.rows_per_step
            yield batch
        self.epoch, self.rows_seen = self.epoch + 1, 0

    def _batches(self, batches: Sequence[list[int]]) -> Iterator[Any]:
        """Read batches in order, those ahead of the loop in threads."""
        if not self.num_workers:
            yield from map(self._read, batches)
            return
        waiting: deque[Future[Any]] = deque()
        pool = ThreadPoolExecutor(self.num_workers, thread_name_prefix="read-ahead")
        try:
            for batch in batches:
                waiting.append(pool.submit(self._read, batch))
                if len(waiting) > self.num_workers * self.prefetch_factor:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            # A loop that ends early waits for no more than what is being read.
            pool.shutdown(wait=True, cancel_futures=True)

    def _read(self, batch: list[int]) -> Any:
        return self.collate(read_rows(self.rows, batch))

    @cached_property
    def _groups(self) -> str:
        """Names the sizes of the groups, and what `SizeBatches` put together: others come in another order."""
        sizes = np.asarray(self.rows.group_sizes, dtype="<i8").tobytes()
        return hashlib.sha256(sizes + getattr(self.rows, "digest", b"")).hexdigest()[:16]

    def _order(self) -> dict[str, int | str]:
        return {"rows": len(self.rows), "groups": self._groups, "seed": self.seed}

    def state_dict(self) -> dict[str, int | str]:
        """Return where the loop is: the epoch, the rows of it that all ranks have seen, and what the order is of."""
        return {"epoch": self.epoch, "rows_seen": self.rows_seen, **self._order()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another loader was.

        Raises:
            ValueError: If the state is of other data or of another order.
        """
        for name, own in self._order().items():
            if state.get(name) != own:
                raise ValueError(f"{name} of the state must be that of this loader, {own}; got {state.get(name)}.")
        self.epoch, self.rows_seen = int(state["epoch"]), int(state["rows_seen"])
