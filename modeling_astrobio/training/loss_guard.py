"""Watch over the loss: what is not a number, and what stands too far above the losses before it, is a fault."""

import math
import statistics
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass


__all__ = ["LossFault", "LossGuard", "StabilitySection"]


# Fewer losses than these say nothing of how far losses scatter.
_LEAST_HISTORY = 30
# Share of the mean: losses that hardly scatter at all would make a fault of any ripple.
_LEAST_DEVIATION = 0.01


@dataclass
class StabilitySection:
    """The `stability` section of a recipe: what ends in going back to the last good checkpoint.

    A step whose loss or gradient norm is not finite always does.

    Attributes:
        spike_sigma: A loss so many standard deviations above the mean of the losses before it is a fault; a deviation
            below 1 % of the mean counts as 1 %. 0 lets any finite loss pass.
        spike_history: Losses from which mean and deviation are taken, 30 or more.
        max_rollbacks: So many faults are answered by going back and skipping the step's data; the next one ends the
            run.
    """

    spike_sigma: float = 6.0
    spike_history: int = 100
    max_rollbacks: int = 3


class LossFault(ArithmeticError):
    """A step that must not stand.

    Attributes:
        step: Its number, counted from 1.
        reason: What is wrong with it.
        loss: Its loss, the mean over processes.
    """

    def __init__(self, step: int, reason: str, loss: float):
        super().__init__(f"step {step}: {reason}")
        self.step, self.reason, self.loss = step, reason, loss


class LossGuard:
    """Judges each step's loss and gradient norm, and remembers the losses that passed.

    Args:
        settings: See `StabilitySection`.

    Attributes:
        losses: The last losses that passed, oldest first.
    """

    def __init__(self, settings: StabilitySection):
        self.settings = settings
        self.losses: deque[float] = deque(maxlen=settings.spike_history)

    def judge(self, step: int, loss: float, grad_norm: float | None) -> None:
        """Remember a step's loss.

        Args:
            step: Number of the step, for the message.
            loss: The same on all processes.
            grad_norm: Norm of the gradient before clipping; `None` where it says nothing, as under loss scaling.

        Raises:
            LossFault: If the step must not stand; it is then not remembered.
        """
        if not math.isfinite(loss):
            raise LossFault(step, f"the loss is {loss}", loss)
        if grad_norm is not None and not math.isfinite(grad_norm):
            raise LossFault(step, f"the norm of the gradient is {grad_norm}", loss)
        sigma = self.settings.spike_sigma
        if sigma and len(self.losses) >= _LEAST_HISTORY:
            mean = statistics.fmean(self.losses)
            deviation = max(statistics.stdev(self.losses, mean), _LEAST_DEVIATION * abs(mean))
            if loss > mean + sigma * deviation:
                raise LossFault(
                    step,
                    f"the loss is {loss:.4g}, more than {sigma:g} standard deviations above the mean of the last "
                    f"{len(self.losses)} ({mean:.4g}, deviation {deviation:.2g})",
                    loss,
                )
        self.losses.append(loss)

    def restore(self, losses: Iterable[float]) -> None:
        """Take up the losses that a checkpoint remembers."""
        self.losses.clear()
        self.losses.extend(losses)
