"""Batches in a shuffled order that a stopped run goes on with at the very next row."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, cast

import torch
from torch.utils.data import DataLoader, Dataset

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
        num_workers: Processes that read ahead for this one; 0 reads when asked.
        prefetch_factor: Batches that each worker reads ahead; bounds the memory.
        pin_memory: Whether batches are put where a GPU copies from.
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
        pin_memory: bool = False,
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
        self.num_workers, self.pin_memory = num_workers, pin_memory
        self.prefetch_factor = prefetch_factor if num_workers else None

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
        # Its own generator: the loader would else draw from the one that dropout draws from.
        loader: DataLoader[Any] = DataLoader(
            cast(Dataset[Any], self.rows),
            batch_sampler=batches,
            collate_fn=self.collate,
            num_workers=self.num_workers,
            prefetch_factor=self.prefetch_factor,
            pin_memory=self.pin_memory,
            generator=torch.Generator(),
        )
        for batch in loader:
            self.rows_seen += self.rows_per_step
            yield batch
        self.epoch, self.rows_seen = self.epoch + 1, 0

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
