"""Whom a run's alerts are told: its log, Weights & Biases, and a webhook."""

import json
import logging
import os
import queue
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import asdict
from datetime import timedelta
from urllib.parse import urlsplit

from ..errors import UserError
from .alerts import Alert, AlertChannel
from .secrets import redact
from .settings import WEBHOOK_VARIABLE


__all__ = ["LogChannel", "WandbChannel", "WebhookChannel", "webhook_channel"]


_TIMEOUT_SECONDS = 5.0
_CLOSE_SECONDS = 10.0
_QUEUED = 32
_WANDB_TITLE = 63  # characters

logger = logging.getLogger(__name__)


class LogChannel(AlertChannel):
    """Writes alerts to the run's log."""

    name = "log"

    def send(self, alert: Alert) -> bool:
        level = logging.getLevelNamesMapping()[alert.level.upper()]
        logger.log(level, "%s: %s (step %d): %s", alert.kind, alert.title, alert.step, alert.text)
        return True


class WandbChannel(AlertChannel):
    """Sends alerts through the Weights & Biases run of this process, while there is one."""

    name = "wandb"

    def __init__(self, cooldown_seconds: float):
        # `Alerts` keeps the cool-down; a run that is started again and again is held back here. Half of it, so that
        # nothing that `Alerts` let pass is dropped.
        # None of it would be taken for a minute.
        self.wait = timedelta(seconds=max(cooldown_seconds / 2, 0.001))

    def send(self, alert: Alert) -> bool:
        # Importing it takes seconds, and where it is not imported there is no run.
        run = getattr(sys.modules.get("wandb"), "run", None)
        if run is None or run.disabled:
            return False
        level = {"info": "INFO", "warning": "WARN", "error": "ERROR"}[alert.level]
        run.alert(
            title=f"{alert.kind}: {alert.title}"[:_WANDB_TITLE],
            text=f"{alert.text} (step {alert.step})",
            level=level,
            wait_duration=self.wait,
        )
        return True


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Following one would turn the POST into a GET, and its 200 into a delivery that never was."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        return None


class WebhookChannel(AlertChannel):
    """Posts alerts as JSON from a thread of its own.

    The object has `text`, which Slack and the like show, `kind`, `level`, `step` and `run`. A delivery that fails is
    logged and not tried again. The URL, a secret, is named nowhere.
    """

    name = "webhook"

    def __init__(self, url: str, timeout_seconds: float = _TIMEOUT_SECONDS):
        """Start the thread.

        Args:
            url: Where to post.
            timeout_seconds: For which the receiver may be silent.
        """
        self.timeout_seconds = timeout_seconds
        self._url = url
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._queue: queue.Queue[Alert | None] = queue.Queue(maxsize=_QUEUED)
        self._thread = threading.Thread(target=self._deliver, name="alert-webhook", daemon=True)
        self._thread.start()

    def send(self, alert: Alert) -> bool:
        if not self._thread.is_alive():
            raise RuntimeError("the webhook is closed")
        try:
            self._queue.put_nowait(alert)
        except queue.Full as error:
            raise RuntimeError(f"{_QUEUED} alerts wait for the receiver already") from error
        return True

    def close(self) -> None:
        """Wait for the deliveries, at most 10 s; what is left is logged."""
        end = time.monotonic() + _CLOSE_SECONDS
        try:
            self._queue.put(None, timeout=_CLOSE_SECONDS)
        except queue.Full:
            pass
        else:
            self._thread.join(max(0.0, end - time.monotonic()))
        if self._thread.is_alive():
            logger.warning("the webhook is slow: alerts that waited for it are lost")

    def _deliver(self) -> None:
        while (alert := self._queue.get()) is not None:
            try:
                self._post(alert)
            except Exception as error:
                reason = f"answered {error.code}" if isinstance(error, urllib.error.HTTPError) else _without_url(error)
                logger.warning("the webhook did not take the alert %s of step %d: %s", alert.kind, alert.step, reason)

    def _post(self, alert: Alert) -> None:
        text = f"{alert.run}, step {alert.step}, {alert.level}: {alert.title}\n{alert.text}"
        row = asdict(alert)
        body = {"text": text, **{name: row[name] for name in ("kind", "level", "step", "run")}}
        request = urllib.request.Request(
            self._url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        with self._opener.open(request, timeout=self.timeout_seconds):
            pass


def _without_url(error: Exception) -> str:
    return redact(f"{type(error).__name__}: {error}")


def webhook_channel() -> WebhookChannel | None:
    """Return the channel to the URL in `MODELING_ASTROBIO_WEBHOOK`, or `None` where it is unset or empty.

    Raises:
        UserError: If it holds no http or https URL.
    """
    url = os.environ.get(WEBHOOK_VARIABLE, "").strip()
    if not url:
        return None
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or any(character.isspace() for character in url):
        raise UserError(
            f"the environment variable {WEBHOOK_VARIABLE} must hold an http or https URL; got something else, not "
            "shown as it may be secret. Correct it, or unset it to have no webhook."
        )
    return WebhookChannel(url)
