"""What a run needs to go on besides transformers' own files, also on another number of processes."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .errors import CheckpointError
from .recipe import Recipe


__all__ = ["Continuation", "keep_rows_per_step"]


_FILE = "continuation.json"


@dataclass
class Continuation:
    """A file of each checkpoint.

    Attributes:
        processes: How many trained together.
        rows_per_step: Rows of an optimizer step, over all processes.
        losses: What the loss guard remembers.
    """

    processes: int
    rows_per_step: int
    losses: list[float] = field(default_factory=list)

    def write(self, checkpoint: Path) -> None:
        """Write into a checkpoint's folder."""
        (checkpoint / _FILE).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, checkpoint: Path) -> "Continuation | None":
        """Return what a checkpoint has; `None` where another program wrote it."""
        path = checkpoint / _FILE
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def keep_rows_per_step(recipe: Recipe, checkpoint: Path, processes: int, is_main: bool = True) -> None:
    """Change a recipe's accumulation so that a step has as many rows as before, on any number of processes.

    Every step then sees the rows it would have seen: an epoch's order depends on the seed alone, and processes take
    micro-batches from it in turn.

    Args:
        recipe: Of the run.
        checkpoint: What it continues from.
        processes: How many train together now.
        is_main: Whether this process says so.

    Raises:
        CheckpointError: If the rows cannot be divided.
    """
    before = Continuation.read(checkpoint)
    if before is None:
        return
    micro_batch = recipe.training["per_device_train_batch_size"]
    accumulation, rest = divmod(before.rows_per_step, processes * micro_batch)
    if rest or not accumulation:
        raise CheckpointError(
            f"a step of the run in {checkpoint.parent} has {before.rows_per_step} rows, which must be a multiple of "
            f"processes x training.per_device_train_batch_size; got {processes} x {micro_batch}. Pass another "
            "training.per_device_train_batch_size, or launch another number of processes."
        )
    if accumulation != recipe.training.get("gradient_accumulation_steps", 1) and is_main:
        print(f"{before.rows_per_step} rows in a step as before: accumulation over {accumulation} now", flush=True)
    recipe.training["gradient_accumulation_steps"] = accumulation
