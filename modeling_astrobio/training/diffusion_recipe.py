"""Recipes of climate ensembles by diffusion: YAML that holds only what differs from the defaults below."""

from dataclasses import dataclass, field

from .datacube_recipe import CLIMATE_TRAINING_DEFAULTS, DatacubeDataSection, check_constraint_names
from .errors import RecipeError
from .loss_guard import StabilitySection
from .preset_model import PresetModelSection
from .recipe import Recipe


__all__ = ["DiffusionEvaluationSection", "DiffusionRecipe", "DiffusionSection"]


@dataclass
class DiffusionSection:
    """What is learned.

    Attributes:
        forecast: Folder or Hub id of a forecasting model: ensembles are then departures from its forecast, in the
            scale of its errors on the training climates, which should be others than it was trained on; `None` draws
            the change from the last state.
        kind: Noise in training: "flow" or "ddpm", see `training_scheduler`.
        planet_dropout: Share of rows whose planet is not told, for guidance in sampling.
        constraints: Names of the constraints that every drawn state is corrected to.
        symmetric_copies: Whether rows are turned about the axis, and mirrored at the equator, at random in training:
            see `sphere_symmetries`.
    """

    forecast: str | None = None
    kind: str = "flow"
    planet_dropout: float = 0.1
    constraints: list[str] = field(default_factory=list)
    symmetric_copies: bool = True


@dataclass
class DiffusionEvaluationSection:
    """Evaluation at the end.

    Attributes:
        lead_steps: Steps to which held-out climates are drawn, each member from its own last state.
        members: Of an ensemble.
        starts: Ensembles of each held-out climate, from starts spread over it.
        inference_steps: Steps of the scheduler.
        guidance_scale: See `AstroDatacubeForDiffusion.sample`.
        noise_correlation: Correlations of the noise that a member begins a step with, and that of its step before,
            among which one is chosen for each variable on the validation climates.
        deterministic: Folder or Hub id of a forecasting model to compare with; by default `diffusion.forecast`.
    """

    lead_steps: int = 8
    members: int = 8
    starts: int = 2
    inference_steps: int = 10
    guidance_scale: float = 1.0
    noise_correlation: list[float] = field(default_factory=lambda: [0.0])
    deterministic: str | None = None


@dataclass
class DiffusionRecipe(Recipe):
    """Everything a run of `recipes/train_diffusion.py` depends on.

    Attributes:
        model: See `PresetModelSection`.
        data: See `DatacubeDataSection`.
        diffusion: See `DiffusionSection`.
        evaluation: See `DiffusionEvaluationSection`.
        stability: See `StabilitySection`. Losses of random noise levels, of planets still and stormy, scatter far:
            only what is out of all proportion is a fault.
    """

    kind = "diffusion"
    training_defaults = CLIMATE_TRAINING_DEFAULTS

    model: PresetModelSection = field(default_factory=PresetModelSection)
    data: DatacubeDataSection = field(default_factory=DatacubeDataSection)
    diffusion: DiffusionSection = field(default_factory=DiffusionSection)
    evaluation: DiffusionEvaluationSection = field(default_factory=DiffusionEvaluationSection)
    stability: StabilitySection = field(default_factory=lambda: StabilitySection(spike_sigma=20.0))

    def check(self) -> None:
        """Refuse values that contradict one another."""
        super().check()
        self.model.check()
        self.data.check()
        if not 0 <= self.diffusion.planet_dropout < 1:
            raise RecipeError(
                f"diffusion.planet_dropout must be at least 0 and below 1; got {self.diffusion.planet_dropout}."
            )
        if self.diffusion.forecast is not None and self.model.checkpoint is not None:
            raise RecipeError(
                f"diffusion.forecast begins a new ensemble, and model.checkpoint={self.model.checkpoint!r} has its "
                "forecast, if any, already. Set one of them."
            )
        check_constraint_names("diffusion.constraints", self.diffusion.constraints)
        evaluation = self.evaluation
        correlations = evaluation.noise_correlation
        if not correlations or not all(0 <= each <= 1 for each in correlations):
            raise RecipeError(f"evaluation.noise_correlation must name numbers from 0 to 1; got {correlations}.")
        for name, number, least in (
            ("lead_steps", evaluation.lead_steps, 1),
            ("members", evaluation.members, 2),
            ("starts", evaluation.starts, 1),
            ("inference_steps", evaluation.inference_steps, 1),
            ("guidance_scale", evaluation.guidance_scale, 0),
        ):
            if number < least:
                raise RecipeError(f"evaluation.{name} must be at least {least}; got {number}.")
