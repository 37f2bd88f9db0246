"""One stage's process: its output in a log, signals passed on, and no part of it left behind unseen."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any

from .errors import RunFolderError


if sys.platform == "win32":
    HAS_LOCKS = False
else:
    import fcntl

    HAS_LOCKS = True


__all__ = ["HAS_LOCKS", "StageProcess", "end_leftover", "try_lock"]


_POLL_SECONDS = 0.1
_LEFTOVER_SECONDS = 600.0


def try_lock(file: IO[Any]) -> bool:
    """Lock an open file; the lock ends with the last process that has it open through this one.

    Returns:
        Whether it is locked now. Windows has no such locks, and there everything is.
    """
    if sys.platform == "win32":
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class StageProcess:
    """Runs commands one after another, and gives them the signals SIGINT and SIGTERM that come meanwhile.

    A command has a process group of its own, so that Ctrl-C reaches it once and not by the terminal too. Its log is
    locked as long as a process has it for its output: a launcher may end before what it launched.

    Attributes:
        signal_number: The last signal that came, or `None`.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._process: subprocess.Popen | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StageProcess":
        self._previous = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = number
        self._pass_on()

    def _pass_on(self) -> None:
        # On Windows the console gives Ctrl-C to every process itself.
        if self._process is not None and self.signal_number is not None and sys.platform != "win32":
            signal_group(self._process.pid, self.signal_number)

    def start(self, command: Sequence[str], log: Path, env: Mapping[str, str], folder: Path) -> int:
        """Start a command; returns the number of its process group.

        Args:
            command: Program and arguments.
            log: File to which its output is appended.
            env: Variables besides those of this process.
            folder: Where it runs.

        Raises:
            RunFolderError: If the program cannot be started.
        """
        with log.open("ab") as file:
            if sys.platform != "win32":
                # Whoever looks whether it is locked has it for a moment.
                fcntl.flock(file, fcntl.LOCK_EX)
            try:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
                    cwd=folder,
                    start_new_session=True,
                )
            except OSError as error:
                raise RunFolderError(
                    f"{command[0]!r} must be a program that can be started; got {type(error).__name__}: {error}."
                ) from error
        # A signal that came while there was no process yet.
        self._pass_on()
        return self._process.pid

    def wait(self, log: Path) -> int:
        """Wait for the command; returns its exit status, 128 and the signal's number where one ended it."""
        assert self._process is not None
        status = self._process.wait()
        if self.signal_number is not None:
            # The launcher is gone, and what it launched may still be saving.
            while is_held(log):
                time.sleep(_POLL_SECONDS)
        self._process = None
        return 128 - status if status < 0 else status


def is_held(log: Path) -> bool:
    """Whether a process still has a stage's log for its output."""
    if not log.exists():
        return False
    with log.open("rb") as file:
        return not try_lock(file)


def signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; returns whether there is one."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def end_leftover(log: Path, group: int | None, seconds: float = _LEFTOVER_SECONDS) -> bool:
    """End what an orchestrator left running that was killed itself: ask it to save and stop, and wait for that.

    Args:
        log: Of the stage.
        group: Process group of the stage.
        seconds: To wait at most.

    Returns:
        Whether there was anything.

    Raises:
        RunFolderError: If it does not end.
    """
    if not is_held(log):
        return False
    if group is not None:
        signal_group(group, signal.SIGTERM)
    end = time.monotonic() + seconds
    while is_held(log):
        if time.monotonic() > end:
            which = f"process group {group}" if group is not None else "a process"
            how = f"kill -KILL -- -{group}" if group is not None else f"fuser -k {log}"
            raise RunFolderError(
                f"what a killed orchestrator has started must end before its stage runs again; {which} still writes "
                f"to {log}, {seconds:.0f} s after it was asked to stop. End it with: {how}"
            )
        time.sleep(_POLL_SECONDS)
    return True
