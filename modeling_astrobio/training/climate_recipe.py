"""Recipes of filling in climates and of steady ones: YAML that holds only what differs from the defaults below."""

from dataclasses import dataclass, field

from .datacube_recipe import CLIMATE_TRAINING_DEFAULTS, DatacubeDataSection
from .errors import RecipeError
from .hidden_values import HIDDEN_KINDS
from .preset_model import PresetModelSection
from .recipe import Recipe


__all__ = ["CLIMATE_TASKS", "ClimateRecipe", "ReconstructSection", "SteadySection"]

CLIMATE_TASKS = ("reconstruct", "steady")


@dataclass
class ReconstructSection:
    """What is hidden of a state, for the model to fill in.

    Attributes:
        shares: How much each kind of `hidden_values.HIDDEN_KINDS` hides; a row has one kind, and 0 leaves a kind out.
        patch_cells: Rows and columns of a patch.
        states: Of each held-out climate, on which the model is evaluated.
        symmetric_copies: Whether rows are turned about the axis, and mirrored at the equator, at random in training:
            see `sphere_symmetries`.
    """

    shares: dict[str, float] = field(default_factory=lambda: {"patches": 0.5, "variables": 0.34, "values": 0.5})
    patch_cells: int = 4
    states: int = 4
    symmetric_copies: bool = True

    def check(self) -> None:
        """Refuse values that contradict one another.

        Raises:
            RecipeError: Naming the key, what it needs and what it got.
        """
        unknown = sorted(set(self.shares) - set(HIDDEN_KINDS))
        if unknown or not any(self.shares.values()):
            raise RecipeError(
                f"reconstruct.shares must be of {', '.join(HIDDEN_KINDS)}, one above 0 at least; got {self.shares}."
            )
        for kind, share in self.shares.items():
            if not 0 <= share < 1:
                raise RecipeError(f"reconstruct.shares.{kind} must be at least 0 and below 1; got {share}.")
        for name, number in (("patch_cells", self.patch_cells), ("states", self.states)):
            if number < 1:
                raise RecipeError(f"reconstruct.{name} must be at least 1; got {number}.")


@dataclass
class SteadySection:
    """What a steady climate is, and what is made of those that are known.

    Attributes:
        states: The last ones of a file, whose mean is the climate.
        mirror: Share of the rows with north and south exchanged: climates too, where they have forgotten how a run
            began; for planets with an obliquity of means over whole years alone.
        mixing: Share of the rows mixed with another planet of the batch, see `steady_changes.mixed`.
        turning: Share of the rows turned about the axis, see `steady_changes.changed_at_random`.
        ridge: Strengths among which ridge regression, a baseline, chooses by leaving planets out.
    """

    states: int = 4
    mirror: float = 0.0
    mixing: float = 0.0
    turning: float = 1.0
    ridge: list[float] = field(default_factory=lambda: [1e-3, 1e-2, 0.1, 1.0, 10.0])

    def check(self) -> None:
        """Refuse values that contradict one another.

        Raises:
            RecipeError: Naming the key, what it needs and what it got.
        """
        if self.states < 1:
            raise RecipeError(f"steady.states must be at least 1; got {self.states}.")
        for name, share in (("mirror", self.mirror), ("mixing", self.mixing), ("turning", self.turning)):
            if not 0 <= share <= 1:
                raise RecipeError(f"steady.{name} must be from 0 to 1; got {share}.")
        if not self.ridge or not all(strength > 0 for strength in self.ridge):
            raise RecipeError(f"steady.ridge must name strengths above 0; got {self.ridge}.")


@dataclass
class ClimateRecipe(Recipe):
    """Everything a run of `recipes/train_climate.py` depends on.

    Attributes:
        task: "reconstruct", fill in what is hidden of a state, or "steady", predict the mean climate of a planet from
            its parameters and its ground; the section of the other must be left out.
        model: See `PresetModelSection`.
        data: See `DatacubeDataSection`.
        reconstruct: See `ReconstructSection`.
        steady: See `SteadySection`.
    """

    kind = "climate"
    training_defaults = CLIMATE_TRAINING_DEFAULTS

    task: str = "reconstruct"
    model: PresetModelSection = field(default_factory=PresetModelSection)
    data: DatacubeDataSection = field(default_factory=DatacubeDataSection)
    reconstruct: ReconstructSection = field(default_factory=ReconstructSection)
    steady: SteadySection = field(default_factory=SteadySection)

    def check(self) -> None:
        """Refuse values that contradict one another."""
        super().check()
        self.model.check()
        self.data.check()
        if self.task not in CLIMATE_TASKS:
            raise RecipeError(f"task must be one of {CLIMATE_TASKS}; got {self.task!r}.")
        for task, section in (("reconstruct", self.reconstruct), ("steady", self.steady)):
            if task == self.task:
                section.check()
            elif section != type(section)():
                raise RecipeError(f"{task} is read with task={task} alone; got task={self.task}. Remove the section.")
        if self.task == "steady" and self.data.folder is None:
            raise RecipeError(
                "data.folder must be given with task=steady, a folder or embedded: worlds of shallow water have no "
                "steady climate; got None."
            )
