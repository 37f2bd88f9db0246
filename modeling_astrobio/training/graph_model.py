"""The configuration, the processor and the model that a recipe of the graph VAE asks for."""

from pathlib import Path
from typing import Any, Protocol

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModel

from modeling_astrobio import AstroGraphVAEConfig, AstroGraphVAEProcessor

from .errors import CheckpointError, RecipeError
from .graph_recipe import GraphModelSection


__all__ = ["build_graph_model", "graph_config", "graph_processor", "random_graph_model", "start_name"]


class GraphModelRecipe(Protocol):
    """A recipe that says so where the model comes from."""

    model: GraphModelSection


def graph_config(recipe: GraphModelRecipe) -> AstroGraphVAEConfig:
    """Return the configuration of the recipe's preset or checkpoint.

    Raises:
        RecipeError: If a field is unknown or sizes do not fit.
        CheckpointError: If the checkpoint's cannot be read, or is of another model.
    """
    settings = recipe.model
    if settings.preset is not None:
        try:
            return AstroGraphVAEConfig.from_preset(settings.preset, **settings.config)
        except (TypeError, ValueError, StrictDataclassError) as error:
            raise RecipeError(
                f"model.preset={settings.preset!r} with model.config={settings.config}: {error}"
            ) from error
    try:
        config = AutoConfig.from_pretrained(str(settings.checkpoint))
    except Exception as error:
        raise CheckpointError(
            f"model.checkpoint={settings.checkpoint!r} cannot be loaded: its config.json cannot be read: "
            f"{type(error).__name__}: {error}. It must be a folder or Hub id."
        ) from error
    if not isinstance(config, AstroGraphVAEConfig):
        raise CheckpointError(
            f"model.checkpoint must be an AstroGraphVAE; got {settings.checkpoint!r}, of type {config.model_type!r}."
        )
    return config


def graph_processor(config: AstroGraphVAEConfig) -> AstroGraphVAEProcessor:
    """Return the processor of a configuration."""
    return AstroGraphVAEProcessor(config.atom_types, config.max_nodes)


def build_graph_model(recipe: GraphModelRecipe, config: AstroGraphVAEConfig, auto_class: Any = AutoModel) -> Any:
    """Make the model with random weights, or load its checkpoint.

    Args:
        recipe: Names the preset or the checkpoint.
        config: Of `graph_config`.
        auto_class: Auto class of the model; of a checkpoint of another class the weights in common are taken.

    Raises:
        RecipeError: If the attention kernel cannot be used.
        CheckpointError: If the checkpoint cannot be loaded.
    """
    settings = recipe.model
    if settings.checkpoint is None:
        return random_graph_model(recipe, config, auto_class)
    try:
        return auto_class.from_pretrained(settings.checkpoint, **_options(recipe))
    except Exception as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            raise
        raise CheckpointError(
            f"model.checkpoint={settings.checkpoint!r} cannot be loaded: {type(error).__name__}: {error}. "
            "It must be a folder or Hub id with config.json and whole safetensors."
        ) from error


def random_graph_model(recipe: GraphModelRecipe, config: AstroGraphVAEConfig, auto_class: Any = AutoModel) -> Any:
    """Make a model of a configuration with random weights of the recipe's precision.

    Raises:
        RecipeError: If the attention kernel cannot be used.
    """
    try:
        return auto_class.from_config(config, **_options(recipe))
    except (ImportError, ValueError) as error:
        raise RecipeError(
            f"model.attn_implementation={recipe.model.attn_implementation!r} cannot be used: {error}"
        ) from error


def _options(recipe: GraphModelRecipe) -> dict[str, Any]:
    settings = recipe.model
    return {"dtype": getattr(torch, settings.dtype), "attn_implementation": settings.attn_implementation}


def start_name(recipe: GraphModelRecipe) -> str:
    """Return what the model started from, without the folders it lay in."""
    return recipe.model.preset or Path(str(recipe.model.checkpoint)).name
