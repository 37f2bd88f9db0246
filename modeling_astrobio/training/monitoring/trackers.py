"""Whether the trackers that a run reports to keep what they are given, found out by giving them something."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from .secrets import redact


__all__ = ["check_trackers"]


_PROBED = ("tensorboard", "wandb", "trackio")
_SECONDS = 120.0  # for one tracker: cold imports from a network file system are slow
_PROBE = Path(__file__).with_name("tracker_probe.py")


def check_trackers(
    report_to: str | Sequence[str] | None, environ: Mapping[str, str] | None = None, seconds: float = _SECONDS
) -> list[tuple[str, bool | None, str]]:
    """Have each tracker write a number into a temporary folder, and read it back; each in a process of its own.

    Where the run is to report to a server (W&B online, trackio with `TRACKIO_SPACE_ID`), the server is asked whether
    it accepts the credentials; nothing is stored there.

    Args:
        report_to: As in transformers.TrainingArguments.
        environ: Environment variables of the run; `None` means those of this process.
        seconds: Limit of time for one tracker.

    Returns:
        For each tracker its name, whether it works (`None` where that was not tested), and the evidence.
    """
    environ = dict(os.environ if environ is None else environ)
    names = [report_to] if isinstance(report_to, str) else list(report_to or ())
    if "all" in names:
        from transformers.integrations import get_available_reporting_integrations

        names = get_available_reporting_integrations()
    return [(name, *_check(name, environ, seconds)) for name in names if name != "none"]


def _check(name: str, environ: dict[str, str], seconds: float) -> tuple[bool | None, str]:
    if name not in _PROBED:
        return None, f"no check is known for it; known: {', '.join(_PROBED)}"
    if name == "wandb" and environ.get("WANDB_MODE") == "disabled":
        return None, "WANDB_MODE=disabled: nothing would be recorded. Set it to offline or online"
    with tempfile.TemporaryDirectory(prefix="tracker-") as folder:
        command = [sys.executable, "-P", str(_PROBE), name, folder]
        try:
            done = subprocess.run(
                command,
                env=_environment(environ, folder),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False, f"it gave no answer within {seconds:g} s"
        try:
            ok, evidence = json.loads(Path(folder, "answer.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            last = done.stderr.strip().splitlines()[-1:] or ["without a word"]
            ok, evidence = False, f"it ended with exit status {done.returncode}: {last[0]}"
    return ok, " ".join(redact(evidence, environ).split())


def _environment(environ: dict[str, str], folder: str) -> dict[str, str]:
    """Return the probe's variables: the run's, with what a tracker writes sent to a temporary folder."""
    kept = {name: value for name, value in environ.items() if not name.startswith("TRACKIO_")}
    return {
        **kept,
        "PROBE_WANDB_MODE": environ.get("WANDB_MODE", "online"),
        "PROBE_TRACKIO_SPACE": environ.get("TRACKIO_SPACE_ID", ""),
        "TRACKIO_DIR": folder,
        "WANDB_DIR": folder,
        "WANDB_CACHE_DIR": folder,
        "WANDB_DATA_DIR": folder,
        "WANDB_SILENT": "true",
        # A probe is nobody's business but the user's.
        "WANDB_ERROR_REPORTING": "false",
        "GRADIO_ANALYTICS_ENABLED": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
