"""Train AstroDatacube to forecast climates.

    accelerate launch recipes/train_datacube.py [RECIPE] [data.folder=FOLDER] [section.key=value ...] [--strategy NAME]
        [--resume [auto]]

FOLDER holds NetCDF files or Zarr stores of general-circulation models, a planet each; without it, worlds of shallow
water are made, each with a planet of its own. RECIPE is a name in recipes/datacube (default: nano) or a YAML file. The
run's folder holds the resolved recipe, plan, checkpoints, model with its processor, loss plot, pictures of forecasts,
result JSON and model card. Needs the extra climate: pip install -c constraints.txt -e '.[climate]'
"""

import sys
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import AutoModelForTimeSeriesPrediction, TrainingArguments, set_seed

from data_scripts.climate.trajectories import open_climates
from modeling_astrobio import AstroDatacubeProcessor
from modeling_astrobio.climate_constraints import CLIMATE_CONSTRAINTS
from modeling_astrobio.training.constraint_terms import constraint_loss_terms
from modeling_astrobio.training.datacube_data import ForecastRows, climate_statistics, describe_climates
from modeling_astrobio.training.datacube_evaluation import best_ridge, forecast_figures
from modeling_astrobio.training.datacube_recipe import DatacubeRecipe
from modeling_astrobio.training.datacube_report import (
    draw_errors,
    draw_forecast,
    draw_level_forecast,
    forecast_lines,
    write_datacube_card,
)
from modeling_astrobio.training.datacube_step import datacube_config, datacube_step
from modeling_astrobio.training.datacube_trainer import CNNViTTrainer
from modeling_astrobio.training.llm_report import plot_losses
from modeling_astrobio.training.preset_model import build_preset_model, start_name
from modeling_astrobio.training.run import run_recipe
from modeling_astrobio.training.run_folder import print_files
from modeling_astrobio.training.sphere_symmetries import SymmetricCopies
from modeling_astrobio.training.task import TrainingTask
from modeling_astrobio.training.training_step import TrainingStep


HERE = Path(__file__).resolve().parent
CARD_TEMPLATE = HERE.parent / "model_cards" / "astro_datacube.md.j2"


class DatacubeTask(TrainingTask[DatacubeRecipe]):
    """Training of a forecast of climates."""

    recipe_class = DatacubeRecipe
    recipes = HERE
    default_recipe = "nano"

    def step(self) -> TrainingStep:
        return datacube_step(self.recipe)

    def prepare(self, run_dir: Path) -> None:
        """Make or read the climates, and find their statistics."""
        recipe = self.recipe
        self.config = datacube_config(recipe, recipe.forecast.constraints)
        self.physics = constraint_loss_terms(recipe.forecast.physics, CLIMATE_CONSTRAINTS)
        with PartialState().main_process_first():
            self.climates = open_climates(recipe.data, self.config)
        steps = recipe.forecast.rollout_steps
        window = self.config.num_input_steps
        self.rows = {
            split: ForecastRows(self.climates[split], window, steps if split == "train" else max(steps, 4))
            for split in ("train", "validation")
        }
        if self.config.statistics is None:
            self.config.statistics = climate_statistics(self.climates["train"], self.config)

    def build_trainer(self, arguments: TrainingArguments) -> CNNViTTrainer:
        recipe, forecast = self.recipe, self.recipe.forecast
        set_seed(arguments.seed)
        model = build_preset_model(recipe, self.config, AutoModelForTimeSeriesPrediction)
        steps = arguments.max_steps
        if steps <= 0:
            batch = arguments.per_device_train_batch_size * arguments.world_size
            updates = -(-len(self.rows["train"]) // (batch * arguments.gradient_accumulation_steps))
            steps = int(updates * arguments.num_train_epochs)
        return CNNViTTrainer(
            model=model,
            args=arguments,
            train_dataset=self.rows["train"],
            eval_dataset=self.rows["validation"],
            processing_class=AstroDatacubeProcessor.from_config(self.config),
            change=SymmetricCopies(self.config) if recipe.forecast.symmetric_copies else None,
            rollout_steps=forecast.rollout_steps,
            rollout_rise=int(forecast.rollout_rise * steps),
            layer_decay=forecast.layer_decay,
            physics=self.physics,
            **self.trainer_options(),
        )

    def describe(self) -> str:
        return start_name(self.recipe)

    def evaluate(self, trainer: CNNViTTrainer) -> dict[str, Any]:
        """Roll held-out climates out, beside the baselines."""
        data, settings = self.recipe.data, self.recipe.evaluation
        section = describe_climates(data, self.climates, self.config)
        if trainer.is_sharded:
            return {"data": section, "evaluation": {"not_measured": "the model is sharded over processes"}}
        model = trainer.accelerator.unwrap_model(trainer.model).eval()
        vectors = [
            place for place, name in enumerate(self.config.surface_variables) if name in self.config.vector_variables
        ]
        steps = min(settings.lead_steps, min(each.num_states for each in self.climates["test"]) - 2)
        ridge, strength = best_ridge(
            self.climates["train"], self.climates["validation"], vectors, settings.ridge, steps
        )
        figures = forecast_figures(model, self.climates["test"], ridge, steps, settings.starts)
        return {"data": section, "evaluation": {"ridge_strength": strength, **figures}}

    def report(self, trainer: CNNViTTrainer, run_dir: Path, result: dict[str, Any]) -> None:
        """Write card and pictures, and say where everything is."""
        write_datacube_card(result, CARD_TEMPLATE, run_dir / "model" / "README.md")
        plot_losses(trainer.state.log_history, run_dir / "loss.png", "mean square error of a step's change")
        evaluation = result["evaluation"]
        pictures = ()
        if "relative_rmse" in evaluation:
            pictures = (("errors.png", "errors over the lead"), ("forecast.png", "a held-out climate"))
            draw_errors(evaluation, self.recipe.data.step_s, run_dir / "errors.png")
            model = trainer.accelerator.unwrap_model(trainer.model).eval()
            shown, steps = self.climates["test"][0], self.recipe.evaluation.lead_steps
            draw_forecast(model, shown, steps, run_dir / "forecast.png")
            if shown.level_fields is not None:
                pictures = (*pictures, ("levels.png", "its levels"))
                draw_level_forecast(model, shown, steps, run_dir / "levels.png")
        print_files(run_dir, ("loss.png", "loss plot"), *pictures)
        if pictures:
            print("\n".join(forecast_lines(evaluation, self.recipe.data.step_s)))


def main(arguments: list[str] | None = None) -> int:
    return run_recipe(DatacubeTask, Path(__file__), __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
