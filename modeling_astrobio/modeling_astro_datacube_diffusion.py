"""AstroDatacube that draws next states by denoising: an ensemble instead of one forecast.

What is diffused is the change from the last state, in the scale of each variable's changes. Training and sampling take
any scheduler of the library `diffusers` whose noisy states are of that scale; the network predicts what the scheduler
is configured for.

Shape suffixes: B batch, M members, V variables on levels, S at the surface, F forcing variables, T states read, L
levels, Y latitudes, X longitudes, N parameters of a planet.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from transformers.utils import ModelOutput, can_return_tuple

from .datacube_grid import work_grid
from .datacube_loss import area_weighted_squared_error, mean_of_known
from .datacube_physics import CubePhysics
from .modeling_astro_datacube_heads import CubePrediction, CubePredictor


__all__ = ["AstroDatacubeForDiffusion", "DenoisingOutput"]

Pair = tuple[torch.Tensor | None, torch.Tensor | None]


@dataclass
class DenoisingOutput(ModelOutput):
    """What the network says of noisy changes, in the scale of each variable's changes.

    Attributes:
        loss: Mean squared error over area, variables and levels; where targets are given.
        level_fields: Shape (B, V, L, Y, X).
        surface_fields: Shape (B, S, Y, X).
        hidden_states: See `AstroDatacubeOutput`.
        attentions: As there.
    """

    loss: torch.Tensor | None = None
    level_fields: torch.Tensor | None = None
    surface_fields: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


class AstroDatacubeForDiffusion(CubePredictor):
    """Denoises the change from the last state read to the next, and draws ensembles of it."""

    auto_model = "AutoModelForPreTraining"
    decided: ClassVar = {"conditioned_on": ["lead_time_s", "noise_level"], "num_noisy_steps": 1}

    @can_return_tuple
    def forward(
        self,
        surface_fields: torch.Tensor | None = None,
        level_fields: torch.Tensor | None = None,
        forcing_fields: torch.Tensor | None = None,
        levels: torch.Tensor | None = None,
        latitude_deg: torch.Tensor | None = None,
        longitude_deg: torch.Tensor | None = None,
        planet: torch.Tensor | None = None,
        lead_time_s: torch.Tensor | None = None,
        noise_level: torch.Tensor | None = None,
        noisy_surface: torch.Tensor | None = None,
        noisy_level: torch.Tensor | None = None,
        surface_targets: torch.Tensor | None = None,
        level_targets: torch.Tensor | None = None,
        **kwargs,
    ) -> DenoisingOutput:
        """Denoise.

        Args:
            surface_fields: Shape (B, S, T, Y, X), in the units of the statistics, NaN where a value is missing.
            level_fields: Shape (B, V, T, L, Y, X), likewise.
            forcing_fields: Shape (B, F, Y, X), likewise.
            levels: Pressure over nominal surface pressure, from the top down, shape (B, L).
            latitude_deg: Of the rows, shape (B, Y).
            longitude_deg: Of the columns, shape (B, X).
            planet: Shape (B, N), of `config.planet_parameters`; NaN for all of them asks for any planet.
            lead_time_s: From the last state read to the one that is drawn, shape (B,), s.
            noise_level: Timestep of the scheduler over the number it was trained with, shape (B,), 0 to 1.
            noisy_surface: Noisy changes, shape (B, S, Y, X), see `changes`.
            noisy_level: Likewise, shape (B, V, L, Y, X).
            surface_targets: What the scheduler wants predicted, shape (B, S, Y, X), NaN where there is none.
            level_targets: Likewise, shape (B, V, L, Y, X).

        Raises:
            ValueError: If a shape does not fit.
        """
        fields = {}
        for place, (name, states, noisy) in enumerate(
            (("level_fields", level_fields, noisy_level), ("surface_fields", surface_fields, noisy_surface))
        ):
            if states is None and noisy is None:
                fields[name] = None
                continue
            if states is None or noisy is None or noisy.shape != states[:, :, -1].shape:
                raise ValueError(
                    f"noisy_{name.split('_')[0]} must have the axes of {name} without time; got "
                    f"{None if noisy is None else tuple(noisy.shape)} for "
                    f"{None if states is None else tuple(states.shape)}."
                )
            shown = levels if levels is not None else states.new_zeros(len(states), 0)
            mean, scale = (
                self._statistics(kind, shown)[place][..., None, None].to(states.device) for kind in ("mean", "scale")
            )
            # Normalisation in the stem gives the noisy change back.
            fields[name] = torch.cat((states, (mean + scale * noisy)[:, :, None].to(states.dtype)), dim=2)
        inputs = {
            **fields,
            "forcing_fields": forcing_fields,
            "levels": levels,
            "latitude_deg": latitude_deg,
            "longitude_deg": longitude_deg,
            "planet": planet,
        }
        output, levels, work = self._read(inputs, lead_time_s=lead_time_s, noise_level=noise_level, **kwargs)
        predicted = self.head(output.last_hidden_state, work)
        errors, known = [], []
        for field, target in zip(predicted, (level_targets, surface_targets), strict=True):
            if field is not None and target is not None:
                one = torch.ones(1, device=field.device)
                errors.append(area_weighted_squared_error(field, target, one, work.grid.cell_weights))
                known.append(target)
        return DenoisingOutput(
            loss=mean_of_known(errors, known) if errors else None,
            level_fields=predicted[0],
            surface_fields=predicted[1],
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )

    def changes(self, states: Pair, labels: Pair, levels: torch.Tensor) -> Pair:
        """Return what is diffused: the change from the last state to the label, in the scale of changes.

        Args:
            states: `level_fields` and `surface_fields` that are read.
            labels: The states that follow, shape (B, V, L, Y, X) and (B, S, Y, X).
            levels: Shape (B, L).
        """
        scales = self._statistics("difference_scale", levels)
        level, surface = (
            None if state is None or label is None else (label - state[:, :, -1]) / scale[..., None, None]
            for state, label, scale in zip(states, labels, scales, strict=True)
        )
        return level, surface

    @torch.no_grad()
    def sample(
        self,
        scheduler: Any,
        num_members: int = 1,
        num_inference_steps: int = 20,
        guidance_scale: float = 1.0,
        generator: torch.Generator | None = None,
        **inputs: torch.Tensor,
    ) -> CubePrediction:
        """Draw next states.

        Args:
            scheduler: Of `diffusers`, of the kind that the model was trained with: DDIM or DPM-Solver for one that
                was trained with DDPM's noise, a flow-matching one for flows.
            num_members: States drawn of each row, M.
            num_inference_steps: Steps of the scheduler.
            guidance_scale: Weight of what the planet's parameters add to a prediction without them (Ho and Salimans
                2022, arXiv:2207.12598); 1 is the model as it was trained.
            generator: Of the random numbers.
            **inputs: Those of `forward` but for the noise.

        Returns:
            Fields of shape (B * M, ...), members of a row one after another, corrected to the constraints.

        Raises:
            ValueError: If no member or step is asked for.
        """
        if num_members < 1 or num_inference_steps < 1:
            raise ValueError(
                f"num_members and num_inference_steps must be at least 1; got {num_members} and {num_inference_steps}."
            )
        inputs = {name: value.repeat_interleave(num_members, 0) for name, value in inputs.items()}
        states = (inputs.get("level_fields"), inputs.get("surface_fields"))
        device = inputs["planet"].device
        scheduler.set_timesteps(num_inference_steps, device=device)
        noisy = self._noise(states, getattr(scheduler, "init_noise_sigma", 1.0), generator, device)
        sizes = [0 if part is None else part[0].numel() for part in noisy]
        for timestep in scheduler.timesteps:
            level = torch.full((len(inputs["planet"]),), float(timestep), device=device)
            level = level / scheduler.config.num_train_timesteps
            predicted = self._guided(inputs, noisy, level, guidance_scale)
            # One sample of all variables, so that a scheduler of several steps keeps one history.
            flat = scheduler.step(_flat(predicted), timestep, _flat(noisy), return_dict=True).prev_sample
            noisy = _unflat(flat, sizes, noisy)
        return self._drawn(inputs, states, noisy)

    def _noise(self, states: Pair, sigma: Any, generator: torch.Generator | None, device: torch.device) -> Pair:
        where = device if generator is None else generator.device
        level, surface = (
            None
            if state is None
            else (torch.randn(state[:, :, -1].shape, generator=generator, device=where) * float(sigma)).to(device)
            for state in states
        )
        return level, surface

    def _guided(self, inputs: dict[str, torch.Tensor], noisy: Pair, level: torch.Tensor, scale: float) -> Pair:
        def run(planet: torch.Tensor) -> Pair:
            output = self(
                **{**inputs, "planet": planet}, noisy_level=noisy[0], noisy_surface=noisy[1], noise_level=level
            )
            return output.level_fields, output.surface_fields

        told = run(inputs["planet"])
        if scale == 1.0:
            return told
        untold = run(torch.full_like(inputs["planet"], torch.nan))
        guided = tuple(
            None if without is None else without + scale * (of - without)
            for of, without in zip(told, untold, strict=True)
        )
        return guided[0], guided[1]

    def _drawn(self, inputs: dict[str, torch.Tensor], states: Pair, changes: Pair) -> CubePrediction:
        planet = inputs["planet"]
        levels = inputs.get("levels", planet.new_zeros(len(planet), 0))
        scales = self._statistics("difference_scale", levels)
        before = [None if state is None else state[:, :, -1] for state in states]
        fields = [
            None if state is None or change is None else state + scale[..., None, None] * change
            for state, change, scale in zip(before, changes, scales, strict=True)
        ]
        residuals = ledger = None
        if self.config.constraints:
            work = work_grid(inputs["latitude_deg"][0], inputs["longitude_deg"][0], self.config)
            physics = CubePhysics(
                self.config, work, levels, planet, inputs.get("forcing_fields"), inputs["lead_time_s"]
            )
            fields, residuals, ledger = physics.corrected(before, fields, None, training=False)
        return CubePrediction(level_fields=fields[0], surface_fields=fields[1], residuals=residuals, ledger=ledger)


def _flat(pair: Pair) -> torch.Tensor:
    return torch.cat([part.flatten(1) for part in pair if part is not None], dim=1)


def _unflat(flat: torch.Tensor, sizes: Sequence[int], like: Pair) -> Pair:
    parts = flat.split(list(sizes), dim=1)
    level, surface = (None if each is None else part.view_as(each) for part, each in zip(parts, like, strict=True))
    return level, surface
