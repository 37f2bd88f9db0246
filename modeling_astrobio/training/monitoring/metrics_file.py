"""metrics.jsonl: one line for each row that the trainer logs, machine fields included."""

import json
import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


__all__ = ["METRICS_NAME", "MetricsFile", "read_metrics", "row_kind"]


METRICS_NAME = "metrics.jsonl"
_KINDS = ("training", "evaluation", "other")

logger = logging.getLogger(__name__)


def row_kind(row: Mapping[str, Any]) -> str:
    """Return "training" for a row with the loss of steps, "evaluation", or "other" such as the summary of a run."""
    if "loss" in row:
        return "training"
    return "evaluation" if any(name.startswith("eval_") for name in row) else "other"


class MetricsFile:
    """Appends rows, each in the file as soon as it is written.

    A full disk loses rows and not the run: the next rows are tried again.
    """

    def __init__(self, run_dir: Path):
        """Open the file, behind the rows of a run that is resumed.

        Args:
            run_dir: Folder of the run.
        """
        self.path = Path(run_dir) / METRICS_NAME
        is_torn = False
        if self.path.exists() and self.path.stat().st_size:
            with self.path.open("rb") as file:
                file.seek(-1, 2)
                is_torn = file.read() != b"\n"
        self._file = self.path.open("ab", buffering=0)
        # A process that was killed may have left half a line, which must not swallow the next one.
        self._prefix = b"\n" if is_torn else b""
        self._has_failed = False

    def append(self, step: int, values: Mapping[str, Any]) -> None:
        """Write a row; a number that is not finite becomes null, which is what JSON has for it.

        Args:
            step: Optimizer step.
            values: What was logged.
        """
        row = {"step": step, "time": round(time.time(), 3), **{key: _plain(value) for key, value in values.items()}}
        line = self._prefix + json.dumps(row).encode() + b"\n"
        try:
            written = self._file.write(line)
            if written != len(line):
                raise OSError(f"only {written} of {len(line)} bytes were written")
            self._prefix = b""
        except OSError as error:
            self._prefix = b"\n"
            if not self._has_failed:
                logger.warning("a row of %s is lost: %s", METRICS_NAME, error)
            self._has_failed = True

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """Return the rows of a run by step, none where there is no file.

    After a resume some steps come again; of each step and kind the last row counts. What is no JSON object, like the
    half line that a killed process leaves, is passed over.

    Args:
        run_dir: Folder of the run.
    """
    path = Path(run_dir) / METRICS_NAME
    if not path.exists():
        return []
    rows: dict[tuple[int, str], dict[str, Any]] = {}
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            step = int(row["step"])
        except (ValueError, KeyError, TypeError):
            if number != len(lines):
                logger.warning("line %d of %s is no row and is passed over", number, path)
            continue
        rows[step, row_kind(row)] = row
    return [rows[key] for key in sorted(rows, key=lambda key: (key[0], _KINDS.index(key[1])))]


def _plain(value: Any) -> Any:
    if isinstance(value, bool | str | int) or value is None:
        return value
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):
        return str(value)
    return number if math.isfinite(number) else None
