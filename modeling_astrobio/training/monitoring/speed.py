"""How fast a run goes and what it waits for, from the times at which the trainer's events come."""

import time
from collections import deque
from collections.abc import Callable
from typing import Literal

from ..memory_plan import MemoryPlan


__all__ = ["SpeedMeter", "TimeKind"]


TimeKind = Literal["step", "wait", "pause"]


class SpeedMeter:
    """Shares out the time of a run among steps, waiting for data, and pauses such as evaluation and saving.

    The clock is the host's. A GPU still works when the host already asks for the next batch, so that on a GPU a wait
    may hide behind work that was not done yet; the trainer waits for the GPU in each step, when it counts tokens.

    Until the first step nothing counts: opening the data is not waiting for it.
    """

    def __init__(self, plan: MemoryPlan, window_steps: int, clock: Callable[[], float] = time.perf_counter):
        """Make a meter; `start` begins a run.

        Args:
            plan: Of the step; says what an item is, and how fast the device could go.
            window_steps: Steps of which `wait_share` tells, at least 1.
            clock: Seconds.
        """
        self.plan = plan
        self.clock = clock
        self._steps: deque[tuple[float, float]] = deque(maxlen=max(1, window_steps))
        self.start()

    def start(self) -> None:
        """Begin a run, or go on with one after a break that is not to count."""
        self._steps.clear()
        self._last: float | None = None
        self._first_end: float | None = None
        self._later_steps = 0
        self._wait_of_step = 0.0
        self._work_of_step = 0.0
        self._items_at_row: int | None = None
        self._begin_row()

    def _begin_row(self) -> None:
        self._seconds: dict[TimeKind, float] = {"step": 0.0, "wait": 0.0, "pause": 0.0}
        self._row_steps = 0
        self._row_waited = False

    def begin_step(self, items_seen: int) -> None:
        """Note that the data of a step is there.

        Args:
            items_seen: Items of all processes before this step; 0 where nobody counts.
        """
        if self._last is None:
            self._last = self.clock()
            self._items_at_row = items_seen
            return
        self._wait_of_step += self.book("wait")
        self._row_waited = True

    def book(self, kind: TimeKind) -> float:
        """Give the time since the last event to a kind; returns it, in seconds."""
        if self._last is None:
            return 0.0
        now = self.clock()
        spent, self._last = now - self._last, now
        self._seconds[kind] += spent
        if kind == "step":
            self._work_of_step += spent
        return spent

    def end_step(self) -> None:
        """Note that the weights are updated; what the host does until the next step's data still belongs to it."""
        self.book("step")
        self._row_steps += 1
        if self._first_end is None:
            # The first step compiles, and nothing waited for its data.
            self._first_end = self._last
        else:
            self._later_steps += 1
            self._steps.append((self._wait_of_step, self._work_of_step))
        self._wait_of_step = self._work_of_step = 0.0

    @property
    def wait_share(self) -> float | None:
        """Share of the last `window_steps` steps' time that went into waiting; `None` before there are so many."""
        if len(self._steps) < (self._steps.maxlen or 1):
            return None
        waited, worked = (sum(column) for column in zip(*self._steps, strict=True))
        return waited / (waited + worked) if waited + worked else None

    def take_row(self, steps_left: int, items_seen: int) -> dict[str, float]:
        """Return the fields of a row of the log, of the time since the last one.

        Args:
            steps_left: Optimizer steps that are still to be done.
            items_seen: Items of all processes so far; 0 where nobody counts.

        Returns:
            steps_per_second and ITEMs_per_second, of the time outside pauses; data_wait_share; eta_seconds, by all
            steps but the first and with pauses; and model_flops_utilisation, by the items that were there rather than
            the planned ones where items are counted. What is not known is left out.
        """
        row: dict[str, float] = {}
        seconds = self._seconds["step"] + self._seconds["wait"]
        item = self.plan.step.item
        if self._row_steps and seconds:
            row["steps_per_second"] = self._row_steps / seconds
            # transformers counts tokens and nothing else.
            if item == "token" and self._items_at_row is not None and items_seen > self._items_at_row:
                row[f"{item}s_per_second"] = (items_seen - self._items_at_row) / seconds
            if self._row_waited:
                row["data_wait_share"] = self._seconds["wait"] / seconds
            planned = self.plan.time
            if planned.model_flops_utilisation and planned.items_per_second and planned.seconds:
                if f"{item}s_per_second" in row:
                    speed = row[f"{item}s_per_second"] / planned.items_per_second
                else:
                    speed = row["steps_per_second"] * planned.seconds
                row["model_flops_utilisation"] = planned.model_flops_utilisation * speed
        if self._later_steps and self._first_end is not None and self._last is not None:
            row["eta_seconds"] = max(0, steps_left) * (self._last - self._first_end) / self._later_steps
        self._items_at_row = items_seen
        self._begin_row()
        return row
