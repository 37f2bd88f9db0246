"""No secret in the recipe, nor in anything that the child runs wrote below the preflight's folder."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..monitoring.secrets import UNREADABLE, find_leaks, secret_values
from .context import Context
from .outcome import Outcome, failed, passed


__all__ = ["check_recipe_for_secrets", "check_runs_for_secrets", "hide_credentials", "secrets_in"]


_SECRET_KEY = re.compile(r"(^|_)(token|passwd|password|secret|credentials?|api_?key|key|webhook)$", re.IGNORECASE)
# What services give out, and a password in a URL.
_PATTERNS = {
    "a token of Hugging Face": re.compile(r"\bhf_[A-Za-z0-9]{20,}"),
    "a token of GitHub": re.compile(r"\b(gh[pousr]_[A-Za-z0-9]{30,}|github_pat_\w{30,})"),
    "a key of AWS": re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"),
    "a secret key": re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"),
    "a webhook": re.compile(r"https://(hooks\.slack\.com/services|discord(app)?\.com/api/webhooks)/\S+"),
    "a user and password in a URL": re.compile(r"://[^/@\s:]+:[^/@\s]+@"),
}
# Forty hexadecimal digits are a key of Weights & Biases, but for the names of revisions and digests.
_BARE_KEY = re.compile(r"(?<![0-9A-Za-z])[0-9a-f]{40}(?![0-9A-Za-z])")
_KEY_OF_BARE_KEY = "a key of Weights & Biases"
_NO_KEY = re.compile(r"revision|commit|sha", re.IGNORECASE)
_TEXT_SUFFIXES = {
    ".txt",
    ".log",
    ".json",
    ".jsonl",
    ".yaml",
    ".yml",
    ".md",
    ".csv",
    ".html",
    ".py",
    ".toml",
    ".cfg",
    "",
}
_LONG = re.compile(r"[A-Za-z0-9+/_=-]{16,}")
_SHOWN = 5
_MOST_BYTES = 1 << 28  # of a text that is searched


def check_runs_for_secrets(context: Context) -> Outcome:
    """Search all that the child runs wrote and printed for this user's secrets, and for canaries they were given."""
    assert context.reference.log.is_file()
    started = sorted(path.stem for path in (context.folder / "logs").glob("*.log"))
    sought = sorted(secret_values(context.environment))
    leaks = [(path, name) for path, name in find_leaks(context.folder, context.environment)]
    unread = [path for path, name in leaks if name == UNREADABLE]
    found = [(path.relative_to(context.folder).as_posix(), name) for path, name in leaks if name != UNREADABLE]
    found += _patterns_below(context.folder)
    files = sum(path.is_file() for path in context.folder.rglob("*"))
    evidence = {"runs": started, "variables": sought, "files": files, "leaks": found}
    if found:
        said = ", ".join(f"{name} in {path}" for path, name in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        return failed(f"secrets were written: {said}{more}. Rotate them, and mend the script", **evidence)
    if unread:
        return failed(f"{len(unread)} files could not be searched, such as {unread[0].name}", **evidence)
    return passed(
        f"values of {len(sought)} variables ({', '.join(sought)}) are in none of {files} files of "
        f"{', '.join(started)}, nor is the form of a credential in their texts; searched was what lies below the "
        "run's folder and its output",
        **evidence,
    )


def check_recipe_for_secrets(context: Context) -> Outcome:
    """Search the resolved recipe, which is saved and published with the model."""
    found = secrets_in(context.recipe.to_dict())
    for path in _files_of(context):
        found += [f"{what} in {path.name}" for what in _kinds_in(path.read_text(encoding="utf-8", errors="replace"))]
    own = secret_values()
    for name, value in own.items():
        found += [
            f"the value of {name} at {key}" for key, text in _texts(context.recipe.to_dict(), "") if value in text
        ]
    if found:
        return failed(f"the recipe holds {'; '.join(found)}. Move it into an environment variable", found=found)
    return passed(f"{len(_PATTERNS) + 1} kinds of credentials and {len(own)} variables were searched for")


def secrets_in(recipe: dict[str, Any]) -> list[str]:
    """Return what looks like a credential, by its form or by its key; never the value."""
    found = []
    for key, text in _texts(recipe, ""):
        found += [f"{what} at {key}" for what in _kinds_in(f"{key}: {text}")]
        if _SECRET_KEY.search(key.rpartition(".")[2]) and _LONG.fullmatch(text):
            found.append(f"a long value at {key}")
    return found


def hide_credentials(text: str) -> str:
    """Replace whatever has the form of a credential by `***`."""
    for pattern in _PATTERNS.values():
        text = pattern.sub("***", text)
    return text


def _kinds_in(text: str) -> list[str]:
    """Return the kinds of credentials whose form is in a text."""
    kinds = [what for what, pattern in _PATTERNS.items() if pattern.search(text)]
    lines = [line for line in text.splitlines() if not _NO_KEY.search(line)]
    return kinds + [_KEY_OF_BARE_KEY] * any(_BARE_KEY.search(line) for line in lines)


def _files_of(context: Context) -> list[Path]:
    """Return the files that the recipe was read from, whose comments are published too where they are."""
    source, recipes = context.source, context.task.recipes
    named = [(source.recipe, recipes / context.recipe.kind)]
    if source.strategy:
        named.append((source.strategy, recipes / "strategies"))
    paths = [path for name, folder in named for path in (Path(name), folder / f"{name}.yaml")]
    return [path for path in paths if path.is_file()]


def _patterns_below(folder: Path) -> list[tuple[str, str]]:
    """Return texts in which something has the form of a credential that no variable holds."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in _TEXT_SUFFIXES and path.stat().st_size < _MOST_BYTES:
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [
                (path.relative_to(folder).as_posix(), what)
                for what, pattern in _PATTERNS.items()
                if pattern.search(text)
            ]
    return found


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, below in value.items():
            yield from _texts(below, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list | tuple):
        for index, below in enumerate(value):
            yield from _texts(below, f"{key}[{index}]")
    elif isinstance(value, str):
        yield key, value
