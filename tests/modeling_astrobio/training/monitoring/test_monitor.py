"""A monitored run: fields in the log, and alerts where something is provoked."""

import dataclasses
import json
import sys
import time

import pytest
import torch
from monitored_trainers import LENGTH, ROWS, RandomRows, make_monitor, make_plan, make_trainer
from transformers import TrainerCallback

from modeling_astrobio.training.memory_plan import GIB
from modeling_astrobio.training.monitoring.metrics_file import METRICS_NAME, read_metrics, row_kind


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the peak of a process")
MEMORY = {f"memory_{name}_gib" for name in ("parameters", "gradients", "optimizer", "other", "peak")}
SPEED = {"steps_per_second", "tokens_per_second", "data_wait_share", "eta_seconds"}


def alerts(folder) -> list[dict]:
    path = folder / "alerts.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


class KeepsLogs(TrainerCallback):
    """Stands where a tracker does."""

    def __init__(self):
        self.rows = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.rows.append({**logs, "step": state.global_step})


def waste_memory(*_):
    torch.ones(300 * 2**20 // 4)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A healthy run of seven steps with two evaluations and saves."""
    folder = tmp_path_factory.mktemp("run")
    monitor = make_monitor(folder)
    trainer = make_trainer(folder, None, eval_strategy="steps", eval_steps=3, save_strategy="steps", save_steps=3)
    tracker = KeepsLogs()
    trainer.add_callback(tracker)
    monitor.attach(trainer)
    trainer.train()
    return folder, trainer, tracker


@linux_only
def test_training_rows_have_the_machine_fields(run):
    folder, trainer, _ = run
    rows = [row for row in read_metrics(folder) if row_kind(row) == "training"]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    # Nothing waited for the first step, and one step does not tell how long the others take.
    assert MEMORY | SPEED - {"data_wait_share", "eta_seconds"} <= rows[0].keys()
    for row in rows[1:]:
        assert {"loss", "grad_norm", "learning_rate", "epoch"} | MEMORY | SPEED <= row.keys()
        assert row["tokens_per_second"] == pytest.approx(row["steps_per_second"] * ROWS * LENGTH)
        assert 0 <= row["data_wait_share"] < 1
    # Neither is known here.
    assert not any({"model_flops_utilisation", "gpu_utilisation_percent"} & row.keys() for row in rows)
    assert [row["eta_seconds"] > 0 for row in rows[1:]] == [True] * 5 + [False]
    parameters = sum(p.nbytes for p in trainer.model.parameters())
    last = rows[-1]
    assert last["memory_gradients_gib"] * GIB == parameters
    assert last["memory_optimizer_gib"] * GIB == pytest.approx(2 * parameters, rel=0.01)
    assert last["memory_parameters_gib"] * GIB == pytest.approx(parameters, rel=0.01)
    held = sum(last[f"memory_{name}_gib"] for name in ("parameters", "gradients", "optimizer", "other"))
    assert held == pytest.approx(last["memory_peak_gib"])


def test_other_rows_are_written_without_them(run):
    folder, _, _ = run
    rows = [row for row in read_metrics(folder) if row_kind(row) == "evaluation"]
    # The last step is evaluated too.
    assert [row["step"] for row in rows] == [3, 6, 7]
    for row in rows:
        assert "eval_loss" in row
        assert not (MEMORY | SPEED) & row.keys()
    assert [row["step"] for row in read_metrics(folder) if "train_runtime" in row and "loss" not in row] == [7]


def test_trackers_get_the_fields_and_the_trainers_state_does_not(run):
    folder, trainer, tracker = run
    tracked = [row for row in tracker.rows if "loss" in row]
    assert len(tracked) == 7
    assert "steps_per_second" in tracked[0]
    for row in trainer.state.log_history:
        assert not (MEMORY | SPEED) & row.keys()
    # What is in the file is what trackers get.
    (written,) = [row for row in read_metrics(folder) if row["step"] == 4]
    written.pop("time")
    assert written == pytest.approx(tracked[3])


def test_a_healthy_run_raises_no_alert(run):
    assert alerts(run[0]) == []


def test_what_is_learned_is_the_same_with_and_without(run, tmp_path):
    _, monitored, _ = run
    options = {"eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 3}
    plain = make_trainer(tmp_path, None, **options)
    plain.train()
    for (name, value), expected in zip(monitored.model.named_parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(value, expected), name
    assert [row.get("loss") for row in monitored.state.log_history] == [
        row.get("loss") for row in plain.state.log_history
    ]


def test_evaluation_and_saving_are_no_waiting_for_data(tmp_path):
    class Slow(TrainerCallback):
        """Evaluation, saving and a tracker that take long."""

        def on_evaluate(self, args, state, control, **kwargs):
            time.sleep(0.05)

        on_save = on_log = on_step_end = on_evaluate

    monitor = make_monitor(tmp_path)
    trainer = make_trainer(tmp_path, None, eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1)
    trainer.add_callback(Slow())
    monitor.attach(trainer)
    trainer.train()
    rows = [row for row in read_metrics(tmp_path) if row_kind(row) == "training"]
    for row in rows[1:]:
        assert row["data_wait_share"] < 0.2
        # 0.05 s in on_step_end, and from the row before 0.05 s in on_log, which are of the step.
        assert 1 / row["steps_per_second"] == pytest.approx(0.13, abs=0.05)
    # Evaluation and saving take 0.15 s more, with the log of the evaluation.
    assert rows[1]["eta_seconds"] > 5 * 0.2


@linux_only
def test_more_memory_than_planned(tmp_path):
    plan = make_plan()
    # One that is far too small: training takes some MiB, and libraries may have 64.
    tiny = dataclasses.replace(plan, device={**dict.fromkeys(plan.device, 0), "parameters": 1000})

    monitor = make_monitor(tmp_path, tiny, cooldown_seconds=0.0)
    trainer = make_trainer(tmp_path, monitor)
    trainer.model.model.register_forward_hook(waste_memory)
    trainer.train()
    found = alerts(tmp_path)
    # Without a higher peak, no second word.
    assert [(alert["kind"], alert["step"]) for alert in found] == [("memory_over_plan", 1)]
    assert "the plan says 9.31e-07 GiB" in found[0]["text"]
    (last,) = [row for row in read_metrics(tmp_path) if row["step"] == 7 and "loss" in row]
    assert last["memory_peak_gib"] * GIB > 300 * 2**20


@linux_only
def test_a_limit_of_zero_switches_an_alert_off(tmp_path):
    plan = make_plan()
    tiny = dataclasses.replace(plan, device={**dict.fromkeys(plan.device, 0), "parameters": 1000})
    monitor = make_monitor(
        tmp_path, tiny, memory_over_plan=0.0, data_wait_share=0.0, gpu_idle_percent=0.0, window_steps=2
    )
    monitor._read_gpu, monitor._poll_seconds = lambda: 1.0, 0.01
    trainer = make_trainer(tmp_path, monitor, rows=RandomRows(seconds=0.05))
    trainer.model.model.register_forward_hook(waste_memory)
    trainer.train()
    assert alerts(tmp_path) == []


def test_data_that_comes_too_slowly(tmp_path):
    monitor = make_monitor(tmp_path, window_steps=3)
    make_trainer(tmp_path, monitor, rows=RandomRows(seconds=0.1)).train()
    (alert,) = alerts(tmp_path)
    # The first step's data is not waited for, so that three steps are there at the fourth.
    assert (alert["kind"], alert["step"]) == ("data_starvation", 4)
    assert "of the last 3 steps' time" in alert["text"]
    rows = read_metrics(tmp_path)
    assert rows[3]["data_wait_share"] > 0.5
    assert rows[3]["steps_per_second"] < 5


def test_a_gpu_with_little_to_do(tmp_path):
    monitor = make_monitor(tmp_path, window_steps=3, gpu_utilisation=lambda: 4.0, poll_seconds=0.01)
    make_trainer(tmp_path, monitor, rows=RandomRows(seconds=0.02)).train()
    found = [alert for alert in alerts(tmp_path) if alert["kind"] == "gpu_idle"]
    assert len(found) == 1
    assert "utilisation was 4 % in the last 3 steps; the limit is 30 %" in found[0]["text"]
    assert read_metrics(tmp_path)[-2]["gpu_utilisation_percent"] == 4.0


def test_a_busy_gpu_raises_nothing(tmp_path):
    monitor = make_monitor(
        tmp_path, window_steps=3, gpu_utilisation=lambda: 97.0, poll_seconds=0.01, data_wait_share=0.0
    )
    make_trainer(tmp_path, monitor, rows=RandomRows(seconds=0.02)).train()
    assert alerts(tmp_path) == []
    assert read_metrics(tmp_path)[-2]["gpu_utilisation_percent"] == 97.0


def test_a_stalled_step_and_a_long_evaluation(tmp_path):
    class Stall(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 5:
                time.sleep(1.0)

        def on_evaluate(self, args, state, control, **kwargs):
            time.sleep(0.6)

    monitor = make_monitor(tmp_path, stall_seconds=0.3, stall_factor=2.0, poll_seconds=0.05, cooldown_seconds=0.0)
    trainer = make_trainer(tmp_path, None, eval_strategy="steps", eval_steps=3)
    trainer.add_callback(Stall())
    monitor.attach(trainer)
    trainer.train()
    # The evaluations, at steps 3 and 6, take longer than a step may and are none.
    assert [(alert["kind"], alert["level"], alert["step"]) for alert in alerts(tmp_path)] == [
        ("stall", "warning", 5),
        ("stall", "info", 6),
    ]


def test_a_process_that_is_not_the_main_one_writes_nothing(tmp_path):
    monitor = make_monitor(tmp_path, is_main=False)
    trainer = make_trainer(tmp_path, None)
    tracker = KeepsLogs()
    trainer.add_callback(tracker)
    monitor.attach(trainer)
    trainer.train()
    assert not (tmp_path / METRICS_NAME).exists()
    assert "steps_per_second" in tracker.rows[1]


def test_a_resumed_run_goes_on_in_the_same_file(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 4}
    monitor = make_monitor(tmp_path)
    make_trainer(tmp_path, monitor, **options).train()
    trainer = make_trainer(tmp_path, monitor, **options)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    written = [json.loads(line) for line in (tmp_path / METRICS_NAME).read_text().splitlines()]
    assert [row["step"] for row in written if "loss" in row] == [1, 2, 3, 4, 5, 6, 7, 5, 6, 7]
    rows = [row for row in read_metrics(tmp_path) if "loss" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    # Tokens of before are not of the first step after.
    assert rows[4]["tokens_per_second"] == pytest.approx(rows[4]["steps_per_second"] * ROWS * LENGTH)


def test_training_that_fails_can_be_closed_and_begun_again(tmp_path):
    class Fails(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 3:
                raise ArithmeticError("the loss is gone")

    monitor = make_monitor(tmp_path)
    trainer = make_trainer(tmp_path, None)
    trainer.add_callback(Fails())
    monitor.attach(trainer)
    with pytest.raises(ArithmeticError, match="the loss is gone"):
        trainer.train()
    monitor.close()
    monitor.close()
    make_trainer(tmp_path, monitor).train()
    assert [row["step"] for row in read_metrics(tmp_path) if "loss" in row] == [1, 2, 3, 4, 5, 6, 7]


def test_several_steps_and_micro_batches_in_a_row(tmp_path):
    monitor = make_monitor(tmp_path, make_plan(accumulation=2))
    make_trainer(tmp_path, monitor, max_steps=6, logging_steps=3, gradient_accumulation_steps=2).train()
    rows = [row for row in read_metrics(tmp_path) if "loss" in row]
    assert [row["step"] for row in rows] == [3, 6]
    for row in rows:
        assert row["tokens_per_second"] == pytest.approx(row["steps_per_second"] * 2 * ROWS * LENGTH)


def test_without_a_count_of_tokens_there_is_no_rate(tmp_path):
    monitor = make_monitor(tmp_path)
    make_trainer(tmp_path, monitor, include_num_input_tokens_seen="no").train()
    rows = [row for row in read_metrics(tmp_path) if "loss" in row]
    assert "tokens_per_second" not in rows[3]
    assert "steps_per_second" in rows[3]
