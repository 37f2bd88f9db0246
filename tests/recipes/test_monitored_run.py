"""One real run, watched by everything at once: trackers, log, alerts, metrics, report."""

import http.server
import json
import subprocess
import sys
import threading

import pytest
from recipe_runs import ENVIRONMENT, SCRIPT, read_run, small_arguments

from modeling_astrobio.training.monitoring.metrics_file import read_metrics
from modeling_astrobio.training.monitoring.settings import WEBHOOK_VARIABLE


pytest.importorskip("wandb", reason="needs the extra `track`")
pytest.importorskip("tensorboard", reason="needs the extra `track`")

# A step of which the loss is no number, and a canary where a run must not look.
FAULTY = """
import sys
sys.path.insert(0, sys.argv[1])
import train_llm

class FaultyTrainer(train_llm.AstroTrainer):
    def training_step(self, *args, **kwargs):
        loss = super().training_step(*args, **kwargs)
        is_bad = self.state.global_step + 1 == 5 and 5 not in self.skipped_steps
        return loss * float("nan") if is_bad else loss

train_llm.AstroTrainer = FaultyTrainer
sys.exit(train_llm.main(sys.argv[2:]))
"""
CANARY = "canary-5d1b7c0e9f"


class Receiver(http.server.BaseHTTPRequestHandler):
    received: list[dict] = []

    def do_POST(self):
        self.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args):
        """The server's own log has no place in the tests' output."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of the run, and what the webhook received."""
    folder = tmp_path_factory.mktemp("monitored")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Receiver.received.clear()
    out = folder / "run"
    done = subprocess.run(
        [
            *(sys.executable, "-c", FAULTY, str(SCRIPT.parent), *small_arguments(folder), f"output_dir={out}"),
            *("training.max_steps=9", "training.save_steps=4", "training.eval_steps=3"),
            "training.report_to=[wandb, tensorboard]",
        ],
        env={
            **ENVIRONMENT,
            "WANDB_MODE": "offline",
            "WANDB_DIR": str(folder),
            "WANDB_API_KEY": CANARY * 4,
            "TENSORBOARD_LOGGING_DIR": str(folder / "tensorboard"),
            WEBHOOK_VARIABLE: f"http://127.0.0.1:{server.server_port}/{CANARY}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    server.shutdown()
    assert done.returncode == 0, done.stderr
    return folder, out, done


def test_rollback_is_told_to_everybody(run):
    _, out, done = run
    (alert,) = [json.loads(line) for line in (out / "alerts.jsonl").read_text().splitlines()]
    assert (alert["kind"], alert["level"], alert["step"]) == ("loss_spike", "warning", 5)
    assert alert["sent_to"] == ["webhook", "wandb", "log"]
    (received,) = Receiver.received
    assert received["kind"] == "loss_spike"
    assert "the loss is nan" in received["text"]
    for text in (done.stderr, (out / "logs" / "run.log").read_text(encoding="utf-8")):
        assert "step 5: the loss is nan; back to checkpoint-4, and the data of step 5 is skipped" in text
        assert "loss_spike: step 5 was undone" in text


def test_metrics_have_every_step_and_what_the_machine_did(run):
    _, out, _ = run
    rows = read_metrics(out)
    training = {row["step"]: row for row in rows if "loss" in row}
    assert sorted(training) == [1, 2, 3, 4, 6, 7, 8, 9]
    for row in training.values():
        assert {"grad_norm", "learning_rate", "steps_per_second", "tokens_per_second"} <= row.keys()
    fields = {
        "data_wait_share",
        "eta_seconds",
        "memory_parameters_gib",
        "memory_gradients_gib",
        "memory_optimizer_gib",
    }
    assert fields <= training[9].keys()
    evaluations = {row["step"]: row for row in rows if "eval_loss" in row}
    assert sorted(evaluations) == [3, 6, 9]
    assert all(0 <= row["eval_accuracy"] <= 1 for row in evaluations.values())
    # What the machine did is no part of what a checkpoint remembers.
    state = json.loads((out / "checkpoint-9" / "trainer_state.json").read_text(encoding="utf-8"))
    assert not any("steps_per_second" in row and "loss" in row for row in state["log_history"])
    assert set(read_run(out).log) == set(training)


def test_trackers_have_the_same_figures(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from modeling_astrobio.training.monitoring.tracker_probe import read_wandb_records

    folder, out, _ = run
    losses = {row["step"]: row["loss"] for row in read_metrics(out) if "loss" in row}
    events = [EventAccumulator(str(path.parent)) for path in (folder / "tensorboard").rglob("events.out.tfevents.*")]
    seen = {}
    for event in events:
        event.Reload()
        names = event.Tags()["scalars"]
        if "train/loss" in names:
            seen.update({scalar.step: scalar.value for scalar in event.Scalars("train/loss")})
            assert {"train/steps_per_second", "train/memory_parameters_gib", "eval/accuracy"} <= set(names)
    assert seen == pytest.approx(losses)
    (file,) = folder.rglob("*.wandb")
    history: dict[int, float] = {}
    alerts = 0
    for record in read_wandb_records(file):
        alerts += record.WhichOneof("record_type") == "alert"
        items = {".".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
        if "train/loss" in items:
            history[int(float(items["train/global_step"]))] = float(items["train/loss"])
    assert history == pytest.approx(losses)
    assert alerts == 1


def test_no_secret_is_in_anything_that_was_written(run):
    folder, _, done = run
    assert CANARY not in done.stdout + done.stderr
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    assert [path for path in files if CANARY.encode() in path.read_bytes()] == []


def test_report_tells_of_the_rollback(run):
    _, out, done = run
    page = (out / "report.html").read_text(encoding="utf-8")
    assert f"{out / 'report.html'}" in done.stdout
    for words in ("finished", "loss_spike", "checkpoint-4", "<svg", "accuracy"):
        assert words in page
    assert "http://127.0.0.1" not in page
