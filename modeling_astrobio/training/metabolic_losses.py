"""What is minimised when a model learns to complete metabolic networks."""

from collections.abc import Sequence

import torch
from torch import nn

from .loss_terms import LossTerm
from .metabolic_questions import CompletionBatch


__all__ = ["completion_losses"]


def completion_losses(
    model: nn.Module, batch: CompletionBatch, pointer_weight: float, terms: Sequence[LossTerm], step: int = 0
) -> dict[str, torch.Tensor]:
    """Return the weighted parts of the loss, scalars whose sum is minimised.

    Args:
        model: An `AstroGraphVAEForReactionCompletion`, or what a process group has put around one.
        batch: The questions of a step; what it does not ask has no part.
        pointer_weight: Factor of the loss of compounds.
        terms: Constraints on the reactions whose compounds are asked.
        step: Counted from 0, for the weights of the terms.

    Returns:
        "candidate", "direction", "pointer", and each term by its name.
    """
    parts = {"candidate": model(**batch["candidate"]).loss}
    if "direction" in batch:
        parts["direction"] = model(**batch["direction"]).loss
    if "pointer" in batch:
        output = model(**batch["pointer"])
        parts["pointer"] = pointer_weight * output.loss
        for term in terms:
            parts[term.name] = term.weight_at(step) * term.compute(model, batch["pointer"], output)
    return parts
