"""Alerts reach the log, a webhook and Weights & Biases, each kind not too often, and never hold training up."""

import http.server
import json
import logging
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from modeling_astrobio.training.errors import UserError
from modeling_astrobio.training.monitoring.alert_channels import (
    LogChannel,
    WandbChannel,
    WebhookChannel,
    webhook_channel,
)
from modeling_astrobio.training.monitoring.alerts import Alert, AlertChannel, Alerts
from modeling_astrobio.training.monitoring.secrets import find_leaks
from modeling_astrobio.training.monitoring.settings import WEBHOOK_VARIABLE, MonitorSection
from modeling_astrobio.training.monitoring.tracker_probe import read_wandb_records


INSTANT = 0.25  # seconds; a call that waited for the network would take longer here
PATH = "/hooks/path-that-nobody-may-see"


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Broken(AlertChannel):
    name = "broken"

    def send(self, alert):
        raise RuntimeError("no such wire")

    def close(self):
        raise RuntimeError("still no such wire")


@contextmanager
def receiver(status: int = 200, silent_seconds: float = 0.0):
    """Serve on the loopback device; yields the URL and the list of bodies that come."""
    bodies: list[dict] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            content = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/json"
            bodies.append(json.loads(content))
            time.sleep(silent_seconds)
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", "/elsewhere")
            self.end_headers()

        def do_GET(self):
            bodies.append({"followed": self.path})
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}{PATH}", bodies
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@pytest.fixture(autouse=True)
def direct(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv(WEBHOOK_VARIABLE, raising=False)


def rows(run_dir) -> list[dict]:
    return [json.loads(line) for line in (run_dir / "alerts.jsonl").read_text(encoding="utf-8").splitlines()]


def test_alert_is_written_with_whom_it_was_sent_to(tmp_path, caplog):
    before = time.time()
    alerts = Alerts(tmp_path / "alerts.jsonl", (Broken(), LogChannel(), WandbChannel(60)), 60)
    assert alerts.send("disk", "the disk fills up", "2 GiB are free", 7)
    alerts.close()
    (row,) = rows(tmp_path)
    assert before <= row.pop("time") <= time.time()
    assert row == {
        "step": 7,
        "kind": "disk",
        "level": "warning",
        "title": "the disk fills up",
        "text": "2 GiB are free",
        "sent_to": ["log"],
    }
    assert "disk: the disk fills up (step 7): 2 GiB are free" in caplog.text
    assert "an alert did not get to broken: RuntimeError: no such wire" in caplog.text
    assert "still no such wire" in caplog.text


def test_cooldown_is_kept_for_each_kind(tmp_path):
    clock = Clock()
    alerts = Alerts(tmp_path / "alerts.jsonl", (), 30.0, clock)
    assert alerts.send("stall", "first", "", 1)
    clock.now += 29.9
    assert not alerts.send("stall", "too soon", "", 2)
    assert alerts.send("disk", "another kind", "", 3)
    assert alerts.send("stall", "worse", "", 4, level="error")
    clock.now += 29.9
    assert not alerts.send("stall", "counted from the worse one", "", 5, level="error")
    assert not alerts.send("stall", "not as bad", "", 6)
    assert alerts.send("stall", "all clear", "", 7, level="info")
    clock.now += 0.2
    assert alerts.send("stall", "again", "", 8)
    assert [row["title"] for row in rows(tmp_path)] == ["first", "another kind", "worse", "all clear", "again"]


def test_without_cooldown_every_alert_is_sent(tmp_path):
    alerts = Alerts(tmp_path / "alerts.jsonl", (), 0.0, Clock())
    assert [alerts.send("disk", "", "", step) for step in range(3)] == [True] * 3


def test_threads_that_send_at_once_send_one(tmp_path):
    alerts = Alerts(tmp_path / "alerts.jsonl", (), 60.0)
    sent = []
    together = threading.Barrier(8)

    def send(step):
        together.wait()
        sent.append(alerts.send("gpu_idle", "", "", step))

    threads = [threading.Thread(target=send, args=(step,)) for step in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sent) == [False] * 7 + [True]
    assert len(rows(tmp_path)) == 1


def test_other_ranks_send_nothing(tmp_path, monkeypatch):
    with receiver() as (url, bodies):
        monkeypatch.setenv(WEBHOOK_VARIABLE, url)
        alerts = Alerts.for_run(tmp_path, MonitorSection(), is_main=False)
        assert not alerts.send("stall", "", "", 1, level="error")
        alerts.close()
        assert not bodies
    assert not list(tmp_path.iterdir())


def test_file_that_cannot_be_written_is_logged(tmp_path, caplog):
    alerts = Alerts(tmp_path / "absent" / "alerts.jsonl", (LogChannel(),), 60.0)
    assert alerts.send("disk", "the disk fills up", "", 7)
    assert "the disk fills up" in caplog.text
    assert "an alert did not get to alerts.jsonl: FileNotFoundError" in caplog.text


def test_senseless_arguments_end_no_run(tmp_path, caplog):
    alerts = Alerts(tmp_path / "alerts.jsonl", (LogChannel(),), 60.0)
    assert not alerts.send("disk", "title", "text", None)
    assert not alerts.send("disk", "title", "text", 7, level="dire")
    assert caplog.text.count("an alert was lost") == 2


def test_webhook_receives_what_was_sent(tmp_path, monkeypatch):
    run_dir = tmp_path / "nano-run"
    run_dir.mkdir()
    with receiver() as (url, bodies):
        monkeypatch.setenv(WEBHOOK_VARIABLE, url)
        alerts = Alerts.for_run(run_dir, MonitorSection(), is_main=True)
        alerts.send("loss_spike", "the loss is NaN", "Rolled back to checkpoint-40.", 47, level="error")
        alerts.send("disk", "the disk fills up", "naïve ∞", 48)
        alerts.close()
    assert bodies == [
        {
            "text": "nano-run, step 47, error: the loss is NaN\nRolled back to checkpoint-40.",
            "kind": "loss_spike",
            "level": "error",
            "step": 47,
            "run": "nano-run",
        },
        {
            "text": "nano-run, step 48, warning: the disk fills up\nnaïve ∞",
            "kind": "disk",
            "level": "warning",
            "step": 48,
            "run": "nano-run",
        },
    ]
    assert [row["sent_to"] for row in rows(run_dir)] == [["webhook", "log"]] * 2


def test_closed_webhook_is_not_said_to_be_told(tmp_path, caplog):
    with receiver() as (url, bodies):
        alerts = Alerts(tmp_path / "alerts.jsonl", (WebhookChannel(url),), 60.0)
        alerts.close()
        alerts.close()
        assert alerts.send("disk", "", "", 7)
    assert not bodies
    assert rows(tmp_path)[0]["sent_to"] == []
    assert "did not get to webhook: RuntimeError: the webhook is closed" in caplog.text


def timed_send(tmp_path, url, caplog) -> float:
    """Send an alert to a URL and return the seconds `send` took; the channel is closed."""
    alerts = Alerts(tmp_path / "alerts.jsonl", (WebhookChannel(url, timeout_seconds=0.5),), 60.0)
    begin = time.perf_counter()
    assert alerts.send("stall", "training stalls", "", 7)
    seconds = time.perf_counter() - begin
    with caplog.at_level(logging.WARNING):
        alerts.close()
    assert PATH not in caplog.text
    assert "127.0.0.1" not in caplog.text
    return seconds


@pytest.mark.parametrize("status", [302, 404, 500])
def test_refusal_is_logged(tmp_path, caplog, status):
    with receiver(status) as (url, bodies):
        assert timed_send(tmp_path, url, caplog) < INSTANT
    assert len(bodies) == 1
    assert f"the webhook did not take the alert stall of step 7: answered {status}" in caplog.text


def test_silent_receiver_is_given_up(tmp_path, caplog):
    with receiver(silent_seconds=1.5) as (url, bodies):
        begin = time.perf_counter()
        assert timed_send(tmp_path, url, caplog) < INSTANT
        assert 0.4 < time.perf_counter() - begin < 1.4
    assert len(bodies) == 1
    assert "of step 7: TimeoutError" in caplog.text


def test_absent_receiver_is_logged(tmp_path, caplog):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}{PATH}"
    assert timed_send(tmp_path, url, caplog) < INSTANT
    assert "of step 7: URLError" in caplog.text


def test_queue_is_bounded_and_close_does_not_wait_for_ever(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("modeling_astrobio.training.monitoring.alert_channels._CLOSE_SECONDS", 0.3)
    with receiver(silent_seconds=1.5) as (url, _):
        alerts = Alerts(tmp_path / "alerts.jsonl", (WebhookChannel(url),), 0.0)
        begin = time.perf_counter()
        for step in range(40):
            assert alerts.send("disk", "", "", step)
        assert time.perf_counter() - begin < INSTANT
        sent_to = [row["sent_to"] for row in rows(tmp_path)]
        assert sent_to.count([]) in (7, 8)  # 32 in the queue, and one on its way
        assert "did not get to webhook: RuntimeError: 32 alerts wait for the receiver already" in caplog.text
        alerts.close()
        assert time.perf_counter() - begin < 1.2
        assert "the webhook is slow" in caplog.text


@pytest.mark.parametrize(
    "url", ["hunter2-hunter2", "file:///etc/passwd", "https://", "http://host:x/y", "http://a b/"]
)
def test_variable_without_a_url_is_refused_unseen(monkeypatch, tmp_path, url):
    monkeypatch.setenv(WEBHOOK_VARIABLE, url)
    with pytest.raises(UserError, match=f"{WEBHOOK_VARIABLE} must hold an http or https URL") as caught:
        Alerts.for_run(tmp_path, MonitorSection(), is_main=True)
    assert url not in str(caught.value)


@pytest.mark.parametrize("value", [None, "", "  "])
def test_no_variable_no_webhook(monkeypatch, value):
    if value is not None:
        monkeypatch.setenv(WEBHOOK_VARIABLE, value)
    assert webhook_channel() is None


@pytest.fixture
def offline_wandb(tmp_path, monkeypatch):
    """Weights & Biases that asks no server and writes below `tmp_path`."""
    wandb = pytest.importorskip("wandb", reason="needs wandb")
    for name, value in (("WANDB_MODE", "offline"), ("WANDB_ERROR_REPORTING", "false"), ("WANDB_SILENT", "true")):
        monkeypatch.setenv(name, value)
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    yield wandb
    wandb.teardown()


def records(folder, kind: str) -> list:
    """Return the records of one kind that the run below a folder wrote, once its end is written."""
    (path,) = folder.rglob("run-*.wandb")
    end = time.monotonic() + 10
    while True:
        found = [(one.WhichOneof("record_type"), one) for one in read_wandb_records(path)]
        if any(name == "exit" for name, _ in found):
            return [getattr(one, kind) for name, one in found if name == kind]
        assert time.monotonic() < end, "the run's end was not written in time"
        time.sleep(0.02)


def test_wandb_run_keeps_alert_and_values(tmp_path, offline_wandb):
    alerts = Alerts(tmp_path / "alerts.jsonl", (WandbChannel(1800.0),), 1800.0)
    with offline_wandb.init(project="tests", dir=str(tmp_path)) as run:
        run.log({"train/loss": 2.5, "train/grad_norm": 0.125}, step=7)
        alerts.send("loss_spike", "the loss is NaN", "Rolled back.", 7, level="error")
        watchdog = threading.Thread(target=alerts.send, args=("stall", "x" * 99, "It stands.", 7))
        watchdog.start()
        watchdog.join()
    alerts.send("disk", "after the run", "", 8)
    alert, from_thread = records(tmp_path, "alert")
    assert (from_thread.title, from_thread.level) == ("stall: " + "x" * 56, "WARN")
    assert (alert.title, alert.text, alert.level, alert.wait_duration) == (
        "loss_spike: the loss is NaN",
        "Rolled back. (step 7)",
        "ERROR",
        900_000,
    )
    (history,) = records(tmp_path, "history")
    values = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in history.item}
    assert (values["train/loss"], values["train/grad_norm"], values["_step"]) == (2.5, 0.125, 7)
    assert [row["sent_to"] for row in rows(tmp_path)] == [["wandb"], ["wandb"], []]


def test_wandb_file_of_many_blocks_is_read(tmp_path, offline_wandb):
    with offline_wandb.init(project="tests", dir=str(tmp_path)) as run:
        for step in range(700):
            run.log({"x" * 37: step, "text": "y" * (step * 13 % 997)}, step=step)
        run.log({"text": "z" * 100_000}, step=700)
    got = [
        {item.nested_key[0]: json.loads(item.value_json) for item in row.item} for row in records(tmp_path, "history")
    ]
    assert [row["x" * 37] for row in got[:700]] == list(range(700))
    assert [row["text"] for row in got] == ["y" * (step * 13 % 997) for step in range(700)] + ["z" * 100_000]


def test_no_channel_is_told_a_secret(tmp_path, offline_wandb, monkeypatch):
    monkeypatch.setenv("CANARY_TOKEN", "canary-canary")
    with receiver() as (url, bodies):
        monkeypatch.setenv(WEBHOOK_VARIABLE, url)
        alerts = Alerts.for_run(tmp_path, MonitorSection(), is_main=True)
        with offline_wandb.init(project="tests", dir=str(tmp_path)):
            alerts.send("disk", "a canary-canary", f"not canary-canary, nor {url}", 7)
        alerts.close()
    assert bodies[0]["text"].endswith("step 7, warning: a ***\nnot ***, nor ***")
    assert [alert.text for alert in records(tmp_path, "alert")] == ["not ***, nor *** (step 7)"]
    assert rows(tmp_path)[0]["sent_to"] == ["webhook", "wandb", "log"]
    assert find_leaks(tmp_path) == []
    (tmp_path / "other.log").write_text(url, encoding="utf-8")
    assert (tmp_path / "other.log", WEBHOOK_VARIABLE) in find_leaks(tmp_path)


def test_disabled_wandb_is_told_nothing(tmp_path, offline_wandb):
    with offline_wandb.init(mode="disabled", dir=str(tmp_path)):
        assert WandbChannel(0.0).send(Alert("disk", "warning", "", "", 1, "run", 0.0)) is False


def test_wandb_without_a_run_is_told_nothing():
    alert = Alert("disk", "warning", "", "", 1, "run", 0.0)
    assert WandbChannel(0.0).send(alert) is False
