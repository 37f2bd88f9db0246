"""Recipes of the language model: YAML that holds only what differs from the defaults below."""

import dataclasses
import difflib
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from transformers import TrainingArguments

from .errors import RecipeError


__all__ = [
    "AdapterSection",
    "DataSection",
    "EvaluationSection",
    "LLMRecipe",
    "ModelSection",
    "TokenizerSection",
    "load_recipe",
    "recipe_from_dict",
]


@dataclass
class ModelSection:
    """Where the model comes from.

    Attributes:
        preset: Preset of `AstroLLMConfig` to start from random weights; exactly one of this and `checkpoint`.
        checkpoint: Folder or Hub id of weights to continue from, loaded with `AutoModelForCausalLM`.
        config: Fields of `AstroLLMConfig` that differ from the preset.
        dtype: Precision of the weights: "float32", "bfloat16" or "float16".
        attn_implementation: Kernel of the attention: "eager", "sdpa", "flex_attention", "flash_attention_2",
            "flash_attention_3"; `None` lets transformers choose.
        quantization: "4bit" or "8bit" loading by bitsandbytes; needs `checkpoint` and an adapter.
    """

    preset: str | None = None
    checkpoint: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    attn_implementation: str | None = None
    quantization: str | None = None


@dataclass
class AdapterSection:
    """LoRA by peft; off while `r` is 0.

    Attributes:
        r: Rank of the update.
        alpha: Scale; the update is multiplied by alpha / r.
        dropout: Dropout on the adapter's input.
        target_modules: Names of the linear layers; `None` means all of attention and feed-forward.
    """

    r: int = 0
    alpha: int = 32
    dropout: float = 0.0
    target_modules: list[str] | None = None


@dataclass
class TokenizerSection:
    """Where the tokenizer comes from.

    Attributes:
        path: Folder or Hub id; `None` takes the checkpoint's, or trains one on the training split where the model
            starts from a preset.
    """

    path: str | None = None


@dataclass
class DataSection:
    """What to train on.

    Attributes:
        dataset_name: Anything `datasets.load_dataset` opens; `None` is the embedded planets.
        dataset_config: Its configuration.
        train_split: Split to train on.
        validation_split: Split evaluated during training.
        test_split: Split of the final evaluation.
        streaming: Read without downloading first; needs `training.max_steps`. Rows keep their stored order, since a
            shuffle buffer would lose rows on resume, and start again at their end. Tokenizer, baselines and final
            evaluation see the first 10,000 rows.
        text_column: Documents; every token is learned.
        messages_column: Conversations; the last message is learned.
        learn_prompts: Learn every token of a conversation, as pretraining does, not only the last message.
        sequence_length: Tokens in a row.
        pack: Put several documents into a row, kept apart by the attention mask.
        max_rows: Take only so many rows of each split; 0 takes all.
    """

    dataset_name: str | None = None
    dataset_config: str | None = None
    train_split: str = "train"
    validation_split: str = "validation"
    test_split: str = "test"
    streaming: bool = False
    text_column: str = "text"
    messages_column: str = "messages"
    learn_prompts: bool = False
    sequence_length: int = 512
    pack: bool = True
    max_rows: int = 0


@dataclass
class EvaluationSection:
    """The evaluation after training.

    Attributes:
        max_questions: Held-out questions answered by generation; 0 skips them.
        max_new_tokens: Longest answer.
        batch_size: Questions answered at one time.
        ngram_order: Order of the n-gram baseline.
    """

    max_questions: int = 400
    max_new_tokens: int = 24
    batch_size: int = 32
    ngram_order: int = 5


@dataclass
class LLMRecipe:
    """Everything a run of `recipes/train_llm.py` depends on.

    Attributes:
        output_dir: Folder of the run.
        device: "auto", "cpu" or "cuda"; "cuda" refuses to run without one.
        cpu_threads: Threads of a single process on the CPU, whatever OMP_NUM_THREADS says; `None` is one for each
            core. Results are bit-identical only between runs of the same number.
        model: See `ModelSection`.
        adapter: See `AdapterSection`.
        tokenizer: See `TokenizerSection`.
        data: See `DataSection`.
        evaluation: See `EvaluationSection`.
        training: Arguments of `transformers.TrainingArguments` over `TRAINING_DEFAULTS`.
    """

    output_dir: str = ""
    device: str = "auto"
    cpu_threads: int | None = None
    model: ModelSection = field(default_factory=ModelSection)
    adapter: AdapterSection = field(default_factory=AdapterSection)
    tokenizer: TokenizerSection = field(default_factory=TokenizerSection)
    data: DataSection = field(default_factory=DataSection)
    evaluation: EvaluationSection = field(default_factory=EvaluationSection)
    training: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe with every default filled in."""
        return dataclasses.asdict(self)


TRAINING_DEFAULTS: dict[str, Any] = {
    "seed": 0,
    "learning_rate": 3e-4,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.03,
    "weight_decay": 0.1,
    "adam_beta2": 0.95,
    "max_grad_norm": 1.0,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 8,
    "num_train_epochs": 1.0,
    # Each step's loss is logged, so that a resumed run can be compared with an uninterrupted one.
    "logging_steps": 1,
    "eval_strategy": "steps",
    "eval_steps": 0.1,
    "save_strategy": "steps",
    "save_steps": 0.1,
    "save_total_limit": 2,
    "report_to": "none",
    "include_num_input_tokens_seen": "non_padding",
    "dataloader_drop_last": False,
}

# The run sets these itself, or they would undo what it promises; each with what to do instead.
_RESERVED_TRAINING = {
    "output_dir": "set output_dir at the top of the recipe",
    "push_to_hub": "upload the finished folder with `hf upload`",
    "resume_from_checkpoint": "pass --resume",
    "overwrite_output_dir": "choose another output_dir",
    "remove_unused_columns": "the data section names the columns",
    "load_best_model_at_end": "the run ends with its last weights; keep more checkpoints with save_total_limit",
    "use_cpu": "set device: cpu at the top of the recipe",
    "save_only_model": "a checkpoint without its optimizer cannot be continued; keep fewer with save_total_limit",
    "ignore_data_skip": "a resumed run goes on with the data that the interrupted one had not seen",
}
_DTYPES = ("float32", "bfloat16", "float16")


def load_recipe(source: str | Path, overrides: list[str] | None = None, folder: Path | None = None) -> LLMRecipe:
    """Read a recipe from YAML and apply overrides.

    Args:
        source: Path of a YAML file, or the name of one in `folder`, such as "nano".
        overrides: Texts `section.key=value`, the value in YAML.
        folder: Where named recipes lie.

    Raises:
        RecipeError: If the recipe is absent, is not YAML, or has an unknown key or a wrong value.
    """
    path = Path(source)
    if not path.is_file() and folder is not None:
        path = folder / f"{source}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in folder.glob("*.yaml")) if folder is not None else []
        raise RecipeError(f"recipe must be a YAML file or one of {known}; got {str(source)!r}.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {path.name} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"recipe {path.name} must be a mapping of sections; got {type(values).__name__}.")
    for override in overrides or []:
        key, separator, text = override.partition("=")
        if not separator:
            raise RecipeError(f"an override must be section.key=value; got {override!r}.")
        *sections, last = key.split(".")
        target = values
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise RecipeError(f"{override!r}: {section!r} is a value, not a section.")
        try:
            target[last] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise RecipeError(f"{override!r}: the value is not valid YAML: {error}") from error
    values.setdefault("output_dir", f"outputs/llm-{path.stem}")
    return recipe_from_dict(values)


def recipe_from_dict(values: dict[str, Any]) -> LLMRecipe:
    """Check a recipe's keys, types and values, and fill in the defaults.

    Raises:
        RecipeError: Naming the key, what it needs, what it got, and the nearest known key.
    """
    recipe = _section(LLMRecipe, values, "")
    known = {f.name: f.type for f in dataclasses.fields(TrainingArguments) if f.init}
    for key in recipe.training:
        if key in _RESERVED_TRAINING:
            raise RecipeError(f"training.{key} is not taken; {_RESERVED_TRAINING[key]}.")
        if key not in known:
            raise RecipeError(_unknown(f"training.{key}", str(key), known))
    recipe.training = {
        key: _value(known[key], value, f"training.{key}")
        for key, value in {**TRAINING_DEFAULTS, **recipe.training}.items()
    }
    _check(recipe)
    return recipe


def _check(recipe: LLMRecipe) -> None:
    model, data = recipe.model, recipe.data
    if (model.preset is None) == (model.checkpoint is None):
        raise RecipeError(
            f"exactly one of model.preset and model.checkpoint must be set; got preset={model.preset!r}, "
            f"checkpoint={model.checkpoint!r}."
        )
    for name, value, allowed in (
        ("device", recipe.device, ("auto", "cpu", "cuda")),
        ("model.dtype", model.dtype, _DTYPES),
        ("model.quantization", model.quantization, (None, "4bit", "8bit")),
    ):
        if value not in allowed:
            raise RecipeError(f"{name} must be one of {allowed}; got {value!r}.")
    if model.quantization and (model.checkpoint is None or recipe.adapter.r == 0):
        raise RecipeError(
            f"model.quantization={model.quantization!r} freezes the weights, so it needs model.checkpoint (got "
            f"{model.checkpoint!r}) and adapter.r above 0 (got {recipe.adapter.r})."
        )
    if model.checkpoint is not None and model.config:
        raise RecipeError(
            f"model.config changes a preset, and a checkpoint has its own; got {sorted(model.config)}. Remove them."
        )
    for name, number, least in (
        ("cpu_threads", 1 if recipe.cpu_threads is None else recipe.cpu_threads, 1),
        ("data.sequence_length", data.sequence_length, 2),
        ("data.max_rows", data.max_rows, 0),
        ("adapter.r", recipe.adapter.r, 0),
        ("evaluation.max_questions", recipe.evaluation.max_questions, 0),
        ("evaluation.ngram_order", recipe.evaluation.ngram_order, 1),
        ("evaluation.batch_size", recipe.evaluation.batch_size, 1),
        ("evaluation.max_new_tokens", recipe.evaluation.max_new_tokens, 1),
    ):
        if number < least:
            raise RecipeError(f"{name} must be at least {least}; got {number}.")
    if data.streaming and recipe.training.get("max_steps", -1) < 1:
        raise RecipeError(
            "data.streaming needs training.max_steps of at least 1, since a stream has no length; got "
            f"{recipe.training.get('max_steps', -1)}."
        )


def _section(cls: type, values: Any, prefix: str) -> Any:
    if not isinstance(values, dict):
        raise RecipeError(f"{prefix.rstrip('.') or 'recipe'} must be a mapping; got {values!r}.")
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in hints:
            raise RecipeError(_unknown(f"{prefix}{key}", str(key), hints))
    arguments = {
        key: _section(hints[key], value, f"{prefix}{key}.")
        if dataclasses.is_dataclass(hints[key])
        else _value(hints[key], value, f"{prefix}{key}")
        for key, value in values.items()
    }
    return cls(**arguments)


def _unknown(name: str, key: str, known: typing.Iterable[str]) -> str:
    near = difflib.get_close_matches(key, list(known), n=1)
    return f"unknown recipe key {name!r}." + (f" Did you mean {near[0]!r}?" if near else f" Known: {sorted(known)}.")


def _value(hint: Any, value: Any, name: str) -> Any:
    """Check a value against a type; YAML reads 1e-4 as text, so numbers in text are numbers."""
    is_union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    options = typing.get_args(hint) if is_union else (hint,)
    plain = [typing.get_origin(option) or option for option in options]
    if any(not isinstance(option, type) for option in plain):
        return value
    if isinstance(value, bool):
        if bool in plain:
            return value
    elif isinstance(value, tuple(plain)):
        return value
    elif float in plain:
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    expected = " or ".join(getattr(option, "__name__", str(option)) for option in plain)
    raise RecipeError(f"{name} must be {expected}; got {value!r} ({type(value).__name__}).")
