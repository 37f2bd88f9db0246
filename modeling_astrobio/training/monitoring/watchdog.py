"""A watch over a run from threads of its own: steps that do not end, a disk that fills up, how busy the GPU is."""

import contextlib
import logging
import os
import shutil
import statistics
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from ..checkpoints import find_checkpoints
from .alerts import Alerts
from .settings import MonitorSection


__all__ = ["Watchdog"]


_STEPS = 50  # of which the median is taken
_UTILISATION_SAMPLES = 30
_PATIENCE = 12  # times `stall_seconds`: for what has no median, like compilation, an evaluation or a save
_STOP_SECONDS = 5.0

logger = logging.getLogger(__name__)


def _no_gpu() -> None:
    return None


class Watchdog:
    """Raises the alerts `stall` and `disk`, and keeps the GPU's mean utilisation.

    A step is stalled when it takes longer than `stall_factor` times the median of the last 50, and longer than
    `stall_seconds`. Until two steps are done, and while the run is `busy` with something else, the limit is 12 times
    `stall_seconds`. There is one alert for a stall, and an all-clear when the run goes on. The main thread's stack is
    logged with it.

    The disk is short when it has room for fewer than `disk_checkpoints` checkpoints of the newest one's size.

    Each check has its own thread: a network file system or a driver that hangs holds up its own check alone.
    """

    def __init__(
        self,
        alerts: Alerts,
        settings: MonitorSection,
        run_dir: Path,
        gpu_utilisation: Callable[[], float | None] = _no_gpu,
        clock: Callable[[], float] = time.monotonic,
        poll_seconds: float = 2.0,
    ):
        """Make a watch; `start` begins it.

        Args:
            alerts: Whom to tell.
            settings: Limits; 0 in one of a check's switches it off.
            run_dir: Folder of the run.
            gpu_utilisation: Reads the GPU's utilisation, percent; `None` where it is not known.
            clock: Seconds.
            poll_seconds: Between two checks.
        """
        self.alerts = alerts
        self.settings = settings
        self.run_dir = Path(run_dir)
        self.gpu_utilisation = gpu_utilisation
        self.clock = clock
        self.poll_seconds = poll_seconds
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._utilisation: deque[float] = deque(maxlen=_UTILISATION_SAMPLES)
        self._measured: tuple[tuple[str, int, int], int] | None = None
        self._begin(0)

    def _begin(self, step: int) -> None:
        self._step = step
        self._steps_done = 0
        self._since = self.clock()  # the last step's end, put off by what the run was busy with
        self._durations: deque[float] = deque(maxlen=_STEPS)
        self._busy: list[tuple[str, float]] = []
        self._stalled_since: float | None = None
        self._stall_was_sent = False
        self._stall_seconds: float | None = None  # of one that is over and was not reported yet
        self._utilisation.clear()

    def start(self, step: int = 0) -> None:
        """Begin to watch.

        Args:
            step: Step from which training goes on.
        """
        if self._threads:
            raise RuntimeError("a watchdog can be started once until it is stopped; got a second start.")
        self._begin(step)
        self._stop.clear()
        checks = (self.check_steps, self.check_disk, self.check_gpu)
        self._threads = [
            threading.Thread(target=self._watch, args=(check,), name=f"watchdog-{check.__name__}", daemon=True)
            for check in checks
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the watch; a check that hangs is left behind after 5 s."""
        self._stop.set()
        for thread in self._threads:
            thread.join(_STOP_SECONDS)
        if self._threads:
            self._threads = []
            self._report_end_of_stall()

    def step_done(self, step: int) -> None:
        """Note that an optimizer step is done; costs microseconds."""
        now = self.clock()
        with self._lock:
            # The first one holds compilation and loading.
            if self._steps_done:
                self._durations.append(now - self._since)
            self._steps_done += 1
            self._step = step
            self._goes_on(now)

    @contextlib.contextmanager
    def busy(self, what: str) -> Iterator[None]:
        """Take the time of a block off the step's.

        Args:
            what: Like "evaluation" or "saving"; an alert calls it so.
        """
        with self._lock:
            began = self.clock()
            self._busy.append((what, began))
        try:
            yield
        finally:
            with self._lock:
                now = self.clock()
                self._busy.pop()
                if not self._busy:
                    put_off = self._since + now - began
                    self._goes_on(now)
                    self._since = put_off

    @property
    def gpu_utilisation_percent(self) -> float | None:
        """Mean of the last 30 readings while training, or `None` where there are none."""
        with self._lock:
            return statistics.fmean(self._utilisation) if self._utilisation else None

    def check_steps(self) -> None:
        """Raise an alert where a step or what the run is busy with takes too long."""
        self._report_end_of_stall()
        settings = self.settings
        if not settings.stall_factor or not settings.stall_seconds:
            return
        with self._lock:
            what, since = self._busy[0] if self._busy else ("a step", self._since)
            median = statistics.median(self._durations) if self._durations and not self._busy else None
            if median is None:
                limit = _PATIENCE * settings.stall_seconds
            else:
                limit = max(settings.stall_factor * median, settings.stall_seconds)
            seconds = self.clock() - since
            step = self._step
            if seconds <= limit or self._stalled_since is not None:
                return
            self._stalled_since = since
        usual = "" if median is None else f"; the median of the last steps is {median:.3g} s"
        text = f"{what} has taken {seconds:.3g} s so far (limit {limit:.3g} s{usual}). The last step done is {step}."
        sent = self.alerts.send("stall", "training stalls", text, step)
        with self._lock:
            self._stall_was_sent = sent
        if sent:
            logger.warning("the main thread stands at\n%s", _main_stack())

    def check_disk(self) -> None:
        """Raise an alert where the disk has too little room for further checkpoints."""
        needed = self.settings.disk_checkpoints
        with self._lock:
            # A checkpoint half written takes room that is to be freed when the oldest one goes.
            if not needed or self._busy:
                return
            step = self._step
        size = self._newest_checkpoint_bytes()
        free = shutil.disk_usage(self.run_dir).free
        if size and free < needed * size:
            text = (
                f"{free / 2**30:.3g} GiB are free where the run's folder lies: room for {free / size:.3g} checkpoints "
                f"of {size / 2**30:.3g} GiB; {needed:g} are asked for. Free space, or lower training.save_total_limit."
            )
            self.alerts.send("disk", "the disk fills up", text, step)

    def check_gpu(self) -> None:
        """Read the GPU's utilisation, while training alone."""
        if self._busy:
            return
        percent = self.gpu_utilisation()
        if percent is not None:
            with self._lock:
                self._utilisation.append(percent)

    def _watch(self, check: Callable[[], None]) -> None:
        failed = False
        while not self._stop.wait(self.poll_seconds):
            try:
                check()
                failed = False
            except Exception:
                # Once: a fault that lasts would fill the log.
                if not failed:
                    logger.exception("%s failed; it is tried again every %g s", check.__name__, self.poll_seconds)
                failed = True

    def _goes_on(self, now: float) -> None:
        if self._stalled_since is not None:
            self._stall_seconds = now - self._stalled_since
            self._stalled_since = None
        self._since = now

    def _report_end_of_stall(self) -> None:
        with self._lock:
            seconds, self._stall_seconds = self._stall_seconds, None
            sent, step = self._stall_was_sent, self._step
        if seconds is not None and sent:
            self.alerts.send("stall", "training goes on", f"The stall lasted {seconds:.3g} s.", step, level="info")

    def _newest_checkpoint_bytes(self) -> int | None:
        checkpoints = find_checkpoints(self.run_dir)
        if not checkpoints:
            return None
        status = checkpoints[0].stat()
        # Of the same name, it may have been written again.
        key = checkpoints[0].name, status.st_ino, status.st_mtime_ns
        if self._measured is None or self._measured[0] != key:
            self._measured = key, _bytes_below(checkpoints[0])
        return self._measured[1]


def _bytes_below(folder: Path) -> int:
    return sum(os.stat(os.path.join(root, name)).st_size for root, _, names in os.walk(folder) for name in names)


def _main_stack() -> str:
    identity = threading.main_thread().ident
    frame = sys._current_frames().get(identity) if identity is not None else None
    return "".join(traceback.format_stack(frame)) if frame is not None else "(unknown)"
