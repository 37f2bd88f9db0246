"""Evaluate a model that recipes/train_llm.py has saved, as the run that trained it does at its end.

    python recipes/run_evaluation.py MODEL_FOLDER [section.key=value ...] [--recipe RECIPE] [--out JSON] [--card [MD]]

One process loads the whole model: a model that was trained in parts, which its run could not evaluate, too. The recipe
is recipe.yaml beside MODEL_FOLDER; the figures go into JSON, by default evaluation.json beside MODEL_FOLDER.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from accelerate import Accelerator

import modeling_astrobio  # noqa: F401  registers the Auto classes
from data_scripts.derived.embedded_planets import build_embedded_planets
from modeling_astrobio.training.errors import CheckpointError, DataError, RecipeError, RunFolderError, UserError
from modeling_astrobio.training.hardware import (
    check_device,
    describe_hardware,
    make_output_safe,
    package_versions,
    use_cpu_threads,
)
from modeling_astrobio.training.llm_data import load_splits
from modeling_astrobio.training.llm_final_evaluation import evaluate_held_out, load_trained, score_lines
from modeling_astrobio.training.llm_model import build_tokenizer, checkpoint_name
from modeling_astrobio.training.llm_recipe import LLMRecipe
from modeling_astrobio.training.llm_report import write_model_card
from modeling_astrobio.training.recipe import load_recipe
from modeling_astrobio.training.result import RESULT_NAME, describe_model, write_result
from modeling_astrobio.training.run_folder import RECIPE_NAME


HERE = Path(__file__).resolve().parent
CARD_TEMPLATE = HERE.parent / "model_cards" / "astro_llm.md.j2"


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_folder", type=Path, help="saved model, or adapter, with its tokenizer")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="what differs from the recipe")
    parser.add_argument("--recipe", help="name in recipes/llm, or a YAML file (default: recipe.yaml of the run)")
    parser.add_argument(
        "--out", type=Path, metavar="JSON", help="file for the figures (default: evaluation.json beside the model)"
    )
    parser.add_argument(
        "--card",
        nargs="?",
        const="",
        metavar="MD",
        help="write the model card too, by default as the README.md of the model",
    )
    parsed = parser.parse_intermixed_args(arguments)
    if parsed.card is not None and "=" in parsed.card:
        parsed.overrides.append(parsed.card)
        parsed.card = ""
    return parsed


def evaluate(parsed: argparse.Namespace, command: str) -> None:
    """Evaluate as the command line says, and write JSON and card."""
    folder: Path = parsed.model_folder
    if not folder.is_dir():
        raise CheckpointError(f"MODEL_FOLDER must be the folder of a saved model; got {folder}, which is no folder.")
    if not any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        raise CheckpointError(
            f"MODEL_FOLDER must have a config.json or adapter_config.json; got {folder}, which has neither. Pass the "
            "folder `model` of a run."
        )
    run_dir = folder.resolve().parent
    trained_result = read_result(run_dir / RESULT_NAME) if parsed.card is not None else {}
    source = parsed.recipe or run_dir / RECIPE_NAME
    if parsed.recipe is None and not source.is_file():
        raise RecipeError(f"--recipe must be given where no {RECIPE_NAME} lies beside MODEL_FOLDER; got no {source}.")
    recipe = load_recipe(LLMRecipe, source, parsed.overrides, HERE / "llm")
    check_device(recipe.device)
    mixed = next((name for name in ("bf16", "fp16") if recipe.training.get(name)), "no")
    # As in training: where it uses mixed precision, so does the evaluation of the trained model.
    accelerator = Accelerator(cpu=recipe.device == "cpu", mixed_precision=mixed)
    if accelerator.device.type == "cpu":
        use_cpu_threads(recipe.cpu_threads)
    splits = load_splits(recipe.data, build_embedded_planets)
    if not {"test", "validation"}.intersection(splits):
        raise DataError(
            f"the data set must have the split {recipe.data.test_split!r} or {recipe.data.validation_split!r} to "
            "evaluate on; got 'train' alone. Name one that was held out with data.test_split."
        )
    recipe.tokenizer.path = str(folder)
    tokenizer = build_tokenizer(recipe, ())
    trained = load_trained(recipe, folder, tokenizer)
    model = describe_model(trained, checkpoint_name(recipe), recipe.model.dtype)
    trained = accelerator.unwrap_model(accelerator.prepare_model(trained, evaluation_mode=True))
    sections = evaluate_held_out(trained, tokenizer, recipe, splits, accelerator.device)
    out = parsed.out or run_dir / "evaluation.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    figures = {
        "status": "finished",
        "command": command,
        "model": model,
        **sections,
        "hardware": describe_hardware(),
        "versions": package_versions(),
    }
    write_result(figures, out)
    print("\n".join(score_lines(sections["evaluation"]["models"])))
    print(f"{'every figure':26} {out}")
    if parsed.card is not None:
        card = Path(parsed.card) if parsed.card else folder / "README.md"
        card.parent.mkdir(parents=True, exist_ok=True)
        write_model_card({**trained_result, **sections}, CARD_TEMPLATE, card)
        print(f"{'model card':26} {card}")


def read_result(path: Path) -> dict[str, Any]:
    """Read the result of the run, which has what a card says of the training.

    Raises:
        RunFolderError: If there is none, or it is torn.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunFolderError(
            f"--card needs the {RESULT_NAME} of a finished run beside MODEL_FOLDER; got {type(error).__name__} for "
            f"{path}. Leave out --card."
        ) from error


def main(arguments: list[str] | None = None) -> int:
    make_output_safe()
    parsed = parse_arguments(arguments)
    command = shlex.join(["python", "recipes/run_evaluation.py", *(sys.argv[1:] if arguments is None else arguments)])
    try:
        evaluate(parsed, command)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
