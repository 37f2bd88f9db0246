"""The trainer of models whose batches are changed at random before the model sees them."""

from typing import Any, Protocol

import torch

from .datacube_data import collate_climates
from .trainer import AstroTrainer


__all__ = ["BatchChange", "ChangedBatchTrainer"]

Batch = dict[str, torch.Tensor]


class BatchChange(Protocol):
    """What becomes of a batch."""

    def __call__(self, batch: Batch, training: bool, generator: torch.Generator | None) -> Batch:
        """Return the arguments of the model's `forward`.

        Args:
            batch: Rows of the data.
            training: Whether a step is trained, or the validation rows are evaluated.
            generator: Of the random numbers; `None` is torch's own.
        """


class ChangedBatchTrainer(AstroTrainer):
    """`AstroTrainer` of climates that changes each batch, and whose loss may depend on random numbers.

    Evaluation draws the same numbers each time, so that its loss can be compared across steps. In training random
    numbers are torch's own, which a checkpoint holds.

    Args:
        *args: As for `AstroTrainer`.
        change: Of every batch, in training and evaluation; `None` leaves them.
        **kwargs: As for `AstroTrainer`.

    Attributes:
        drawing: Of the random numbers, on the CPU; `None` is torch's own.
    """

    evaluates_loss_alone = True

    def __init__(self, *args, change: BatchChange | None = None, **kwargs):
        super().__init__(*args, data_collator=collate_climates, **kwargs)
        self.change = change
        self.drawing: torch.Generator | None = None

    def compute_loss(self, model, inputs, *args: Any, **kwargs: Any):
        """Return the loss on the changed batch."""
        if self.change is not None:
            assert self.model is not None
            inputs = self.change(dict(inputs), self.model.training, self.drawing)
        return super().compute_loss(model, inputs, *args, **kwargs)

    def evaluation_loop(self, *args, **kwargs):
        """Evaluate with random numbers that are the same at every evaluation."""
        self.drawing = torch.Generator().manual_seed(self.args.seed + self.args.process_index)
        try:
            return super().evaluation_loop(*args, **kwargs)
        finally:
            self.drawing = None
