"""All checks, in the order of the table."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from ..task import TrainingTask
from .context import Context
from .credentials import check_recipe_for_secrets, check_runs_for_secrets
from .data_quality import check_quality
from .environment import check_communication, check_variables, check_versions
from .learning import check_learning
from .outcome import Outcome, failed, not_tested
from .probe import PROBE_CHECKS
from .resume import check_resume
from .trackers import check_reachable
from .whole_run import check_disk, check_folder, check_time


__all__ = ["Check", "all_checks", "choose"]


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        name: Its group, a point, and its name in the group.
        title: What is checked.
        run: Makes it.
    """

    name: str
    title: str
    run: Callable[[Context], Outcome]


def all_checks(task: TrainingTask) -> list[Check]:
    """Return the checks of a task, its own kind's among them."""
    probed = {name: Check(name, title, functools.partial(_probed, name)) for name, title in PROBE_CHECKS.items()}
    own = {
        name: Check(name, check.title, functools.partial(_probed, name))
        for name, check in task.preflight_checks().items()
    }
    checks = [
        Check("environment.versions", "versions", check_versions),
        *(check for name, check in probed.items() if name.startswith("environment.")),
        Check("environment.gpu_communication", "GPUs exchange tensors", check_communication),
        Check("environment.variables", "environment variables", check_variables),
        Check("disk.folder", "folder of the run", check_folder),
        probed["memory.plan"],
        probed["data.opens"],
        Check("data.quality", "quality grade", check_quality),
        *(check for name, check in own.items() if name.startswith("data.")),
        probed["data.throughput"],
        probed["model.builds"],
        *(check for name, check in own.items() if not name.startswith("data.")),
        probed["memory.measured"],
        probed["optimizer.state"],
        probed["accumulation.equality"],
        Check("learning.loss", "finite and falling loss", check_learning),
        Check("resume.equality", "save, kill -9, resume", check_resume),
        probed["resume.random_state"],
        Check("trackers.reachable", "trackers", check_reachable),
        Check("disk.checkpoints", "disk for the whole run", check_disk),
        Check("time.to_finish", "time to finish", check_time),
        Check("credentials.recipe", "no credentials in the recipe", check_recipe_for_secrets),
        # Last, for it searches what all others wrote.
        Check("credentials.runs", "no credentials in what runs write", check_runs_for_secrets),
    ]
    assert len({check.name for check in checks}) == len(checks)
    return checks


def choose(checks: list[Check], only: list[str]) -> tuple[list[Check], list[str]]:
    """Return the checks asked for by name or group, and what names none; no name asks for all."""
    known = {check.name for check in checks} | {check.name.partition(".")[0] for check in checks}
    chosen = [check for check in checks if not only or {check.name, check.name.partition(".")[0]} & set(only)]
    return chosen, sorted(set(only) - known)


def _probed(name: str, context: Context) -> Outcome:
    """Return what the probe found, or why it found nothing."""
    probe = context.probe
    if name in probe["outcomes"]:
        return Outcome(**probe["outcomes"][name])
    how = f"the process that checks ended with status {probe['status']}"
    if probe["status"] == 0:
        return not_tested("the process that checks did not come to it")
    if probe["running"] in (name, None):
        return failed(f"{how} in this check: {probe['tail']}")
    return not_tested(f"{how} in {probe['running']}, before it came to this check: {probe['tail']}")
