"""A training step of a climate forecast, for the planner: built from a recipe without weights or data."""

import functools
from collections.abc import Sequence

import torch
from transformers import AutoModelForTimeSeriesPrediction

from modeling_astrobio import AstroDatacubeConfig

from .datacube_recipe import DatacubeRecipe
from .preset_model import preset_config, random_preset_model, start_name
from .training_step import TrainingStep


__all__ = ["SHALLOW_WATER", "datacube_config", "datacube_step"]

SHALLOW_WATER = {"level_variables": [], "surface_variables": ["h", "u", "v"], "forcing_variables": []}
"""Fields of the configuration of a layer of shallow water: depth, m, and eastward and northward wind, m s-1."""

# Of a cube whose files are not read yet: levels, and latitudes with twice as many longitudes.
_LEVELS, _ROWS = 10, 32


def datacube_config(recipe: DatacubeRecipe) -> AstroDatacubeConfig:
    """Return the configuration of a recipe, with the constraints that it names.

    Raises:
        RecipeError: If a field is unknown or sizes do not fit.
        CheckpointError: If the checkpoint's cannot be read, or is of another model.
    """
    if recipe.data.folder is None and recipe.model.preset is not None:
        closed = {**SHALLOW_WATER, "num_latent_levels": 1, "is_closed_system": True}
        recipe.model.config = {**closed, **recipe.model.config}
    config = preset_config(recipe, AstroDatacubeConfig)
    if recipe.forecast.constraints:
        config.constraints = list(recipe.forecast.constraints)
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
    config = datacube_config(recipe)
    if shape is None:
        rows = recipe.data.rows if recipe.data.folder is None else _ROWS
        shape = (_LEVELS if config.level_variables else 0, rows, 2 * rows)
    batch = recipe.training["per_device_train_batch_size"]
    return TrainingStep.of(
        recipe,
        name=start_name(recipe),
        identity=repr((recipe.model, batch, shape)),
        make_model=functools.partial(random_preset_model, recipe, config, AutoModelForTimeSeriesPrediction),
        make_batch=functools.partial(_batch, config, batch, *shape),
        micro_batch=batch,
        items=batch,
        item="cube",
    )


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
