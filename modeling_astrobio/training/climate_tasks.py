"""What filling in and steady climates each make of a recipe's climates: rows, batches and figures."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from ..configuration_astro_datacube import AstroDatacubeConfig
from .climate_recipe import ClimateRecipe
from .datacube_data import ClimateTrajectory, ForecastRows, check_one_grid, climate_statistics
from .errors import RecipeError
from .filled_pictures import draw_filled
from .hidden_values import hidden_batch
from .level_pictures import draw_levels
from .reconstruction_evaluation import filled_state, reconstruction_figures
from .sphere_symmetries import symmetric_copies
from .steady_baselines import steady_baselines
from .steady_changes import changed_at_random
from .steady_data import (
    SteadyRows,
    field_spread,
    field_variables,
    radiation_residual_w_m2,
    steady_climate,
    steady_statistics,
)
from .steady_evaluation import Predictor, mean_errors, model_climate, relative_errors


__all__ = ["ClimateWork", "Reconstruction", "SteadyClimates", "open_work"]

Climates = Mapping[str, Sequence[ClimateTrajectory]]
Batch = dict[str, torch.Tensor]


class ClimateWork(Protocol):
    """What a task makes of climates.

    Attributes:
        climates: Of every split, as the task sees them.
        rows: Of "train" and "validation".
        learned: What the loss is, in words.
    """

    climates: dict[str, list[ClimateTrajectory]]
    rows: dict[str, Any]
    learned: str

    def statistics(self) -> dict[str, Any]:
        """Return those of the training climates, see `datacube_statistics`."""

    def change(self, batch: Batch, training: bool, generator: torch.Generator | None) -> Batch:
        """See `changed_batch_trainer.BatchChange`."""

    def figures(self, model: Any) -> dict[str, Any]:
        """Return what is measured on the held-out climates: `relative_rmse`, by case, predictor and variable."""

    def pictures(self, model: Any, folder: Path) -> dict[str, str]:
        """Draw a held-out climate; return what each picture shows, by the name of its file."""


class Reconstruction:
    """Values of states are hidden, and filled in.

    Raises:
        RecipeError: If a kind of hiding finds nothing that it can hide.
        DataError: If climates have no state, or grids differ.
    """

    learned = "mean square error of hidden values"

    def __init__(self, recipe: ClimateRecipe, config: AstroDatacubeConfig, climates: Climates):
        self.settings, self.config = recipe.reconstruct, config
        self.climates = {split: list(several) for split, several in climates.items()}
        self.rows = {
            split: ForecastRows(self.climates[split], config.num_input_steps, 0) for split in ("train", "validation")
        }
        first = {name: value[None] for name, value in self.rows["train"][0].items()}
        for kind, share in self.settings.shares.items():
            if share > 0:
                try:
                    hidden_batch(first, {kind: share}, self.settings.patch_cells)
                except ValueError as error:
                    raise RecipeError(f"reconstruct.shares.{kind} cannot be above 0: {error}") from error

    def statistics(self) -> dict[str, Any]:
        """Return those of all states of the training climates."""
        return climate_statistics(self.climates["train"], self.config)

    def change(self, batch: Batch, training: bool, generator: torch.Generator | None) -> Batch:
        """Hide values."""
        if training and self.settings.symmetric_copies:
            batch = symmetric_copies(batch, self.config)
        return hidden_batch(batch, self.settings.shares, self.settings.patch_cells, generator)

    def figures(self, model: Any) -> dict[str, Any]:
        """Return errors over those of climatology, by kind of hiding, predictor and variable."""
        settings = self.settings
        return {
            "relative_rmse": reconstruction_figures(
                model, self.climates["test"], settings.shares, settings.patch_cells, settings.states
            )
        }

    def pictures(self, model: Any, folder: Path) -> dict[str, str]:
        """Draw a held-out state with the first kind of hiding: of variables on levels that in the middle."""
        planet = self.climates["test"][0]
        kind, share = next((kind, share) for kind, share in self.settings.shares.items() if share > 0)
        truth, read, filled = filled_state(model, planet, kind, share, self.settings.patch_cells)
        levels = len(planet.levels)
        middles = [place * levels + levels // 2 for place in range(len(self.config.level_variables))]
        places = [*middles, *range(levels * len(middles), len(truth))]
        names = [*self.config.level_variables, *self.config.surface_variables]
        draw_filled(names, truth[places], read[places], filled[places], planet, folder / "filled.png")
        return {"filled.png": f"a held-out state, hidden by {kind}"}


class SteadyClimates:
    """The mean of a planet's last states is predicted.

    Raises:
        DataError: If a climate has too few states, or grids differ.
    """

    learned = "mean square error of a steady climate"

    def __init__(self, recipe: ClimateRecipe, config: AstroDatacubeConfig, climates: Climates):
        self.settings, self.config = recipe.steady, config
        self.climates = {
            split: [steady_climate(each, self.settings.states) for each in several]
            for split, several in climates.items()
        }
        # Baselines go from cell to cell of one planet and another.
        check_one_grid([each for several in self.climates.values() for each in several])
        self.rows = {split: SteadyRows(self.climates[split]) for split in ("train", "validation")}

    def statistics(self) -> dict[str, Any]:
        """Return those of the training climates, with scales of what differs between planets."""
        return steady_statistics(self.climates["train"], self.config)

    def change(self, batch: Batch, training: bool, generator: torch.Generator | None) -> Batch:
        """Make other climates of those that are trained on."""
        if not training:
            return batch
        settings = self.settings
        return changed_at_random(batch, self.config, settings.mirror, settings.mixing, settings.turning)

    def figures(self, model: Any) -> dict[str, Any]:
        """Return errors over the spread of the training planets, by predictor and variable, and the residuals."""
        train, test = self.climates["train"], self.climates["test"]
        baselines = steady_baselines(train, self.settings.ridge)
        rivals: dict[str, Predictor] = {**baselines, "model": lambda climate: model_climate(model, climate)}
        spread, names = field_spread(train), field_variables(self.config, len(train[0].levels))
        return {
            "relative_rmse": {
                "steady climate": {
                    name: mean_errors([relative_errors(predict, climate, spread, names) for climate in test])
                    for name, predict in rivals.items()
                }
            },
            "ridge_strength": baselines["ridge"].strength,
            "radiation_residual_w_m2": {
                split: [radiation_residual_w_m2(each, self.config.surface_variables) for each in several]
                for split, several in self.climates.items()
            },
        }

    def pictures(self, model: Any, folder: Path) -> dict[str, str]:
        """Draw the variables on levels of a held-out planet, where there are any."""
        planet, names = self.climates["test"][0], list(self.config.level_variables)
        if planet.level_fields is None:
            return {}
        truth = planet.level_fields[:, 0]
        predicted = model_climate(model, planet)[: truth.shape[0] * truth.shape[1]].view(truth.shape)
        draw_levels(names, truth, predicted, planet, folder / "levels.png")
        return {"levels.png": "a held-out planet"}


_WORKS: dict[str, Callable[[ClimateRecipe, AstroDatacubeConfig, Climates], ClimateWork]] = {
    "reconstruct": Reconstruction,
    "steady": SteadyClimates,
}


def open_work(recipe: ClimateRecipe, config: AstroDatacubeConfig, climates: Climates) -> ClimateWork:
    """Return what the recipe's task makes of the climates of every split."""
    return _WORKS[recipe.task](recipe, config, climates)
