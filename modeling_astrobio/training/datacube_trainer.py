"""The trainer of climate forecasts: the shared one, with roll-outs in the loss and rates that differ by depth."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from ..climate_residuals import advance_ledger
from ..datacube_grid import work_grid
from ..datacube_physics import CubePhysics
from ..modeling_astro_datacube_heads import CubePrediction
from .changed_batch_trainer import ChangedBatchTrainer
from .forecast_rollout import rolled_loss
from .loss_terms import LossTerm


__all__ = ["CNNViTTrainer", "rate_by_depth", "rollout_steps_at"]


def rollout_steps_at(step: int, most: int, rise: int) -> int:
    """Return how many steps a row is rolled out at a training step: one at first, one more at even intervals."""
    return most if rise <= 0 else min(most, 1 + step * most // rise)


def rate_by_depth(name: str, num_scales: int, decay: float) -> float:
    """Return the factor of a weight's learning rate, by the name it has in the trunk.

    The head learns at the full rate; what lies further from it at `decay` to the power of the number of scales
    between: the way up, the coarsest grid, the way down, and last the stem (after Clark et al. 2020,
    arXiv:2003.10555).

    Args:
        name: Of the weight, such as `model.down_blocks.0.0.conv.up_conv.weight`.
        num_scales: Of the trunk.
        decay: From 0 to 1.
    """
    part, _, rest = name.removeprefix("model.").partition(".")
    place = int(rest.split(".")[0]) if rest.split(".")[0].isdigit() else 0
    distance = {
        "level_readout": 1,
        "up_blocks": num_scales - place,
        "splits": num_scales - place,
        "down_blocks": 2 * num_scales - 1 - place,
        "merges": 2 * num_scales - 1 - place,
        "level_pooling": 2 * num_scales,
        "conditioning": 2 * num_scales,
        "stem": 2 * num_scales + 1,
    }.get(part, 0)
    return decay**distance


class CNNViTTrainer(ChangedBatchTrainer):
    """`ChangedBatchTrainer` of an `AstroDatacubeForForecasting`, whose rows are those of `ForecastRows`.

    A row is rolled out over some of its labelled states, each forecast from those before it, and the loss is the mean
    over them; gradients flow through all. `loss_step_1` and so on are logged apart. In evaluation rows are rolled out
    over all their labels.

    Args:
        *args: As for `ChangedBatchTrainer`.
        rollout_steps: Steps of a roll-out, at most.
        rollout_rise: Training steps over which their number rises from one; 0 begins with all.
        layer_decay: See `rate_by_depth`; 1 is one rate for all.
        physics: Terms of the loss, of `climate_constraints.CLIMATE_CONSTRAINTS`, on the first step of a roll-out.
        **kwargs: As for `ChangedBatchTrainer`.
    """

    def __init__(
        self,
        *args,
        rollout_steps: int = 1,
        rollout_rise: int = 0,
        layer_decay: float = 1.0,
        physics: Sequence[LossTerm] = (),
        **kwargs,
    ):
        # With a weight of zero a term is logged and changes nothing.
        steps = [LossTerm(f"step_{k}", partial(_of_step, k - 1), 0.0) for k in range(1, rollout_steps + 1)]
        laws = [LossTerm(term.name, partial(_of_law, term), term.weight) for term in physics]
        super().__init__(*args, loss_terms=[*steps, *laws], **kwargs)
        self.rollout_steps, self.rollout_rise, self.layer_decay = rollout_steps, rollout_rise, layer_decay
        self.laws = [term.name for term in physics]

    def parameter_groups(self, named: Sequence[tuple[str, nn.Parameter]], decayed: set[str]) -> list[dict[str, Any]]:
        """Split the shared groups by the rate that their depth has."""
        if self.layer_decay == 1.0:
            return super().parameter_groups(named, decayed)
        scales = len(self.accelerator.unwrap_model(self.model).config.hidden_sizes)
        by_rate: dict[float, list[tuple[str, nn.Parameter]]] = {}
        for name, parameter in named:
            by_rate.setdefault(rate_by_depth(name, scales, self.layer_decay), []).append((name, parameter))
        return [
            {**group, "lr": self.args.learning_rate * rate}
            for rate, several in by_rate.items()
            for group in super(CNNViTTrainer, self).parameter_groups(several, decayed)
            if group["params"]
        ]

    def compute_loss(self, model, inputs, *args, **kwargs):
        """Return the mean loss of a roll-out."""
        return super().compute_loss(partial(self._roll, model), inputs, *args, **kwargs)

    def _roll(self, model: nn.Module, **batch: torch.Tensor) -> dict[str, Any]:
        known = next(batch[name] for name in ("surface_labels", "level_labels") if name in batch).shape[2]
        steps = min(known, rollout_steps_at(self.state.global_step, self.rollout_steps, self.rollout_rise))
        losses, first = rolled_loss(model, batch, steps if model.training else known)
        found = {"loss": torch.stack(losses).mean(), "losses": [loss.detach() for loss in losses]}
        return {**found, **self._physics(batch, first)} if self.laws else found

    def _physics(self, batch: dict[str, torch.Tensor], first: CubePrediction) -> dict[str, Any]:
        """What the laws judge: the first predicted state, the system it lies on, and what it must hold."""
        config = self.accelerator.unwrap_model(self.model).config
        physics = CubePhysics(
            config,
            work_grid(batch["latitude_deg"][0], batch["longitude_deg"][0], config),
            batch["levels"],
            batch["planet"],
            batch.get("forcing_fields"),
            batch["lead_time_s"],
            self.laws,
        )
        start = (batch.get("level_fields"), batch.get("surface_fields"))
        before = physics.state(*(None if fields is None else fields[:, :, -1] for fields in start))
        state = physics.state(first.level_fields, first.surface_fields)
        ledger = advance_ledger(dict(physics.open(before)), state, physics.system)
        return {"state": state, "law_inputs": {"climate_system": physics.system, "climate_ledger": ledger}}


def _of_step(index: int, model: nn.Module, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> torch.Tensor:
    losses = outputs["losses"]
    return losses[index] if index < len(losses) else torch.zeros_like(losses[0])


def _of_law(term: LossTerm, model: nn.Module, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> torch.Tensor:
    return term.compute(model, outputs["law_inputs"], outputs).float()
