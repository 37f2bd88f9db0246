"""Batches in a shuffled order that a stopped run goes on with at the very next row."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

from .row_order import row_order


__all__ = ["ResumableLoader"]


class Rows(Protocol):
    """What is read from: `ArrowRows`, `ParquetRows`, or the like."""

    @property
    def group_sizes(self) -> Sequence[int]:
        """Number of rows in each group that is read together, in the order of the table."""

    def __len__(self) -> int:
        """Number of rows."""

    def __getitem__(self, row: int) -> dict[str, Any]:
        """Cells of a row by column."""


class ResumableLoader:
    """Batches of an epoch; iterate again for the next one.

    The order of an epoch is `row_order(rows.group_sizes, seed, epoch)`, cut into steps of `batch_size * world_size`
    rows, of which each rank takes its `batch_size`. The last rows of an epoch that fill no step are left out on all
    ranks, others come in each epoch. Workers read ahead; what they have read and the loop has not seen is not
    counted, so `state_dict()` between two batches is exact. The state holds for another number of ranks or workers.

    Args:
        rows: The data.
        batch_size: Rows of a batch on one rank.
        collate: Makes a batch of a list of rows.
        seed: Of the order.
        rank: Of this process.
        world_size: Processes.
        num_workers: Threads that read ahead; 0 reads when asked. Copies and decoding leave Python's lock, and a batch
            from a thread needs no copy, where one from a process costs more than the reading.
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
        gather = getattr(self.rows, "__getitems__", None)
        return self.collate(gather(batch) if gather is not None else [self.rows[row] for row in batch])

    def state_dict(self) -> dict[str, int]:
        """Return where the loop is: the epoch, the rows of it that all ranks have seen, and what the order is of."""
        return {"epoch": self.epoch, "rows_seen": self.rows_seen, "rows": len(self.rows), "seed": self.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where another loader was.

        Raises:
            ValueError: If the state is of other data or of another order.
        """
        for name, own in (("rows", len(self.rows)), ("seed", self.seed)):
            if state[name] != own:
                raise ValueError(f"{name} of the state must be that of this loader, {own}; got {state[name]}.")
        self.epoch, self.rows_seen = state["epoch"], state["rows_seen"]
        if len(self.rows) - self.rows_seen < self.rows_per_step:
            # The epoch was read to its end: no empty pass comes before the next one.
            self.epoch, self.rows_seen = self.epoch + 1, 0
