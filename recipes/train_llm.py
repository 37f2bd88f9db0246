"""Train AstroLLM.

    accelerate launch recipes/train_llm.py [RECIPE] [section.key=value ...] [--strategy NAME] [--resume [auto]]

RECIPE is a name in recipes/llm (default: nano) or a YAML file; a strategy of recipes/strategies says how it fits the
hardware. The run's folder holds the resolved recipe, plan, checkpoints, tokenizer, model, loss plot, result JSON and
model card.
"""

import sys
from pathlib import Path
from typing import Any

from accelerate import PartialState
from datasets import Dataset, IterableDataset
from transformers import TrainingArguments, set_seed

import modeling_astrobio  # noqa: F401  registers the Auto classes
from data_scripts.derived.embedded_planets import build_embedded_planets
from modeling_astrobio.training.checkpoints import find_checkpoints, write_whole
from modeling_astrobio.training.llm_data import collate_packed, corpus_texts, fill_rows, load_splits, packed_rows
from modeling_astrobio.training.llm_evaluation import compare_models, sample_continuations
from modeling_astrobio.training.llm_model import build_model, build_tokenizer, checkpoint_name
from modeling_astrobio.training.llm_recipe import LLMRecipe
from modeling_astrobio.training.llm_report import plot_losses, write_model_card
from modeling_astrobio.training.llm_step import llm_step
from modeling_astrobio.training.run import TrainingTask, run_recipe
from modeling_astrobio.training.run_folder import RECIPE_NAME
from modeling_astrobio.training.trainer import AstroTrainer
from modeling_astrobio.training.training_step import TrainingStep


HERE = Path(__file__).resolve().parent
CARD_TEMPLATE = HERE.parent / "model_cards" / "astro_llm.md.j2"
# A stream may have no end, so what only looks at data looks at its beginning.
STREAM_ROWS = 10_000


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
        if isinstance(train_rows, IterableDataset):
            # One endless epoch: at the end of a shorter one, resuming would look for its place in the wrong pass.
            train_rows = train_rows.repeat(None)
        else:
            # Accelerate would give the processes that have too few rows some of the first ones twice.
            if arguments.world_size > 1:
                rows_at_once = arguments.world_size * arguments.per_device_train_batch_size
                train_rows = fill_rows(train_rows, rows_at_once, tokenizer.pad_token_id)
        if "validation" not in splits and arguments.eval_strategy != "no":
            arguments.eval_strategy = "no"
            if PartialState().is_main_process:
                print(f"no split {recipe.data.validation_split!r}: nothing is evaluated before the end", flush=True)
        return AstroTrainer(
            model=model,
            args=arguments,
            strategy=recipe.strategy,
            schedule=recipe.schedule,
            train_dataset=train_rows,
            eval_dataset=packed_rows(splits["validation"], tokenizer, recipe.data) if "validation" in splits else None,
            data_collator=collate_packed,
            processing_class=tokenizer,
        )

    def describe(self) -> str:
        return checkpoint_name(self.recipe)

    def evaluate(self, trainer: AstroTrainer) -> dict[str, Any]:
        """Evaluate the trained model beside its start and the baselines, on the test split or else validation."""
        data, settings = self.recipe.data, self.recipe.evaluation
        held_out = self.splits.get("test", self.splits.get("validation"))
        sections: dict[str, Any] = {
            "data": {
                "name": data.dataset_name or "embedded_planets",
                "hub": data.dataset_name is not None and not Path(data.dataset_name).exists(),
                "config": data.dataset_config,
                "test_split": data.test_split if "test" in self.splits else data.validation_split,
            }
        }
        if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
            missing = {"rows": 0, "models": {}, "not_measured": "the model is sharded over processes"}
            return {**sections, "evaluation": missing, "samples": []}
        rows = [] if held_out is None else list(first_rows(held_out))
        trained, tokenizer = trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class
        start = trained
        if self.recipe.adapter.r == 0:
            # The same seed gives the same random weights.
            set_seed(trainer.args.seed)
            start = build_model(self.recipe, tokenizer).to(trainer.args.device)
        models = compare_models(trained, start, tokenizer, first_rows(self.splits["train"]), rows, data, settings)
        samples = sample_continuations(trained, tokenizer, rows, data, settings)
        return {**sections, "evaluation": {"rows": len(rows), "models": models}, "samples": samples}

    def report(self, trainer: AstroTrainer, run_dir: Path, result: dict[str, Any]) -> None:
        """Write card and plot, and say where everything is."""
        write_model_card(result, CARD_TEMPLATE, run_dir / "model" / "README.md")
        plot_losses(trainer.state.log_history, run_dir / "loss.png")
        for name, what in (
            ("model", "model, tokenizer and card"),
            ("model/README.md", "model card"),
            *((path.name, "last checkpoint") for path in find_checkpoints(run_dir)[:1]),
            ("tokenizer", "tokenizer"),
            ("loss.png", "loss plot"),
            (RECIPE_NAME, "resolved recipe"),
            ("plan.json", "memory plan"),
            ("result.json", "every figure"),
        ):
            print(f"{what:26} {run_dir / name}")
        for name, scores in result["evaluation"]["models"].items():
            parts = []
            if "documents" in scores:
                parts.append(f"perplexity {scores['documents']['perplexity']:.2f}")
            if "answers" in scores:
                parts.append(f"answers right {100 * scores['answers']['accuracy']:.1f} %")
            print(f"{name:26} {', '.join(parts)}")
        for number, sample in enumerate(result["samples"], start=1):
            print(f"\n--- sample {number} ---\n{sample['prompt']}\n>>> {sample['continuation']}")
            if sample["expected"] is not None:
                print(f"(expected: {sample['expected']})")


def first_rows(rows: Dataset | IterableDataset) -> Dataset | IterableDataset:
    return rows.take(STREAM_ROWS) if isinstance(rows, IterableDataset) else rows


def main(arguments: list[str] | None = None) -> int:
    return run_recipe(LLMTask, Path(__file__), __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
