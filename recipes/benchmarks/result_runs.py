"""Runs of a benchmark that are started one by one and kept in one file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from modeling_astrobio.training.whole_files import write_json_whole


__all__ = ["add_run"]


def add_run(path: Path, shared: Mapping[str, Any], run: Mapping[str, Any], same: Sequence[str] = ()) -> None:
    """Add a run to those of a file, under `runs`; several processes may do so at one time.

    Args:
        path: Of the JSON file, which need not exist yet.
        shared: What holds of all runs.
        run: The run.
        same: Names in `shared` that earlier runs must agree in; if they do not, they are another benchmark and go.
    """
    with FileLock(f"{path}.lock"):
        before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"runs": []}
        runs = before["runs"] if all(before.get(name) == shared[name] for name in same) else []
        write_json_whole(path, {**shared, "runs": [*runs, run]})
    Path(f"{path}.lock").unlink(missing_ok=True)
