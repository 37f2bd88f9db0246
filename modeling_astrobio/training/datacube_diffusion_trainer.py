"""The trainer of climate ensembles: the shared one, with a scheduler of `diffusers` that makes the noise."""

from functools import partial
from typing import Any

import torch
from torch import nn

from ..modeling_astro_datacube_diffusion import AstroDatacubeForDiffusion, Pair
from .changed_batch_trainer import ChangedBatchTrainer
from .errors import RecipeError


__all__ = ["DiffusionTrainer", "noised", "sampling_scheduler", "training_scheduler"]

_KINDS = ("ddpm", "flow")


def training_scheduler(kind: str) -> Any:
    """Return the scheduler that makes noise in training.

    Args:
        kind: `ddpm`, with a cosine schedule and predicted velocities (Ho et al. 2020, arXiv:2006.11239; Salimans and
            Ho 2022, arXiv:2202.00512), or `flow`, straight lines (Lipman et al. 2023, arXiv:2210.02747).

    Raises:
        RecipeError: If there is no such kind, or diffusers is not installed.
    """
    if kind not in _KINDS:
        raise RecipeError(f"diffusion.kind must be of {', '.join(_KINDS)}; got {kind!r}.")
    try:
        import diffusers
    except ImportError as error:
        raise RecipeError(
            "diffusion needs the package diffusers: pip install 'modeling_astrobio[climate]'."
        ) from error
    if kind == "ddpm":
        return diffusers.DDPMScheduler(
            beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False
        )
    return diffusers.FlowMatchEulerDiscreteScheduler()


def sampling_scheduler(kind: str) -> Any:
    """Return a scheduler that draws what a model of a kind was trained for, see `training_scheduler`.

    DPM-Solver++ of second order (Lu et al. 2022, arXiv:2211.01095): Euler's steps, which `diffusers` takes for flows,
    draw too little spread in as few.
    """
    training = training_scheduler(kind)
    import diffusers

    if kind == "flow":
        return diffusers.DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=training.config.shift
        )
    return diffusers.DPMSolverMultistepScheduler.from_config(training.config)


def noised(
    scheduler: Any, clean: torch.Tensor, noise: torch.Tensor, share: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a noisy sample, what is to be predicted of it, and its noise level.

    Args:
        scheduler: Of `training_scheduler`.
        clean: Shape (B, ...).
        noise: As `clean`.
        share: Where on the scheduler's way, uniform from 0 to 1, shape (B,).
    """
    number = scheduler.config.num_train_timesteps
    broadcast = (-1, *(1,) * (clean.ndim - 1))
    if hasattr(scheduler, "add_noise"):
        timesteps = (share * number).long().clamp(max=number - 1)
        return (
            scheduler.add_noise(clean, noise, timesteps),
            scheduler.get_velocity(clean, noise, timesteps),
            timesteps / number,
        )
    sigma = share.view(broadcast)
    return (1 - sigma) * clean + sigma * noise, noise - clean, share


class DiffusionTrainer(ChangedBatchTrainer):
    """`ChangedBatchTrainer` of an `AstroDatacubeForDiffusion`, whose rows are those of `ForecastRows` with one label.

    Args:
        *args: As for `ChangedBatchTrainer`; `ema_decay` keeps the average of the weights, of which samples are better.
        scheduler: Of `training_scheduler`.
        planet_dropout: Share of rows whose planet is not told, for guidance in sampling.
        **kwargs: As for `ChangedBatchTrainer`.
    """

    def __init__(self, *args, scheduler: Any, planet_dropout: float = 0.1, **kwargs):
        super().__init__(*args, **kwargs)
        self.scheduler, self.planet_dropout = scheduler, planet_dropout

    def compute_loss(self, model, inputs, *args, **kwargs):
        """Return the error of a prediction at random noise levels."""
        return super().compute_loss(partial(self._denoise, model), inputs, *args, **kwargs)

    def _denoise(self, model: nn.Module, **batch: torch.Tensor) -> dict[str, Any]:
        whole = self.accelerator.unwrap_model(model)
        assert isinstance(whole, AstroDatacubeForDiffusion)
        labels: Pair = tuple(  # type: ignore[assignment]
            batch.pop(name)[:, :, 0] if name in batch else None for name in ("level_labels", "surface_labels")
        )
        origin = whole.origin(**batch)
        clean = whole.changes(origin, labels)
        if whole.forecast is not None:
            batch["level_forecast"], batch["surface_forecast"] = origin.fields  # type: ignore[assignment]
        rows, device = len(batch["planet"]), batch["planet"].device
        share = self._random(torch.rand, (rows,), device)
        noisy: list[torch.Tensor | None] = []
        targets: list[torch.Tensor | None] = []
        level = share
        for change in clean:
            if change is None:
                noisy.append(None)
                targets.append(None)
                continue
            noise = self._random(torch.randn, change.shape, device)
            made, target, level = noised(self.scheduler, change.nan_to_num(), noise, share)
            noisy.append(made)
            targets.append(target.masked_fill(~change.isfinite(), torch.nan))
        if model.training and self.planet_dropout:
            untold = torch.rand(rows, device=device) < self.planet_dropout
            batch["planet"] = batch["planet"].masked_fill(untold[:, None], torch.nan)
        output = model(
            **batch,
            noise_level=level,
            noisy_level=noisy[0],
            noisy_surface=noisy[1],
            level_targets=targets[0],
            surface_targets=targets[1],
        )
        return {"loss": output.loss}

    def _random(self, draw: Any, shape: Any, device: torch.device) -> torch.Tensor:
        if self.drawing is None:
            return draw(shape, device=device)
        return draw(shape, generator=self.drawing).to(device)
