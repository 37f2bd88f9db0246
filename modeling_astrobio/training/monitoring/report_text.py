"""Figures of a report as text; what was not measured says so, and is never 0."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


__all__ = ["ABSENT", "as_text", "duration", "flat", "gib", "is_number", "moment"]


ABSENT = "not measured"


def is_number(value: Any) -> bool:
    """Whether a value of a JSON file is a number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def as_text(value: Any) -> str:
    """Return a figure of a JSON file as text."""
    if value is None:
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if not math.isfinite(value):
            return "NaN" if math.isnan(value) else f"{value:+}"
        return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}" if abs(value) < 1e15 else f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        is_interval = len(value) == 2 and all(isinstance(end, float) for end in value)
        return (" – " if is_interval else ", ").join(map(as_text, value)) if value else "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {as_text(part)}" for key, part in value.items()) if value else "none"
    return str(value)


def flat(values: Mapping[str, Any], depth: int, prefix: str = "") -> dict[str, Any]:
    """Return sections within sections as one, with names joined by dots; what lies deeper than `depth` is left out."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if not isinstance(value, Mapping):
            found[f"{prefix}{key}"] = value
        elif depth > 1:
            found |= flat(value, depth - 1, f"{prefix}{key}.")
    return found


def gib(size: Any) -> str:
    """Return bytes as text, in GiB or a part of it that is not all zeros."""
    if not is_number(size) or not math.isfinite(size):
        return ABSENT
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(size) >= 0.1 * factor:
            return f"{size / factor:,.2f} {unit}"
    return f"{size:.0f} bytes"


def duration(seconds: Any) -> str:
    """Return a length of time as text, its two largest units."""
    if not is_number(seconds) or not 0 <= seconds < math.inf:
        return ABSENT
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def moment(seconds: Any) -> str:
    """Return a moment, unix seconds, as text in UTC."""
    if not is_number(seconds):
        return ABSENT
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, OSError, ValueError):
        return ABSENT
