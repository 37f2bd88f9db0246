"""The configuration and the model that a recipe asks for by a preset or a checkpoint."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModel, PreTrainedConfig

from .errors import CheckpointError, RecipeError


__all__ = [
    "PresetModelRecipe",
    "PresetModelSection",
    "build_preset_model",
    "checkpoint_config",
    "preset_config",
    "random_preset_model",
    "start_name",
]

Config = TypeVar("Config", bound=Any)


@dataclass
class PresetModelSection:
    """Where the model comes from.

    Attributes:
        preset: Preset of the model's configuration to start from random weights; exactly one of this and `checkpoint`.
        checkpoint: Folder or Hub id of weights to continue from, loaded with `AutoModel`.
        config: Fields of the configuration that differ from the preset.
        dtype: Precision of the weights: "float32" or "bfloat16".
        attn_implementation: Kernel of the attention, "eager" or "sdpa"; `None` lets transformers choose.
    """

    preset: str | None = None
    checkpoint: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    attn_implementation: str | None = None

    def check(self) -> None:
        """Refuse values that contradict one another.

        Raises:
            RecipeError: Naming the key, what it needs and what it got.
        """
        if (self.preset is None) == (self.checkpoint is None):
            raise RecipeError(
                f"exactly one of model.preset and model.checkpoint must be set; got preset={self.preset!r}, "
                f"checkpoint={self.checkpoint!r}."
            )
        if self.checkpoint is not None and self.config:
            raise RecipeError(
                f"model.config changes a preset, and a checkpoint has its own; got {sorted(self.config)}. Remove them."
            )
        if self.dtype not in ("float32", "bfloat16"):
            raise RecipeError(f"model.dtype must be float32 or bfloat16; got {self.dtype!r}.")


class PresetModelRecipe(Protocol):
    """A recipe that says so where the model comes from."""

    model: PresetModelSection


def preset_config(recipe: PresetModelRecipe, config_class: type[Config]) -> Config:
    """Return the configuration of the recipe's preset or checkpoint.

    Args:
        recipe: Names one of them.
        config_class: Of the configuration; has `from_preset`.

    Raises:
        RecipeError: If a field is unknown or sizes do not fit.
        CheckpointError: If the checkpoint's cannot be read, or is of another model.
    """
    settings = recipe.model
    if settings.preset is not None:
        try:
            return config_class.from_preset(settings.preset, **settings.config)
        except (TypeError, ValueError, StrictDataclassError) as error:
            raise RecipeError(
                f"model.preset={settings.preset!r} with model.config={settings.config}: {error}"
            ) from error
    return checkpoint_config("model.checkpoint", str(settings.checkpoint), config_class)


def checkpoint_config(key: str, source: str, config_class: type[Config]) -> Config:
    """Return the configuration of the checkpoint that a key of a recipe names.

    Args:
        key: Such as `model.checkpoint`, for errors.
        source: Folder or Hub id.
        config_class: Of the configuration.

    Raises:
        CheckpointError: If it cannot be read, or is of another model.
    """
    try:
        config = AutoConfig.from_pretrained(source)
    except Exception as error:
        raise CheckpointError(
            f"{key}={source!r} cannot be loaded: its config.json cannot be read: {type(error).__name__}: {error}. "
            "It must be a folder or Hub id."
        ) from error
    if not isinstance(config, config_class):
        raise CheckpointError(
            f"{key} must be an {config_class.__name__.removesuffix('Config')}; got {source!r}, of type "
            f"{config.model_type!r}."
        )
    return config


def build_preset_model(recipe: PresetModelRecipe, config: PreTrainedConfig, auto_class: Any = AutoModel) -> Any:
    """Make the model with random weights, or load its checkpoint.

    Args:
        recipe: Names the preset or the checkpoint.
        config: Of `preset_config`.
        auto_class: Auto class of the model; of a checkpoint of another class the weights in common are taken.

    Raises:
        RecipeError: If the attention kernel cannot be used.
        CheckpointError: If the checkpoint cannot be loaded.
    """
    settings = recipe.model
    if settings.checkpoint is None:
        return random_preset_model(recipe, config, auto_class)
    try:
        return auto_class.from_pretrained(settings.checkpoint, config=config, **_options(recipe))
    except Exception as error:
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            raise
        raise CheckpointError(
            f"model.checkpoint={settings.checkpoint!r} cannot be loaded: {type(error).__name__}: {error}. "
            "It must be a folder or Hub id with config.json and whole safetensors."
        ) from error


def random_preset_model(recipe: PresetModelRecipe, config: PreTrainedConfig, auto_class: Any = AutoModel) -> Any:
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


def _options(recipe: PresetModelRecipe) -> dict[str, Any]:
    settings = recipe.model
    return {"dtype": getattr(torch, settings.dtype), "attn_implementation": settings.attn_implementation}


def start_name(recipe: PresetModelRecipe) -> str:
    """Return what the model started from, without the folders it lay in."""
    return recipe.model.preset or Path(str(recipe.model.checkpoint)).name
