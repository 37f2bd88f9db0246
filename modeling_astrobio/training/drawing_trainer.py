"""The trainer of climates whose loss depends on random numbers."""

import torch

from .datacube_data import collate_climates
from .trainer import AstroTrainer


__all__ = ["DrawingTrainer"]


class DrawingTrainer(AstroTrainer):
    """`AstroTrainer` whose evaluation draws the same numbers each time, so that its loss can be compared across steps.

    In training random numbers are torch's own, which a checkpoint holds.

    Args:
        *args: As for `AstroTrainer`.
        **kwargs: As for `AstroTrainer`.

    Attributes:
        drawing: Of the random numbers, on the CPU; `None` is torch's own.
    """

    evaluates_loss_alone = True

    def __init__(self, *args, **kwargs):
        super().__init__(*args, data_collator=collate_climates, **kwargs)
        self.drawing: torch.Generator | None = None

    def evaluation_loop(self, *args, **kwargs):
        """Evaluate with random numbers that are the same at every evaluation."""
        self.drawing = torch.Generator().manual_seed(self.args.seed + self.args.process_index)
        try:
            return super().evaluation_loop(*args, **kwargs)
        finally:
            self.drawing = None
