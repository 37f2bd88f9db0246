"""A configuration by the name of its preset."""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from transformers.configuration_utils import PreTrainedConfig


__all__ = ["config_from_preset"]

Config = TypeVar("Config", bound=PreTrainedConfig)


def config_from_preset(
    cls: type[Config],
    presets: Mapping[str, Mapping[str, Any]],
    name: str,
    overrides: Mapping[str, Any],
    properties: Collection[str] = (),
) -> Config:
    """Build the configuration of a named preset.

    Args:
        cls: Its class.
        presets: Fields of each preset.
        name: A key of `presets`.
        overrides: Fields to change.
        properties: Names that are set through other fields, such as `num_labels`.

    Raises:
        ValueError: If the preset or an overridden field is unknown; the message names the nearest one.
    """
    if name not in presets:
        raise ValueError(f"preset must be one of {sorted(presets)}; got {name!r}.")
    known = {field.name for field in fields(cls)} | set(properties)
    for key in overrides:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            remedy = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{key!r} is not a field of {cls.__name__}.{remedy}")
    return cls(**{**presets[name], **overrides})
