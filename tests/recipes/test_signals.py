"""Signals at awkward moments: twice, in an evaluation, with a fault, to the whole group, to the launcher alone."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from recipe_runs import ENVIRONMENT, SCRIPT, read_run, small_arguments, train_llm
from transformers import TrainerCallback


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signals")
    return [*small_arguments(folder), "training.max_steps=9", "training.save_steps=4", "training.eval_steps=3"]


@pytest.fixture(scope="module")
def whole(arguments, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    assert train_llm.main([*arguments, f"output_dir={out}"]) == 0
    return read_run(out)


def with_callback(monkeypatch, callback: TrainerCallback, **methods) -> None:
    class ChangedTrainer(train_llm.AstroTrainer):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.add_callback(callback)

    for name, method in methods.items():
        setattr(ChangedTrainer, name, method)
    monkeypatch.setattr(train_llm, "AstroTrainer", ChangedTrainer)


class Twice(TrainerCallback):
    """The signal as a launcher and a scheduler send it: twice at one time."""

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)


class InEvaluation(TrainerCallback):
    """The signal comes in the first batch of an evaluation; batches that are begun are counted."""

    def __init__(self, step: int):
        self.step, self.batches = step, 0

    def on_prediction_step(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.batches += 1
            if self.batches == 1:
                os.kill(os.getpid(), signal.SIGTERM)


def test_signal_that_comes_twice_saves(arguments, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        with_callback(patch, Twice())
        assert train_llm.main([*arguments, f"output_dir={tmp_path}"]) == 130
    assert (tmp_path / "checkpoint-5" / "manifest.json").is_file()
    assert train_llm.main([*arguments, f"output_dir={tmp_path}", "--resume"]) == 0
    read_run(tmp_path).assert_same(whole)


def test_evaluation_is_left_for_the_checkpoint(arguments, whole, tmp_path, monkeypatch):
    callback = InEvaluation(step=3)
    with monkeypatch.context() as patch:
        with_callback(patch, callback)
        batches = ["training.per_device_eval_batch_size=1"]
        assert train_llm.main([*arguments, *batches, f"output_dir={tmp_path}"]) == 130
    # Of several: the second one is not begun.
    assert callback.batches == 1
    assert (tmp_path / "checkpoint-3" / "manifest.json").is_file()
    assert "stopped" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert train_llm.main([*arguments, f"output_dir={tmp_path}", "--resume"]) == 0
    read_run(tmp_path).assert_same(whole, without_evaluation=(3,))


def test_signal_after_the_last_step_loses_nothing(arguments, whole, tmp_path, monkeypatch):
    never = [*arguments, "training.save_strategy=no"]
    with monkeypatch.context() as patch:
        with_callback(patch, InEvaluation(step=9))
        assert train_llm.main([*never, f"output_dir={tmp_path}"]) == 130
    assert (tmp_path / "checkpoint-9" / "manifest.json").is_file()
    assert train_llm.main([*never, f"output_dir={tmp_path}", "--resume"]) == 0
    read_run(tmp_path).assert_same(whole, without_evaluation=(9,))


def test_signal_in_a_step_that_must_not_stand_stops_after_the_rollback(arguments, tmp_path, monkeypatch, capsys):
    def training_step(self, model, inputs, num_items_in_batch=None):
        loss = super(train_llm.AstroTrainer, self).training_step(model, inputs, num_items_in_batch)
        if self.state.global_step == 5 and 6 not in self.skipped_steps:
            os.kill(os.getpid(), signal.SIGTERM)
            return loss * float("nan")
        return loss

    with monkeypatch.context() as patch:
        with_callback(patch, TrainerCallback(), training_step=training_step)
        assert train_llm.main([*arguments, f"output_dir={tmp_path}"]) == 130
    assert "stopped at step 4; continue with" in capsys.readouterr().out
    assert [row["step"] for row in json.loads((tmp_path / "rollbacks.json").read_text())] == [6]
    assert train_llm.main([*arguments, f"output_dir={tmp_path}", "--resume"]) == 0
    assert sorted(read_run(tmp_path).log) == [1, 2, 3, 4, 5, 7, 8, 9]


def test_finished_run_without_checkpoints_is_not_trained_again(arguments, tmp_path, capsys):
    never = [*arguments, "training.save_strategy=no", f"output_dir={tmp_path}"]
    assert train_llm.main(never) == 0
    before = (tmp_path / "metrics.jsonl").read_bytes()
    assert train_llm.main([*never, "--resume", "auto"]) == 0
    assert "has finished, and left no checkpoint" in capsys.readouterr().out
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    assert (tmp_path / "result.json").is_file()


def test_later_checkpoints_of_another_attempt_are_set_aside(arguments, whole, tmp_path):
    kept = [*arguments, "training.save_total_limit=9", f"output_dir={tmp_path}"]
    assert train_llm.main(kept) == 0
    changed = ["training.save_steps=3", "--resume", str(tmp_path / "checkpoint-4")]
    assert train_llm.main([*kept, *changed]) == 0
    names = sorted(path.name for path in tmp_path.glob("*checkpoint-*"))
    assert names == [
        *("checkpoint-4", "checkpoint-6", "checkpoint-9"),
        *("superseded-checkpoint-8", "superseded-checkpoint-9"),
    ]
    read_run(tmp_path).assert_same(whole)


def test_secret_in_a_recipe_is_refused_by_name(arguments, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("SOME_API_KEY", "s3cret-and-long-enough")
    out = tmp_path / "run"
    assert train_llm.main([*arguments, f"output_dir={out}", "training.run_name=s3cret-and-long-enough"]) == 2
    error = capfd.readouterr().err
    assert "got the value of the environment variable SOME_API_KEY" in error
    assert "s3cret" not in error
    assert not out.exists()
    assert train_llm.main([*arguments, f"output_dir={out}", "training.hub_token=hf_abc"]) == 2
    assert "training.hub_token is not taken; set HF_TOKEN in the environment" in capfd.readouterr().err


def start(out, arguments: list[str], *launcher: str) -> subprocess.Popen:
    """Start a long run in a group of its own, and wait for its first steps."""
    long = ["training.max_steps=4000", "training.save_steps=4000", "training.eval_steps=4000"]
    process = subprocess.Popen(
        [sys.executable, *launcher, str(SCRIPT), *arguments, *long, f"output_dir={out}"],
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    end = time.monotonic() + 200
    while not (out / "metrics.jsonl").is_file() or len((out / "metrics.jsonl").read_bytes()) < 2000:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.05)
    return process


def wait_for_checkpoint(out) -> None:
    end = time.monotonic() + 60
    while not [path for path in out.glob("checkpoint-*") if (path / "manifest.json").is_file()]:
        assert time.monotonic() < end, "no checkpoint was saved"
        time.sleep(0.05)


def test_signal_to_the_group_with_data_workers_saves(arguments, tmp_path):
    out = tmp_path / "run"
    process = start(out, [*arguments, "training.dataloader_num_workers=2"])
    os.killpg(process.pid, signal.SIGTERM)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 130, error
    assert error.count("SIGTERM: saving a checkpoint") == 1
    wait_for_checkpoint(out)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's end")
def test_signal_to_the_launcher_alone_saves(arguments, tmp_path):
    out = tmp_path / "run"
    launcher = shutil.which("accelerate")
    config = SCRIPT.parent / "hardware" / "cpu.yaml"
    process = start(out, arguments, launcher, "launch", "--config_file", str(config))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    wait_for_checkpoint(out)
