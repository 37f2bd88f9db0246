"""The evaluation that ends a run of a language model, or is done later with the model that the run has saved."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset, IterableDataset
from peft import PeftModel
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from .data_splits import Splits
from .errors import CheckpointError, RecipeError
from .llm_evaluation import compare_models, sample_continuations
from .llm_model import build_model
from .llm_recipe import AdapterSection, LLMRecipe


__all__ = ["data_section", "evaluate_held_out", "first_rows", "load_trained", "score_lines"]


# A stream may have no end, so what only looks at data looks at its beginning.
_STREAM_ROWS = 10_000


def first_rows(rows: Dataset | IterableDataset) -> Dataset | IterableDataset:
    """Return a split, or the beginning of a stream."""
    return rows.take(_STREAM_ROWS) if isinstance(rows, IterableDataset) else rows


def data_section(recipe: LLMRecipe, splits: Splits) -> dict[str, Any]:
    """Return the section of a result that says which data were held out."""
    data = recipe.data
    return {
        "name": data.dataset_name or "embedded_planets",
        "hub": data.dataset_name is not None and not Path(data.dataset_name).exists(),
        "config": data.dataset_config,
        "test_split": data.test_split if "test" in splits else data.validation_split,
    }


def evaluate_held_out(
    trained: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    recipe: LLMRecipe,
    splits: Splits,
    device: torch.device,
) -> dict[str, Any]:
    """Evaluate a trained model beside its start and the baselines, on the test split or else validation.

    Args:
        trained: On `device`; a `PeftModel` too.
        tokenizer: Of the model.
        recipe: Of the run: it says how the model started.
        splits: Of `load_splits`.
        device: For the model as it started.

    Returns:
        The sections "data", "evaluation" and "samples" of a result.
    """
    data, settings = recipe.data, recipe.evaluation
    held_out = splits.get("test", splits.get("validation"))
    rows = [] if held_out is None else list(first_rows(held_out))
    start = trained
    if recipe.adapter.r == 0:
        # The same seed gives the same random weights.
        set_seed(recipe.training["seed"])
        start = cast(PreTrainedModel, build_model(recipe, tokenizer))
        start.to(device)  # type: ignore[arg-type]  # transformers hides the method's type
    models = compare_models(trained, start, tokenizer, first_rows(splits["train"]), rows, data, settings)
    return {
        "data": data_section(recipe, splits),
        "evaluation": {"rows": len(rows), "models": models},
        "samples": sample_continuations(trained, tokenizer, rows, data, settings),
    }


def load_trained(recipe: LLMRecipe, folder: Path, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel | PeftModel:
    """Load the model that a run has saved, or the recipe's model with the adapter that it has saved.

    Raises:
        CheckpointError: If it cannot be loaded.
        RecipeError: If the folder has an adapter and the recipe has none.
    """
    if not (folder / "adapter_config.json").is_file():
        saved = replace(recipe.model, preset=None, checkpoint=str(folder), config={}, quantization=None)
        return build_model(replace(recipe, model=saved, adapter=AdapterSection()), tokenizer)
    model = build_model(recipe, tokenizer)
    if not isinstance(model, PeftModel):
        raise RecipeError(f"adapter.r must be above 0 for the adapter in {folder}; got 0. Pass the recipe of its run.")
    try:
        # In the place of the new one, so that all else is as it was in training.
        model.load_adapter(str(folder), adapter_name="default")
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"the adapter in {folder} cannot be loaded: {type(error).__name__}: {error}. It must be whole, and of the "
            "recipe's model."
        ) from error
    return model


def score_lines(models: dict[str, dict[str, Any]]) -> list[str]:
    """Return the figures of `compare_models` as a line for each model."""
    lines = []
    for name, scores in models.items():
        parts = []
        if "documents" in scores:
            parts.append(f"perplexity {scores['documents']['perplexity']:.2f}")
        if "answers" in scores:
            parts.append(f"answers right {100 * scores['answers']['accuracy']:.1f} %")
        lines.append(f"{name:26} {', '.join(parts)}")
    return lines
