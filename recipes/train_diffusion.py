"""Train AstroDatacube to draw ensembles of climates by diffusion.

    accelerate launch recipes/train_diffusion.py [RECIPE] [data.folder=FOLDER] [diffusion.forecast=MODEL]
        [evaluation.deterministic=MODEL] [section.key=value ...] [--strategy NAME] [--resume [auto]]

Climates are those of recipes/train_datacube.py: worlds of shallow water, or files in FOLDER. MODEL is a forecasting
model of the same variables: ensembles are departures from its forecast, or its errors stand beside theirs. Train them
on climates that it was not trained on, such as those of another data.seed. RECIPE is a name in recipes/diffusion
(default: nano) or a YAML file. The run's folder holds the resolved recipe, plan, checkpoints, model with its
processor, loss plot, result JSON and model card.

Needs the extra climate: pip install -c constraints.txt -e '.[climate]'
"""

import sys
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import AutoModelForPreTraining, AutoModelForTimeSeriesPrediction, TrainingArguments, set_seed

from data_scripts.climate.trajectories import open_climates
from modeling_astrobio import AstroDatacubeForForecasting, AstroDatacubeProcessor
from modeling_astrobio.training.datacube_data import ForecastRows, climate_statistics, describe_climates
from modeling_astrobio.training.datacube_diffusion_trainer import (
    DiffusionTrainer,
    sampling_scheduler,
    training_scheduler,
)
from modeling_astrobio.training.datacube_report import ensemble_lines, write_ensemble_card
from modeling_astrobio.training.datacube_step import FORECAST_KEY, diffusion_config, diffusion_step, forecast_config
from modeling_astrobio.training.diffusion_evaluation import best_noise_correlation, ensemble_figures
from modeling_astrobio.training.diffusion_recipe import DiffusionRecipe
from modeling_astrobio.training.errors import CheckpointError
from modeling_astrobio.training.forecast_departures import add_departure_shares
from modeling_astrobio.training.llm_report import plot_losses
from modeling_astrobio.training.preset_model import build_preset_model, start_name
from modeling_astrobio.training.run import run_recipe
from modeling_astrobio.training.run_folder import print_files
from modeling_astrobio.training.sphere_symmetries import SymmetricCopies
from modeling_astrobio.training.task import TrainingTask
from modeling_astrobio.training.training_step import TrainingStep


HERE = Path(__file__).resolve().parent
CARD_TEMPLATE = HERE.parent / "model_cards" / "astro_datacube_diffusion.md.j2"


class DiffusionTask(TrainingTask[DiffusionRecipe]):
    """Training of ensembles of climates."""

    recipe_class = DiffusionRecipe
    recipes = HERE
    default_recipe = "nano"

    def step(self) -> TrainingStep:
        return diffusion_step(self.recipe)

    def prepare(self, run_dir: Path) -> None:
        """Make or read the climates, and find their statistics."""
        recipe = self.recipe
        self.scheduler = training_scheduler(recipe.diffusion.kind)
        self.config = diffusion_config(recipe)
        self.forecast = _forecast(FORECAST_KEY, recipe.diffusion.forecast)
        with PartialState().main_process_first():
            self.climates = open_climates(recipe.data, self.config)
        self.rows = {
            split: ForecastRows(self.climates[split], self.config.num_input_steps, 1)
            for split in ("train", "validation")
        }
        if self.config.statistics is None:
            self.config.statistics = climate_statistics(self.climates["train"], self.config)
        if self.forecast is not None:
            add_departure_shares(self.config, self.forecast, self.climates["train"])
        self.deterministic = _forecast("evaluation.deterministic", recipe.evaluation.deterministic)
        for name in ("surface_variables", "num_input_steps"):
            of_model = getattr(self.config, name)
            other = of_model if self.deterministic is None else getattr(self.deterministic.config, name)
            if other != of_model:
                raise CheckpointError(f"evaluation.deterministic must have {name} {of_model}; got {other}.")

    def build_trainer(self, arguments: TrainingArguments) -> DiffusionTrainer:
        recipe = self.recipe
        set_seed(arguments.seed)
        model = build_preset_model(recipe, self.config, AutoModelForPreTraining)
        if self.forecast is not None:
            model.forecast.load_state_dict(self.forecast.state_dict())
        return DiffusionTrainer(
            model=model,
            args=arguments,
            train_dataset=self.rows["train"],
            eval_dataset=self.rows["validation"],
            processing_class=AstroDatacubeProcessor.from_config(self.config),
            change=SymmetricCopies(self.config) if recipe.diffusion.symmetric_copies else None,
            scheduler=self.scheduler,
            planet_dropout=recipe.diffusion.planet_dropout,
            **self.trainer_options(),
        )

    def describe(self) -> str:
        return start_name(self.recipe)

    def evaluate(self, trainer: DiffusionTrainer) -> dict[str, Any]:
        """Draw ensembles of held-out climates."""
        settings = self.recipe.evaluation
        section = describe_climates(self.recipe.data, self.climates, self.config)
        if trainer.is_sharded:
            return {"data": section, "evaluation": {"not_measured": "the model is sharded over processes"}}
        shortest = min(each.num_states for split in ("validation", "test") for each in self.climates[split])
        steps = max(1, min(settings.lead_steps, shortest - self.config.num_input_steps - 1))
        model = trainer.accelerator.unwrap_model(trainer.model).eval()
        deterministic = model.forecast if self.deterministic is None else self.deterministic
        scheduler = sampling_scheduler(self.recipe.diffusion.kind)
        sizes = (steps, settings.starts, settings.members)
        sampling = {
            "num_inference_steps": settings.inference_steps,
            "guidance_scale": settings.guidance_scale,
        }
        correlation = best_noise_correlation(
            model, scheduler, self.climates["validation"], *sizes, settings.noise_correlation, **sampling
        )
        figures = ensemble_figures(
            model,
            scheduler,
            self.climates["test"],
            *sizes,
            None if deterministic is None else deterministic.to(trainer.args.device).eval(),
            noise_correlation=correlation,
            **sampling,
        )
        figures = {
            "departs_from_forecast": model.forecast is not None,
            "noise_correlation": correlation,
            **figures,
        }
        return {"data": section, "evaluation": figures}

    def report(self, trainer: DiffusionTrainer, run_dir: Path, result: dict[str, Any]) -> None:
        """Write card, scheduler and plot, and say where everything is."""
        sampling_scheduler(self.recipe.diffusion.kind).save_pretrained(run_dir / "model")
        write_ensemble_card(result, CARD_TEMPLATE, run_dir / "model" / "README.md", self.recipe.diffusion.kind)
        plot_losses(trainer.state.log_history, run_dir / "loss.png", "mean square error of what is predicted of noise")
        print_files(run_dir, ("loss.png", "loss plot"))
        if "fair_crps" in result["evaluation"]:
            print("\n".join(ensemble_lines(result["evaluation"], self.recipe.data.step_s)))


def _forecast(key: str, source: str | None) -> AstroDatacubeForForecasting | None:
    """Load the forecasting model that a key of the recipe names.

    Raises:
        CheckpointError: If it cannot be loaded, or is another model.
    """
    if source is None:
        return None
    forecast_config(key, source)
    try:
        return AutoModelForTimeSeriesPrediction.from_pretrained(source).eval()
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{key}={source!r} cannot be loaded: {str(error).splitlines()[0]}. It must be the folder or Hub id of a "
            "forecasting AstroDatacube."
        ) from error


def main(arguments: list[str] | None = None) -> int:
    return run_recipe(DiffusionTask, Path(__file__), __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
