"""Training runs in processes of their own, started as a user starts them, and what they leave."""

import ctypes
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from ..checkpoints import find_checkpoints, last_good_checkpoint
from ..monitoring.secrets import redact


__all__ = ["RunRecord", "start_and_wait"]


_POLL_SECONDS = 0.005
_TAIL_CHARACTERS = 400
# Of <linux/prctl.h>.
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class RunRecord:
    """A run that has ended.

    Attributes:
        folder: Of the run.
        status: Exit status; `None` where it was killed on purpose.
        log: File with what it printed.
        environment: Variables that it was given.
    """

    folder: Path
    status: int | None
    log: Path
    environment: Mapping[str, str]

    def checkpoint(self) -> Path | None:
        """Return the newest whole checkpoint."""
        return last_good_checkpoint(self.folder)

    def checkpoints(self) -> list[Path]:
        """Return all checkpoints, newest first."""
        return find_checkpoints(self.folder)

    def history(self) -> list[dict[str, Any]]:
        """Return the rows that the newest checkpoint has logged."""
        checkpoint = self.checkpoint()
        if checkpoint is None:
            return []
        return json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]

    def losses(self) -> dict[int, dict[str, Any]]:
        """Return each step's row of training."""
        return {row["step"]: row for row in self.history() if "loss" in row}

    def tail(self) -> str:
        """Return the end of what was printed, without secrets."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.is_file() else ""
        # The report of torchrun follows what its processes said, and repeats none of it.
        text = text.partition("torch.distributed.elastic.multiprocessing.errors.ChildFailedError")[0]
        # A progress bar ends no line.
        lines = [line.rpartition("\r")[2].strip() for line in text.splitlines()]
        kept = [line for line in lines if line.strip("^~ ") and not line.startswith("training:")]
        text = redact(" | ".join(kept), self.environment)
        return text if len(text) <= _TAIL_CHARACTERS else f"... {text[-_TAIL_CHARACTERS:]}"


def start_and_wait(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    until: Callable[[], bool] | None = None,
) -> int | None:
    """Run a command to its end, or kill it and all that it started.

    Args:
        command: Program and arguments.
        environment: Its variables.
        log: File that gets what it prints.
        until: Asked again and again; once it is true, everything is killed at once (SIGKILL).

    Returns:
        The exit status, or `None` if it was killed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command),
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )
        try:
            while process.poll() is None:
                if until is not None and until():
                    _kill_family(process)
                    return None
                time.sleep(_POLL_SECONDS)
        except BaseException:
            _kill_family(process)
            raise
    return process.returncode


def _end_with_parent() -> None:
    """Get SIGKILL when this process ends, even if it is killed: nothing would wait for a training left behind."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _kill_family(process: subprocess.Popen) -> None:
    """Kill a process and its descendants; a launcher's workers may be in sessions of their own."""
    try:
        parent = psutil.Process(process.pid)
        family = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        family = []
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
    psutil.wait_procs(family[1:], timeout=60)
