"""A run of any recipe: check the strategy, claim a folder, train, evaluate, and leave a result."""

import argparse
import errno
import gc
import logging
import os
import shlex
import shutil
import sys
import time
from contextlib import nullcontext, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState
from transformers.utils.logging import disable_progress_bar

from .callbacks import signals_of_a_run
from .checkpoints import find_checkpoints, last_good_checkpoint, resolve_resume, supersede_later, write_failure
from .continuation import keep_rows_per_step
from .errors import HardwareError, UserError
from .hardware import check_device, make_output_safe, use_cpu_threads
from .launch import follow_launcher, on_main_process
from .loss_guard import LossFault
from .memory_plan import MemoryPlan
from .monitoring.alerts import Alerts
from .monitoring.html_report import write_report
from .monitoring.logs import run_logging
from .monitoring.monitor import MonitorCallback
from .monitoring.secrets import redact
from .monitoring.snapshot import oom_snapshot
from .recipe import Recipe, load_recipe, read_yaml
from .result import RESULT_NAME, describe_model, describe_training, run_result, write_result
from .rollbacks import Rollback, read_rollbacks, roll_back
from .run_folder import RECIPE_NAME, open_run_folder
from .run_setup import check_plan, training_arguments
from .task import TrainingTask
from .trainer import AstroTrainer
from .whole_files import write_json_whole


__all__ = ["INTERRUPTED", "parse_arguments", "run_recipe"]


INTERRUPTED = 130
# A disk that is full, over its quota, broken or read-only.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)

logger = logging.getLogger(__name__)


def parse_arguments(
    task: type[TrainingTask], description: str | None, arguments: list[str] | None
) -> argparse.Namespace:
    """Read the command line that every training script has."""
    kind = task.recipe_class.kind
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default=task.default_recipe, help=f"name in recipes/{kind}, or a file")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="what differs from the recipe")
    parser.add_argument("--strategy", help="name in recipes/strategies, or a file: laid over the recipe")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="last",
        metavar="CHECKPOINT",
        help="continue the run: its last checkpoint, `auto` for the last whole one or the beginning, or a folder",
    )
    # Overrides may stand before and after --resume.
    parsed = parser.parse_intermixed_args(arguments)
    if parsed.resume is not None and "=" in parsed.resume:
        parsed.overrides.append(parsed.resume)
        parsed.resume = "last"
    if "=" in parsed.recipe:
        parsed.overrides.insert(0, parsed.recipe)
        parsed.recipe = task.default_recipe
    return parsed


def run_recipe(
    task_class: type[TrainingTask], script: Path, description: str | None, arguments: list[str] | None
) -> int:
    """Run a training script from its command line; returns the exit status, 2 after an error of the user's."""
    make_output_safe()
    parsed = parse_arguments(task_class, description, arguments)
    command = redact(
        shlex.join(
            ["accelerate", "launch", f"recipes/{script.name}", *(sys.argv[1:] if arguments is None else arguments)]
        )
    )
    follow_launcher()
    folder = task_class.recipes
    try:
        layers = (read_yaml(parsed.strategy, folder / "strategies", "strategy"),) if parsed.strategy else ()
        kind = task_class.recipe_class
        recipe = load_recipe(kind, parsed.recipe, parsed.overrides, folder / kind.kind, layers)
        with signals_of_a_run():
            return train(task_class(recipe), parsed.resume, command)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped; where the run has a checkpoint, continue with: {command} --resume", file=sys.stderr)
        return INTERRUPTED


def train(task: TrainingTask, resume: str | None, command: str) -> int:
    """Run a task from plan to report; returns the exit status."""
    recipe: Recipe = task.recipe
    # As the user wrote it: what the launcher adds to the strategy is no part of it.
    written = recipe.to_dict()
    check_device(recipe.device)
    run_dir = Path(recipe.output_dir)
    # Its bars, one for each file, would break the bar of the training.
    disable_progress_bar()
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched > 1 and recipe.device == "cpu" and not dist.is_initialized():
        # transformers leaves the time-out out on the CPU, where half an hour is the default.
        dist.init_process_group("gloo", timeout=timedelta(seconds=recipe.training["ddp_timeout"]))
    # Joins the processes that were launched.
    arguments = training_arguments(recipe)
    device = arguments.device
    state = PartialState()
    if launched != state.num_processes:
        raise HardwareError(
            f"{launched} processes were launched and do not find one another, so that each would train alone; got "
            f"{state.num_processes} for each. On the CPU launch with torchrun and pass device=cpu."
        )
    if state.num_processes == 1 and device.type == "cpu":
        use_cpu_threads(recipe.cpu_threads)
    checkpoint = on_main_process(partial(resolve_resume, run_dir, resume)) if resume else None
    if checkpoint is not None:
        keep_rows_per_step(recipe, checkpoint, state.num_processes, state.is_main_process)
    elif resume == "auto" and (run_dir / RESULT_NAME).is_file():
        print(f"the run in {run_dir} has finished, and left no checkpoint to go on from", flush=True)
        return 0
    plan = check_plan(task, arguments)
    # Refused before anything is made, where what it needs is wrong.
    alerts = Alerts.for_run(run_dir, recipe.monitor, state.is_main_process)
    is_known = on_main_process(partial(_claim_folder, run_dir, written, checkpoint, resume, plan))
    status, error, is_begun = "failed", "", False
    try:
        with run_logging(run_dir, state.process_index):
            rollbacks = read_rollbacks(run_dir)
            task.prepare(run_dir)
            trainer = build_trainer(task, rollbacks)
            is_begun = True
            assert trainer.model is not None
            # Counted before training, since sharding changes what a process sees.
            model = describe_model(trainer.model, task.describe(), plan.step.dtype)
            if state.is_main_process:
                counts = [f"{model[name]:,}" for name in ("parameters", "trainable_parameters")]
                logger.info("%s: %s parameters (%s trained) on %s", model["start"], *counts, device)
                logger.info("%s; from %s", plan.summary(), checkpoint.name if checkpoint else "the beginning")
            started = time.monotonic()
            trainer, rollbacks = _train_with_rollbacks(task, trainer, rollbacks, run_dir, checkpoint, plan, alerts)
            training = describe_training(trainer, resumed=checkpoint is not None, seconds=time.monotonic() - started)
            status = "stopped" if trainer.interrupt.signal_number is not None else "finished"
            if status == "finished":
                if state.is_main_process:
                    with trainer.averaged_weights():
                        task.finish(trainer)
                trainer.save_whole_model(run_dir / "model")
                if state.is_main_process:
                    _evaluate_and_report(task, trainer, run_dir, command, model, training, plan, rollbacks)
    except KeyboardInterrupt:
        status = "stopped"
        raise
    except BaseException as fault:
        status, error = "failed", f"{type(fault).__name__}: {fault}"
        if isinstance(fault, UserError) and not is_begun and not is_known and state.is_main_process:
            # Nothing is lost, and the corrected recipe may have the folder.
            _empty(run_dir)
        raise
    finally:
        alerts.close()
        if state.is_main_process and (run_dir / RECIPE_NAME).is_file():
            _leave_report(run_dir, status, error)
    if status == "stopped" and state.is_main_process:
        step = trainer.state.global_step
        is_saved = bool(find_checkpoints(run_dir))
        print(f"stopped at step {step}; continue with: {command} --resume{'' if is_saved else ' auto'}", flush=True)
    return 0 if status == "finished" else INTERRUPTED


def _claim_folder(
    run_dir: Path, written: dict[str, Any], checkpoint: Path | None, resume: str | None, plan: MemoryPlan
) -> bool:
    """Make the run's folder, or take it up; returns whether it holds this run already."""
    # Of a run that was killed before its first checkpoint, `auto` takes up the folder.
    is_known = checkpoint is not None or (resume == "auto" and (run_dir / RECIPE_NAME).is_file())
    open_run_folder(run_dir, written, resume=is_known)
    if checkpoint is not None and checkpoint.parent.resolve() == run_dir.resolve():
        supersede_later(checkpoint)
    write_json_whole(run_dir / "plan.json", plan.to_dict())
    # The run that goes on has not finished.
    (run_dir / RESULT_NAME).unlink(missing_ok=True)
    return is_known


def _empty(run_dir: Path) -> None:
    for path in run_dir.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    # One that was there before may be a mount point or a link.
    with suppress(OSError):
        run_dir.rmdir()


def _leave_report(run_dir: Path, status: str, error: str) -> None:
    try:
        print(f"{'report of the run':26} {write_report(run_dir, status, redact(error))}", flush=True)
    except Exception as fault:
        # A report that cannot be written, on a full disk or whyever, must not hide what ended the run.
        print(f"no report of the run could be written: {type(fault).__name__}: {fault}", file=sys.stderr, flush=True)


def _train_with_rollbacks(
    task: TrainingTask,
    trainer: AstroTrainer,
    rollbacks: list[Rollback],
    run_dir: Path,
    checkpoint: Path | None,
    plan: MemoryPlan,
    alerts: Alerts,
) -> tuple[AstroTrainer, list[Rollback]]:
    """Train to the end or to a signal; after a step that must not stand, go on from the last good checkpoint."""
    state, recipe = PartialState(), task.recipe
    monitor = MonitorCallback(recipe.monitor, plan, run_dir, alerts, state.is_main_process)
    try:
        while True:
            monitor.attach(trainer)
            try:
                with oom_snapshot(run_dir, trainer):
                    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
                return trainer, rollbacks
            except LossFault as fault:
                # Later ones are of another attempt, where the run went on from an older checkpoint.
                checkpoint = on_main_process(partial(last_good_checkpoint, run_dir, fault.step))
                # A scaled loss cannot pass over a step.
                most = 0 if trainer.args.fp16 else recipe.stability.max_rollbacks
                _alert(alerts, fault, len(rollbacks) < most)
                rollbacks = on_main_process(partial(roll_back, fault, rollbacks, checkpoint, most, run_dir))
                if trainer.interrupt.came(trainer.args):
                    # The state is that of the checkpoint; the data to skip is noted.
                    trainer.state.global_step = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
                    return trainer, rollbacks
            except OSError as error:
                if error.errno in _DISK_ERRORS:
                    raise write_failure(run_dir, error) from error
                raise
            # Its memory is free before another one is built, and nobody waits for a step.
            monitor.close()
            del trainer
            gc.collect()
            trainer = build_trainer(task, rollbacks)
    finally:
        monitor.close()


def _alert(alerts: Alerts, fault: LossFault, goes_on: bool) -> None:
    if goes_on:
        text = f"{fault}. The run goes on from the last good checkpoint, without the data of this step."
        alerts.send("loss_spike", f"step {fault.step} was undone", text, fault.step, "warning")
    else:
        alerts.send("loss_spike", "the run stops", f"{fault}, once too often.", fault.step, "error")


def _evaluate_and_report(
    task: TrainingTask,
    trainer: AstroTrainer,
    run_dir: Path,
    command: str,
    model: dict[str, Any],
    training: dict[str, Any],
    plan: MemoryPlan,
    rollbacks: list[Rollback],
) -> None:
    # Rows of every length would compile a layer again and again.
    stance = torch.compiler.set_stance("force_eager") if task.recipe.strategy.compile else nullcontext()
    # What is drawn is what is saved and measured.
    with stance, trainer.averaged_weights():
        result = run_result(
            command=command,
            model=model,
            training=training,
            plan=plan.to_dict(),
            rollbacks=rollbacks,
            task=task.evaluate(trainer),
        )
        task.report(trainer, run_dir, result)
    write_result(result, run_dir / RESULT_NAME)


def build_trainer(task: TrainingTask, rollbacks: list[Rollback]) -> AstroTrainer:
    """Build a task's trainer, which passes over the data of steps that did not stand."""
    trainer = task.build_trainer(training_arguments(task.recipe))
    trainer.skipped_steps = frozenset(rollback.step for rollback in rollbacks)
    return trainer
