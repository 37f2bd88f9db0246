"""Trackers are tried by having them keep a number; what is absent, broken or unreachable is said to be so."""

import http.server
import json
import os
import re
import socket
import threading
import time
from contextlib import contextmanager
from importlib.util import find_spec

import pytest

from modeling_astrobio.training.monitoring.tracker_probe import ProbeError, read_wandb_records
from modeling_astrobio.training.monitoring.trackers import check_trackers


KEY = "canary00" * 5
needs_wandb = pytest.mark.skipif(find_spec("wandb") is None, reason="needs wandb")


@contextmanager
def server(answer: dict | None):
    """Answer each POST on the loopback device with JSON; `None` never answers. Yields the URL."""
    ended = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            if answer is None:
                ended.wait()
                return
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    loopback = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=loopback.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{loopback.server_port}"
    finally:
        ended.set()
        loopback.shutdown()
        loopback.server_close()


def environ(tmp_path, **more: str) -> dict[str, str]:
    """Variables without the user's accounts."""
    dropped = ("WANDB_", "TRACKIO_", "HF_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "HOME": str(tmp_path), "NO_PROXY": "127.0.0.1", **more}


def check(name: str, variables: dict[str, str], **limits: float) -> tuple[bool | None, str]:
    ((checked, ok, evidence),) = check_trackers([name], variables, **limits)
    assert checked == name
    return ok, evidence


@pytest.mark.parametrize("report_to", [None, [], "none", ["none"]])
def test_no_tracker_no_check(report_to):
    assert check_trackers(report_to) == []


def test_tracker_without_a_check_is_not_said_to_work():
    ok, evidence = check("mlflow", {})
    assert ok is None
    assert evidence == "no check is known for it; known: tensorboard, wandb, trackio"


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="needs tensorboard")
def test_tensorboard_gives_back_what_it_got(tmp_path):
    ok, evidence = check("tensorboard", environ(tmp_path))
    assert ok, evidence
    assert "was written and read back" in evidence


@needs_wandb
def test_wandb_offline_gives_back_what_it_got(tmp_path):
    ok, evidence = check("wandb", environ(tmp_path, WANDB_MODE="offline"))
    assert ok, evidence
    assert evidence.endswith("was written and read back; WANDB_MODE=offline, so that no server was asked")


def test_wandb_disabled_is_not_tested(tmp_path):
    ok, evidence = check("wandb", environ(tmp_path, WANDB_MODE="disabled"))
    assert ok is None
    assert "nothing would be recorded" in evidence


@needs_wandb
def test_wandb_server_that_accepts_the_key(tmp_path):
    viewer = {
        "id": "7",
        "entity": "crew",
        "username": "crew",
        "name": "crew",
        "email": "",
        "flags": "{}",
        "admin": False,
    }
    viewer |= {"deletedAt": None, "teams": {"edges": []}, "apiKeys": {"edges": []}}
    with server({"data": {"viewer": viewer}}) as url:
        ok, evidence = check("wandb", environ(tmp_path, WANDB_BASE_URL=url, WANDB_API_KEY=KEY))
    assert ok, evidence
    assert evidence.endswith(f"the server at {url} accepts the API key")


@needs_wandb
def test_wandb_server_that_does_not_know_the_key(tmp_path):
    with server({"data": {"viewer": None}}) as url:
        ok, evidence = check("wandb", environ(tmp_path, WANDB_BASE_URL=url, WANDB_API_KEY=KEY))
    assert ok is False
    assert KEY not in evidence


@needs_wandb
def test_wandb_online_without_a_key(tmp_path):
    ok, evidence = check("wandb", environ(tmp_path, WANDB_BASE_URL="http://127.0.0.1:9"))
    assert ok is False
    assert "No API key configured" in evidence


@needs_wandb
@pytest.mark.slow
def test_wandb_server_that_is_absent(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    ok, evidence = check("wandb", environ(tmp_path, WANDB_BASE_URL=url, WANDB_API_KEY=KEY), seconds=30.0)
    assert ok is False
    # W&B's own limit of time does not always hold.
    assert url in evidence or evidence == "it gave no answer within 30 s"


@needs_wandb
@pytest.mark.slow
def test_wandb_server_that_hangs_is_given_up(tmp_path):
    with server(None) as url:
        begin = time.monotonic()
        ok, evidence = check("wandb", environ(tmp_path, WANDB_BASE_URL=url, WANDB_API_KEY=KEY), seconds=8.0)
    assert time.monotonic() - begin < 20
    assert (ok, evidence) == (False, "it gave no answer within 8 s")


def trackio_stand_in(tmp_path, code: str) -> dict[str, str]:
    """Put another package of this name before an installed one."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "trackio.py").write_text(code, encoding="utf-8")
    return environ(tmp_path, PYTHONPATH=str(tmp_path / "packages"))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise ModuleNotFoundError('', name='trackio')", "trackio is not installed: pip install"),
        ("raise OSError('no library')", "trackio cannot be imported: OSError: no library"),
        ("def init(**kwargs): raise OSError('disk full')", "OSError: disk full"),
        ("init = log = lambda *a, **k: None\ndef finish(): pass", "ProbeError: it gave back [] instead of [0.8125]"),
        ("import os, sys\nsys.stderr.write('abort')\nos._exit(7)", "it ended with exit status 7: abort"),
        ("import time\ntime.sleep(30)", "it gave no answer within 1 s"),
    ],
)
def test_packages_that_do_not_work_are_said_not_to(tmp_path, code, message):
    ok, evidence = check("trackio", trackio_stand_in(tmp_path, code), seconds=1.0)
    assert ok is False
    assert evidence.startswith(message)


def test_package_that_lacks_another_is_said_to(tmp_path):
    ok, evidence = check("trackio", trackio_stand_in(tmp_path, "import absent_package"))
    assert ok is False
    assert re.fullmatch(
        r"trackio .* lacks absent_package\. Install another version of it, or report elsewhere", evidence
    )


def test_evidence_shows_no_secret(tmp_path):
    variables = trackio_stand_in(tmp_path, f"raise OSError('key {KEY} refused')")
    ok, evidence = check("trackio", {**variables, "WANDB_API_KEY": KEY})
    assert (ok, evidence) == (False, "trackio cannot be imported: OSError: key *** refused")


def test_trackio_gives_back_what_it_got(tmp_path):
    trackio = pytest.importorskip("trackio", reason="needs trackio that can be imported", exc_type=ImportError)
    variables = environ(tmp_path)
    ok, evidence = check("trackio", {**variables, "PYTHONPATH": os.environ.get("PYTHONPATH", "")})
    assert ok, (trackio.__version__, evidence)
    assert evidence.endswith("was written and read back; no Space is named, so that no server was asked")


def test_trackio_with_a_space_asks_the_hub(tmp_path):
    pytest.importorskip("trackio", reason="needs trackio that can be imported", exc_type=ImportError)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    ok, evidence = check("trackio", environ(tmp_path, TRACKIO_SPACE_ID="crew/runs", HF_TOKEN=KEY, HF_ENDPOINT=url))
    assert ok is False
    assert "Connect" in evidence


def test_other_files_are_not_read_as_runs(tmp_path):
    (tmp_path / "run-x.wandb").write_bytes(b"no such header" * 7)
    with pytest.raises(ProbeError, match=r"run-x.wandb does not begin like a .wandb file"):
        list(read_wandb_records(tmp_path / "run-x.wandb"))
