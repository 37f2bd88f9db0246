"""What the checks share: the run examined, and the child runs that several of them look at."""

import functools
import json
import os
import secrets
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import RecipeError
from ..monitoring.settings import WEBHOOK_VARIABLE
from ..recipe import Recipe
from ..task import TrainingTask
from .child_runs import RunRecord, start_and_wait
from .outcome import NotTestable
from .source import Source


__all__ = ["Context", "child_overrides", "ends_epoch"]


_PROBE_MODULE = "modeling_astrobio.training.preflight.probe"


class Context:
    """The run examined and its child runs, each of which is made once, when a check first asks for it.

    Args:
        source: What is examined.
        folder: Of the child runs and their logs.
        launch: What starts the script; empty is this Python.
        steps: Of the child runs; even, so that the checkpoint in the middle is followed by one at the end.
        days: Time that the run may take; `None` is without limit.
        selected: Names of the checks that will be made.

    Raises:
        RecipeError: If the script or the recipe does not do, or a number makes no sense.
    """

    def __init__(
        self,
        source: Source,
        folder: Path,
        launch: Sequence[str] = (),
        steps: int = 100,
        days: float | None = None,
        selected: Sequence[str] = (),
    ):
        if steps < 10 or steps % 2:
            raise RecipeError(f"--steps must be even and at least 10; got {steps}.")
        if days is not None and not days > 0:
            raise RecipeError(f"--days must be above 0; got {days}.")
        self.source, self.folder = source, folder
        self.launch = tuple(launch) or (sys.executable,)
        self.steps, self.days = steps, days
        self.selected = tuple(selected)
        # The step of the child runs that evaluates and saves.
        self.middle = steps // 2
        self.task: TrainingTask = source.load()
        self.recipe: Recipe = self.task.recipe
        self.environment = _environment_with_canaries()

    @functools.cached_property
    def reference(self) -> RunRecord:
        """A run of `steps` steps from start to report, with a checkpoint in the middle of an epoch."""
        run = self._train("reference")
        if ends_epoch(run.folder / f"checkpoint-{self.middle}"):
            # The place in the data is then the beginning, which a resumed run would find without looking for it.
            self.middle += 1
            shutil.rmtree(run.folder)
            run = self._train("reference")
        return run

    @functools.cached_property
    def resumed(self) -> RunRecord:
        """The same run, killed after its checkpoint in the middle and continued until its model is written."""
        assert self.reference.folder.is_dir()  # it says which step is in the middle
        folder = self.folder / "runs" / "resumed"
        middle = folder / f"checkpoint-{self.middle}"
        killed = self._train("resumed", until=middle.is_dir)
        if killed.status is not None:
            raise NotTestable(
                f"the run to be killed ended by itself with status {killed.status} before it could be: {killed.tail()}"
            )
        newest = killed.checkpoint()
        if newest != middle:
            raise NotTestable(
                f"the run was killed too late: its newest checkpoint was {newest and newest.name} and not "
                f"{middle.name}. Pass more --steps."
            )
        return self._train("resumed", "--resume", "auto", until=(folder / "model").is_dir)

    @functools.cached_property
    def probe(self) -> dict[str, Any]:
        """What the probe found in a process of its own: see `probe.run_probe`."""
        folder = self.folder / "runs" / "probe"
        folder.mkdir(parents=True, exist_ok=True)
        request, results = folder / "request.json", folder / "results.json"
        request.write_text(
            json.dumps({**vars(self.source), "folder": str(folder), "names": self.selected}), encoding="utf-8"
        )
        # The resident set is then what tensors need: large blocks go back to the system at once.
        environment = {**self.environment, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
        log = self.folder / "logs" / "probe.log"
        status = start_and_wait([*self.launch, "-m", _PROBE_MODULE, str(request)], environment, log)
        found = json.loads(results.read_text(encoding="utf-8")) if results.is_file() else {}
        found = {"outcomes": {}, "facts": {}, "running": None, **found}
        return {**found, "status": status, "tail": RunRecord(folder, status, log, self.environment).tail()}

    def _train(self, name: str, *more: str, until=None) -> RunRecord:
        folder = self.folder / "runs" / name
        source = self.source.with_overrides(
            *child_overrides(self.recipe, self.steps, self.middle), f"output_dir={folder}"
        )
        log = self.folder / "logs" / f"{name}.log"
        command = [*self.launch, source.script, *source.arguments(), *more]
        status = start_and_wait(command, self.environment, log, until)
        return RunRecord(folder, status, log, self.environment)


def ends_epoch(checkpoint: Path) -> bool:
    """Return whether a checkpoint was written after the last step of an epoch."""
    state = checkpoint / "trainer_state.json"
    return state.is_file() and float(json.loads(state.read_text(encoding="utf-8"))["epoch"]).is_integer()


def child_overrides(recipe: Recipe, steps: int, middle: int) -> list[str]:
    """Return what makes a recipe a short run that logs every step, and evaluates and saves in the middle."""
    training = recipe.training
    changes: dict[str, Any] = {
        "max_steps": steps,
        "save_strategy": "steps",
        "save_steps": middle,
        "save_total_limit": 2,
        "logging_strategy": "steps",
        "logging_steps": 1,
        # A trial is not to appear among the runs.
        "report_to": "none",
    }
    if training["eval_strategy"] != "no":
        changes |= {"eval_strategy": "steps", "eval_steps": middle}
    if training["warmup_steps"] >= 1:
        # The rate would not come to its height otherwise.
        changes["warmup_steps"] = min(int(training["warmup_steps"]), steps // 10)
    options = dict(training.get("lr_scheduler_kwargs") or {})
    if "num_decay_steps" in options:
        options["num_decay_steps"] = min(options["num_decay_steps"], steps // 5)
        changes["lr_scheduler_kwargs"] = options
    return [f"training.{key}={json.dumps(value)}" for key, value in changes.items()]


def _environment_with_canaries() -> dict[str, str]:
    """Return this environment with values that must not be found in anything a run writes."""
    canary = f"canary-{secrets.token_hex(16)}"
    return {
        **os.environ,
        "MODELING_ASTROBIO_CANARY_TOKEN": canary,
        # Port 9 of this machine answers nobody: a trial alerts nobody, and an address that fails must not be logged.
        WEBHOOK_VARIABLE: f"http://127.0.0.1:9/{canary}",
    }
