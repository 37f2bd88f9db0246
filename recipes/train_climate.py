"""Train AstroDatacube to fill in what is missing of a climate, or to predict the steady climate of a planet.

    accelerate launch recipes/train_climate.py [RECIPE] [data.folder=FOLDER] [section.key=value ...] [--strategy NAME]
        [--resume [auto]]

With task=reconstruct patches, variables and values of a state are hidden; climates are those of
recipes/train_datacube.py: worlds of shallow water, or files in FOLDER. With task=steady a climate is the mean of the
last states of a file in FOLDER, and the model knows of the planet and its ground alone; the recipe steady has the
embedded climates. RECIPE is a name in recipes/climate (default: nano) or a YAML file. The run's folder holds the
resolved recipe, plan, checkpoints, model with its processor, loss plot, a picture, result JSON and model card.

Needs the extra climate: pip install -c constraints.txt -e '.[climate]'
"""

import sys
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import TrainingArguments, set_seed

from data_scripts.climate.trajectories import open_climates
from modeling_astrobio import AstroDatacubeProcessor
from modeling_astrobio.training.changed_batch_trainer import ChangedBatchTrainer
from modeling_astrobio.training.climate_recipe import ClimateRecipe
from modeling_astrobio.training.climate_tasks import open_work
from modeling_astrobio.training.datacube_data import describe_climates
from modeling_astrobio.training.datacube_report import error_lines, write_climate_card
from modeling_astrobio.training.datacube_step import CLIMATE_AUTO_CLASSES, climate_step, datacube_config
from modeling_astrobio.training.llm_report import plot_losses
from modeling_astrobio.training.preset_model import build_preset_model, start_name
from modeling_astrobio.training.run import run_recipe
from modeling_astrobio.training.run_folder import print_files
from modeling_astrobio.training.task import TrainingTask
from modeling_astrobio.training.training_step import TrainingStep


HERE = Path(__file__).resolve().parent
CARD_TEMPLATE = HERE.parent / "model_cards" / "astro_datacube_climate.md.j2"


class ClimateTask(TrainingTask[ClimateRecipe]):
    """Training of what is filled in of climates, or of steady ones."""

    recipe_class = ClimateRecipe
    recipes = HERE
    default_recipe = "nano"

    def step(self) -> TrainingStep:
        return climate_step(self.recipe)

    def prepare(self, run_dir: Path) -> None:
        """Make or read the climates, and find their statistics."""
        self.config = datacube_config(self.recipe, ())
        with PartialState().main_process_first():
            climates = open_climates(self.recipe.data, self.config)
        self.work = open_work(self.recipe, self.config, climates)
        if self.config.statistics is None:
            self.config.statistics = self.work.statistics()

    def build_trainer(self, arguments: TrainingArguments) -> ChangedBatchTrainer:
        set_seed(arguments.seed)
        model = build_preset_model(self.recipe, self.config, CLIMATE_AUTO_CLASSES[self.recipe.task])
        return ChangedBatchTrainer(
            model=model,
            args=arguments,
            train_dataset=self.work.rows["train"],
            eval_dataset=self.work.rows["validation"],
            # As the model's head has it: how many states are read is its to say.
            processing_class=AstroDatacubeProcessor.from_config(model.config),
            change=self.work.change,
            **self.trainer_options(),
        )

    def describe(self) -> str:
        return start_name(self.recipe)

    def evaluate(self, trainer: ChangedBatchTrainer) -> dict[str, Any]:
        """Predict held-out climates, beside the baselines."""
        section = {**describe_climates(self.recipe.data, self.work.climates, self.config), "task": self.recipe.task}
        if trainer.is_sharded:
            return {"data": section, "evaluation": {"not_measured": "the model is sharded over processes"}}
        model = trainer.accelerator.unwrap_model(trainer.model).eval()
        return {"data": section, "evaluation": self.work.figures(model)}

    def report(self, trainer: ChangedBatchTrainer, run_dir: Path, result: dict[str, Any]) -> None:
        """Write card and pictures, and say where everything is."""
        write_climate_card(result, CARD_TEMPLATE, run_dir / "model" / "README.md")
        plot_losses(trainer.state.log_history, run_dir / "loss.png", self.work.learned)
        pictures = {}
        if "relative_rmse" in result["evaluation"]:
            pictures = self.work.pictures(trainer.accelerator.unwrap_model(trainer.model).eval(), run_dir)
        print_files(run_dir, ("loss.png", "loss plot"), *pictures.items())
        if "relative_rmse" in result["evaluation"]:
            print("\n".join(error_lines(result["evaluation"])))


def main(arguments: list[str] | None = None) -> int:
    return run_recipe(ClimateTask, Path(__file__), __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
