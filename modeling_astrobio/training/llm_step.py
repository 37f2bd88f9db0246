"""A training step of the language model, for the planner: built from a recipe without weights or data."""

import functools

import torch
from torch import nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from modeling_astrobio import AstroLLMConfig

from .errors import CheckpointError
from .llm_model import preset_config, random_model, with_adapter
from .llm_recipe import LLMRecipe
from .training_step import TrainingStep


__all__ = ["llm_step"]


def llm_step(recipe: LLMRecipe) -> TrainingStep:
    """Return the step a recipe trains with, at full rows.

    Raises:
        CheckpointError: If the recipe starts from a checkpoint whose config.json cannot be read.
    """
    config = _config(recipe)
    rows, length = recipe.training["per_device_train_batch_size"], recipe.data.sequence_length
    return TrainingStep.of(
        recipe,
        name=recipe.model.preset or str(recipe.model.checkpoint),
        identity=repr((recipe.model, recipe.adapter, rows, length, recipe.data.pack)),
        make_model=functools.partial(_model, recipe, config),
        make_batch=functools.partial(_batch, rows, length, recipe.data.pack),
        micro_batch=rows,
        items=rows * length,
        is_adapted=recipe.adapter.r > 0,
        quantization=recipe.model.quantization,
    )


def _config(recipe: LLMRecipe) -> PretrainedConfig | AstroLLMConfig:
    if recipe.model.preset is not None:
        return preset_config(recipe)
    try:
        return AutoConfig.from_pretrained(str(recipe.model.checkpoint))
    except Exception as error:
        raise CheckpointError(
            f"model.checkpoint={recipe.model.checkpoint!r} cannot be loaded: its config.json cannot be read: "
            f"{type(error).__name__}: {error}. It must be a folder or Hub id; to plan without it, name a preset of "
            "the same shape."
        ) from error


def _model(recipe: LLMRecipe, config: PretrainedConfig) -> nn.Module:
    model = random_model(recipe, config)
    # As transformers' Trainer sets it: no keys and values are kept for generation.
    model.config.use_cache = False
    if recipe.model.quantization:
        _as_prepared_for_quantised_training(model)
    return with_adapter(recipe, model)


def _as_prepared_for_quantised_training(model: PreTrainedModel) -> None:
    """Widen to float32 what peft's `prepare_model_for_kbit_training` widens: all but the quantised linear layers."""
    head = model.get_output_embeddings()
    quantised = {
        id(module.weight) for module in model.modules() if isinstance(module, nn.Linear) and module is not head
    }
    for parameter in model.parameters():
        if id(parameter) not in quantised:
            parameter.data = parameter.data.float()


def _batch(rows: int, length: int, packed: bool) -> dict[str, torch.Tensor]:
    """Return rows as `collate_packed` makes them: without padding, the longest there are."""
    batch = {name: torch.ones(rows, length, dtype=torch.long) for name in ("input_ids", "labels")}
    positions = torch.arange(length) % (max(1, length // 2) if packed else length)
    return {**batch, "position_ids": positions.repeat(rows, 1), "num_items_in_batch": torch.tensor(rows * length)}
