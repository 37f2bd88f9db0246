"""Loss terms beside the model's own, such as residuals of physical laws: weighted, added, and logged apart."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


__all__ = ["LossTerm", "LossTermSums"]


@dataclass(frozen=True)
class LossTerm:
    """A term of the training loss.

    Attributes:
        name: It is logged as `loss_<name>`, without its weight.
        compute: Takes model, inputs and outputs of a micro-batch; returns a scalar, the mean over the micro-batch.
        weight: Its factor in the loss, or a function of the step (counted from 0) that gives it.
    """

    name: str
    compute: Callable[[nn.Module, Mapping[str, Any], Mapping[str, Any]], torch.Tensor]
    weight: float | Callable[[int], float] = 1.0

    def weight_at(self, step: int) -> float:
        """Return the factor at a step."""
        return self.weight(step) if callable(self.weight) else self.weight


class LossTermSums:
    """Adds up the values of terms between two logs."""

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}

    def add(self, name: str, value: torch.Tensor) -> None:
        """Add the share that a micro-batch has in its step's mean; nothing leaves the device."""
        value = value.detach().to(torch.promote_types(value.dtype, torch.float32))
        self._sums[name] = self._sums[name] + value if name in self._sums else value

    def drain(self, steps: int, mean_over_processes: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, float]:
        """Return each term's mean over the steps since the last call, and start again; every process calls it."""
        means = {
            f"loss_{name}": mean_over_processes(value).item() / max(steps, 1) for name, value in self._sums.items()
        }
        self._sums.clear()
        return means
