"""AstroDatacube that draws next states by denoising: an ensemble instead of one forecast.

What is diffused is the change from the last state, in the scale of each variable's changes; or, of a model that holds
a forecast, the departure from that, in the scale of its errors, as Mardani et al. 2025
(doi:10.1038/s43247-025-02042-5) draw departures from a regression. Training and sampling take any scheduler of the
library `diffusers` whose noisy states are of that scale; the network predicts what the scheduler is configured for.

Shape suffixes: B batch, M members, V variables on levels, S at the surface, F forcing variables, T states read, L
levels, Y latitudes, X longitudes, N parameters of a planet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_astro_datacube import AstroDatacubeConfig
from .datacube_grid import work_grid
from .datacube_loss import area_weighted_squared_error, known_mean, mean_of_known
from .datacube_physics import CubePhysics
from .modeling_astro_datacube_heads import AstroDatacubeForForecasting, CubePrediction, CubePredictor


__all__ = ["AstroDatacubeForDiffusion", "ChangeOrigin", "DenoisingOutput", "change_size"]

Pair = tuple[torch.Tensor | None, torch.Tensor | None]

# Of `difference_scale`: what is added to the size of a change, for of a state at rest nothing is forecast to change.
_LEAST_CHANGE = 1e-3


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


class ChangeOrigin(NamedTuple):
    """What changes are counted from, and their scale, on levels and at the surface.

    Attributes:
        fields: Shape (B, V, L, Y, X) and (B, S, Y, X).
        scales: Shape (B, V, L) and (B, S).
    """

    fields: Pair
    scales: Pair


def change_size(change: torch.Tensor, step: torch.Tensor, cell_weights: torch.Tensor) -> torch.Tensor:
    """Return the size of what is forecast to change, in whose share departures are counted.

    The root of the mean square over area, and a thousandth of `difference_scale`; NaN where nothing is known.

    Args:
        change: Shape (..., Y, X), NaN where it is not known.
        step: `difference_scale`, broadcasts with the axes before (Y, X).
        cell_weights: Shape (Y, X).
    """
    return known_mean(change.square(), cell_weights)[..., 0, 0].sqrt() + _LEAST_CHANGE * step


class AstroDatacubeForDiffusion(CubePredictor):
    """Denoises the change to the next state, and draws ensembles of it.

    Where the configuration has a `forecast_config` the model holds that forecast, which is not trained any more.
    """

    auto_model = "AutoModelForPreTraining"
    decided: ClassVar = {"conditioned_on": ["lead_time_s", "noise_level"], "num_noisy_steps": 1}

    def __init__(self, config: AstroDatacubeConfig):
        super().__init__(config)
        self.forecast: AstroDatacubeForForecasting | None = None
        if self.config.forecast_config is not None:
            forecast = AstroDatacubeConfig(**self.config.forecast_config)
            forecast._attn_implementation = self.config._attn_implementation
            self.forecast = AstroDatacubeForForecasting(forecast)
            self.train(self.training)

    def train(self, mode: bool = True) -> "AstroDatacubeForDiffusion":
        """Set the mode of all but the forecast, which stays in evaluation and out of training.

        `from_pretrained` makes new parameters and ends with this.
        """
        super().train(mode)
        if self.forecast is not None:
            self.forecast.requires_grad_(False)
            self.forecast.eval()
        return self

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
        surface_forecast: torch.Tensor | None = None,
        level_forecast: torch.Tensor | None = None,
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
            planet: Shape (B, N), of `config.planet_parameters`; NaN for all of them asks for any planet. A forecast
                that has constraints must know what they read.
            lead_time_s: From the last state read to the one that is drawn, shape (B,), s.
            noise_level: Timestep of the scheduler over the number it was trained with, shape (B,), 0 to 1.
            noisy_surface: Noisy changes, shape (B, S, Y, X), see `changes`.
            noisy_level: Likewise, shape (B, V, L, Y, X).
            surface_targets: What the scheduler wants predicted, shape (B, S, Y, X), NaN where there is none.
            level_targets: Likewise, shape (B, V, L, Y, X).
            surface_forecast: Of a model that holds a forecast, the fields of `origin`, where they are known already.
            level_forecast: Likewise.

        Raises:
            ValueError: If a shape does not fit.
        """
        inputs = {
            "level_fields": level_fields,
            "surface_fields": surface_fields,
            "forcing_fields": forcing_fields,
            "levels": levels,
            "latitude_deg": latitude_deg,
            "longitude_deg": longitude_deg,
            "planet": planet,
        }
        read = (level_fields, surface_fields)
        noisy = (noisy_level, noisy_surface)
        _check_noisy(noisy, read)
        if self.forecast is not None:
            forecast = (level_forecast, surface_forecast)
            if all(fields is None for fields in forecast):
                forecast = self.origin(**inputs, lead_time_s=lead_time_s).fields
            read = _followed_by(read, forecast)
        inputs["level_fields"], inputs["surface_fields"] = _followed_by(read, self._in_units(noisy, levels))
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

    def _in_units(self, noisy: Pair, levels: torch.Tensor | None) -> Pair:
        """Noisy changes as states whose normalisation, in the stem, gives them back."""
        shown = next(each for each in noisy if each is not None).new_zeros(1, 0) if levels is None else levels
        level, surface = (
            None if change is None else mean[..., None, None] + scale[..., None, None] * change
            for change, mean, scale in zip(
                noisy, self._statistics("mean", shown), self._statistics("scale", shown), strict=True
            )
        )
        return level, surface

    @torch.no_grad()
    def origin(self, **inputs: torch.Tensor | None) -> ChangeOrigin:
        """Return what changes are counted from.

        The last state read, in `difference_scale`; of a model that holds a forecast that forecast, in
        `departure_share` of the root of the mean square, over area, of what it changes.

        Args:
            **inputs: Those of `forward` but for the noise.
        """
        planet = inputs["planet"]
        assert planet is not None
        levels = inputs.get("levels")
        levels = planet.new_zeros(len(planet), 0) if levels is None else levels
        last: Pair = tuple(  # type: ignore[assignment]
            None if states is None else states[:, :, -1]
            for states in (inputs.get("level_fields"), inputs.get("surface_fields"))
        )
        if self.forecast is None:
            return ChangeOrigin(last, self._statistics("difference_scale", levels))
        predicted = self.forecast(**inputs)
        fields = (predicted.level_fields, predicted.surface_fields)
        weights = work_grid(inputs["latitude_deg"][0], inputs["longitude_deg"][0], self.config).grid.cell_weights
        scales: list[torch.Tensor | None] = []
        for state, field, share, step, scale in zip(
            last,
            fields,
            self._statistics("departure_share", levels),
            self._statistics("difference_scale", levels),
            self._statistics("scale", levels),
            strict=True,
        ):
            if state is None or field is None:
                scales.append(None)
                continue
            size = change_size(field - state, step, weights)
            # Of what is not known the change is the whole.
            scales.append(share * torch.where(size.isfinite(), size, scale))
        return ChangeOrigin(fields, (scales[0], scales[1]))

    def changes(self, origin: ChangeOrigin, labels: Pair) -> Pair:
        """Return what is diffused: the change from the origin to the label, in its scale.

        Args:
            origin: Of `origin`.
            labels: The states that follow, shape (B, V, L, Y, X) and (B, S, Y, X).
        """
        level, surface = (
            None if field is None or label is None else (label - field) / scale[..., None, None]
            for field, label, scale in zip(origin.fields, labels, origin.scales, strict=True)
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
        noise: Pair | None = None,
        ledger: Mapping[str, torch.Tensor] | None = None,
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
            ledger: Of the step before, where this one follows a drawn one, of B * M rows; by default that of the last
                state.
            noise: What to begin with instead of these, of `noise`: of the shape of the fields that are returned.
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
        origin = self.origin(**inputs)
        inputs = {name: value.repeat_interleave(num_members, 0) for name, value in inputs.items()}
        origin = ChangeOrigin(*(_repeated(pair, num_members, len(inputs["planet"])) for pair in origin))
        device = inputs["planet"].device
        scheduler.set_timesteps(num_inference_steps, device=device)
        if noise is None:
            noise = self.noise(origin.fields, generator)
        sigma = float(getattr(scheduler, "init_noise_sigma", 1.0))
        noisy: Pair = tuple(None if part is None else sigma * part for part in noise)  # type: ignore[assignment]
        sizes = [0 if part is None else part[0].numel() for part in noisy]
        told = dict(inputs)
        if self.forecast is not None:
            told["level_forecast"], told["surface_forecast"] = origin.fields
        for timestep in scheduler.timesteps:
            level = torch.full((len(inputs["planet"]),), float(timestep), device=device)
            level = level / scheduler.config.num_train_timesteps
            predicted = self._guided(told, noisy, level, guidance_scale)
            # One sample of all variables, so that a scheduler of several steps keeps one history.
            flat = scheduler.step(_flat(predicted), timestep, _flat(noisy), return_dict=True).prev_sample
            noisy = _unflat(flat, sizes, noisy)
        return self._drawn(inputs, origin, noisy, ledger)

    @staticmethod
    def noise(fields: Pair, generator: torch.Generator | None = None) -> Pair:
        """Return standard normal numbers of the shape, and on the device, of fields."""
        level, surface = (
            None
            if field is None
            else torch.randn(
                field.shape, generator=generator, device=field.device if generator is None else generator.device
            ).to(field.device)
            for field in fields
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

    def _drawn(
        self,
        inputs: dict[str, torch.Tensor],
        origin: ChangeOrigin,
        changes: Pair,
        ledger: Mapping[str, torch.Tensor] | None,
    ) -> CubePrediction:
        planet = inputs["planet"]
        levels = inputs.get("levels", planet.new_zeros(len(planet), 0))
        states = (inputs.get("level_fields"), inputs.get("surface_fields"))
        before = [None if state is None else state[:, :, -1] for state in states]
        fields = [
            None if field is None or change is None else field + scale[..., None, None] * change
            for field, change, scale in zip(origin.fields, changes, origin.scales, strict=True)
        ]
        residuals = None
        if self.config.constraints:
            work = work_grid(inputs["latitude_deg"][0], inputs["longitude_deg"][0], self.config)
            physics = CubePhysics(
                self.config, work, levels, planet, inputs.get("forcing_fields"), inputs["lead_time_s"]
            )
            fields, residuals, ledger = physics.corrected(before, fields, ledger, training=False)
        return CubePrediction(level_fields=fields[0], surface_fields=fields[1], residuals=residuals, ledger=ledger)


def _check_noisy(noisy: Pair, states: Pair) -> None:
    for name, state, change in zip(("level", "surface"), states, noisy, strict=True):
        wanted = None if state is None else tuple(state[:, :, -1].shape)
        got = None if change is None else tuple(change.shape)
        if got != wanted:
            raise ValueError(f"noisy_{name} must have the axes of {name}_fields without time, {wanted}; got {got}.")


def _followed_by(states: Pair, last: Pair) -> Pair:
    level, surface = (
        None if state is None or one is None else torch.cat((state, one[:, :, None].to(state.dtype)), dim=2)
        for state, one in zip(states, last, strict=True)
    )
    return level, surface


def _repeated(pair: Pair, times: int, rows: int) -> Pair:
    """Each row so many times; a scale of all rows is one of each."""
    level, surface = (
        None if part is None else part.expand(rows // times, *part.shape[1:]).repeat_interleave(times, 0)
        for part in pair
    )
    return level, surface


def _flat(pair: Pair) -> torch.Tensor:
    return torch.cat([part.flatten(1) for part in pair if part is not None], dim=1)


def _unflat(flat: torch.Tensor, sizes: Sequence[int], like: Pair) -> Pair:
    parts = flat.split(list(sizes), dim=1)
    level, surface = (None if each is None else part.view_as(each) for part, each in zip(parts, like, strict=True))
    return level, surface
