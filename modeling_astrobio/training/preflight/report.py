"""The table of a preflight: on the console, as JSON and as Markdown, with the sign-off list at its end."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..hardware import describe_hardware, package_versions
from ..monitoring.secrets import redact as redact_values
from ..whole_files import write_json_whole, write_text_whole
from .credentials import hide_credentials
from .outcome import FAIL, NOT_TESTED, PASS, Outcome


__all__ = ["JSON_NAME", "MARKDOWN_NAME", "Line", "Report"]


JSON_NAME, MARKDOWN_NAME = "preflight.json", "preflight.md"


@dataclass(frozen=True)
class Line:
    """A check and its outcome.

    Attributes:
        name: Of the check.
        title: What was checked.
        outcome: What was found.
        seconds: What it took, the child runs that it was the first to ask for among them.
    """

    name: str
    title: str
    outcome: Outcome
    seconds: float

    def console(self) -> str:
        """Return the line of the table."""
        return redact(f"{self.outcome.status:10}  {self.name:28}  {self.outcome.text}")


@dataclass
class Report:
    """All that a preflight found.

    Attributes:
        command: How it was started.
        digest: SHA-256 of the resolved recipe.
        lines: Of the table.
        signoff: Items that a person confirms before the start.
        is_finished: Whether all checks that were asked for were made.
        is_complete: Whether those are all that there are.
    """

    command: str
    digest: str
    lines: list[Line] = field(default_factory=list)
    signoff: Sequence[str] = ()
    is_finished: bool = False
    is_complete: bool = False

    def count(self, status: str) -> int:
        """Return the number of lines with a status."""
        return sum(line.outcome.status == status for line in self.lines)

    @property
    def status(self) -> str:
        """`FAIL` where a line has failed or the preflight was stopped; `PASS` only where something passed."""
        if self.count(FAIL) or not self.is_finished:
            return FAIL
        return PASS if self.count(PASS) else NOT_TESTED

    def summary(self) -> str:
        """Return the counts."""
        counts = ", ".join(f"{self.count(status)} {status}" for status in (PASS, FAIL, NOT_TESTED))
        return counts if self.is_finished else f"{counts}; stopped before its end"

    def write(self, folder: Path) -> None:
        """Write JSON and Markdown, without secrets."""
        write_json_whole(folder / JSON_NAME, _without_secrets(self._content()))
        write_text_whole(folder / MARKDOWN_NAME, redact(self._markdown()))

    def _content(self) -> dict[str, Any]:
        return {
            "status": self.status,
            "finished": self.is_finished,
            "complete": self.is_complete,
            "counts": {status: self.count(status) for status in (PASS, FAIL, NOT_TESTED)},
            "command": self.command,
            "recipe_sha256": self.digest,
            "checks": [
                {"name": line.name, "title": line.title, "seconds": line.seconds, **line.outcome.to_dict()}
                for line in self.lines
            ],
            "sign_off": list(self.signoff),
            "hardware": describe_hardware(),
            "versions": package_versions(),
        }

    def _markdown(self) -> str:
        rows = [
            " | ".join(
                [
                    f"| {line.outcome.status}",
                    line.title,
                    f"`{line.name}`",
                    _cell(line.outcome.text),
                    f"{line.seconds:.1f} |",
                ]
            )
            for line in self.lines
        ]
        return "\n".join(
            [
                "# Preflight",
                "",
                f"{self.summary()}. Started with `{self.command}`.",
                "",
                "| status | check | name | evidence | s |",
                "|---|---|---|---|---|",
                *rows,
                "",
                self.signoff_page(),
                "",
            ]
        )

    def signoff_page(self) -> str:
        """Return the list that a person goes through before the start."""
        return redact("\n".join(["## Sign-off", "", *(f"- [ ] {item}" for item in self.signoff)]))


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {redact(str(key)): _without_secrets(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_without_secrets(below) for below in value]
    if isinstance(value, str):
        return redact(value)
    return value if isinstance(value, int | float | bool | None) else redact(str(value))


def redact(text: str) -> str:
    """Replace secrets of this process and what has the form of a credential, wherever it comes from."""
    return hide_credentials(redact_values(text))
