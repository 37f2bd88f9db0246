"""Recipes of models that complete metabolic networks: YAML that holds only what differs from the defaults below."""

from dataclasses import dataclass, field

from .errors import RecipeError
from .metabolic_questions import QuestionSettings
from .preset_model import PresetModelSection
from .recipe import Recipe


__all__ = ["CompletionObjectiveSection", "MetabolicDataSection", "MetabolicEvaluationSection", "MetabolicRecipe"]

# Of the constraints, those with a loss on reactions whose compounds are asked.
_CONSTRAINTS = ("element_balance", "charge_balance")


@dataclass
class MetabolicDataSection:
    """Which organisms to train on.

    Attributes:
        folder: Folder of models, SBML or cobra's JSON, plain or .gz, with `species.csv` (columns `file`, `species`)
            where the files do not tell; `None` is the two organisms whose networks the package cobra ships.
        held_out: Species that are evaluated and not trained on, all their models together; `None` is the last by name
            where at least two others are left, and else none.
    """

    folder: str | None = None
    held_out: list[str] | None = None


@dataclass
class CompletionObjectiveSection:
    """What is minimised beside the losses of missing reactions and of directions.

    Attributes:
        pointer_weight: Factor of the loss of compounds.
        constraints: Weight of each term of `biochemical_constraints.CONSTRAINTS` that is added to the loss, by name:
            "element_balance" and "charge_balance".
    """

    pointer_weight: float = 0.05
    constraints: dict[str, float] = field(default_factory=dict)


@dataclass
class MetabolicEvaluationSection:
    """Evaluation during training and after it.

    Attributes:
        validation_steps: Steps about the held-out organisms whose mean loss is the one evaluated during training. Who
            chooses settings by it must judge the model on another organism.
        share: Of an organism's reactions, how many are removed.
        draws: Networks with gaps in which candidates are ranked.
        proposals: Removed reactions that are composed of compounds.
        completions: Reactions that are added to a network.
    """

    validation_steps: int = 4
    share: float = 0.1
    draws: int = 3
    proposals: int = 10
    completions: int = 20


@dataclass
class MetabolicRecipe(Recipe):
    """Everything a run of `recipes/train_metabolic.py` depends on.

    Attributes:
        model: See `PresetModelSection`.
        data: See `MetabolicDataSection`.
        questions: See `QuestionSettings`.
        objective: See `CompletionObjectiveSection`.
        evaluation: See `MetabolicEvaluationSection`.
    """

    kind = "metabolic"
    training_defaults = {
        # A row is a step's questions, and steps are drawn by their number.
        "per_device_train_batch_size": 1,
        "per_device_eval_batch_size": 1,
        "train_sampling_strategy": "sequential",
        "max_steps": 100,
        "learning_rate": 3e-3,
        "warmup_steps": 0.05,
        "weight_decay": 0.01,
        "adam_beta2": 0.999,
        # There are no tokens.
        "include_num_input_tokens_seen": "no",
    }

    model: PresetModelSection = field(default_factory=PresetModelSection)
    data: MetabolicDataSection = field(default_factory=MetabolicDataSection)
    questions: QuestionSettings = field(default_factory=QuestionSettings)
    objective: CompletionObjectiveSection = field(default_factory=CompletionObjectiveSection)
    evaluation: MetabolicEvaluationSection = field(default_factory=MetabolicEvaluationSection)

    def check(self) -> None:
        """Refuse values that contradict one another."""
        super().check()
        self.model.check()
        questions, evaluation = self.questions, self.evaluation
        for name, number, least in (
            *((f"questions.{name}", getattr(questions, name), 1) for name in ("draws", "questions")),
            ("questions.wrong_candidates", questions.wrong_candidates, 1),
            *((f"questions.{name}", getattr(questions, name), 0) for name in ("directions", "pointers")),
            ("objective.pointer_weight", self.objective.pointer_weight, 0),
            *((f"objective.constraints.{name}", weight, 0) for name, weight in self.objective.constraints.items()),
            *((f"evaluation.{name}", number, 1) for name, number in vars(evaluation).items() if name != "share"),
            ("training.max_steps", self.training["max_steps"], 1),
        ):
            if number < least:
                raise RecipeError(f"{name} must be at least {least}; got {number}.")
        shares = questions.shares
        if len(shares) != 2 or not all(isinstance(share, float) for share in shares) or not _ascend(*shares):
            raise RecipeError(
                f"questions.shares must be two shares above 0 and below 1, the least first; got {shares}."
            )
        if not 0 < evaluation.share < 1:
            raise RecipeError(f"evaluation.share must be above 0 and below 1; got {evaluation.share}.")
        unknown = sorted(set(self.objective.constraints) - set(_CONSTRAINTS))
        if unknown:
            raise RecipeError(f"objective.constraints must be of {', '.join(_CONSTRAINTS)}; got {unknown}.")
        if self.training["per_device_train_batch_size"] != 1 or self.training["per_device_eval_batch_size"] != 1:
            raise RecipeError(
                "training.per_device_train_batch_size and per_device_eval_batch_size must be 1, the questions of a "
                "step; set the questions section, or training.gradient_accumulation_steps, instead."
            )


def _ascend(least: float, greatest: float) -> bool:
    return 0 < least <= greatest < 1
