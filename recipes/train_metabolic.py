"""Train AstroGraphVAE to complete metabolic networks.

    accelerate launch recipes/train_metabolic.py [RECIPE] data.folder=FOLDER [section.key=value ...] [--strategy NAME]
        [--resume [auto]]

FOLDER holds models of several species, SBML or cobra's JSON, plain or .gz; without it, those of the two species whose
networks the package cobra ships are trained on. RECIPE is a name in recipes/metabolic (default: nano) or a YAML file.
The run's folder holds the resolved recipe, plan, checkpoints, model, loss plot, result JSON and model card. Needs
cobra: pip install -c constraints.txt -e '.[chem]'
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForMultipleChoice, TrainingArguments, set_seed

import modeling_astrobio  # noqa: F401  registers the Auto classes
from data_scripts.harness.errors import BuildError
from modeling_astrobio.training.constraint_terms import constraint_loss_terms
from modeling_astrobio.training.errors import DataError
from modeling_astrobio.training.graph_model import graph_config
from modeling_astrobio.training.llm_report import plot_losses
from modeling_astrobio.training.metabolic_completion import fit_prior_weights
from modeling_astrobio.training.metabolic_data import GappedNetwork, Organism, ReactionPool, split_organisms
from modeling_astrobio.training.metabolic_figures import organism_figures, short_figures
from modeling_astrobio.training.metabolic_questions import CompletionQuestions, CompletionSteps
from modeling_astrobio.training.metabolic_recipe import MetabolicRecipe
from modeling_astrobio.training.metabolic_report import recall_lines, write_metabolic_card
from modeling_astrobio.training.metabolic_step import metabolic_step
from modeling_astrobio.training.metabolic_trainer import CompletionTrainer
from modeling_astrobio.training.preset_model import build_preset_model, start_name
from modeling_astrobio.training.run import run_recipe
from modeling_astrobio.training.run_folder import print_files
from modeling_astrobio.training.task import TrainingTask
from modeling_astrobio.training.training_step import TrainingStep


HERE = Path(__file__).resolve().parent
CARD_TEMPLATE = HERE.parent / "model_cards" / "astro_graph_vae_gap_filling.md.j2"


def organisms_of(folder: str | None) -> tuple[list[Organism], dict[str, str]]:
    """Read the organisms of `data.folder`, and say which files could not be read and why.

    Raises:
        DataError: If there are none, or cobra is not installed.
    """
    try:
        from data_scripts.chemistry.organisms import packaged_organisms, read_organisms

        return packaged_organisms() if folder is None else read_organisms(Path(folder))
    except ImportError as error:
        raise DataError(f"metabolic models need the package cobra: {error}. Run pip install -e '.[chem]'.") from error
    except BuildError as error:
        raise DataError(f"data.folder={folder!r} cannot be read: {error}") from error


class MetabolicTask(TrainingTask[MetabolicRecipe]):
    """Training of a model that completes metabolic networks."""

    recipe_class = MetabolicRecipe
    recipes = HERE
    default_recipe = "nano"

    def step(self) -> TrainingStep:
        return metabolic_step(self.recipe)

    def prepare(self, run_dir: Path) -> None:
        """Read the organisms, draw their gaps, and fit the baseline that the model starts from."""
        recipe, seed = self.recipe, self.recipe.training["seed"]
        self.config = graph_config(recipe)
        self.constraints = constraint_loss_terms(recipe.objective.constraints)
        organisms, self.left_out = organisms_of(recipe.data.folder)
        self.known, self.held_out = split_organisms(organisms, recipe.data.held_out)
        # Too few reactions to remove a share of are found before training, not after it.
        for organism in organisms:
            GappedNetwork.draw(organism, recipe.evaluation.share, np.random.default_rng(0))
        generator = np.random.default_rng(seed)
        self.questions = CompletionQuestions(self.known, self.known, recipe.questions, self.config, generator)
        self.validation = None
        if self.held_out:
            self.validation = CompletionQuestions(
                self.held_out, self.known, recipe.questions, self.config, np.random.default_rng((seed, 1))
            )
        self.prior_weights = fit_prior_weights(self.known, recipe.questions, seed)

    def build_trainer(self, arguments: TrainingArguments) -> CompletionTrainer:
        recipe = self.recipe
        set_seed(arguments.seed)
        model = build_preset_model(recipe, self.config, AutoModelForMultipleChoice)
        with torch.no_grad():
            model.prior_weight.copy_(torch.from_numpy(self.prior_weights))
        rows = arguments.max_steps * arguments.gradient_accumulation_steps * arguments.world_size
        validation = None
        if self.validation is None:
            arguments.eval_strategy = "no"
        else:
            validation = CompletionSteps(self.validation, recipe.evaluation.validation_steps, arguments.seed)
        return CompletionTrainer(
            model=model,
            args=arguments,
            train_dataset=CompletionSteps(self.questions, rows, arguments.seed),
            eval_dataset=validation,
            pointer_weight=recipe.objective.pointer_weight,
            constraints=self.constraints,
            **self.trainer_options(),
        )

    def describe(self) -> str:
        return start_name(self.recipe)

    def evaluate(self, trainer: CompletionTrainer) -> dict[str, Any]:
        """Evaluate on the held-out organisms beside the baselines; on a known one where none is held out."""
        data, settings = self.recipe.data, self.recipe.evaluation
        section = {
            "name": "models that cobra ships" if data.folder is None else Path(data.folder).name,
            "species": [each.species for each in self.known],
            "held_out": [each.species for each in self.held_out],
            "files_left_out": self.left_out,
        }
        if trainer.is_sharded:
            return {"data": section, "evaluation": {"not_measured": "the model is sharded over processes"}}
        model = trainer.accelerator.unwrap_model(trainer.model).eval()
        found = {}
        for organism in self.held_out or self.known[-1:]:
            figures = organism_figures(
                model,
                organism,
                ReactionPool([each for each in self.known if each is not organism]),
                self.prior_weights,
                share=settings.share,
                draws=settings.draws,
                proposals=settings.proposals,
                completions=settings.completions,
            )
            found[organism.species] = {"network": organism.network.id, **short_figures(figures)}
        evaluation = {
            "is_held_out": bool(self.held_out),
            "share": settings.share,
            "prior_weights_alone": self.prior_weights.tolist(),
            "learned_prior_weights": model.prior_weight.tolist(),
            "organisms": found,
        }
        return {"data": section, "evaluation": evaluation}

    def report(self, trainer: CompletionTrainer, run_dir: Path, result: dict[str, Any]) -> None:
        """Write card and plot, and say where everything is."""
        write_metabolic_card(result, CARD_TEMPLATE, run_dir / "model" / "README.md")
        plot_losses(trainer.state.log_history, run_dir / "loss.png", "loss (nats, of all questions of a step)")
        print_files(run_dir, ("loss.png", "loss plot"), model="model and card")
        evaluation = result["evaluation"]
        for species, figures in evaluation.get("organisms", {}).items():
            print(f"{species}, {'held out' if evaluation['is_held_out'] else 'which it was trained on'}")
            print("\n".join(recall_lines(figures)))


def main(arguments: list[str] | None = None) -> int:
    return run_recipe(MetabolicTask, Path(__file__), __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
