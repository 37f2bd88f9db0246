"""Train AstroLLM.

    accelerate launch recipes/train_llm.py [RECIPE] [section.key=value ...] [--strategy NAME] [--resume [auto]]

RECIPE is a name in recipes/llm (default: nano) or a YAML file; a strategy of recipes/strategies says how it fits the
hardware. The run's folder holds the resolved recipe, plan, checkpoints, tokenizer, model, loss plot, result JSON and
model card.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset, IterableDataset
from transformers import TrainingArguments, set_seed

import modeling_astrobio  # noqa: F401  registers the Auto classes
from data_scripts.derived.embedded_planets import build_embedded_planets
from modeling_astrobio.training.checkpoints import write_whole
from modeling_astrobio.training.llm_data import collate_packed, corpus_texts, fill_rows, load_splits, packed_rows
from modeling_astrobio.training.llm_final_evaluation import data_section, evaluate_held_out, first_rows, score_lines
from modeling_astrobio.training.llm_model import build_model, build_tokenizer, checkpoint_name
from modeling_astrobio.training.llm_recipe import LLMRecipe
from modeling_astrobio.training.llm_report import plot_losses, write_model_card
from modeling_astrobio.training.llm_step import llm_step
from modeling_astrobio.training.preflight.llm_checks import LLM_CHECKS
from modeling_astrobio.training.preflight.outcome import ModelCheck
from modeling_astrobio.training.run import run_recipe
from modeling_astrobio.training.run_folder import print_files
from modeling_astrobio.training.task import TrainingTask
from modeling_astrobio.training.trainer import AstroTrainer
from modeling_astrobio.training.training_step import TrainingStep


HERE = Path(__file__).resolve().parent
CARD_TEMPLATE = HERE.parent / "model_cards" / "astro_llm.md.j2"


class LLMTask(TrainingTask[LLMRecipe]):
    """Training of a causal language model on documents and conversations."""

    recipe_class = LLMRecipe
    recipes = HERE
    default_recipe = "nano"

    def step(self) -> TrainingStep:
        return llm_step(self.recipe)

    def prepare(self, run_dir: Path) -> None:
        """Open the data set and make sure that the run's folder has the tokenizer, which the recipe then names."""
        state = PartialState()
        with state.main_process_first():
            self.splits = load_splits(self.recipe.data, build_embedded_planets)
            tokenizer_dir = run_dir / "tokenizer"
            if state.is_main_process and not tokenizer_dir.exists():
                texts = corpus_texts(first_rows(self.splits["train"]), self.recipe.data)
                tokenizer = build_tokenizer(self.recipe, texts)
                with write_whole(tokenizer_dir) as folder:
                    tokenizer.save_pretrained(folder)
        self.recipe.tokenizer.path = str(tokenizer_dir)

    def build_trainer(self, arguments: TrainingArguments) -> AstroTrainer:
        recipe, splits = self.recipe, self.splits
        tokenizer = build_tokenizer(recipe, ())
        set_seed(arguments.seed)
        model = build_model(recipe, tokenizer)
        train_rows = packed_rows(splits["train"], tokenizer, recipe.data)
        validation_rows = packed_rows(splits["validation"], tokenizer, recipe.data) if "validation" in splits else None
        shuffled = None
        if isinstance(train_rows, IterableDataset):
            # One endless epoch: at the end of a shorter one, resuming would look for its place in the wrong pass.
            train_rows = train_rows.repeat(None)
        elif arguments.world_size > 1:
            # Accelerate would give the processes that have too few rows some of the first ones twice.
            shuffled = len(train_rows)
            rows_at_once = arguments.world_size * arguments.per_device_train_batch_size
            train_rows = fill_rows(train_rows, rows_at_once, tokenizer.pad_token_id)
        if isinstance(validation_rows, Dataset) and arguments.world_size > 1:
            rows_at_once = arguments.world_size * arguments.per_device_eval_batch_size
            validation_rows = fill_rows(validation_rows, rows_at_once, tokenizer.pad_token_id)
        if "validation" not in splits and arguments.eval_strategy != "no":
            arguments.eval_strategy = "no"
            if PartialState().is_main_process:
                print(f"no split {recipe.data.validation_split!r}: nothing is evaluated before the end", flush=True)
        return AstroTrainer(
            model=model,
            args=arguments,
            train_dataset=train_rows,
            token_accuracy=True,
            shuffled_rows=shuffled,
            eval_dataset=validation_rows,
            data_collator=collate_packed,
            processing_class=tokenizer,
            **self.trainer_options(),
        )

    def preflight_checks(self) -> Mapping[str, ModelCheck]:
        return LLM_CHECKS

    def describe(self) -> str:
        return checkpoint_name(self.recipe)

    def evaluate(self, trainer: AstroTrainer) -> dict[str, Any]:
        """Evaluate the trained model beside its start and the baselines, on the test split or else validation."""
        if trainer.is_sharded:
            missing = {"rows": 0, "models": {}, "not_measured": "the model is sharded over processes"}
            return {"data": data_section(self.recipe, self.splits), "evaluation": missing, "samples": []}
        trained = trainer.accelerator.unwrap_model(trainer.model)
        return evaluate_held_out(trained, trainer.processing_class, self.recipe, self.splits, trainer.args.device)

    def report(self, trainer: AstroTrainer, run_dir: Path, result: dict[str, Any]) -> None:
        """Write card and plot, and say where everything is."""
        write_model_card(result, CARD_TEMPLATE, run_dir / "model" / "README.md")
        plot_losses(trainer.state.log_history, run_dir / "loss.png")
        print_files(run_dir, ("tokenizer", "tokenizer"), ("loss.png", "loss plot"), model="model, tokenizer and card")
        for line in score_lines(result["evaluation"]["models"]):
            print(line)
        for number, sample in enumerate(result["samples"], start=1):
            print(f"\n--- sample {number} ---\n{sample['prompt']}\n>>> {sample['continuation']}")
            if sample["expected"] is not None:
                print(f"(expected: {sample['expected']})")


def main(arguments: list[str] | None = None) -> int:
    return run_recipe(LLMTask, Path(__file__), __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
