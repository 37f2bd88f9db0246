"""The trainer of models that complete metabolic networks: the shared one, with a loss of several questions."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .loss_terms import LossTerm
from .metabolic_losses import completion_losses
from .trainer import AstroTrainer


__all__ = ["CompletionTrainer"]


class CompletionTrainer(AstroTrainer):
    """`AstroTrainer` of an `AstroGraphVAEForReactionCompletion`, whose rows are those of `CompletionSteps`.

    The parts of the loss are logged apart, as weighted, so that they add up to it: `loss_candidate`, `loss_direction`,
    `loss_pointer` and each constraint; what a step does not ask counts 0.

    Args:
        *args: As for `AstroTrainer`.
        pointer_weight: Factor of the loss of compounds.
        constraints: Terms on the reactions whose compounds are asked.
        **kwargs: As for `AstroTrainer`.
    """

    evaluates_loss_alone = True

    def __init__(self, *args, pointer_weight: float, constraints: Sequence[LossTerm] = (), **kwargs):
        names = ("candidate", "direction", "pointer", *(term.name for term in constraints))
        # With a weight of zero a term is logged and changes nothing.
        parts = [LossTerm(name, partial(_part, name), 0.0) for name in names]
        super().__init__(*args, loss_terms=parts, data_collator=_only_row, **kwargs)
        self.pointer_weight, self.constraints = pointer_weight, tuple(constraints)

    def compute_loss(self, model, inputs, *args, **kwargs):
        """Return the sum of the losses of all questions of a step."""
        return super().compute_loss(partial(self._ask, model), inputs, *args, **kwargs)

    def _ask(self, model: nn.Module, **batch: dict[str, torch.Tensor]) -> dict[str, Any]:
        parts = completion_losses(model, batch, self.pointer_weight, self.constraints, self.state.global_step)
        loss = torch.stack(list(parts.values())).sum()
        if isinstance(model, DistributedDataParallel):
            # Every weight must have a gradient on every process, whatever each one is asked.
            loss = loss + 0.0 * torch.stack([weight.sum() for weight in model.parameters()]).sum()
        return {"loss": loss, "parts": {name: part.detach() for name, part in parts.items()}}


def _part(name: str, model: nn.Module, inputs: Any, outputs: dict[str, Any]) -> torch.Tensor:
    return outputs["parts"].get(name, torch.zeros_like(outputs["loss"].detach()))


def _only_row(rows: list[Any]) -> Any:
    (row,) = rows
    return row
