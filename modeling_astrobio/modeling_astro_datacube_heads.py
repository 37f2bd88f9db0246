"""AstroDatacube that predicts fields: the next states, missing values, or the steady climate of a planet.

Shape suffixes: B batch, V variables on levels, S at the surface, F forcing variables, T states read, K steps, L
levels, Y latitudes, X longitudes, N parameters of a planet.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from transformers.utils import ModelOutput, can_return_tuple

from .configuration_astro_datacube import AstroDatacubeConfig
from .datacube_grid import WorkGrid, has_values, work_grid
from .datacube_loss import area_weighted_squared_error, known_mean, mean_of_known
from .datacube_physics import CubePhysics
from .datacube_statistics import level_statistic, surface_statistic
from .datacube_stem import CubeHead
from .geostrophic_wind import start_from_geostrophic_wind
from .modeling_astro_datacube import AstroDatacubeModel, AstroDatacubeOutput, AstroDatacubePreTrainedModel


__all__ = [
    "AstroDatacubeForForecasting",
    "AstroDatacubeForMaskedReconstruction",
    "AstroDatacubeForSteadyState",
    "CubePrediction",
    "CubePredictor",
    "CubeRollout",
    "next_window",
]


@dataclass
class CubePrediction(ModelOutput):
    """Predicted fields, in the units of the statistics.

    Attributes:
        loss: Mean squared error over area, variables and levels, in the scale of each; where labels are given.
        level_fields: Shape (B, V, L, Y, X).
        surface_fields: Shape (B, S, Y, X).
        residuals: Of each constraint that is on, relative, shape (B,), float64.
        ledger: What the state was corrected to; for the next step.
        hidden_states: See `AstroDatacubeOutput`.
        attentions: As there.
    """

    loss: torch.Tensor | None = None
    level_fields: torch.Tensor | None = None
    surface_fields: torch.Tensor | None = None
    residuals: dict[str, torch.Tensor] | None = None
    ledger: dict[str, torch.Tensor] | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None
    attentions: tuple[torch.Tensor, ...] | None = None


@dataclass
class CubeRollout(ModelOutput):
    """States one after another.

    Attributes:
        level_fields: Shape (B, V, K, L, Y, X).
        surface_fields: Shape (B, S, K, Y, X).
        residuals: Of each constraint that is on, relative, shape (K, B), float64.
    """

    level_fields: torch.Tensor | None = None
    surface_fields: torch.Tensor | None = None
    residuals: dict[str, torch.Tensor] | None = None


class CubePredictor(AstroDatacubePreTrainedModel):
    """Trunk and head; what a prediction is added to, and in which scale, is a subclass's to say."""

    # Fields of the config that the head decides on.
    decided: ClassVar[Mapping[str, Any]] = {}
    scale_kind = "scale"

    def __init__(self, config: AstroDatacubeConfig):
        config = copy.deepcopy(config)
        for name, value in self.decided.items():
            setattr(config, name, value)
        if "num_input_steps" not in self.decided and config.num_input_steps < 1:
            raise ValueError(f"num_input_steps must be at least 1 for {type(self).__name__}; got 0.")
        super().__init__(config)
        self.model = AstroDatacubeModel(config)
        self.head = CubeHead(config)
        self.post_init()

    def _read(
        self, inputs: dict[str, torch.Tensor | None], **others
    ) -> tuple[AstroDatacubeOutput, torch.Tensor, WorkGrid]:
        """Run the trunk; return what it says, the levels, and the grid."""
        output = self.model(**inputs, **others)
        latitude_deg, longitude_deg, planet = (inputs[name] for name in ("latitude_deg", "longitude_deg", "planet"))
        levels = planet.new_zeros(len(planet), 0) if inputs["levels"] is None else inputs["levels"]
        return output, levels, work_grid(latitude_deg[0], longitude_deg[0], self.config)

    def _statistics(self, kind: str, levels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A statistic of the variables on levels, (B, V, L), and at the surface, (1, S)."""
        config = self.config
        return (
            level_statistic(config.statistics, config.level_variables, kind, levels),
            surface_statistic(config.statistics, config.surface_variables, kind, levels.device)[None],
        )

    def _fields(
        self, states: torch.Tensor, levels: torch.Tensor, work: WorkGrid, base: Sequence[torch.Tensor | None]
    ) -> list[torch.Tensor | None]:
        """Fields: the base, where it is known, plus a change that the head says; else the mean plus that."""
        predicted = self.head(states, work)
        found: list[torch.Tensor | None] = []
        for field, start, mean, scale, step in zip(
            predicted,
            base,
            self._statistics("mean", levels),
            self._statistics("scale", levels),
            self._statistics("difference_scale", levels),
            strict=True,
        ):
            if field is None:
                found.append(None)
                continue
            mean, scale, step = (each[..., None, None] for each in (mean, scale, step))
            whole = mean + scale * field
            if start is not None:
                whole = torch.where(start.isfinite(), start.nan_to_num() + step * field, whole)
            found.append(whole)
        return found

    def _loss(
        self,
        fields: Sequence[torch.Tensor | None],
        labels: Sequence[torch.Tensor | None],
        levels: torch.Tensor,
        work: WorkGrid,
        base: Sequence[torch.Tensor | None] = (None, None),
    ) -> torch.Tensor | None:
        """Mean squared error in the scale of each variable and level; where a base is known, in that of its change."""
        errors, known = [], []
        for field, label, start, scale, step in zip(
            fields,
            labels,
            base,
            self._statistics(self.scale_kind, levels),
            self._statistics("difference_scale", levels),
            strict=True,
        ):
            if field is not None and label is not None:
                if label.shape != field.shape:
                    kind = "level_labels" if label.ndim == 5 else "surface_labels"
                    raise ValueError(f"{kind} must have the shape {tuple(field.shape)}; got {tuple(label.shape)}.")
                if start is not None:
                    scale = torch.where(start.isfinite().flatten(-2).any(-1), step, scale)
                errors.append(area_weighted_squared_error(field, label, scale, work.grid.cell_weights))
                known.append(label)
        return mean_of_known(errors, known) if errors else None


Window = tuple[torch.Tensor | None, torch.Tensor | None]


def next_window(window: Window, predicted: CubePrediction) -> Window:
    """Return the states that are read for the next step: the first is dropped, the predicted one is the last.

    Args:
        window: `level_fields` and `surface_fields` that were read.
        predicted: What was predicted from them.
    """
    level, surface = (
        None if old is None or state is None else torch.cat((old[:, :, 1:], state[:, :, None]), dim=2)
        for old, state in zip(window, (predicted.level_fields, predicted.surface_fields), strict=True)
    )
    return level, surface


class AstroDatacubeForForecasting(CubePredictor):
    """Predicts the state a lead time after the last one read, as its change, and corrects it to its constraints."""

    auto_model = "AutoModelForTimeSeriesPrediction"
    decided: ClassVar = {"conditioned_on": ["lead_time_s"], "num_noisy_steps": 0, "forecast_config": None}
    scale_kind = "difference_scale"

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
        level_labels: torch.Tensor | None = None,
        surface_labels: torch.Tensor | None = None,
        ledger: Mapping[str, torch.Tensor] | None = None,
        **kwargs,
    ) -> CubePrediction:
        """Predict one step.

        Args:
            surface_fields: Shape (B, S, T, Y, X), in the units of the statistics, NaN where a value is missing.
            level_fields: Shape (B, V, T, L, Y, X), likewise.
            forcing_fields: Shape (B, F, Y, X), likewise.
            levels: Pressure over nominal surface pressure, from the top down, shape (B, L).
            latitude_deg: Of the rows, shape (B, Y).
            longitude_deg: Of the columns, shape (B, X).
            planet: Shape (B, N), of `config.planet_parameters`.
            lead_time_s: From the last state read to the predicted one, shape (B,), s.
            level_labels: Shape (B, V, L, Y, X), NaN where there is none.
            surface_labels: Shape (B, S, Y, X), likewise.
            ledger: Of the step before, where this one follows a predicted one; by default that of the last state.

        Raises:
            ValueError: If a shape does not fit, or constraints cannot be held of what is given.
        """
        inputs = {
            "surface_fields": surface_fields,
            "level_fields": level_fields,
            "forcing_fields": forcing_fields,
            "levels": levels,
            "latitude_deg": latitude_deg,
            "longitude_deg": longitude_deg,
            "planet": planet,
        }
        output, levels, work = self._read(inputs, lead_time_s=lead_time_s, **kwargs)
        base = [None if fields is None else fields[:, :, -1] for fields in (level_fields, surface_fields)]
        fields = self._fields(output.last_hidden_state, levels, work, base)
        residuals = None
        if self.config.constraints and has_values(planet):
            physics = CubePhysics(self.config, work, levels, planet, forcing_fields, lead_time_s)
            fields, residuals, ledger = physics.corrected(base, fields, ledger, self.training)
        return CubePrediction(
            loss=self._loss(fields, (level_labels, surface_labels), levels, work),
            level_fields=fields[0],
            surface_fields=fields[1],
            residuals=residuals,
            ledger=ledger,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )

    @torch.no_grad()
    def rollout(
        self,
        num_steps: int,
        surface_fields: torch.Tensor | None = None,
        level_fields: torch.Tensor | None = None,
        **inputs: torch.Tensor,
    ) -> CubeRollout:
        """Predict state after state, each from those before; the constraints hold of every one.

        Args:
            num_steps: How many, K; each a `lead_time_s` after the one before.
            surface_fields: As of `forward`.
            level_fields: As of `forward`.
            **inputs: The others of `forward`.

        Raises:
            ValueError: If no step is asked for, or as `forward`.
        """
        if num_steps < 1:
            raise ValueError(f"num_steps must be at least 1; got {num_steps}.")
        for name, fields, variables in (
            ("level_fields", level_fields, self.config.level_variables),
            ("surface_fields", surface_fields, self.config.surface_variables),
        ):
            if variables and fields is None:
                raise ValueError(
                    f"{name} must be given to a roll-out; got None. Give NaN where a value is missing, of shape "
                    "(batch, variable, time, ...)."
                )
        ledger, found = None, []
        window = (level_fields, surface_fields)
        for _ in range(num_steps):
            step = self(level_fields=window[0], surface_fields=window[1], ledger=ledger, **inputs)
            ledger = step.ledger
            found.append(step)
            window = next_window(window, step)
        level, surface = (
            None if states[0] is None else torch.stack(states, dim=2)
            for states in ([step.level_fields for step in found], [step.surface_fields for step in found])
        )
        residuals = None
        if found[0].residuals is not None:
            residuals = {name: torch.stack([step.residuals[name] for step in found]) for name in found[0].residuals}
        return CubeRollout(level_fields=level, surface_fields=surface, residuals=residuals)


class AstroDatacubeForMaskedReconstruction(CubePredictor):
    """Fills in what is missing of a state: cells, levels or whole variables that are NaN.

    What is partly known is predicted as a departure from its mean over area on the level, in `difference_scale`; what
    is not known at all, from the mean of the statistics, in `scale`.
    """

    auto_model = "AutoModelForMaskedImageModeling"
    decided: ClassVar = {"conditioned_on": [], "num_noisy_steps": 0, "forecast_config": None}

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
        level_labels: torch.Tensor | None = None,
        surface_labels: torch.Tensor | None = None,
        **kwargs,
    ) -> CubePrediction:
        """Reconstruct the last state read.

        Args:
            surface_fields: Shape (B, S, T, Y, X), NaN where a value is hidden or missing.
            level_fields: Shape (B, V, T, L, Y, X), likewise.
            forcing_fields: Shape (B, F, Y, X), likewise.
            levels: Pressure over nominal surface pressure, from the top down, shape (B, L).
            latitude_deg: Of the rows, shape (B, Y).
            longitude_deg: Of the columns, shape (B, X).
            planet: Shape (B, N), of `config.planet_parameters`.
            level_labels: Shape (B, V, L, Y, X); the loss is over what is hidden in `level_fields` and known here.
            surface_labels: Shape (B, S, Y, X), likewise.

        Returns:
            What was given, where it was, and what is reconstructed elsewhere.

        Raises:
            ValueError: If a shape does not fit.
        """
        inputs = {
            "surface_fields": surface_fields,
            "level_fields": level_fields,
            "forcing_fields": forcing_fields,
            "levels": levels,
            "latitude_deg": latitude_deg,
            "longitude_deg": longitude_deg,
            "planet": planet,
        }
        output, levels, work = self._read(inputs, **kwargs)
        given = [None if fields is None else fields[:, :, -1] for fields in (level_fields, surface_fields)]
        base = [None if fields is None else known_mean(fields, work.grid.cell_weights) for fields in given]
        if self.config.geostrophic_start and given[0] is not None:
            names, parameters = self.config.level_variables, self.config.planet_parameters
            start = start_from_geostrophic_wind(given[0], names, work.grid, planet, parameters)
            base[0] = torch.where(start.isfinite(), start, base[0])
        fields = self._fields(output.last_hidden_state, levels, work, base)
        hidden = [
            label if label is None or known is None else label.masked_fill(known.isfinite(), torch.nan)
            for label, known in zip((level_labels, surface_labels), given, strict=True)
        ]
        whole = [
            field if field is None or known is None else torch.where(known.isfinite(), known, field)
            for field, known in zip(fields, given, strict=True)
        ]
        return CubePrediction(
            loss=self._loss(fields, hidden, levels, work, base),
            level_fields=whole[0],
            surface_fields=whole[1],
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )


class AstroDatacubeForSteadyState(CubePredictor):
    """The mean climate of a planet from its parameters, its ground, and nothing else."""

    auto_model = "AutoModelForImageToImage"
    main_input_name = "forcing_fields"
    decided: ClassVar = {"conditioned_on": [], "num_input_steps": 0, "num_noisy_steps": 0, "forecast_config": None}

    @can_return_tuple
    def forward(
        self,
        forcing_fields: torch.Tensor | None = None,
        levels: torch.Tensor | None = None,
        latitude_deg: torch.Tensor | None = None,
        longitude_deg: torch.Tensor | None = None,
        planet: torch.Tensor | None = None,
        level_labels: torch.Tensor | None = None,
        surface_labels: torch.Tensor | None = None,
        **kwargs,
    ) -> CubePrediction:
        """Predict a climate.

        Args:
            forcing_fields: Shape (B, F, Y, X), NaN where a value is missing.
            levels: Pressure over nominal surface pressure, from the top down, shape (B, L).
            latitude_deg: Of the rows, shape (B, Y).
            longitude_deg: Of the columns, shape (B, X).
            planet: Shape (B, N), of `config.planet_parameters`.
            level_labels: Shape (B, V, L, Y, X), NaN where there is none.
            surface_labels: Shape (B, S, Y, X), likewise.

        Raises:
            ValueError: If a shape does not fit.
        """
        inputs = {
            "forcing_fields": forcing_fields,
            "levels": levels,
            "latitude_deg": latitude_deg,
            "longitude_deg": longitude_deg,
            "planet": planet,
        }
        output, levels, work = self._read(inputs, **kwargs)
        fields = self._fields(output.last_hidden_state, levels, work, (None, None))
        return CubePrediction(
            loss=self._loss(fields, (level_labels, surface_labels), levels, work),
            level_fields=fields[0],
            surface_fields=fields[1],
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )
