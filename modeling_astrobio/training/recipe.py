"""Recipes: YAML that holds only what differs from the defaults below, checked key by key."""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from transformers import TrainingArguments

from .errors import RecipeError
from .loss_guard import StabilitySection
from .monitoring.settings import MonitorSection
from .schedules import SCHEDULE_NAMES
from .strategy import ACTIVATION_CHECKPOINTING, OPTIMIZER_NAMES, SHARDINGS, Strategy


__all__ = ["TRAINING_DEFAULTS", "Recipe", "lay_over", "load_recipe", "read_yaml", "recipe_from_dict"]


@dataclass
class Recipe:
    """What the recipe of any model has; each model adds its own sections.

    Attributes:
        output_dir: Folder of the run.
        device: "auto", "cpu" or "cuda"; "cuda" refuses to run without one.
        cpu_threads: Threads of a single process on the CPU, whatever OMP_NUM_THREADS says; `None` is one for each
            core. Results are bit-identical only between runs of the same number.
        schedule: Of the learning rate: one of `schedules.SCHEDULE_NAMES`; its options are
            `training.lr_scheduler_kwargs`.
        ema_decay: Decay of an exponential moving average of the trained weights, such as 0.999, which is then what is
            evaluated and published; 0 keeps none.
        strategy: See `Strategy`.
        stability: See `StabilitySection`.
        monitor: See `MonitorSection`.
        training: Arguments of `transformers.TrainingArguments` over `TRAINING_DEFAULTS`.
    """

    kind: ClassVar[str]
    training_defaults: ClassVar[Mapping[str, Any]] = {}
    """Laid over `TRAINING_DEFAULTS` for this kind."""

    output_dir: str = ""
    device: str = "auto"
    cpu_threads: int | None = None
    schedule: str = "cosine"
    ema_decay: float = 0.0
    strategy: Strategy = field(default_factory=Strategy)
    stability: StabilitySection = field(default_factory=StabilitySection)
    monitor: MonitorSection = field(default_factory=MonitorSection)
    training: dict[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse values that no run could have; a model's recipe checks its sections too.

        Raises:
            RecipeError: Naming the key, what it needs and what it got.
        """
        strategy = self.strategy
        for name, value, allowed in (
            ("device", self.device, ("auto", "cpu", "cuda")),
            ("schedule", self.schedule, SCHEDULE_NAMES),
            ("strategy.sharding", strategy.sharding, SHARDINGS),
            ("strategy.optimizer", strategy.optimizer, OPTIMIZER_NAMES),
            ("strategy.activation_checkpointing", strategy.activation_checkpointing, ACTIVATION_CHECKPOINTING),
        ):
            if value not in allowed:
                raise RecipeError(f"{name} must be one of {allowed}; got {value!r}.")
        for name, number, least in (
            ("cpu_threads", 1 if self.cpu_threads is None else self.cpu_threads, 1),
            ("training.per_device_train_batch_size", self.training["per_device_train_batch_size"], 1),
            ("training.gradient_accumulation_steps", self.training.get("gradient_accumulation_steps", 1), 1),
            ("stability.spike_sigma", self.stability.spike_sigma, 0),
            ("stability.spike_history", self.stability.spike_history, 30),
            ("stability.max_rollbacks", self.stability.max_rollbacks, 0),
            ("monitor.window_steps", self.monitor.window_steps, 1),
            *((f"monitor.{name}", value, 0) for name, value in vars(self.monitor).items() if name != "window_steps"),
        ):
            if number < least:
                raise RecipeError(f"{name} must be at least {least}; got {number}.")
        if self.training["logging_nan_inf_filter"]:
            raise RecipeError("training.logging_nan_inf_filter must be false: it hides losses that are no number.")
        if not 0 <= self.ema_decay < 1:
            raise RecipeError(f"ema_decay must be at least 0 and below 1; got {self.ema_decay}.")

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe with every default filled in."""
        return dataclasses.asdict(self)


AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)


TRAINING_DEFAULTS: dict[str, Any] = {
    "seed": 0,
    "learning_rate": 3e-4,
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
    # Every weight has a part in every loss; looking for those without costs a walk over the graph in each step.
    "ddp_find_unused_parameters": False,
    "ddp_timeout": 1800,
    # A loss that is not a number would be logged as the mean of those before it.
    "logging_nan_inf_filter": False,
    "dataloader_drop_last": False,
}

# The run sets these itself, or they would undo what it promises; each with what to do instead.
_RESERVED_TRAINING = {
    "output_dir": "set output_dir at the top of the recipe",
    "push_to_hub": "upload the finished folder with `hf upload`",
    "hub_token": "set HF_TOKEN in the environment: a recipe is written into every run's folder",
    "resume_from_checkpoint": "pass --resume",
    "overwrite_output_dir": "choose another output_dir",
    "remove_unused_columns": "the data section names the columns",
    "load_best_model_at_end": "the run ends with its last weights; keep more checkpoints with save_total_limit",
    "use_cpu": "set device: cpu at the top of the recipe",
    "save_only_model": "a checkpoint without its optimizer cannot be continued; keep fewer with save_total_limit",
    "ignore_data_skip": "a resumed run goes on with the data that the interrupted one had not seen",
    "lr_scheduler_type": "set schedule at the top of the recipe",
    "optim": "set strategy.optimizer",
    "optim_args": "set strategy.optimizer",
    "activation_checkpointing": "set strategy.activation_checkpointing",
    "activation_checkpointing_kwargs": "set strategy.activation_checkpointing",
    "gradient_checkpointing": "set strategy.activation_checkpointing",
    "gradient_checkpointing_kwargs": "set strategy.activation_checkpointing",
    "torch_compile": "set strategy.compile",
    "use_liger_kernel": "set strategy.liger",
    "fsdp": "launch with --config_file recipes/hardware/fsdp2.yaml",
    "fsdp_config": "launch with --config_file recipes/hardware/fsdp2.yaml",
    "deepspeed": "launch with --config_file recipes/hardware/zero3_offload.yaml",
}


def read_yaml(source: str | Path, folder: Path | None, what: str) -> dict[str, Any]:
    """Read the mapping of a YAML file, named by its path or by its stem in `folder`.

    Raises:
        RecipeError: If it is absent, is not YAML, or is no mapping.
    """
    path = Path(source)
    if not path.is_file() and folder is not None:
        path = folder / f"{source}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in folder.glob("*.yaml")) if folder is not None else []
        raise RecipeError(f"{what} must be a YAML file or one of {known}; got {str(source)!r}.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{what} {path.name} is not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{what} {path.name} must be a mapping of sections; got {type(values).__name__}.")
    return values


def load_recipe(
    cls: type[AnyRecipe],
    source: str | Path,
    overrides: list[str] | None = None,
    folder: Path | None = None,
    layers: tuple[Mapping[str, Any], ...] = (),
) -> AnyRecipe:
    """Read a recipe from YAML, lay parts of recipes over it, and apply overrides.

    Args:
        cls: The kind of recipe.
        source: Path of a YAML file, or the name of one in `folder`, such as "nano".
        overrides: Texts `section.key=value`, the value in YAML.
        folder: Where named recipes lie.
        layers: Mappings whose values replace those of the file, such as a strategy of `recipes/strategies`.

    Raises:
        RecipeError: If the recipe is absent, is not YAML, or has an unknown key or a wrong value.
    """
    values = read_yaml(source, folder, "recipe")
    for layer in layers:
        values = lay_over(values, layer)
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
    values.setdefault("output_dir", f"outputs/{cls.kind}-{Path(source).stem}")
    return recipe_from_dict(cls, values)


def lay_over(values: dict[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` with those of `layer`, section by section, in their place."""
    merged = dict(values)
    for key, value in layer.items():
        below = merged.get(key)
        merged[key] = lay_over(below, value) if isinstance(below, dict) and isinstance(value, Mapping) else value
    return merged


def recipe_from_dict(cls: type[AnyRecipe], values: dict[str, Any]) -> AnyRecipe:
    """Check a recipe's keys, types and values, and fill in the defaults.

    Raises:
        RecipeError: Naming the key, what it needs, what it got, and the nearest known key.
    """
    recipe = _section(cls, values, "")
    known = {f.name: f.type for f in dataclasses.fields(TrainingArguments) if f.init}
    for key in recipe.training:
        if key in _RESERVED_TRAINING:
            raise RecipeError(f"training.{key} is not taken; {_RESERVED_TRAINING[key]}.")
        if key not in known:
            raise RecipeError(_unknown(f"training.{key}", str(key), known))
    recipe.training = {
        key: _value(known[key], value, f"training.{key}")
        for key, value in {**TRAINING_DEFAULTS, **cls.training_defaults, **recipe.training}.items()
    }
    recipe.check()
    return recipe


def _section(cls: type, values: Any, prefix: str) -> Any:
    if not isinstance(values, dict):
        raise RecipeError(f"{prefix.rstrip('.') or 'recipe'} must be a mapping; got {values!r}.")
    types_of = typing.get_type_hints(cls)
    hints = {field.name: types_of[field.name] for field in dataclasses.fields(cls)}
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
        if value is False and str in plain:
            # YAML's word for it, which transformers' strategies have as a name.
            return "no"
    elif isinstance(value, tuple(plain)):
        return value
    elif float in plain:
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    expected = " or ".join(getattr(option, "__name__", str(option)) for option in plain)
    raise RecipeError(f"{name} must be {expected}; got {value!r} ({type(value).__name__}).")
