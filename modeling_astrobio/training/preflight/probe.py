"""Checks that need the trainer itself, in a process of their own, launched as the run will be.

    python -m modeling_astrobio.training.preflight.probe REQUEST.json

What each finds is written as soon as it is known, since a later one may end the process.
"""

import functools
import gc
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import TrainingArguments

from ..errors import UserError
from ..hardware import make_output_safe
from ..memory_plan import MemoryPlan
from ..run_setup import check_plan, training_arguments
from ..task import TrainingTask
from ..trainer import AstroTrainer
from ..whole_files import write_json_whole
from .accumulation import check_accumulation
from .building import build, prepare
from .environment import LIBRARIES, check_library
from .memory import PROBE_STEPS, can_measure, judge_memory, run_probe_steps
from .optimizer_state import check_optimizer_state
from .outcome import FAIL, PASS, NotTestable, Outcome, failed, guarded, not_tested, passed
from .resume import check_random_state
from .source import Source
from .throughput import judge_throughput, measure_loader


__all__ = ["PROBE_CHECKS", "Probe"]


PROBE_CHECKS = {
    "environment.bitsandbytes": "bitsandbytes",
    "environment.torchao": "torchao",
    "environment.flash_attention": "FlashAttention",
    "environment.pyg": "PyG",
    "environment.ram": "free host memory",
    "memory.plan": "memory and disk plan",
    "data.opens": "data opens",
    "model.builds": "model and trainer are built",
    "data.throughput": "data is fast enough",
    "memory.measured": "memory as planned",
    "optimizer.state": "optimizer state as planned",
    "resume.random_state": "random numbers restored",
    "accumulation.equality": "accumulation equality",
}
"""Name and title of the checks made here, beside those that only a kind of model has."""

# What needs the facts that these passes find.
_NEEDS_STEPS = {
    "data.throughput",
    "memory.measured",
    "optimizer.state",
    "resume.random_state",
    "time.to_finish",
    "disk.checkpoints",
}
_NEEDS_LENGTH = {"data.throughput", "time.to_finish", "disk.checkpoints", "model.builds"}
_GIB = 2**30


@dataclass
class Probe:
    """Runs the checks that were asked for, one after the other, each model freed before the next.

    Args:
        source: What is examined.
        folder: For what is written on the way.
        names: Of the checks; others than those of this module say what facts will be needed.
        found: Told of each outcome, and with `None` that a check begins; called by every process.
    """

    source: Source
    folder: Path
    names: Sequence[str]
    found: Callable[[str, Outcome | None], None]

    def __post_init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self.plan: MemoryPlan | None = None
        self.base = passed("nothing has failed")
        self.loader = not_tested("the loader was not measured")
        self.step_seconds: float | None = None

    def run(self) -> None:
        """Make all checks."""
        task = self.source.load()
        kind_checks = set(task.preflight_checks()) & set(self.names)
        on_gpu = torch.cuda.is_available() and task.recipe.device != "cpu"
        device = torch.device("cuda" if on_gpu else "cpu")
        for library in LIBRARIES:
            # Not where the preflight itself runs: that would hold a part of each GPU from then on.
            self._check(f"environment.{library}", functools.partial(check_library, library, task, device))
        self._check("memory.plan", self._plan)
        self._check("environment.ram", self._ram)
        # What the rest stands on; where it fails, the rest cannot be tested.
        self.base = guarded(self._must_fit)
        needs_model = kind_checks or self._wants(_NEEDS_LENGTH)
        needs_steps = self._wants(_NEEDS_STEPS)
        if needs_model or needs_steps or self._wants({"data.opens", "accumulation.equality"}):
            self._build_on(self._check("data.opens", self._open_data, always=True))
        if needs_model or needs_steps:
            # On the CPU the first trainer lets the libraries make their buffers before anything is measured.
            self._first_trainer(kind_checks, with_step=bool(needs_steps))
        if needs_steps:
            self._second_trainer()
        self._check("accumulation.equality", lambda: check_accumulation(self.source, self.folder), on=self.base)

    def _build_on(self, outcome: Outcome) -> None:
        if self.base.status != FAIL:
            self.base = outcome

    def _wants(self, names: set[str]) -> set[str]:
        return names & set(self.names)

    def _check(
        self, name: str, check: Callable[[], Outcome], always: bool = False, on: Outcome | None = None
    ) -> Outcome:
        """Make a check if it was asked for, and if what it stands on has not failed."""
        if on is not None and on.status == FAIL:
            outcome = not_tested(f"it needs what failed before: {on.text}")
        elif name in self.names or always:
            self.found(name, None)
            outcome = guarded(check)
        else:
            return not_tested("not asked for")
        if name in self.names:
            self.found(name, outcome)
        return outcome

    # The plan.

    def _plan(self) -> Outcome:
        self.plan = self._planned()
        parts = {"host memory": self.plan.host, "disk": self.plan.disk}
        said = ", ".join(f"{name} {sum(sizes.values()) / _GIB:.2f} GiB" for name, sizes in parts.items())
        return passed(f"{self.plan.summary()}; {said}: fits", **self.plan.to_dict())

    def _planned(self, *overrides: str) -> MemoryPlan:
        task = self.source.with_overrides(*overrides).load()
        return check_plan(task, training_arguments(task.recipe))

    def _must_fit(self) -> Outcome:
        """Of a step that only finds too little disk for its checkpoints, everything else can be tested."""
        if self.plan is None:
            self.plan = self._planned("training.save_total_limit=1")
        return passed("fits")

    def _ram(self) -> Outcome:
        if self.plan is None:
            raise NotTestable("there is no plan that fits to compare with")
        needed, free = sum(self.plan.host.values()), psutil.virtual_memory().available
        text = f"{free / _GIB:.1f} GiB are free now, {needed / _GIB:.1f} GiB are planned"
        evidence = {"free_bytes": free, "planned_bytes": needed}
        return passed(text, **evidence) if free >= needed else failed(text, **evidence)

    # The first trainer: data, and what needs the model.

    def _open_data(self) -> Outcome:
        prepare(self._probe_source(self.folder / "first"), self.folder)
        return passed("the task opened its data")

    def _first_trainer(self, kind_checks: set[str], with_step: bool) -> None:
        built: list[tuple[TrainingTask, AstroTrainer]] = []

        def build_it() -> Outcome:
            # Before the trainer: transformers resets Accelerate's state with every set of arguments.
            whole_run = training_arguments(self.source.load().recipe)
            task = prepare(self._probe_source(self.folder / "first", steps=1), self.folder)
            built.append((task, build(task)))
            return passed(self._describe(built[0][1], whole_run))

        self._build_on(self._check("model.builds", build_it, always=True, on=self.base))
        for name in sorted(kind_checks):
            self._check(name, functools.partial(_run_own, name, built), on=self.base)
        if built:
            task, trainer = built.pop()
            if "data.throughput" in self.names:
                self.loader = guarded(lambda: passed("measured", **measure_loader(trainer)))
            if with_step and trainer.args.device.type == "cpu":
                # What goes wrong here goes wrong again below.
                guarded(lambda: passed("trained", result=trainer.train()))
            del task, trainer
        _free()

    def _describe(self, trainer: AstroTrainer, arguments: TrainingArguments) -> str:
        """Note what the whole run will be; returns it as text."""
        total = trainer.set_initial_training_values(arguments, trainer.get_train_dataloader())[-1]
        assert trainer.model is not None
        parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
        self.facts |= {
            "total_steps": int(total),
            "processes": arguments.world_size,
            "device": arguments.device.type,
            "parameters": parameters,
        }
        return f"{parameters:,} parameters on {arguments.device.type}, {total:,} steps"

    # The second trainer: three steps at the longest batch.

    def _second_trainer(self) -> None:
        trained: list[AstroTrainer] = []

        def measure() -> Outcome:
            task = prepare(self._probe_source(self.folder / "second", evaluates=True), self.folder)
            trainer = build(task)
            can_measure(trainer.args.device)
            assert self.plan is not None
            measured = run_probe_steps(trainer, self.plan.step.make_batch())
            trained.append(trainer)
            self.step_seconds = measured.step_seconds
            self.facts |= {name: value for name, value in asdict(measured).items() if name.endswith("_seconds")}
            return judge_memory(self.plan, measured)

        def throughput() -> Outcome:
            if self.loader.status != PASS:
                return self.loader
            if self.step_seconds is None:
                raise NotTestable("no step could be measured")
            assert self.plan is not None
            step = self.plan.step
            return judge_throughput(
                self.loader.evidence, self.step_seconds, step.accumulation_steps, step.items, step.item
            )

        def state() -> Outcome:
            if not trained:
                raise NotTestable("no step could be made")
            assert self.plan is not None
            asked = self.source.load().recipe.strategy.optimizer
            return check_optimizer_state(trained[0], self.plan.step.strategy, asked)

        def random_state() -> Outcome:
            if not trained:
                raise NotTestable("no step could be made")
            return check_random_state(trained[0], self.folder / "second" / f"checkpoint-{PROBE_STEPS}")

        self._check("memory.measured", measure, always=True, on=self.base)
        self._check("data.throughput", throughput, on=self.base)
        self._check("optimizer.state", state, on=self.base)
        self._check("resume.random_state", random_state, on=self.base)
        trained.clear()
        _free()

    def _probe_source(self, out: Path, steps: int = PROBE_STEPS, evaluates: bool = False) -> Source:
        """The recipe for a few steps with a save after the last, and an evaluation before it."""
        changes: dict[str, Any] = {
            "max_steps": steps,
            "save_strategy": "steps",
            "save_steps": steps,
            "save_total_limit": 1,
            "report_to": "none",
            "warmup_steps": 0,
            "lr_scheduler_kwargs": None,
        }
        evaluates = evaluates and self.source.load().recipe.training["eval_strategy"] != "no"
        changes |= {"eval_strategy": "steps", "eval_steps": steps} if evaluates else {"eval_strategy": "no"}
        overrides = [f"training.{key}={json.dumps(value)}" for key, value in changes.items()]
        return self.source.with_overrides("schedule=constant", *overrides, f"output_dir={out}")


def _run_own(name: str, built: list[tuple[TrainingTask, AstroTrainer]]) -> Outcome:
    task, trainer = built[0]
    return task.preflight_checks()[name].run(task, trainer)


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def main(path: Path) -> int:
    """Make what a request asks for; the main process writes `results.json` beside it."""
    make_output_safe()
    request = json.loads(path.read_text(encoding="utf-8"))
    source = Source(request["script"], request["recipe"], tuple(request["overrides"]), request["strategy"])
    outcomes: dict[str, Any] = {}

    def found(name: str | None, outcome: Outcome | None) -> None:
        if name and outcome:
            outcomes[name] = outcome.to_dict()
        # Of the launcher: Accelerate knows the processes only once it has joined them.
        if os.environ.get("RANK", "0") == "0":
            content = {"outcomes": outcomes, "facts": probe.facts, "running": name if outcome is None else None}
            write_json_whole(path.with_name("results.json"), json.loads(json.dumps(content, default=str)))

    probe = Probe(source, Path(request["folder"]), request["names"], found)
    try:
        probe.run()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    found(None, None)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
