"""The loss of a roll-out: each step from the states before it, against the state that followed.

Shape suffixes: B batch, V variables on levels, S at the surface, T states read, K steps, L levels, Y latitudes, X
longitudes.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from ..configuration_astro_datacube import AstroDatacubeConfig
from ..modeling_astro_datacube_heads import AstroDatacubeForForecasting, CubePrediction, next_window


__all__ = ["RolledForecasting", "RolledLoss", "rolled_loss"]


class RolledLoss(NamedTuple):
    """What a roll-out says.

    Attributes:
        losses: Of each step, scalars.
        first: The first step's prediction.
    """

    losses: list[torch.Tensor]
    first: CubePrediction


def rolled_loss(model: Callable[..., CubePrediction], batch: dict[str, torch.Tensor], steps: int) -> RolledLoss:
    """Roll a batch out.

    Args:
        model: An `AstroDatacubeForForecasting`, or what calls one.
        batch: Its arguments, with labels of K states: `surface_labels` (B, S, K, Y, X) and `level_labels`
            (B, V, K, L, Y, X).
        steps: How many, from 1 to K.
    """
    labels = {name: batch[name] for name in ("surface_labels", "level_labels") if name in batch}
    window = (batch.get("level_fields"), batch.get("surface_fields"))
    others = {name: value for name, value in batch.items() if name not in labels and name not in _READ}
    losses: list[torch.Tensor] = []
    ledger, first = None, None
    for step in range(steps):
        output = model(
            level_fields=window[0],
            surface_fields=window[1],
            ledger=ledger,
            **others,
            **{name: label[:, :, step] for name, label in labels.items()},
        )
        assert output.loss is not None
        losses.append(output.loss)
        first = output if first is None else first
        ledger, window = output.ledger, next_window(window, output)
    assert first is not None
    return RolledLoss(losses, first)


_READ = ("level_fields", "surface_fields")


class RolledForecasting(AstroDatacubeForForecasting):
    """A forecast whose forward pass is that of a training step with a roll-out: what the planner looks at."""

    @classmethod
    def from_config(cls, config: AstroDatacubeConfig, **options: Any) -> "RolledForecasting":
        """Make one with random weights, as an auto class does."""
        return cls._from_config(config, **options)

    def forward(self, **batch: torch.Tensor) -> CubePrediction:  # type: ignore[override]
        """Return the mean loss over the states of the labels, see `rolled_loss`."""
        steps = next(batch[name] for name in ("surface_labels", "level_labels") if name in batch).shape[2]
        return CubePrediction(loss=torch.stack(rolled_loss(super().forward, batch, steps).losses).mean())
