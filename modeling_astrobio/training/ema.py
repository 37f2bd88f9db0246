"""Exponential moving average of the trained weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from .errors import CheckpointError


__all__ = ["WeightAverage"]


_FILE = "weight_average.safetensors"
_UPDATES = "updates"


class WeightAverage:
    """Averages a model's trained weights over the updates; it does not move as far in the beginning.

    After update t (counted from 1) the average moves by 1 - min(decay, (1 + t) / (10 + t)) of the way to the weights,
    as in tf.train.ExponentialMovingAverage. It is kept in float32 or better, in parts where the weights are DTensors.

    Args:
        model: Its weights that require gradients are averaged.
        decay: At least 0 and below 1.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.updates = 0
        self.weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self.averages = {
            name: weight.detach().to(torch.promote_types(weight.dtype, torch.float32), copy=True)
            for name, weight in self.weights.items()
        }

    @torch.no_grad()
    def update(self) -> None:
        """Take up the weights after an update."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, weight in self.weights.items():
            average = self.averages[name]
            average.lerp_(weight.detach().to(average.dtype), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average in the place of the weights, and the weights back at the end."""
        kept = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self._set(self.averages)
        try:
            yield
        finally:
            self._set(kept)

    @torch.no_grad()
    def _set(self, values: dict[str, torch.Tensor]) -> None:
        for name, weight in self.weights.items():
            weight.copy_(values[name])

    def save(self, checkpoint: Path, writes: bool) -> None:
        """Write into a checkpoint's folder; called by every process, of which those that `writes` write."""
        whole = {
            name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in self.averages.items()
        }
        if writes:
            tensors = {name: value.contiguous().cpu() for name, value in whole.items()}
            save_file(tensors, checkpoint / _FILE, metadata={_UPDATES: str(self.updates)})

    @torch.no_grad()
    def load(self, checkpoint: Path) -> None:
        """Take up what `save` wrote.

        Raises:
            CheckpointError: If the checkpoint has no average, or one of other weights.
        """
        path = checkpoint / _FILE
        if not path.is_file():
            raise CheckpointError(
                f"ema_decay={self.decay:g} needs {_FILE} in {checkpoint}; got none. Set ema_decay=0."
            )
        values = load_file(path)
        if values.keys() != self.averages.keys():
            other = sorted(values.keys() ^ self.averages.keys())[:3]
            raise CheckpointError(
                f"{_FILE} in {checkpoint} must average the trained weights; got others, such as {other}. Continue "
                "with the recipe that wrote it."
            )
        for name, average in self.averages.items():
            value = values[name].to(average.device)
            if isinstance(average, DTensor):
                value = distribute_tensor(value, average.device_mesh, average.placements)
            average.copy_(value)
        self.updates = _read_updates(path)


def _read_updates(path: Path) -> int:
    with safe_open(path, "pt") as file:
        return int(file.metadata()[_UPDATES])
