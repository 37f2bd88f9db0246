"""Trainer callbacks every recipe uses: a progress bar with the loss, and saving on Ctrl-C."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from tqdm import tqdm
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from .random_state import RandomState


__all__ = [
    "EvaluationInterrupted",
    "InterruptCallback",
    "ProgressBarCallback",
    "outlive_signals",
    "signals_of_a_run",
]


_INSISTENCE_SECONDS = 2.0
_WORKER_SECONDS = 600


class ProgressBarCallback(TrainerCallback):
    """One bar for the run, with the last training and validation loss beside it."""

    def __init__(self) -> None:
        self.bar: tqdm | None = None
        self.shown: dict[str, str] = {}

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self.bar = tqdm(
                total=state.max_steps, initial=state.global_step, desc="training", unit="step", dynamic_ncols=True
            )

    def on_step_end(self, args, state, control, **kwargs):
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(self, args, state, control, logs: dict[str, Any] | None = None, **kwargs):
        for key, label in (("loss", "loss"), ("eval_loss", "validation")):
            if logs and key in logs:
                self.shown[label] = f"{float(logs[key]):.3f}"
        if self.bar is not None:
            self.bar.set_postfix(self.shown, refresh=False)

    def on_train_end(self, args, state, control, **kwargs):
        self.close()

    def close(self) -> None:
        """End the bar's line; does nothing where there is none."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


class EvaluationInterrupted(Exception):
    """A signal came in an evaluation, which is left for the checkpoint."""


class InterruptCallback(TrainerCallback):
    """On SIGINT or SIGTERM, finish the micro-batch, save a checkpoint and stop; a second Ctrl-C stops at once.

    A step of many micro-batches may take longer than a job scheduler waits. What was done of it is given up, and the
    checkpoint is that of the step before, with the state of the random generators from then. An evaluation is left.

    Python lets the main thread alone handle signals: training in another thread goes on until its process ends.

    Attributes:
        signal_number: The signal that came, or `None`.
    """

    signals = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._came = 0.0
        self._previous: dict[int, Any] = {}
        self._after_last_step: tuple[RandomState, int] | None = None

    def _on_signal(self, number, frame):
        if self.signal_number is not None:
            # Schedulers and launchers pass the same signal on, so that it comes twice at nearly the same time.
            if number == signal.SIGINT and time.monotonic() - self._came > _INSISTENCE_SECONDS:
                raise KeyboardInterrupt
            return
        self.signal_number, self._came = number, time.monotonic()
        print(
            f"\n{signal.Signals(number).name}: saving a checkpoint after this micro-batch", file=sys.stderr, flush=True
        )

    def on_train_begin(self, args, state, control, **kwargs):
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._on_signal) for number in self.signals}

    def on_step_end(self, args, state, control, **kwargs):
        if self.came(args):
            control.should_save = True
            control.should_training_stop = True
            # A job scheduler grants seconds: the checkpoint comes first; an evaluation due at this step is left out.
            control.should_evaluate = False
        elif args.gradient_accumulation_steps > 1:
            self._after_last_step = RandomState.now(), state.num_input_tokens_seen

    def on_substep_end(self, args, state, control, **kwargs):
        if self.came(args):
            control.should_training_stop = True
            # Without a step since the run began or went on, there is nothing to save.
            if self._after_last_step is not None and not _checkpoint(args, state).exists():
                random_state, state.num_input_tokens_seen = self._after_last_step
                random_state.restore()
                control.should_save = True

    def on_prediction_step(self, args, state, control, **kwargs):
        if self._previous and self.came(args):
            raise EvaluationInterrupted

    def on_epoch_end(self, args, state, control, **kwargs):
        if self.came(args):
            control.should_evaluate = False
            # The signal came after the last step's end.
            if state.global_step == state.max_steps and not _checkpoint(args, state).exists():
                control.should_save = True

    def came(self, args) -> bool:
        """Whether a signal came, to any process; every one of them must ask."""
        came = self.signal_number is not None
        if args.world_size > 1:
            flag = torch.tensor(float(came), device=args.device)
            dist.all_reduce(flag, op=dist.ReduceOp.MAX)
            came = bool(flag.item())
            if came and self.signal_number is None:
                self.signal_number, self._came = signal.SIGINT, time.monotonic()
        return came

    def on_train_end(self, args, state, control, **kwargs):
        self.restore_handlers()

    def restore_handlers(self) -> None:
        """Give the signals back to whoever had them before training."""
        for number, handler in self._previous.items():
            # A handler that was not set in Python is not told.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous = {}


def _checkpoint(args, state) -> Path:
    return Path(args.output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"


def outlive_signals(init: Callable[[int], None] | None, worker: int) -> None:
    """Begin a data worker, which a signal to all processes must not end before the trainer has saved.

    Args:
        init: What the data loader does otherwise.
        worker: Its number.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        # One that hangs ends all the same, when the trainer is long gone.
        signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(_WORKER_SECONDS))
    if init is not None:
        init(worker)


@contextmanager
def signals_of_a_run() -> Iterator[None]:
    """Outside training, let SIGTERM do what Ctrl-C does, and a request for a snapshot do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers: dict[int, Any] = {signal.SIGTERM: signal.default_int_handler}
    if hasattr(signal, "SIGUSR1"):
        handlers[signal.SIGUSR1] = signal.SIG_IGN
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
