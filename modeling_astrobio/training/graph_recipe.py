"""Recipes of the graph VAE: YAML that holds only what differs from the defaults below."""

from dataclasses import dataclass, field

from .errors import RecipeError
from .loss_guard import StabilitySection
from .preset_model import PresetModelSection
from .recipe import Recipe


__all__ = ["GraphDataSection", "GraphEvaluationSection", "GraphRecipe", "ObjectiveSection"]


@dataclass
class GraphDataSection:
    """What to train on.

    Attributes:
        dataset_name: Anything `datasets.load_dataset` opens; `None` is the embedded molecules.
        dataset_config: Its configuration.
        train_split: Split to train on.
        validation_split: Split evaluated during training.
        test_split: Split of the final evaluation.
        smiles_column: Column of the molecules.
        max_rows: Take only so many rows of each split; 0 takes all.
        batch_nodes: Most nodes of a micro-batch, padding included: its graphs are of like size.
    """

    dataset_name: str | None = None
    dataset_config: str | None = None
    train_split: str = "train"
    validation_split: str = "validation"
    test_split: str = "test"
    smiles_column: str = "smiles"
    max_rows: int = 0
    batch_nodes: int = 1152


@dataclass
class ObjectiveSection:
    """What is minimised beside the negative log-likelihood.

    Attributes:
        kl_weight: Factor of the divergence of the latent tokens from the standard normal.
        kl_warmup_steps: Steps over which it rises from 0, with the square of the step.
        constraints: Weight of each term of `biochemical_constraints.CONSTRAINTS` that is added to the loss, by name.
    """

    kl_weight: float = 1.0
    kl_warmup_steps: int = 0
    constraints: dict[str, float] = field(default_factory=dict)


@dataclass
class GraphEvaluationSection:
    """Evaluation during training and after it.

    Attributes:
        training_samples: Molecules drawn at each evaluation during training; 0 draws none.
        drawn_molecules: Of these, how many the picture shows.
        samples: Molecules drawn at the end.
        reconstructions: Held-out molecules encoded and decoded at the end.
        batch_size: Molecules decoded at one time.
        temperature: Divides the logits in sampling.
        reference: Held-out molecules whose distribution the samples are compared with, at most.
    """

    training_samples: int = 256
    drawn_molecules: int = 24
    samples: int = 10_000
    reconstructions: int = 2_000
    batch_size: int = 500
    temperature: float = 1.0
    reference: int = 10_000


@dataclass
class GraphRecipe(Recipe):
    """Everything a run of `recipes/train_graph_vae.py` depends on.

    A batch is of graphs of like size, whose loss grows with the size: by default only a loss that is no number is a
    fault, and none for standing above the others.

    Attributes:
        model: See `PresetModelSection`.
        data: See `GraphDataSection`.
        objective: See `ObjectiveSection`.
        evaluation: See `GraphEvaluationSection`.
    """

    kind = "graph_vae"
    # A row is a batch of graphs.
    training_defaults = {"per_device_train_batch_size": 1, "per_device_eval_batch_size": 1, "weight_decay": 0.01}

    stability: StabilitySection = field(default_factory=lambda: StabilitySection(spike_sigma=0.0))
    model: PresetModelSection = field(default_factory=PresetModelSection)
    data: GraphDataSection = field(default_factory=GraphDataSection)
    objective: ObjectiveSection = field(default_factory=ObjectiveSection)
    evaluation: GraphEvaluationSection = field(default_factory=GraphEvaluationSection)

    def check(self) -> None:
        """Refuse values that contradict one another."""
        super().check()
        self.model.check()
        evaluation = self.evaluation
        for name, number, least in (
            ("data.max_rows", self.data.max_rows, 0),
            ("data.batch_nodes", self.data.batch_nodes, 1),
            ("objective.kl_weight", self.objective.kl_weight, 0),
            ("objective.kl_warmup_steps", self.objective.kl_warmup_steps, 0),
            *((f"objective.constraints.{name}", weight, 0) for name, weight in self.objective.constraints.items()),
            ("evaluation.training_samples", evaluation.training_samples, 0),
            ("evaluation.drawn_molecules", evaluation.drawn_molecules, 0),
            ("evaluation.samples", evaluation.samples, 0),
            ("evaluation.reconstructions", evaluation.reconstructions, 0),
            ("evaluation.batch_size", evaluation.batch_size, 1),
            ("evaluation.reference", evaluation.reference, 4),
        ):
            if number < least:
                raise RecipeError(f"{name} must be at least {least}; got {number}.")
        if self.training["per_device_train_batch_size"] != 1 or self.training["per_device_eval_batch_size"] != 1:
            raise RecipeError(
                "training.per_device_train_batch_size and per_device_eval_batch_size must be 1, a batch of graphs of "
                "at most data.batch_nodes nodes; set that instead."
            )
        if not evaluation.temperature > 0:
            raise RecipeError(f"evaluation.temperature must be above 0; got {evaluation.temperature}.")
