"""The trainer of models whose batches are changed at random before the model sees them."""

from typing import Any, Protocol

import torch

from .drawing_trainer import DrawingTrainer


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


class ChangedBatchTrainer(DrawingTrainer):
    """`DrawingTrainer` that changes each batch.

    Args:
        *args: As for `DrawingTrainer`.
        change: Of every batch, in training and evaluation; `None` leaves them.
        **kwargs: As for `DrawingTrainer`.
    """

    def __init__(self, *args, change: BatchChange | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.change = change

    def compute_loss(self, model, inputs, *args: Any, **kwargs: Any):
        """Return the loss on the changed batch."""
        if self.change is not None:
            inputs = self.change(dict(inputs), self.model.training, self.drawing)
        return super().compute_loss(model, inputs, *args, **kwargs)
