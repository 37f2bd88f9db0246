"""No secret in the recipe, nor in anything that the child runs wrote."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..monitoring.secrets import UNREADABLE, find_leaks, secret_values
from .context import Context
from .outcome import Outcome, failed, passed


__all__ = ["check_recipe_for_secrets", "check_runs_for_secrets", "secrets_in"]


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
_LONG = re.compile(r"[A-Za-z0-9+/_=-]{16,}")
_SHOWN = 5


def check_runs_for_secrets(context: Context) -> Outcome:
    """Search all that the child runs wrote and printed for this user's secrets, and for canaries they were given."""
    assert context.reference.log.is_file()
    started = sorted(path.stem for path in (context.folder / "logs").glob("*.log"))
    sought = sorted(secret_values(context.environment))
    leaks = [(path, name) for path, name in find_leaks(context.folder, context.environment)]
    unread = [path for path, name in leaks if name == UNREADABLE]
    found = [(path.relative_to(context.folder).as_posix(), name) for path, name in leaks if name != UNREADABLE]
    files = sum(path.is_file() for path in context.folder.rglob("*"))
    evidence = {"runs": started, "variables": sought, "files": files, "leaks": found}
    if found:
        said = ", ".join(f"{name} in {path}" for path, name in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        return failed(
            f"values of secret variables were written: {said}{more}. Rotate them, and mend the script", **evidence
        )
    if unread:
        return failed(f"{len(unread)} files could not be searched, such as {unread[0].name}", **evidence)
    return passed(
        f"values of {len(sought)} variables ({', '.join(sought)}) are in none of {files} files of "
        f"{', '.join(started)}",
        **evidence,
    )


def check_recipe_for_secrets(context: Context) -> Outcome:
    """Search the resolved recipe, which is saved and published with the model."""
    found = secrets_in(context.recipe.to_dict())
    source = Path(context.source.recipe)
    if source.is_file():
        text = source.read_text(encoding="utf-8", errors="replace")
        found += [f"{what} in {source.name}" for what, pattern in _PATTERNS.items() if pattern.search(text)]
    own = secret_values()
    for name, value in own.items():
        found += [
            f"the value of {name} at {key}" for key, text in _texts(context.recipe.to_dict(), "") if value in text
        ]
    if found:
        return failed(f"the recipe holds {'; '.join(found)}. Move it into an environment variable", found=found)
    return passed(f"{len(_PATTERNS)} kinds of credentials and {len(own)} variables were searched for")


def secrets_in(recipe: dict[str, Any]) -> list[str]:
    """Return what looks like a credential, by its form or by its key; never the value."""
    found = []
    for key, text in _texts(recipe, ""):
        found += [f"{what} at {key}" for what, pattern in _PATTERNS.items() if pattern.search(text)]
        if _SECRET_KEY.search(key.rpartition(".")[2]) and _LONG.fullmatch(text):
            found.append(f"a long value at {key}")
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
