"""Recipes of climate forecasts: YAML that holds only what differs from the defaults below."""

from collections.abc import Collection
from dataclasses import dataclass, field

from ..climate_constraints import CLIMATE_CONSTRAINTS
from .errors import RecipeError
from .preset_model import PresetModelSection
from .recipe import Recipe


__all__ = [
    "CLIMATE_TRAINING_DEFAULTS",
    "DatacubeDataSection",
    "DatacubeEvaluationSection",
    "DatacubeRecipe",
    "ForecastSection",
    "check_constraint_names",
]

CLIMATE_TRAINING_DEFAULTS = {
    "learning_rate": 1e-3,
    "warmup_steps": 0.05,
    "weight_decay": 0.01,
    "adam_beta2": 0.95,
    # There are no tokens.
    "include_num_input_tokens_seen": "no",
}


@dataclass
class DatacubeDataSection:
    """Which climates to train on.

    Attributes:
        folder: Folder of NetCDF files or Zarr stores, a planet each, with states one after another; "embedded" is the
            package's own, steady climates of ExoPlaSim of one state each; `None` makes worlds of shallow water.
        worlds: How many of these to make, of which one in eight is for validation and two for the test.
        rows: Latitudes of their grid; it has twice as many longitudes.
        states: States of each.
        step_s: Time between states, s.
        seed: Another one, other worlds.
    """

    folder: str | None = None
    worlds: int = 40
    rows: int = 16
    states: int = 40
    step_s: float = 21600.0
    seed: int = 0

    def check(self) -> None:
        """Refuse values that contradict one another.

        Raises:
            RecipeError: Naming the key, what it needs and what it got.
        """
        for name, number, least in (
            ("worlds", self.worlds, 8),
            ("rows", self.rows, 4),
            ("states", self.states, 2),
            ("seed", self.seed, 0),
        ):
            if number < least:
                raise RecipeError(f"data.{name} must be at least {least}; got {number}.")
        if not self.step_s > 0:
            raise RecipeError(f"data.step_s must be above 0; got {self.step_s}.")


def check_constraint_names(key: str, names: Collection[str]) -> None:
    """Refuse names that are no climate constraints.

    Raises:
        RecipeError: Naming the key, what it needs and what it got.
    """
    unknown = sorted(set(names) - set(CLIMATE_CONSTRAINTS))
    if unknown:
        raise RecipeError(f"{key} must be of {', '.join(CLIMATE_CONSTRAINTS)}; got {', '.join(unknown)}.")


@dataclass
class ForecastSection:
    """What is minimised.

    Attributes:
        rollout_steps: Steps of a roll-out in the loss, at most.
        rollout_rise: Share of the training in which their number rises from one.
        layer_decay: Factor of the learning rate from one scale to the next, away from the head.
        constraints: Names of the constraints that every predicted state is corrected to.
        physics: Weight of each residual of `climate_constraints.CLIMATE_CONSTRAINTS` in the loss, by name.
        symmetric_copies: Whether rows are turned about the axis, and mirrored at the equator, at random in training:
            see `sphere_symmetries`.
    """

    rollout_steps: int = 1
    rollout_rise: float = 0.0
    layer_decay: float = 1.0
    constraints: list[str] = field(default_factory=list)
    physics: dict[str, float] = field(default_factory=dict)
    symmetric_copies: bool = True


@dataclass
class DatacubeEvaluationSection:
    """Evaluation at the end.

    Attributes:
        lead_steps: Steps to which held-out climates are rolled out.
        starts: Roll-outs of each held-out climate, from starts spread over it.
        ridge: Strengths among which ridge regression, a baseline, chooses on the validation climates.
    """

    lead_steps: int = 20
    starts: int = 4
    ridge: list[float] = field(default_factory=lambda: [1e-6, 1e-4, 1e-2, 1.0])


@dataclass
class DatacubeRecipe(Recipe):
    """Everything a run of `recipes/train_datacube.py` depends on.

    Attributes:
        model: See `PresetModelSection`.
        data: See `DatacubeDataSection`.
        forecast: See `ForecastSection`.
        evaluation: See `DatacubeEvaluationSection`.
    """

    kind = "datacube"
    training_defaults = CLIMATE_TRAINING_DEFAULTS

    model: PresetModelSection = field(default_factory=PresetModelSection)
    data: DatacubeDataSection = field(default_factory=DatacubeDataSection)
    forecast: ForecastSection = field(default_factory=ForecastSection)
    evaluation: DatacubeEvaluationSection = field(default_factory=DatacubeEvaluationSection)

    def check(self) -> None:
        """Refuse values that contradict one another."""
        super().check()
        self.model.check()
        self.data.check()
        forecast, evaluation = self.forecast, self.evaluation
        for name, number, least in (
            ("forecast.rollout_steps", forecast.rollout_steps, 1),
            ("forecast.rollout_rise", forecast.rollout_rise, 0),
            *((f"forecast.physics.{name}", weight, 0) for name, weight in forecast.physics.items()),
            ("evaluation.lead_steps", evaluation.lead_steps, 1),
            ("evaluation.starts", evaluation.starts, 1),
        ):
            if number < least:
                raise RecipeError(f"{name} must be at least {least}; got {number}.")
        if not 0 < forecast.layer_decay <= 1:
            raise RecipeError(f"forecast.layer_decay must be above 0 and at most 1; got {forecast.layer_decay}.")
        if not evaluation.ridge or not all(strength > 0 for strength in evaluation.ridge):
            raise RecipeError(f"evaluation.ridge must name strengths above 0; got {evaluation.ridge}.")
        check_constraint_names("forecast.constraints", forecast.constraints)
        check_constraint_names("forecast.physics", forecast.physics)
