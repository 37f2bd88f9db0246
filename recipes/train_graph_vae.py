"""Train AstroGraphVAE on molecules.

    accelerate launch recipes/train_graph_vae.py [RECIPE] [section.key=value ...] [--strategy NAME] [--resume [auto]]

RECIPE is a name in recipes/graph_vae (default: nano) or a YAML file; a strategy of recipes/strategies says how it fits
the hardware. The run's folder holds the resolved recipe, plan, checkpoints, model with its processor, loss plot,
pictures of drawn molecules, result JSON and model card. Needs RDKit: pip install -c constraints.txt -e '.[chem]'
"""

import sys
from functools import cached_property
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import TrainingArguments, set_seed

import modeling_astrobio  # noqa: F401  registers the Auto classes
from modeling_astrobio.training.constraint_terms import constraint_loss_terms
from modeling_astrobio.training.data_splits import open_splits
from modeling_astrobio.training.graph_data import GraphRows, graph_batches, molecule_graphs
from modeling_astrobio.training.graph_evaluation import evaluate_graph_model
from modeling_astrobio.training.graph_metrics.generation_report import generation_report
from modeling_astrobio.training.graph_metrics.molecule_set import MoleculeSet
from modeling_astrobio.training.graph_model import graph_config, graph_processor
from modeling_astrobio.training.graph_prior import fit_latent_prior, load_mixture
from modeling_astrobio.training.graph_recipe import GraphRecipe
from modeling_astrobio.training.graph_report import draw_samples, generation_lines, write_graph_card
from modeling_astrobio.training.graph_step import graph_step
from modeling_astrobio.training.graph_trainer import GraphTransformerTrainer
from modeling_astrobio.training.llm_report import plot_losses
from modeling_astrobio.training.preset_model import build_preset_model, start_name
from modeling_astrobio.training.run import run_recipe
from modeling_astrobio.training.run_folder import print_files
from modeling_astrobio.training.task import TrainingTask
from modeling_astrobio.training.training_step import TrainingStep


HERE = Path(__file__).resolve().parent
CARD_TEMPLATE = HERE.parent / "model_cards" / "astro_graph_vae.md.j2"


def embedded_molecules() -> Any:
    """Build the data set of the default run."""
    from data_scripts.derived.embedded_molecules import build_embedded_molecules

    return build_embedded_molecules()


class GraphVAETask(TrainingTask[GraphRecipe]):
    """Training of a graph VAE on molecules."""

    recipe_class = GraphRecipe
    recipes = HERE
    default_recipe = "nano"

    def step(self) -> TrainingStep:
        return graph_step(self.recipe)

    def prepare(self, run_dir: Path) -> None:
        """Read the molecules of every split as graphs."""
        load_mixture()
        self.config = graph_config(self.recipe)
        self.processor = graph_processor(self.config)
        self.constraints = constraint_loss_terms(self.recipe.objective.constraints)
        # The others read what the first one wrote into the cache.
        with PartialState().main_process_first():
            self.graphs, self.coverage = molecule_graphs(
                open_splits(self.recipe.data, embedded_molecules), self.processor, self.recipe.data
            )

    def build_trainer(self, arguments: TrainingArguments) -> GraphTransformerTrainer:
        recipe = self.recipe
        set_seed(arguments.seed)
        model = build_preset_model(recipe, self.config)
        batches = {
            role: graph_batches(rows, recipe.data.batch_nodes, arguments.seed) for role, rows in self.graphs.items()
        }
        if "validation" not in batches:
            arguments.eval_strategy = "no"
        settings = recipe.evaluation
        return GraphTransformerTrainer(
            model=model,
            args=arguments,
            train_dataset=batches["train"],
            eval_dataset=batches.get("validation"),
            data_collator=self._collate,
            processing_class=self.processor,
            kl_weight=recipe.objective.kl_weight,
            kl_warmup_steps=recipe.objective.kl_warmup_steps,
            constraints=self.constraints,
            samples=settings.training_samples,
            sampling={"temperature": settings.temperature},
            report_samples=self._judge,
            **self.trainer_options(),
        )

    def _collate(self, batches: list[list[Any]]) -> Any:
        # A row is a batch of graphs.
        (graphs,) = batches
        return self.processor.pad(graphs)

    @cached_property
    def _known(self) -> tuple[MoleculeSet, MoleculeSet]:
        """What samples are compared with during training: training and validation molecules."""
        validation = self.graphs["validation"].smiles[: self.recipe.evaluation.reference]
        return (
            MoleculeSet.known(self.graphs["train"].smiles, "training molecules"),
            MoleculeSet.known(validation, "validation molecules"),
        )

    def _judge(self, samples: Any, picture: Path | None) -> dict[str, float]:
        """Return metrics of samples during training."""
        if picture is not None:
            draw_samples(list(samples)[: self.recipe.evaluation.drawn_molecules], picture)
        return generation_report(samples, *self._known, atom_types=self.config.atom_types)

    def describe(self) -> str:
        return start_name(self.recipe)

    def finish(self, trainer: GraphTransformerTrainer) -> None:
        """Fit the prior to the latents of training molecules."""
        if trainer.is_sharded:
            self.prior: dict[str, Any] = {"not_fitted": "the model is sharded over processes"}
            return
        model = trainer.accelerator.unwrap_model(trainer.model).eval()
        seed = self.recipe.training["seed"]
        batch_size = self.recipe.evaluation.batch_size
        self.prior = fit_latent_prior(model, self.processor, self.graphs["train"], batch_size=batch_size, seed=seed)

    def evaluate(self, trainer: GraphTransformerTrainer) -> dict[str, Any]:
        """Evaluate the trained model beside its baselines, on the test split or else validation."""
        data = self.recipe.data
        name = data.dataset_name or "embedded_molecules"
        section = {
            "name": name if not Path(name).exists() else Path(name).name,
            "hub": data.dataset_name is not None and not Path(name).exists(),
            "config": data.dataset_config,
            "test_split": data.test_split if "test" in self.graphs else data.validation_split,
            "coverage": self.coverage,
        }
        held_out: GraphRows | None = self.graphs.get("test", self.graphs.get("validation"))
        if trainer.is_sharded or held_out is None:
            reason = "there is no held-out split" if held_out is None else "the model is sharded over processes"
            return {"data": section, "prior": self.prior, "evaluation": {"not_measured": reason}}
        model = trainer.accelerator.unwrap_model(trainer.model)
        most = max(self.recipe.evaluation.reference, self.recipe.evaluation.reconstructions)
        # In an order that has nothing to do with that of the source.
        records = [held_out[row] for row in range(min(most, len(held_out)))]
        found = evaluate_graph_model(model, self.processor, self.recipe, self.graphs["train"].smiles, records)
        return {"data": section, "prior": self.prior, "evaluation": found}

    def report(self, trainer: GraphTransformerTrainer, run_dir: Path, result: dict[str, Any]) -> None:
        """Write card and pictures, and say where everything is."""
        write_graph_card(result, CARD_TEMPLATE, run_dir / "model" / "README.md")
        plot_losses(trainer.state.log_history, run_dir / "loss.png", "loss (nats per graph)")
        evaluation = result["evaluation"]
        draw_samples(evaluation.get("samples", []), run_dir / "model" / "samples.png")
        print_files(run_dir, ("loss.png", "loss plot"), ("model/samples.png", "drawn molecules"))
        for line in generation_lines(evaluation.get("generation", {})):
            print(line)
        if "held_out" in evaluation:
            figures = evaluation["held_out"]
            print(f"rebuilt exactly {figures['reconstruction']:.3f} of {figures['molecules']} held-out molecules")


def main(arguments: list[str] | None = None) -> int:
    return run_recipe(GraphVAETask, Path(__file__), __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
