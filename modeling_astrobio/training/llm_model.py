"""The tokenizer and the model a recipe asks for."""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from modeling_astrobio import AstroLLMConfig

from .adapters import add_lora, lora_config, quantization_config
from .errors import CheckpointError, RecipeError
from .llm_recipe import LLMRecipe
from .tokenizer import train_tokenizer


__all__ = ["build_model", "build_tokenizer", "checkpoint_name", "preset_config", "random_model", "with_adapter"]


def preset_config(recipe: LLMRecipe, **overrides: Any) -> AstroLLMConfig:
    """Return the configuration of the recipe's preset.

    Raises:
        RecipeError: If a field is unknown or sizes do not fit.
    """
    try:
        return AstroLLMConfig.from_preset(str(recipe.model.preset), **{**recipe.model.config, **overrides})
    except (TypeError, ValueError, StrictDataclassError) as error:
        raise RecipeError(
            f"model.preset={recipe.model.preset!r} with model.config={recipe.model.config}: {error}"
        ) from error


def build_tokenizer(recipe: LLMRecipe, texts: Any) -> PreTrainedTokenizerBase:
    """Load the recipe's tokenizer, or train one on `texts` with the preset's vocabulary size."""
    source = recipe.tokenizer.path or recipe.model.checkpoint
    if source is None:
        config = preset_config(recipe)
        try:
            return train_tokenizer(texts, config.vocab_size, config.max_position_embeddings)
        except ValueError as error:
            raise RecipeError(f"model.config.vocab_size does not do for a tokenizer: {error}") from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as error:
        raise CheckpointError(
            f"no tokenizer can be loaded from {source!r}: {type(error).__name__}: {error}. Set tokenizer.path to a "
            "folder that has a whole one."
        ) from error
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise RecipeError(
            f"the tokenizer of {source!r} must have a padding token that is not its end token "
            f"({tokenizer.eos_token!r}); got {tokenizer.pad_token!r}. Set pad_token in its tokenizer_config.json."
        )
    return tokenizer


def build_model(recipe: LLMRecipe, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel | PeftModel:
    """Make the model from a preset with random weights, or load its checkpoint; add the adapter.

    Raises:
        RecipeError: If the tokenizer has more tokens than the model, or rows are longer than its positions.
        CheckpointError: If the checkpoint cannot be loaded.
    """
    settings = recipe.model
    dtype = getattr(torch, settings.dtype)
    if settings.preset is not None:
        if settings.quantization:
            raise RecipeError(
                f"model.quantization={settings.quantization!r} needs the weights of a model.checkpoint; got "
                f"model.preset={settings.preset!r}, whose weights are random."
            )
        config = preset_config(
            recipe,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        _check_fit(recipe, config, tokenizer)
        model = random_model(recipe, config)
    else:
        arguments: dict[str, Any] = {"dtype": dtype, "attn_implementation": settings.attn_implementation}
        if settings.quantization:
            arguments["quantization_config"] = quantization_config(settings.quantization, dtype)
        try:
            model = AutoModelForCausalLM.from_pretrained(str(settings.checkpoint), **arguments)
        except Exception as error:
            if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
                raise
            raise CheckpointError(
                f"model.checkpoint={settings.checkpoint!r} cannot be loaded: {type(error).__name__}: {error}. "
                "It must be a folder or Hub id with config.json and whole safetensors."
            ) from error
        _check_fit(recipe, model.config, tokenizer)
    return with_adapter(recipe, model)


def random_model(recipe: LLMRecipe, config: PretrainedConfig) -> PreTrainedModel:
    """Make a model of a configuration with random weights of the recipe's precision.

    Raises:
        RecipeError: If the recipe's attention kernel is unknown or not installed.
    """
    kernel = recipe.model.attn_implementation
    try:
        return AutoModelForCausalLM.from_config(
            config, dtype=getattr(torch, recipe.model.dtype), attn_implementation=kernel
        )
    except (ImportError, ValueError) as error:
        raise RecipeError(f"model.attn_implementation={kernel!r} cannot be used: {error}") from error


def with_adapter(recipe: LLMRecipe, model: PreTrainedModel) -> PreTrainedModel | PeftModel:
    """Add the recipe's adapter, if it has one.

    Raises:
        RecipeError: If the model has no such layers.
    """
    adapter = recipe.adapter
    if adapter.r == 0:
        return model
    try:
        return add_lora(model, lora_config(adapter.r, adapter.alpha, adapter.dropout, adapter.target_modules))
    except ValueError as error:
        raise RecipeError(f"the adapter section does not do for this model: {error}") from error


def _check_fit(recipe: LLMRecipe, config: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    if len(tokenizer) > config.vocab_size:
        raise RecipeError(
            f"the model's vocab_size must be at least the tokenizer's {len(tokenizer)} tokens; got "
            f"{config.vocab_size}. Set model.config.vocab_size, or another tokenizer."
        )
    if recipe.data.sequence_length > config.max_position_embeddings:
        raise RecipeError(
            f"data.sequence_length must be at most the model's max_position_embeddings "
            f"({config.max_position_embeddings}); got {recipe.data.sequence_length}. Shorten the rows, or set "
            "model.config.max_position_embeddings or rope_parameters."
        )


def checkpoint_name(recipe: LLMRecipe) -> str:
    """Return what the model started from, without the folders it lay in."""
    return recipe.model.preset or Path(str(recipe.model.checkpoint)).name
