"""Snapshots of memory: on demand, and when it runs out."""

import json
import logging
import os
import signal
import threading

import pytest
import torch
from monitored_trainers import make_monitor, make_trainer
from training_builders import small_model
from transformers import TrainerCallback

from modeling_astrobio.training.monitoring.snapshot import (
    REQUEST_NAME,
    SnapshotRequests,
    dump_snapshot,
    is_out_of_memory,
    oom_snapshot,
)


needs_signal = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="the platform has no SIGUSR1")


def snapshots(folder) -> list[dict]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("snapshots/*.json"))]


class AtStep(TrainerCallback):
    """Does something at the beginning of the third step."""

    def __init__(self, act):
        self.act = act

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 2:
            self.act()


def train(folder, act):
    monitor = make_monitor(folder)
    trainer = make_trainer(folder, None)
    trainer.add_callback(AtStep(act))
    monitor.attach(trainer)
    trainer.train()
    return trainer


def assert_is_of_a_step(found, trainer, reason):
    parameters = sum(p.nbytes for p in trainer.model.parameters())
    assert found["reason"] == reason
    assert found["components"]["gradients"] == parameters
    assert found["components"]["optimizer"] == pytest.approx(2 * parameters, rel=0.01)
    # What belongs to the model, its gradients and its optimizer has names.
    names = {tensor["name"] for tensor in found["largest_tensors"]}
    largest = max(trainer.model.named_parameters(), key=lambda item: item[1].numel())[0]
    assert {largest, f"{largest} (gradient)", f"{largest} (exp_avg)", f"{largest} (exp_avg_sq)"} <= names
    sizes = [tensor["bytes"] for tensor in found["largest_tensors"]]
    assert sizes == sorted(sizes, reverse=True)


@needs_signal
def test_a_signal_asks_for_a_snapshot(tmp_path):
    before = signal.getsignal(signal.SIGUSR1)
    trainer = train(tmp_path, lambda: os.kill(os.getpid(), signal.SIGUSR1))
    (found,) = snapshots(tmp_path)
    assert_is_of_a_step(found, trainer, "signal")
    # Afterwards the signal is whose it was.
    assert signal.getsignal(signal.SIGUSR1) is before


def test_a_file_asks_for_a_snapshot(tmp_path, monkeypatch):
    from modeling_astrobio.training.monitoring import snapshot

    monkeypatch.setattr(snapshot, "_LOOK_SECONDS", 0.0)
    trainer = train(tmp_path, (tmp_path / REQUEST_NAME).touch)
    (found,) = snapshots(tmp_path)
    assert_is_of_a_step(found, trainer, "file")
    assert not (tmp_path / REQUEST_NAME).exists()


def test_the_file_is_looked_for_now_and_then_and_by_the_main_process(tmp_path):
    model = small_model()
    requests, other = SnapshotRequests(tmp_path, True), SnapshotRequests(tmp_path, False)
    assert requests.before_update(model, None) is None
    (tmp_path / REQUEST_NAME).touch()
    # It was looked for a moment ago.
    assert requests.before_update(model, None) is None
    assert other.before_update(model, None) is None
    requests.start()
    assert requests.before_update(model, None).exists()
    requests.stop()


def test_a_request_that_cannot_be_removed_is_not_heeded(tmp_path, caplog):
    # A folder of this name cannot be unlinked.
    (tmp_path / REQUEST_NAME).mkdir()
    requests = SnapshotRequests(tmp_path, True)
    with caplog.at_level(logging.WARNING):
        assert requests.before_update(small_model(), None) is None
    assert "cannot be removed" in caplog.text
    assert snapshots(tmp_path) == []


def test_a_snapshot_that_cannot_be_written_stops_no_run(tmp_path, caplog):
    (tmp_path / "snapshots").write_text("no folder")
    (tmp_path / REQUEST_NAME).touch()
    requests = SnapshotRequests(tmp_path, True)
    with caplog.at_level(logging.WARNING):
        assert requests.before_update(small_model(), None) is None
    assert "could not be written" in caplog.text


@needs_signal
def test_training_in_another_thread_leaves_the_signal_alone(tmp_path):
    before = signal.getsignal(signal.SIGUSR1)
    requests = SnapshotRequests(tmp_path, True)
    thread = threading.Thread(target=requests.start)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGUSR1) is before
    requests.stop()
    assert signal.getsignal(signal.SIGUSR1) is before


def test_memory_that_runs_out_leaves_a_snapshot(tmp_path):
    trainer = make_trainer(tmp_path, None)

    def ask_for_too_much(module, arguments):
        if trainer.state.global_step == 2 and module.training:
            held = torch.ones(12_345_678)  # what a step has at hand when memory runs out
            torch.empty(2**60)
            del held

    trainer.model.model.norm.register_forward_pre_hook(ask_for_too_much)
    with pytest.raises(RuntimeError, match="can't allocate memory"), oom_snapshot(tmp_path, trainer):
        trainer.train()
    (found,) = snapshots(tmp_path)
    assert found["reason"] == "out-of-memory"
    assert found["components"]["optimizer"] > found["components"]["parameters"] > 0
    assert found["largest_tensors"][0] == {
        "bytes": 4 * 12_345_678,
        "shape": [12_345_678],
        "dtype": "float32",
        "device": "cpu",
        "name": None,
    }
    if "process" in found:
        assert found["process"]["peak"] >= found["process"]["resident"] > 4 * 12_345_678


def test_memory_that_runs_out_before_there_is_an_optimizer(tmp_path):
    trainer = make_trainer(tmp_path, None)
    with pytest.raises(MemoryError), oom_snapshot(tmp_path, trainer):
        bytearray(2**62)
    (found,) = snapshots(tmp_path)
    assert found["components"].keys() == {"parameters", "gradients"}


def test_other_errors_leave_none(tmp_path):
    trainer = make_trainer(tmp_path, None)
    with pytest.raises(RuntimeError, match="shapes"), oom_snapshot(tmp_path, trainer):
        raise RuntimeError("shapes do not match")
    assert snapshots(tmp_path) == []


def test_a_snapshot_that_fails_does_not_hide_the_error(tmp_path, caplog):
    (tmp_path / "snapshots").write_text("no folder")
    trainer = make_trainer(tmp_path, None)
    with pytest.raises(RuntimeError, match="can't allocate memory"), oom_snapshot(tmp_path, trainer):
        torch.empty(2**60)
    assert "its snapshot could not be written" in caplog.text


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (MemoryError(), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("out of memory"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_what_counts_as_out_of_memory(error, expected):
    assert is_out_of_memory(error) is expected


def test_tied_and_frozen_weights_have_one_name(tmp_path):
    model = small_model(tie_word_embeddings=True)
    model.model.norm.weight.requires_grad_(False)
    found = json.loads(dump_snapshot(tmp_path, "Some reason!", model).read_text(encoding="utf-8"))
    assert found["components"]["gradients"] == 0
    names = [tensor["name"] for tensor in found["largest_tensors"] if tensor["name"]]
    assert len(names) == len(set(names))
    (path,) = tmp_path.glob("snapshots/*.json")
    assert path.stem.endswith("-some-reason-")


@pytest.mark.gpu
def test_a_gpu_leaves_the_allocators_snapshot_with_its_history(tmp_path):
    model = small_model().cuda()
    requests = SnapshotRequests(tmp_path, True)
    requests.start()
    (tmp_path / REQUEST_NAME).touch()
    assert requests.before_update(model, None) is None
    for _ in range(2):
        model(torch.full((2, 7), 5, device="cuda"), labels=torch.full((2, 7), 5, device="cuda")).loss.backward()
        path = requests.before_update(model, None)
    assert path.with_suffix(".pickle").stat().st_size > 1000
    requests.stop()
