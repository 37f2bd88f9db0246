"""Configurations of AstroLLM and of the transformers models it is a common description of.

Every conversion passes through `AstroLLMConfig`: `to_astro_llm_config` reads Llama, Mistral, Qwen2 and Qwen3
configurations, `from_astro_llm_config` writes them or says why none fits.
"""

import copy
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import LlamaConfig, MistralConfig, PreTrainedConfig, Qwen2Config, Qwen3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from ..configuration_astro_llm import AstroLLMConfig
from .errors import CheckpointError


__all__ = ["CONFIG_CLASSES", "from_astro_llm_config", "read_config", "to_astro_llm_config"]

CONFIG_CLASSES: dict[str, type[PreTrainedConfig]] = {
    "astro_llm": AstroLLMConfig,
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
}

# Named and meant alike in every one of these classes.
_SHARED_FIELDS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "use_cache",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
    "tie_word_embeddings",
    "rope_parameters",
    "attention_dropout",
)
_INHERITED_FIELDS = {field.name for field in fields(PreTrainedConfig)}
_ASTRO_LLM_FIELDS = {
    field.name: field.default for field in fields(AstroLLMConfig) if field.name not in _INHERITED_FIELDS
}
# What `_obstacles` and `_build` translate, and what changes training alone; any other field must keep its default.
_TRANSLATED_FIELDS = {
    *_SHARED_FIELDS,
    "attention_bias",
    "attention_output_bias",
    "head_dim",
    "layer_types",
    "loss_chunk_size",
    "mlp_bias",
    "sliding_window",
    "use_qk_norm",
}

# Keys of a config.json that no class declares as a field but that transformers itself writes or understands.
_KNOWN_KEYS = {
    "_attn_implementation",
    "_name_or_path",
    "attn_implementation",
    "auto_map",
    "head_dim",
    "layer_types",
    "model_type",
    "num_labels",
    "rope_scaling",
    "rope_theta",
    "torch_dtype",
}

_REFUSALS = (StrictDataclassError, ValueError, TypeError, KeyError)


def read_config(folder: Path) -> tuple[PreTrainedConfig, list[str]]:
    """Read a checkpoint's configuration with the class transformers has for its model type.

    Args:
        folder: The checkpoint.

    Returns:
        The configuration, and the keys of config.json that its class does not use.

    Raises:
        CheckpointError: If the folder or its config.json is absent or broken, or names a model that does not convert.
    """
    path = folder / "config.json"
    if not folder.is_dir():
        raise CheckpointError(
            f"source must be a checkpoint folder on disk; got {str(folder)!r}. "
            "Download one with `hf download REPOSITORY --local-dir FOLDER`."
        )
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: source must be a folder that save_pretrained wrote.")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        model_type = raw.get("model_type")
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} must be a JSON object; got {error!r}.") from error
    if model_type not in CONFIG_CLASSES:
        raise CheckpointError(f"{path}: model_type must be one of {sorted(CONFIG_CLASSES)}; got {model_type!r}.")
    if raw.get("quantization_config") is not None:
        method = raw["quantization_config"].get("quant_method", "unnamed")
        raise CheckpointError(
            f"{path}: quantization_config ({method}) is not supported. Start from the unquantised weights."
        )
    if raw.get("per_layer_config") is not None:
        raise CheckpointError(f"{path}: per_layer_config is not supported: AstroLLM's layers have one shape.")
    if raw.get("auto_map") is not None and model_type != "astro_llm":
        raise CheckpointError(
            f"{path}: auto_map says that the checkpoint runs code of its own, which need not be transformers' "
            f"{model_type}. If it computes the same function, remove auto_map from config.json."
        )
    config_class = CONFIG_CLASSES[model_type]
    try:
        config = config_class.from_pretrained(folder)
    except _REFUSALS as error:
        raise CheckpointError(f"{path}: {config_class.__name__} refuses it: {_one_line(error)}") from error
    used = {field.name for field in fields(config_class)} | _KNOWN_KEYS
    return config, sorted(key for key in raw if key not in used)


def to_astro_llm_config(config: PreTrainedConfig, vocab_size: int | None = None) -> AstroLLMConfig:
    """Describe a Llama, Mistral, Qwen2, Qwen3 or AstroLLM as an AstroLLM.

    Args:
        config: The configuration to describe.
        vocab_size: Number of tokens of the result; `None` keeps the configuration's.

    Raises:
        CheckpointError: If AstroLLM does not compute what the configuration asks for; the message names the field.
    """
    if config.model_type not in CONFIG_CLASSES:
        raise CheckpointError(f"model_type must be one of {sorted(CONFIG_CLASSES)}; got {config.model_type!r}.")
    if config.model_type == "astro_llm":
        values = {name: getattr(config, name) for name in _ASTRO_LLM_FIELDS}
    else:
        values = {name: getattr(config, name) for name in _SHARED_FIELDS}
        values["attention_dropout"] = values["attention_dropout"] or 0.0
        # Qwen2 has no such field, but its layers use one where config.json sets it.
        values["head_dim"] = getattr(config, "head_dim", None)
        values |= _fields_of_type(config)
    if vocab_size is not None:
        values["vocab_size"] = vocab_size
    _check_rope(values["rope_parameters"])
    try:
        return AstroLLMConfig(**copy.deepcopy(values))
    except _REFUSALS as error:
        raise CheckpointError(
            f"AstroLLM cannot express this {config.model_type} config: {_one_line(error)}"
        ) from error


def from_astro_llm_config(config: AstroLLMConfig, to: str | None = None) -> PreTrainedConfig:
    """Describe an AstroLLM as the first of Llama, Mistral, Qwen2 and Qwen3 that computes the same function.

    Args:
        config: The configuration to describe.
        to: The model type to use; `None` chooses.

    Raises:
        CheckpointError: If no model type, or not the one asked for, fits; the message says what stands against each.
    """
    if to is not None and to not in CONFIG_CLASSES:
        raise CheckpointError(f"to must be one of {sorted(CONFIG_CLASSES)}; got {to!r}.")
    candidates = [to] if to is not None else [name for name in CONFIG_CLASSES if name != "astro_llm"]
    against = {name: _obstacles(config, name) for name in candidates}
    for name, obstacles in against.items():
        if not obstacles:
            return _build(config, name)
    reasons = "; ".join(f"{name}: {', '.join(obstacles)}" for name, obstacles in against.items())
    raise CheckpointError(f"this AstroLLM config cannot be expressed as {' or '.join(candidates)}. {reasons}.")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _fields_of_type(config: PreTrainedConfig) -> dict[str, Any]:
    """The AstroLLM fields that depend on the model type of a foreign configuration."""
    layers = config.num_hidden_layers
    if config.model_type == "llama":
        if (config.pretraining_tp or 1) > 1:
            raise CheckpointError(
                f"pretraining_tp must be 1; got {config.pretraining_tp}. It splits matrix products without changing "
                "weights: set it to 1 in config.json."
            )
        _check_layer_types(config, "full_attention", window=None)
        return {
            "attention_bias": config.attention_bias,
            "mlp_bias": config.mlp_bias,
            "layer_types": ["full_attention"] * layers,
        }
    if config.model_type == "mistral":
        kind = "full_attention" if config.sliding_window is None else "sliding_attention"
        _check_layer_types(config, kind, window=config.sliding_window)
        return {"sliding_window": config.sliding_window, "layer_types": [kind] * layers}
    slides = "sliding_attention" in config.layer_types
    if slides and config.sliding_window is None:
        raise CheckpointError(
            "layer_types has 'sliding_attention', but use_sliding_window is false. Set it to true, or remove "
            "layer_types."
        )
    values = {"sliding_window": config.sliding_window if slides else None, "layer_types": config.layer_types}
    if config.model_type == "qwen2":
        return {**values, "attention_bias": True, "attention_output_bias": False}
    return {**values, "attention_bias": config.attention_bias, "use_qk_norm": True}


def _check_layer_types(config: PreTrainedConfig, kind: str, window: int | None) -> None:
    """Refuse what Llama and Mistral layers ignore but transformers' cache obeys."""
    if set(getattr(config, "layer_types", None) or [kind]) != {kind}:
        raise CheckpointError(
            f"layer_types must be absent or all {kind!r} for model_type {config.model_type!r}, whose layers do not "
            f"read it; got {config.layer_types}."
        )
    if getattr(config, "sliding_window", None) != window:
        raise CheckpointError(
            f"sliding_window must be absent for model_type {config.model_type!r}, whose layers do not read it; got "
            f"{config.sliding_window}. If the model was trained with it, model_type should be 'mistral'."
        )


def _check_rope(rope_parameters: dict | None) -> None:
    known = ["default", *sorted(set(ROPE_INIT_FUNCTIONS) - {"proportional"})]
    rope_parameters = rope_parameters or {}
    rope_type = rope_parameters.get("rope_type", "default")
    if any(isinstance(value, dict) for value in rope_parameters.values()):
        raise CheckpointError("rope_parameters must be one set for all layers; got one for each layer type.")
    if rope_type not in known:
        raise CheckpointError(f"rope_parameters['rope_type'] must be one of {known}; got {rope_type!r}.")
    if rope_parameters.get("partial_rotary_factor") not in (None, 1, 1.0):
        raise CheckpointError(
            "rope_parameters['partial_rotary_factor'] must be absent or 1: AstroLLM rotates whole heads; got "
            f"{rope_parameters['partial_rotary_factor']}."
        )
    if rope_parameters.get("mrope_section") is not None:
        raise CheckpointError("rope_parameters['mrope_section'] is for images and video; AstroLLM reads text only.")


def _obstacles(config: AstroLLMConfig, to: str) -> list[str]:
    """What stands against expressing `config` as model type `to`; empty if nothing does."""
    if to == "astro_llm":
        return []
    kinds = set(config.layer_types or [])
    foreign = [f"layer_types has {kind!r}" for kind in sorted(kinds - {"full_attention", "sliding_attention"})]
    for name, default in _ASTRO_LLM_FIELDS.items():
        if name not in _TRANSLATED_FIELDS and getattr(config, name) != default:
            foreign.append(f"{name} has no counterpart")
    same_bias = config.attention_output_bias == config.attention_bias
    checks: dict[str, list[tuple[bool | None, str]]] = {
        "llama": [
            ("sliding_attention" in kinds, "layer_types has 'sliding_attention', its layers attend in full"),
            (not same_bias, "attention_output_bias must equal attention_bias"),
            (config.use_qk_norm, "use_qk_norm is not available"),
            (
                config.hidden_size % config.num_attention_heads != 0,
                f"hidden_size ({config.hidden_size}) must be a multiple of num_attention_heads "
                f"({config.num_attention_heads})",
            ),
        ],
        "mistral": [
            (len(kinds) > 1, "layer_types mixes full and sliding layers, its layers are all of one kind"),
            (config.attention_bias or config.attention_output_bias, "its attention has no biases"),
            (config.mlp_bias, "mlp_bias is not available"),
            (config.use_qk_norm, "use_qk_norm is not available"),
        ],
        "qwen2": [
            (not config.attention_bias, "attention_bias must be true"),
            (config.attention_output_bias, "attention_output_bias must be false"),
            (config.mlp_bias, "mlp_bias is not available"),
            (config.use_qk_norm, "use_qk_norm is not available"),
        ],
        "qwen3": [
            (not config.use_qk_norm, "use_qk_norm must be true"),
            (not same_bias, "attention_output_bias must equal attention_bias"),
            (config.mlp_bias, "mlp_bias is not available"),
        ],
    }
    return foreign + [reason for applies, reason in checks[to] if applies]


def _build(config: AstroLLMConfig, to: str) -> PreTrainedConfig:
    if to == "astro_llm":
        return config
    values = copy.deepcopy({name: getattr(config, name) for name in _SHARED_FIELDS})
    layer_types = list(config.layer_types or [])
    slides = "sliding_attention" in layer_types
    if to != "qwen2" or config.head_dim != config.hidden_size // config.num_attention_heads:
        values["head_dim"] = config.head_dim
    if to == "llama":
        values |= {"attention_bias": config.attention_bias, "mlp_bias": config.mlp_bias}
    elif to == "mistral":
        values["sliding_window"] = config.sliding_window if slides else None
    else:
        values |= {
            "use_sliding_window": slides,
            "sliding_window": config.sliding_window if slides else None,
            # For software that reads this instead of layer_types; exact where the sliding layers are the last ones.
            "max_window_layers": layer_types.index("sliding_attention") if slides else len(layer_types),
            "layer_types": layer_types,
        }
    if to == "qwen3":
        values["attention_bias"] = config.attention_bias
    return CONFIG_CLASSES[to](**values)
