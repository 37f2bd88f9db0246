"""A training step of a climate forecast, for the planner: built from a recipe without weights or data."""

import functools
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from transformers import (
    AutoModelForImageToImage,
    AutoModelForMaskedImageModeling,
    AutoModelForPreTraining,
)

from modeling_astrobio import AstroDatacubeConfig, AstroDatacubeForForecasting

from .climate_recipe import ClimateRecipe
from .datacube_recipe import DatacubeDataSection, DatacubeRecipe
from .diffusion_recipe import DiffusionRecipe
from .errors import CheckpointError, RecipeError
from .forecast_departures import share_with_forecast
from .forecast_rollout import RolledForecasting
from .preset_model import PresetModelRecipe, checkpoint_config, preset_config, random_preset_model, start_name
from .training_step import TrainingStep


__all__ = [
    "CLIMATE_AUTO_CLASSES",
    "FORECAST_KEY",
    "SHALLOW_WATER",
    "climate_step",
    "datacube_config",
    "datacube_step",
    "diffusion_config",
    "diffusion_step",
    "forecast_config",
]

SHALLOW_WATER = {"level_variables": [], "surface_variables": ["h", "u", "v"], "forcing_variables": []}
"""Fields of the configuration of a layer of shallow water: depth, m, and eastward and northward wind, m s-1."""


CLIMATE_AUTO_CLASSES: dict[str, Any] = {
    "reconstruct": AutoModelForMaskedImageModeling,
    "steady": AutoModelForImageToImage,
}
"""Auto class of the model of each task of `ClimateRecipe`."""


FORECAST_KEY = "diffusion.forecast"
"""Key of the recipe of ensembles that names the forecast they depart from."""


class AnyClimateRecipe(PresetModelRecipe, Protocol):
    """A recipe of climates."""

    data: DatacubeDataSection


# Of a cube whose files are not read yet: levels, and latitudes with twice as many longitudes.
_LEVELS, _ROWS = 10, 32


def datacube_config(recipe: AnyClimateRecipe, constraints: Sequence[str]) -> AstroDatacubeConfig:
    """Return the configuration of a recipe, with the constraints that it names.

    Args:
        recipe: Of climates.
        constraints: Names of constraints that predicted states are corrected to; none leaves those of a checkpoint.

    Raises:
        RecipeError: If a field is unknown or sizes do not fit.
        CheckpointError: If the checkpoint's cannot be read, or is of another model.
    """
    if recipe.data.folder is None and recipe.model.preset is not None:
        closed = {**SHALLOW_WATER, "num_latent_levels": 1, "is_closed_system": True}
        recipe.model.config = {**closed, **recipe.model.config}
    config = preset_config(recipe, AstroDatacubeConfig)
    if constraints:
        config.constraints = list(constraints)
    return config


def diffusion_config(recipe: DiffusionRecipe) -> AstroDatacubeConfig:
    """Return the configuration of a recipe of ensembles, with that of the forecast they depart from.

    Raises:
        RecipeError: As `datacube_config`.
        CheckpointError: If a configuration cannot be read, or is of another model.
    """
    config, source = datacube_config(recipe, recipe.diffusion.constraints), recipe.diffusion.forecast
    if source is not None:
        forecast = forecast_config(FORECAST_KEY, source)
        of_worlds = {name: getattr(forecast, name) for name in SHALLOW_WATER}
        if recipe.data.folder is None and of_worlds != SHALLOW_WATER:
            raise CheckpointError(
                f"{FORECAST_KEY}={source!r} must be of the variables of worlds of shallow water, {SHALLOW_WATER}; got "
                f"{of_worlds}. Give data.folder."
            )
        share_with_forecast(config, forecast)
    if config.forecast_config is not None and recipe.strategy.sharding in ("fsdp2", "zero3"):
        raise RecipeError(
            f"strategy.sharding={recipe.strategy.sharding!r} cannot train an ensemble about a forecast, which is run "
            "apart from the model. Set strategy.sharding=ddp."
        )
    return config


def forecast_config(key: str, source: str) -> AstroDatacubeConfig:
    """Return the configuration of the forecasting model that a key of a recipe names.

    Raises:
        CheckpointError: If it cannot be read, or is of another model.
    """
    config = checkpoint_config(key, source, AstroDatacubeConfig)
    if config.architectures != [AstroDatacubeForForecasting.__name__]:
        raise CheckpointError(f"{key}={source!r} must be a forecasting AstroDatacube; got {config.architectures}.")
    return config


def datacube_step(recipe: DatacubeRecipe, shape: Sequence[int] | None = None) -> TrainingStep:
    """Return the step a recipe trains with.

    Args:
        recipe: Of the run.
        shape: Levels, latitudes and longitudes of a cube; of worlds of shallow water the recipe knows them, and of
            files that are not read yet they are taken to be 10, 32 and 64.

    Raises:
        RecipeError: If the model cannot be built.
        CheckpointError: If the recipe starts from a checkpoint whose config.json cannot be read.
    """
    config, steps = datacube_config(recipe, recipe.forecast.constraints), recipe.forecast.rollout_steps
    return _climate_step(recipe, config, RolledForecasting, functools.partial(_rolled_batch, steps), shape, steps)


def diffusion_step(recipe: DiffusionRecipe, shape: Sequence[int] | None = None) -> TrainingStep:
    """Return the step that a recipe of ensembles trains with; arguments as of `datacube_step`."""
    return _climate_step(recipe, diffusion_config(recipe), AutoModelForPreTraining, _noisy_batch, shape)


def climate_step(recipe: ClimateRecipe, shape: Sequence[int] | None = None) -> TrainingStep:
    """Return the step that a recipe of filling in, or of steady climates, trains with; see `datacube_step`."""
    make_batch = _steady_batch if recipe.task == "steady" else _timeless_batch
    return _climate_step(recipe, datacube_config(recipe, ()), CLIMATE_AUTO_CLASSES[recipe.task], make_batch, shape)


def _climate_step(
    recipe: Any,
    config: AstroDatacubeConfig,
    auto_class: Any,
    make_batch: Any,
    shape: Sequence[int] | None,
    steps: int = 1,
) -> TrainingStep:
    if shape is None:
        rows = recipe.data.rows if recipe.data.folder is None else _ROWS
        shape = (_LEVELS if config.level_variables else 0, rows, 2 * rows)
    batch = recipe.training["per_device_train_batch_size"]
    return TrainingStep.of(
        recipe,
        name=start_name(recipe),
        identity=repr((recipe.kind, auto_class.__name__, recipe.model, config.forecast_config, batch, shape, steps)),
        make_model=functools.partial(random_preset_model, recipe, config, auto_class),
        make_batch=functools.partial(make_batch, config, batch, *shape),
        micro_batch=batch,
        items=batch,
        item="cube",
    )


def _rolled_batch(steps: int, *arguments: Any) -> dict[str, torch.Tensor]:
    found = _batch(*arguments)
    return {
        name: torch.stack([value] * steps, dim=2) if name.endswith("labels") else value
        for name, value in found.items()
    }


def _noisy_batch(*arguments: Any) -> dict[str, torch.Tensor]:
    found = _batch(*arguments)
    for kind in ("surface", "level"):
        if f"{kind}_labels" in found:
            found[f"noisy_{kind}"] = found[f"{kind}_targets"] = found.pop(f"{kind}_labels")
    return {**found, "noise_level": torch.full_like(found["lead_time_s"], 0.5)}


def _timeless_batch(*arguments: Any) -> dict[str, torch.Tensor]:
    found = _batch(*arguments)
    del found["lead_time_s"]
    return found


def _steady_batch(*arguments: Any) -> dict[str, torch.Tensor]:
    found = _timeless_batch(*arguments)
    return {name: value for name, value in found.items() if name not in ("surface_fields", "level_fields")}


def _batch(config: AstroDatacubeConfig, batch: int, levels: int, rows: int, columns: int) -> dict[str, torch.Tensor]:
    area, steps = (rows, columns), config.num_input_steps
    found = {
        "latitude_deg": torch.linspace(-90 + 90 / rows, 90 - 90 / rows, rows, dtype=torch.float64).expand(batch, -1),
        "longitude_deg": (torch.arange(columns, dtype=torch.float64) * (360 / columns)).expand(batch, -1),
        "levels": torch.linspace(0.1, 0.9, levels, dtype=torch.float64).expand(batch, -1),
        "planet": torch.ones(batch, len(config.planet_parameters)),
        "lead_time_s": torch.full((batch,), 21600.0),
    }
    if config.forcing_variables:
        found["forcing_fields"] = torch.zeros(batch, len(config.forcing_variables), *area)
    if config.surface_variables:
        found["surface_fields"] = torch.ones(batch, len(config.surface_variables), steps, *area)
        found["surface_labels"] = torch.zeros(batch, len(config.surface_variables), *area)
    if config.level_variables:
        found["level_fields"] = torch.ones(batch, len(config.level_variables), steps, levels, *area)
        found["level_labels"] = torch.zeros(batch, len(config.level_variables), levels, *area)
    return found
