"""Child processes end when they are to, with all that they started, and what they said is shown without secrets."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from modeling_astrobio.training.preflight.child_runs import RunRecord, start_and_wait


# A launcher whose worker is in a session of its own, as torchrun's are, and which says where the worker is.
LAUNCHER = """
import pathlib, subprocess, sys, time
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
pathlib.Path(sys.argv[1]).write_text(str(worker.pid))
print("started", flush=True)
time.sleep(600)
"""


def test_kill_takes_workers_in_other_sessions_too(tmp_path):
    note, log = tmp_path / "pid", tmp_path / "logs" / "run.log"
    started = time.monotonic()
    status = start_and_wait(
        [sys.executable, "-c", LAUNCHER, str(note)], os.environ, log, until=lambda: note.is_file() and note.read_text()
    )
    assert status is None
    assert time.monotonic() - started < 60
    worker = int(note.read_text())
    assert not psutil.pid_exists(worker) or psutil.Process(worker).status() == psutil.STATUS_ZOMBIE


@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl of Linux")
def test_a_run_ends_with_a_preflight_that_is_killed(tmp_path):
    note = tmp_path / "pid"
    child = f"import os, pathlib, time; pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(600)"
    code = (
        "import os, pathlib, sys\n"
        "from modeling_astrobio.training.preflight.child_runs import start_and_wait\n"
        f"start_and_wait([sys.executable, '-c', {child!r}], os.environ, pathlib.Path({str(tmp_path / 'log')!r}))\n"
    )
    preflight = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while not (note.is_file() and note.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    process = psutil.Process(int(note.read_text()))
    preflight.kill()
    preflight.wait()
    gone, _ = psutil.wait_procs([process], timeout=10)
    assert gone or process.status() == psutil.STATUS_ZOMBIE


def test_status_and_output_of_a_run_that_ends(tmp_path):
    environment = {**os.environ, "MY_TOKEN": "secret-of-this-test"}
    log = tmp_path / "run.log"
    code = "import os, sys; print('x' * 900, os.environ['MY_TOKEN']); sys.exit('wrong: ^^^')"
    status = start_and_wait([sys.executable, "-c", code], environment, log)
    assert status == 1
    tail = RunRecord(tmp_path, status, log, environment).tail()
    assert "secret-of-this-test" not in tail
    assert "***" in tail
    assert tail.startswith("... ")
    assert len(tail) < 500


def test_a_folder_without_checkpoints_has_no_history(tmp_path):
    record = RunRecord(tmp_path, 2, tmp_path / "absent.log", {})
    assert record.checkpoint() is None
    assert record.history() == []
    assert record.losses() == {}
    assert record.tail() == ""
