"""Watches a run: machine fields in every row of the log, metrics.jsonl, alerts, and snapshots on demand."""

import contextlib
import logging
from collections import deque
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import torch.distributed as dist
from transformers import TrainerCallback

from ..memory_plan import GIB, MemoryPlan
from .alerts import Alerts
from .gpu_use import GpuReader
from .memory_use import PeakMemory, gradient_bytes, host_slack_bytes, optimizer_bytes, parameter_bytes
from .metrics_file import MetricsFile, row_kind
from .settings import MonitorSection
from .snapshot import SnapshotRequests
from .speed import SpeedMeter, TimeKind
from .watchdog import Watchdog


__all__ = ["MonitorCallback"]


logger = logging.getLogger(__name__)

# A higher peak is worth another word only where it is higher by this.
_HIGHER = 1.05


class MonitorCallback(TrainerCallback):
    """Adds machine fields to what is logged, writes it to metrics.jsonl, and raises alerts.

    `attach` puts it before all callbacks of a trainer, so that trackers get the fields, and its `end` behind all of
    them, so that their time is no waiting for data. The trainer's own `log_history` has the row without the fields.

    Every process needs one. Fields are those of its process; alerts are sent by the main process, and those of memory
    and data go by the worst of all.
    """

    def __init__(
        self,
        settings: MonitorSection,
        plan: MemoryPlan,
        run_dir: Path,
        alerts: Alerts,
        is_main: bool,
        gpu_utilisation: Callable[[], float | None] | None = None,
        poll_seconds: float = 2.0,
    ):
        """Make the callback of a run; it may serve one trainer after another.

        Args:
            settings: When an alert is raised.
            plan: Of the step.
            run_dir: Folder of the run.
            alerts: Sends what is raised.
            is_main: Whether this process writes and sends.
            gpu_utilisation: Reads the GPU's utilisation, percent; `None` asks the driver of this process' GPU.
            poll_seconds: Between two looks of the watchdog.
        """
        self.settings = settings
        self.plan = plan
        self.run_dir = Path(run_dir)
        self.alerts = alerts
        self.is_main = is_main
        self.end = _EndOfEvent(self)
        self.speed = SpeedMeter(plan, settings.window_steps)
        self.snapshots = SnapshotRequests(run_dir, is_main)
        self._read_gpu = gpu_utilisation
        self._poll_seconds = poll_seconds
        self._metrics: MetricsFile | None = None
        self._watchdog: Watchdog | None = None
        self._busy = contextlib.ExitStack()
        self._is_busy = False
        self._sizes: dict[str, int | None] = {}
        self._gpu_percents: deque[float] = deque(maxlen=max(1, settings.window_steps))
        self._alerted_peak = 0

    def attach(self, trainer: Any) -> None:
        """Put the callback into a trainer that has all its other callbacks."""
        trainer.callback_handler.callbacks.insert(0, self)
        trainer.add_callback(self.end)

    def close(self) -> None:
        """Stop watching and close files; call it whatever ended the training. A second call does nothing."""
        self._rest()
        self.snapshots.stop()
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog = None
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None

    def on_train_begin(self, args, state, control, model=None, optimizer=None, **kwargs):
        self.close()
        self._device = args.device
        parameters = parameter_bytes(model, args.device)
        self._sizes = {"parameters": parameters}
        states = optimizer_bytes(model, optimizer, args.device) if optimizer is not None else None
        self._memory = PeakMemory(args.device)
        self._memory.start(parameters + (states or 0))
        self._gpu_percents.clear()
        self._alerted_peak = 0
        self.speed.start()
        self.snapshots.start()
        if self.is_main:
            if self._read_gpu is None:
                gpu = GpuReader.open(args.device)
                reader = gpu.utilisation_percent if gpu is not None else _unknown
            else:
                reader = self._read_gpu
            self._metrics = MetricsFile(self.run_dir)
            self._watchdog = Watchdog(
                self.alerts, self.settings, self.run_dir, reader, poll_seconds=self._poll_seconds
            )
            self._watchdog.start(state.global_step)

    def on_step_begin(self, args, state, control, **kwargs):
        self._rest()
        self.speed.begin_step(state.num_input_tokens_seen)

    def on_pre_optimizer_step(self, args, state, control, model=None, optimizer=None, **kwargs):
        # The first steps may be without, where their data is skipped.
        if self._sizes.get("gradients", 0) == 0:
            self._sizes["gradients"] = gradient_bytes(model, self._device)
        self.snapshots.before_update(model, optimizer)

    def on_step_end(self, args, state, control, model=None, optimizer=None, **kwargs):
        self.speed.end_step()
        # A step that a loss scale skipped leaves no state yet.
        if "optimizer" not in self._sizes and optimizer is not None and optimizer.state:
            self._sizes["optimizer"] = optimizer_bytes(model, optimizer, self._device)
        if self._watchdog is not None:
            self._watchdog.step_done(state.global_step)
            percent = self._watchdog.gpu_utilisation_percent
            if percent is not None:
                self._gpu_percents.append(percent)
                self._check_gpu(state.global_step)

    def on_log(self, args, state, control, logs: dict[str, Any] | None = None, **kwargs):
        if logs is None:
            return
        is_training = row_kind(logs) == "training"
        self.speed.book("step" if is_training else "pause")
        if is_training:
            peak = self._memory.read()
            logs.update(self.speed.take_row(state.max_steps - state.global_step, state.num_input_tokens_seen))
            logs.update(self._memory_fields(peak))
            if self._gpu_percents:
                logs["gpu_utilisation_percent"] = self._gpu_percents[-1]
            worst_peak, worst_wait = self._worst_of_all(float(peak or 0), self.speed.wait_share or 0.0)
            self._check_memory(int(worst_peak), state.global_step)
            self._check_data(worst_wait, state.global_step)
        elif self.is_main and row_kind(logs) == "evaluation":
            figures = ", ".join(
                f"{name.removeprefix('eval_')} {logs[name]:.4f}"
                for name in ("eval_loss", "eval_accuracy")
                if name in logs
            )
            logger.info("step %d of %d: validation %s", state.global_step, state.max_steps, figures)
        if self._metrics is not None:
            self._metrics.append(state.global_step, logs)

    def on_prediction_step(self, args, state, control, **kwargs):
        self._work("evaluation")

    def on_evaluate(self, args, state, control, **kwargs):
        self.speed.book("pause")

    def on_save(self, args, state, control, **kwargs):
        if self.is_main:
            logger.info("step %d of %d: checkpoint saved", state.global_step, state.max_steps)
        self.speed.book("pause")

    def on_train_end(self, args, state, control, **kwargs):
        self.close()

    def after_event(self, kind: TimeKind, next_work: str | None = None) -> None:
        """Note that the other callbacks have had an event too.

        Args:
            kind: What the event belongs to.
            next_work: What the trainer does next, if not steps.
        """
        self.speed.book(kind)
        if next_work is None:
            self._rest()
        else:
            self._work(next_work)

    def _work(self, what: str) -> None:
        """Tell the watchdog that no step is to be expected."""
        if self._watchdog is not None and not self._is_busy:
            self._busy.enter_context(self._watchdog.busy(what))
            self._is_busy = True

    def _rest(self) -> None:
        if self._is_busy:
            self._busy.close()
            self._is_busy = False

    def _memory_fields(self, peak: int | None) -> dict[str, float]:
        sizes = {name: size for name, size in self._sizes.items() if size is not None}
        fields = {f"memory_{name}_gib": size / GIB for name, size in sizes.items()}
        if peak is not None:
            fields["memory_peak_gib"] = peak / GIB
            if sizes.keys() == {"parameters", "gradients", "optimizer"}:
                fields["memory_other_gib"] = max(0, peak - sum(sizes.values())) / GIB
        return fields

    def _worst_of_all(self, *values: float) -> list[float]:
        """The greatest of each value over all processes, which log together."""
        if not dist.is_initialized() or dist.get_world_size() == 1:
            return list(values)
        together = torch.tensor(values, dtype=torch.float64, device=self._device)
        dist.all_reduce(together, op=dist.ReduceOp.MAX)
        return together.tolist()

    def _check_memory(self, peak: int, step: int) -> None:
        share = self.settings.memory_over_plan
        planned = self.plan.device_bytes
        limit = planned * (1 + share) + (host_slack_bytes(planned) if self._device.type == "cpu" else 0)
        if not share or peak <= limit or peak <= self._alerted_peak * _HIGHER:
            return
        sent = self.alerts.send(
            "memory_over_plan",
            "more memory than planned",
            f"The peak is {peak / GIB:.3g} GiB; the plan says {planned / GIB:.3g} GiB, and the limit is "
            f"{limit / GIB:.3g} GiB. Look at a snapshot (kill -USR1, or a file snapshot.request in the run's folder) "
            "for what takes it; smaller micro-batches, an evaluation with smaller batches or "
            "strategy.activation_checkpointing=full lower it.",
            step,
        )
        if sent:
            self._alerted_peak = peak

    def _check_data(self, share: float, step: int) -> None:
        limit = self.settings.data_wait_share
        if limit and share > limit:
            self.alerts.send(
                "data_starvation",
                "training waits for data",
                f"{100 * share:.0f} % of the last {self.settings.window_steps} steps' time went into waiting for "
                f"data; the limit is {100 * limit:.0f} %. More training.dataloader_num_workers, data that is prepared "
                "beforehand, or a faster disk help.",
                step,
            )

    def _check_gpu(self, step: int) -> None:
        limit = self.settings.gpu_idle_percent
        percents = self._gpu_percents
        if limit and len(percents) == percents.maxlen and fmean(percents) < limit:
            self.alerts.send(
                "gpu_idle",
                "the GPU has little to do",
                f"The GPU's utilisation was {fmean(percents):.0f} % in the last {len(percents)} steps; the limit is "
                f"{limit:.0f} %. Larger micro-batches, faster data (see data_wait_share), or fewer evaluations and "
                "saves help.",
                step,
            )


class _EndOfEvent(TrainerCallback):
    """Comes behind all other callbacks, whose time is the step's or the pause's and no waiting for data."""

    def __init__(self, monitor: MonitorCallback):
        self.monitor = monitor

    def on_step_end(self, args, state, control, **kwargs):
        self.monitor.after_event("step", _next_work(control))

    def on_epoch_end(self, args, state, control, **kwargs):
        self.monitor.after_event("step", _next_work(control))

    def on_log(self, args, state, control, logs: dict[str, Any] | None = None, **kwargs):
        is_training = row_kind(logs or {}) == "training"
        self.monitor.after_event("step" if is_training else "pause", _next_work(control))

    def on_evaluate(self, args, state, control, **kwargs):
        self.monitor.after_event("pause", "saving" if control.should_save else None)

    def on_save(self, args, state, control, **kwargs):
        self.monitor.after_event("pause")


def _next_work(control: Any) -> str | None:
    if control.should_evaluate:
        return "evaluation"
    return "saving" if control.should_save else None


def _unknown() -> None:
    return None
