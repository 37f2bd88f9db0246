"""What a kind of model adds to a run."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic

from transformers import TrainingArguments

from .preflight.outcome import ModelCheck
from .recipe import AnyRecipe, Recipe
from .trainer import AstroTrainer
from .training_step import TrainingStep


__all__ = ["TrainingTask"]


class TrainingTask(ABC, Generic[AnyRecipe]):
    """What a kind of model adds to a run. The methods are called in the order in which they stand.

    Attributes:
        recipe: The recipe of the run.
    """

    recipe_class: ClassVar[type[Recipe]]
    """Kind of the recipe."""
    recipes: ClassVar[Path]
    """Folder of the recipes: named ones in its folder `recipe_class.kind`, strategies in `strategies`."""
    default_recipe: ClassVar[str]
    """Recipe that runs where none is named."""

    def __init__(self, recipe: AnyRecipe):
        self.recipe = recipe

    @abstractmethod
    def step(self) -> TrainingStep:
        """Return the step to plan; nothing is read or allocated."""

    @abstractmethod
    def prepare(self, run_dir: Path) -> None:
        """Open the data, and make what the run's folder needs before a model exists."""

    @abstractmethod
    def build_trainer(self, arguments: TrainingArguments) -> AstroTrainer:
        """Build the model and its trainer, with `trainer_options`."""

    def trainer_options(self) -> dict[str, Any]:
        """Return what of the recipe every trainer takes."""
        recipe = self.recipe
        return {
            "strategy": recipe.strategy,
            "schedule": recipe.schedule,
            "stability": recipe.stability,
            "ema_decay": recipe.ema_decay,
        }

    def preflight_checks(self) -> Mapping[str, ModelCheck]:
        """Return, by name, what `recipes/preflight.py` checks of this kind of model only."""
        return {}

    @abstractmethod
    def describe(self) -> str:
        """Return what the model started from, without the folders it lay in."""

    def finish(self, trainer: AstroTrainer) -> None:
        """Fit what is fitted once, to the trained weights, before the model is saved; called by the main process."""

    @abstractmethod
    def evaluate(self, trainer: AstroTrainer) -> dict[str, Any]:
        """Return the result's sections that only this kind of model has; called by the main process."""

    @abstractmethod
    def report(self, trainer: AstroTrainer, run_dir: Path, result: dict[str, Any]) -> None:
        """Write card and plots, and print where everything is."""
