"""Train AstroLLM.

    accelerate launch recipes/train_llm.py [RECIPE] [section.key=value ...] [--resume [auto | CHECKPOINT]]

RECIPE is a name in recipes/llm (default: nano) or a YAML file. The run's folder holds the resolved recipe,
checkpoints, tokenizer, model, loss plot, result JSON and model card.
"""

import argparse
import shlex
import shutil
import sys
import time
from pathlib import Path

import torch
from accelerate import PartialState
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from transformers import TrainingArguments, set_seed
from transformers.integrations import get_available_reporting_integrations
from transformers.utils.logging import disable_progress_bar

import modeling_astrobio  # noqa: F401  registers the Auto classes
from data_scripts.derived.embedded_planets import build_embedded_planets
from modeling_astrobio.training.checkpoints import find_checkpoints, resolve_resume, write_whole
from modeling_astrobio.training.errors import RecipeError, UserError
from modeling_astrobio.training.hardware import check_device, describe_hardware, package_versions, use_cpu_threads
from modeling_astrobio.training.llm_data import collate_packed, corpus_texts, load_splits, packed_rows
from modeling_astrobio.training.llm_evaluation import compare_models, sample_continuations
from modeling_astrobio.training.llm_model import build_model, build_tokenizer, checkpoint_name
from modeling_astrobio.training.llm_report import plot_losses, write_model_card, write_result
from modeling_astrobio.training.recipe import LLMRecipe, load_recipe
from modeling_astrobio.training.run_folder import RECIPE_NAME, open_run_folder
from modeling_astrobio.training.trainer import AstroTrainer


HERE = Path(__file__).resolve().parent
CARD_TEMPLATE = HERE.parent / "model_cards" / "astro_llm.md.j2"
INTERRUPTED = 130
# A stream may have no end, so what only looks at data looks at its beginning.
STREAM_ROWS = 10_000


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="nano", help="name in recipes/llm, or a YAML file")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="what differs from the recipe")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="last",
        metavar="CHECKPOINT",
        help="continue the run: its last checkpoint, `auto` for the last whole one, or a folder",
    )
    # Overrides may stand before and after --resume.
    parsed = parser.parse_intermixed_args(arguments)
    if parsed.resume is not None and "=" in parsed.resume:
        parsed.overrides.append(parsed.resume)
        parsed.resume = "last"
    if "=" in parsed.recipe:
        parsed.overrides.insert(0, parsed.recipe)
        parsed.recipe = "nano"
    return parsed


def train(recipe: LLMRecipe, resume: str | None, command: str) -> int:
    """Run a recipe from data to card; returns the exit status."""
    check_device(recipe.device)
    run_dir = Path(recipe.output_dir)
    arguments = training_arguments(recipe)
    # Its bars, one for each file, would break the bar of the training.
    disable_progress_bar()
    state = PartialState()
    if state.num_processes == 1 and arguments.device.type == "cpu":
        use_cpu_threads(recipe.cpu_threads)
    checkpoint = resolve_resume(run_dir, resume) if resume else None
    if state.is_main_process:
        open_run_folder(run_dir, recipe.to_dict(), resume=checkpoint is not None)
    try:
        splits = prepare_data(recipe, run_dir)
        trainer = build_trainer(recipe, splits, arguments)
    except UserError:
        # Nothing is lost, and the corrected recipe may have the folder.
        if state.is_main_process and checkpoint is None:
            shutil.rmtree(run_dir)
        raise
    trained = sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in trainer.model.parameters())
    if state.is_main_process:
        print(
            f"{checkpoint_name(recipe)}: {total:,} parameters ({trained:,} trained) on {arguments.device}", flush=True
        )
    started = time.monotonic()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.monotonic() - started
    if trainer.interrupt.signal_number is not None:
        if state.is_main_process:
            print(f"stopped at step {trainer.state.global_step}; continue with: {command} --resume", flush=True)
        return INTERRUPTED
    trainer.save_whole_model(run_dir / "model")
    if not state.is_main_process:
        return 0
    evaluation, samples = evaluate(trainer, splits, recipe)
    result = {
        "status": "finished",
        "command": command,
        "recipe": RECIPE_NAME,
        "model": {
            "start": checkpoint_name(recipe),
            "parameters": total,
            "trainable_parameters": trained,
            "dtype": recipe.model.dtype,
        },
        "data": {
            "name": recipe.data.dataset_name or "embedded_planets",
            "hub": recipe.data.dataset_name is not None and not Path(recipe.data.dataset_name).exists(),
            "config": recipe.data.dataset_config,
            "test_split": recipe.data.test_split if "test" in splits else recipe.data.validation_split,
        },
        "training": {
            "steps": trainer.state.global_step,
            "resumed": checkpoint is not None,
            "tokens_seen": trainer.state.num_input_tokens_seen,
            "seconds": seconds,
            "last_loss": next((row["loss"] for row in reversed(trainer.state.log_history) if "loss" in row), None),
        },
        "evaluation": evaluation,
        "samples": samples,
        "hardware": describe_hardware(),
        "versions": package_versions(),
    }
    report(trainer, run_dir, result)
    return 0


def prepare_data(recipe: LLMRecipe, run_dir: Path) -> DatasetDict | IterableDatasetDict:
    """Open the data set and make sure that the run's folder has the tokenizer, which the recipe then names."""
    state = PartialState()
    with state.main_process_first():
        splits = load_splits(recipe.data, build_embedded_planets)
        tokenizer_dir = run_dir / "tokenizer"
        if state.is_main_process and not tokenizer_dir.exists():
            tokenizer = build_tokenizer(recipe, corpus_texts(first_rows(splits["train"]), recipe.data))
            with write_whole(tokenizer_dir) as folder:
                tokenizer.save_pretrained(folder)
    recipe.tokenizer.path = str(tokenizer_dir)
    return splits


def build_trainer(
    recipe: LLMRecipe, splits: DatasetDict | IterableDatasetDict, arguments: TrainingArguments
) -> AstroTrainer:
    tokenizer = build_tokenizer(recipe, ())
    set_seed(arguments.seed)
    model = build_model(recipe, tokenizer)
    train_rows = packed_rows(splits["train"], tokenizer, recipe.data)
    if isinstance(train_rows, IterableDataset):
        # One endless epoch: at the end of a shorter one, resuming would look for its place in the wrong pass.
        train_rows = train_rows.repeat(None)
    if "validation" not in splits and arguments.eval_strategy != "no":
        arguments.eval_strategy = "no"
        if PartialState().is_main_process:
            print(f"no split {recipe.data.validation_split!r}: nothing is evaluated before the end", flush=True)
    return AstroTrainer(
        model=model,
        args=arguments,
        train_dataset=train_rows,
        eval_dataset=packed_rows(splits["validation"], tokenizer, recipe.data) if "validation" in splits else None,
        data_collator=collate_packed,
        processing_class=tokenizer,
    )


def training_arguments(recipe: LLMRecipe) -> TrainingArguments:
    use_cpu = recipe.device == "cpu"
    pin_memory = torch.cuda.is_available() and not use_cpu
    try:
        arguments = TrainingArguments(
            output_dir=recipe.output_dir,
            remove_unused_columns=False,
            use_cpu=use_cpu,
            **{"dataloader_pin_memory": pin_memory, **recipe.training},
        )
    except (ImportError, TypeError, ValueError) as error:
        raise RecipeError(f"the training section does not do for transformers.TrainingArguments: {error}") from error
    missing = set(arguments.report_to) - set(get_available_reporting_integrations())
    if missing:
        raise RecipeError(
            f"training.report_to needs packages that are not installed: {sorted(missing)}. "
            "pip install 'modeling_astrobio[track]', or set training.report_to=none."
        )
    return arguments


def evaluate(trainer: AstroTrainer, splits: DatasetDict | IterableDatasetDict, recipe: LLMRecipe) -> tuple[dict, list]:
    """Evaluate the trained model beside its start and the baselines; returns the figures and two samples."""
    rows = held_out_rows(splits, recipe)
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        return {"rows": 0, "models": {}, "not_measured": "the model is sharded over processes"}, []
    trained, tokenizer = trainer.accelerator.unwrap_model(trainer.model), trainer.processing_class
    start = trained
    if recipe.adapter.r == 0:
        # The same seed gives the same random weights.
        set_seed(trainer.args.seed)
        start = build_model(recipe, tokenizer).to(trainer.args.device)
    train_rows = first_rows(splits["train"])
    models = compare_models(trained, start, tokenizer, train_rows, rows, recipe.data, recipe.evaluation)
    samples = sample_continuations(trained, tokenizer, rows, recipe.data, recipe.evaluation)
    return {"rows": len(rows), "models": models}, samples


def held_out_rows(splits, recipe: LLMRecipe) -> list[dict]:
    """The rows of the test split, or of the validation split where there is no test."""
    rows = splits.get("test", splits.get("validation"))
    return [] if rows is None else list(first_rows(rows))


def first_rows(rows: Dataset | IterableDataset) -> Dataset | IterableDataset:
    return rows.take(STREAM_ROWS) if isinstance(rows, IterableDataset) else rows


def report(trainer: AstroTrainer, run_dir: Path, result: dict) -> None:
    """Write plot, result and card, and say where everything is."""
    write_model_card(result, CARD_TEMPLATE, run_dir / "model" / "README.md")
    plot_losses(trainer.state.log_history, run_dir / "loss.png")
    write_result(result, run_dir / "result.json")
    for name, what in (
        ("model", "model, tokenizer and card"),
        ("model/README.md", "model card"),
        *((path.name, "last checkpoint") for path in find_checkpoints(run_dir)[:1]),
        ("tokenizer", "tokenizer"),
        ("loss.png", "loss plot"),
        (RECIPE_NAME, "resolved recipe"),
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


def main(arguments: list[str] | None = None) -> int:
    parsed = parse_arguments(arguments)
    command = shlex.join(
        ["accelerate", "launch", "recipes/train_llm.py", *(sys.argv[1:] if arguments is None else arguments)]
    )
    try:
        recipe = load_recipe(parsed.recipe, parsed.overrides, HERE / "llm")
        return train(recipe, parsed.resume, command)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped; where the run has a checkpoint, continue with: {command} --resume", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
