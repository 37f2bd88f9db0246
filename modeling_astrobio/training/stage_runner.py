"""Runs a pipeline's stages in their order, remembers what has finished, and goes on where it stopped."""

import json
import os
import shlex
import signal
import time
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .checkpoints import last_good_checkpoint
from .errors import DataError, RunFolderError
from .stage_process import HAS_LOCKS, StageProcess, end_leftover, is_held, try_lock
from .stages import Pipeline, Stage
from .whole_files import write_json_whole


__all__ = ["INTERRUPTED", "STATE_NAME", "StageRunner"]


STATE_NAME = "pipeline.json"
INTERRUPTED = 130
_LOCK_NAME = "pipeline.lock"
_TAIL_LINES = 20
_TAIL_BYTES = 16_384
# Of each attempt in a log.
_HEADER = "=== "


class StageRunner:
    """A pipeline in its folder.

    The folder has `pipeline.json` (of each stage status, start, end, exit status and digest), `logs/STAGE.log`, and in
    `replaced/` what earlier attempts of a stage had written when it started anew: nothing is deleted.

    A stage that has finished is not run again while its command, environment and inputs are as they were, its outputs
    are there, and none of the stages that it needs has run again. After a stage that fails nothing more is run, also
    not what does not need it.
    """

    def __init__(self, pipeline: Pipeline, say: Callable[[str], None]):
        """Open the folder of a run.

        Args:
            pipeline: What to run.
            say: Takes each line that is told to the user.

        Raises:
            RunFolderError: If the folder holds something else.
        """
        self.pipeline = pipeline
        self.say = say
        self.path = pipeline.out / STATE_NAME
        self.states: dict[str, dict[str, Any]] = {}
        self._read()

    def _read(self) -> None:
        out, name = self.pipeline.out, self.pipeline.name
        if not self.path.is_file():
            if out.exists() and (not out.is_dir() or any(path.name != _LOCK_NAME for path in out.iterdir())):
                raise RunFolderError(f"--out must be new, empty, or of a pipeline; got {out}. Choose another folder.")
            return
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            held, states = content["pipeline"], dict(content["stages"])
        except (ValueError, KeyError, TypeError) as error:
            raise RunFolderError(
                f"{self.path} cannot be read ({type(error).__name__}: {error}). Choose another --out."
            ) from error
        if held != name:
            raise RunFolderError(f"--out must be of pipeline {name!r}; got {out}, of {held!r}. Choose another folder.")
        known = {stage.name for stage in self.pipeline.stages}
        self.states = {stage: state for stage, state in states.items() if stage in known}

    def _write(self) -> None:
        write_json_whole(self.path, {"pipeline": self.pipeline.name, "stages": self.states})

    def log(self, stage: Stage) -> Path:
        """Return the file that has a stage's output."""
        return self.pipeline.out / "logs" / f"{stage.name}.log"

    def status(self, stage: Stage) -> str:
        """Return a stage's status: waiting, running, finished, failed, stopped, or killed."""
        status = self.states.get(stage.name, {}).get("status", "waiting")
        return "killed" if status == "running" and HAS_LOCKS and not is_held(self.log(stage)) else status

    def outlook(self) -> dict[str, str | None]:
        """Return of each stage why it would run now, or `None` where it would not."""
        reasons: dict[str, str | None] = {}
        for stage in self.pipeline.stages:
            again = [need for need in stage.needs if reasons[need] is not None]
            reasons[stage.name] = f"after {', '.join(again)}" if again else self._reason(stage)
        return reasons

    def _reason(self, stage: Stage) -> str | None:
        """Say why a stage must run whose needs are all as they should be."""
        state = self.states.get(stage.name, {})
        if state.get("status") != "finished":
            status = self.status(stage)
            return f"{status} before" if status != "waiting" else "after what it needs" if state else "not run yet"
        missing = self.pipeline.missing(stage.outputs)
        if missing:
            return f"its output {missing[0]} is gone"
        try:
            digest = self._digest(stage)
        except DataError:
            return "an input is gone"
        return None if digest == state.get("digest") else "its command or an input has changed"

    def _digest(self, stage: Stage) -> str:
        done = {name: state.get("digest", "") for name, state in self.states.items()}
        return self.pipeline.digest(stage, done)

    @contextmanager
    def _locked(self):
        self.pipeline.out.mkdir(parents=True, exist_ok=True)
        if not HAS_LOCKS:
            self.say("this system has no locks: do not start a second orchestrator on this folder")
        with (self.pipeline.out / _LOCK_NAME).open("a+") as file:
            if not try_lock(file):
                file.seek(0)
                raise RunFolderError(
                    f"--out must be of one orchestrator at a time; got {self.pipeline.out}, which process "
                    f"{file.read().strip() or 'unknown'} has. Wait for it, or choose another folder."
                )
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            # What was read before the lock may be old.
            self._read()
            yield

    def run(self, only: str | None = None, again_from: str | None = None) -> int:
        """Run what must be run.

        Args:
            only: Run this stage and no other, also where it has finished.
            again_from: Run this stage and all that need it, also where they have finished.

        Returns:
            0; the exit status of the stage that failed; or `INTERRUPTED`.

        Raises:
            RunFolderError: If another orchestrator has the folder.
            DataError: If an input of a stage is missing, or with `only` a stage that it needs has not finished.
        """
        forced = {name for name in (only, again_from) if name is not None}
        stages = [self.pipeline.stage(only)] if only else list(self.pipeline.stages)
        if again_from:
            self.pipeline.stage(again_from)
        with self._locked(), StageProcess() as process:
            if only:
                outlook = self.outlook()
                late = [need for need in stages[0].needs if outlook[need] is not None]
                if late:
                    raise DataError(f"--only {only} needs stages that have finished; {late[0]}: {outlook[late[0]]}.")
            for number, stage in enumerate(stages, start=1):
                label = f"[{number}/{len(stages)}] {stage.name}"
                reason = "asked for" if stage.name in forced else self._reason(stage)
                if reason is None:
                    self.say(f"{label}: finished before and unchanged, skipped")
                    continue
                if process.signal_number is None:
                    self.say(f"{label}: runs ({reason}); output in {self.log(stage)}")
                    status = self._run_stage(stage, process)
                    if status and process.signal_number is None:
                        self._say_failure(stage, status)
                        return status
                if process.signal_number is not None:
                    self.say(f"{signal.Signals(process.signal_number).name}: {stage.name} is {self.status(stage)}")
                    return INTERRUPTED
        return 0

    def _run_stage(self, stage: Stage, process: StageProcess) -> int:
        pipeline, log = self.pipeline, self.log(stage)
        before = self.states.get(stage.name, {})
        if end_leftover(log, before.get("process_group")):
            self.say(f"    what an orchestrator that was killed had left of {stage.name} was ended first")
        digest = self._digest(stage)
        command = [pipeline.text(argument) for argument in stage.command]
        unfinished = before.get("status") in ("running", "failed", "stopped")
        if stage.resume and unfinished and before.get("digest") == digest and self._has_checkpoint(stage):
            command += [pipeline.text(argument) for argument in stage.resume]
            self.say(f"    goes on from its last checkpoint: {shlex.join(stage.resume)}")
        else:
            self._set_aside(stage)
        for name in pipeline.needed_by(stage.name):
            if name in self.states:
                self.states[name] = {"status": "waiting"}
        state: dict[str, Any] = {"status": "running", "started": _now(), "digest": digest, "command": command}
        self.states[stage.name] = state
        self._write()
        log.parent.mkdir(exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{_HEADER}{state['started']} {shlex.join(command)}\n")
        env = {name: pipeline.text(value) for name, value in stage.env.items()}
        try:
            state["process_group"] = process.start(command, log, env, pipeline.root)
            self._write()
            status = process.wait(log)
        except RunFolderError:
            state |= {"status": "failed", "ended": _now()}
            self._write()
            raise
        missing = pipeline.missing(stage.outputs) if status == 0 else []
        if missing:
            with log.open("a", encoding="utf-8") as file:
                file.write(f"it ended with status 0 and did not write {', '.join(map(pipeline.text, missing))}\n")
            status = 1
        verdict = "finished" if status == 0 else "failed" if process.signal_number is None else "stopped"
        del state["process_group"]
        state |= {"status": verdict, "ended": _now(), "exit_status": status}
        self._write()
        return status

    def _has_checkpoint(self, stage: Stage) -> bool:
        return any(last_good_checkpoint(self.pipeline.path(output)) is not None for output in stage.outputs)

    def _set_aside(self, stage: Stage) -> None:
        """Move the outputs of an earlier attempt away: commands want a new folder, and nothing is to be lost."""
        out = self.pipeline.out
        target = out / "replaced" / f"{stage.name}-{time.time_ns() // 1_000_000}"
        # A folder goes with all that lies in it.
        for path in sorted(map(self.pipeline.path, stage.outputs), key=lambda path: len(path.parts)):
            if path.exists() and path.is_relative_to(out):
                place = target / path.relative_to(out)
                place.parent.mkdir(parents=True, exist_ok=True)
                path.rename(place)
                self.say(f"    what was in {path} is now in {place}")

    def _say_failure(self, stage: Stage, status: int) -> None:
        log = self.log(stage)
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
        # Earlier attempts have written to it too.
        starts = [place for place, line in enumerate(lines) if line.startswith(_HEADER)]
        lines = lines[starts[-1] + 1 :] if starts else lines
        lines = lines[-_TAIL_LINES:]
        self.say("\n".join(f"    | {line}" for line in lines))
        self.say(f"stage {stage.name} failed with status {status}; its whole output is in {log}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
