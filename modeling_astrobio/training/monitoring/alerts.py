"""Alerts of a run: written beside it, and sent to whoever wants them, each kind not too often."""

import json
import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .secrets import redact
from .settings import MonitorSection


__all__ = ["ALERTS_NAME", "Alert", "AlertChannel", "AlertKind", "AlertLevel", "Alerts"]


ALERTS_NAME = "alerts.jsonl"
AlertKind = Literal["loss_spike", "memory_over_plan", "stall", "data_starvation", "gpu_idle", "disk"]
AlertLevel = Literal["info", "warning", "error"]
_RANKS = {"info": 0, "warning": 1, "error": 2}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Alert:
    """Something that calls for attention.

    Attributes:
        kind: What it is about.
        level: "info" is an all-clear.
        title: A few words.
        text: What was seen, what was expected, and what can be done.
        step: Optimizer step at which it was seen.
        run: Name of the run's folder.
        time: Unix time, seconds.
    """

    kind: AlertKind
    level: AlertLevel
    title: str
    text: str
    step: int
    run: str
    time: float


class AlertChannel(ABC):
    """A way to tell somebody.

    Attributes:
        name: What `alerts.jsonl` calls it.
    """

    name: str

    @abstractmethod
    def send(self, alert: Alert) -> bool:
        """Pass an alert on without making training wait; returns whether there is somebody to tell.

        Raises:
            Exception: If it cannot be passed on.
        """

    def close(self) -> None:  # noqa: B027 most have nothing to close
        """Deliver what waits."""


class Alerts:
    """Sends alerts, writes them to `alerts.jsonl`, and keeps a cool-down for each kind.

    Nothing here raises: a run is worth more than word of it. Any thread may send.
    """

    def __init__(
        self,
        path: Path | None,
        channels: Sequence[AlertChannel],
        cooldown_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Make the sender of a run's alerts.

        Args:
            path: The file, in the run's folder; `None` where another process sends: then nothing is sent or written.
            channels: Whom to tell, in this order: those that cannot block come first.
            cooldown_seconds: For so long after an alert, those of its kind are dropped unless their level is higher.
                All-clears (level "info") always pass, and begin no cool-down.
            clock: Seconds.
        """
        self.path = path
        self.channels = tuple(channels)
        self.cooldown_seconds = cooldown_seconds
        self.clock = clock
        self._last: dict[str, tuple[float, AlertLevel]] = {}
        # A signal's handler may send while its thread is sending.
        self._lock = threading.RLock()

    @classmethod
    def for_run(cls, run_dir: Path, settings: MonitorSection, is_main: bool) -> "Alerts":
        """Make the sender of a run: to the webhook where there is one, to Weights & Biases, and to the log.

        Args:
            run_dir: Folder of the run.
            settings: Limits of the recipe.
            is_main: Whether this process is the one that sends.

        Raises:
            UserError: If the environment variable of the webhook holds no URL.
        """
        from .alert_channels import LogChannel, WandbChannel, webhook_channel

        if not is_main:
            return cls(None, (), settings.cooldown_seconds)
        webhook = webhook_channel()
        channels = (*([webhook] if webhook else []), WandbChannel(settings.cooldown_seconds), LogChannel())
        return cls(Path(run_dir) / ALERTS_NAME, channels, settings.cooldown_seconds)

    def send(self, kind: AlertKind, title: str, text: str, step: int, level: AlertLevel = "warning") -> bool:
        """Send an alert, without secrets; returns `False` where it was dropped.

        Args:
            kind: What it is about.
            title: A few words.
            text: What was seen, what was expected, and what can be done.
            step: Optimizer step.
            level: How bad it is.
        """
        if self.path is None:
            return False
        try:
            return self._send(self.path, kind, title, text, step, level)
        except Exception:
            logger.exception("an alert was lost")
            return False

    def close(self) -> None:
        """Deliver what waits, within the channels' limits of time."""
        for channel in self.channels:
            try:
                channel.close()
            except Exception as error:
                self._log_failure(channel.name, error)

    def _send(self, path: Path, kind: AlertKind, title: str, text: str, step: int, level: AlertLevel) -> bool:
        with self._lock:
            now = self.clock()
            if level != "info":
                then, before = self._last.get(kind, (float("-inf"), level))
                if now - then < self.cooldown_seconds and _RANKS[level] <= _RANKS[before]:
                    return False
                self._last[kind] = now, level
            alert = Alert(kind, level, redact(title), redact(text), int(step), redact(path.parent.name), time.time())
            sent_to = [channel.name for channel in self.channels if self._passed_on(channel, alert)]
            self._write(path, alert, sent_to)
        return True

    def _passed_on(self, channel: AlertChannel, alert: Alert) -> bool:
        try:
            return channel.send(alert)
        except Exception as error:
            self._log_failure(channel.name, error)
            return False

    def _write(self, path: Path, alert: Alert, sent_to: list[str]) -> None:
        names = ("time", "step", "kind", "level", "title", "text")
        row: dict[str, Any] = {**{name: getattr(alert, name) for name in names}, "sent_to": sent_to}
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            self._log_failure(path.name, error)

    def _log_failure(self, where: str, error: Exception) -> None:
        logger.warning("an alert did not get to %s: %s", where, redact(f"{type(error).__name__}: {error}"))
