"""The watchdog tells of steps that do not end and of a disk that fills up, and of nothing that goes on well."""

import json
import os
import shutil
import threading
import time
from dataclasses import replace

import pytest

from modeling_astrobio.training.monitoring.alerts import Alerts
from modeling_astrobio.training.monitoring.settings import MonitorSection
from modeling_astrobio.training.monitoring.watchdog import Watchdog


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Watched:
    """A watchdog of a run in `run_dir`, with a clock that the test sets."""

    def __init__(self, run_dir, **settings):
        self.run_dir = run_dir
        self.clock = Clock()
        self.settings = replace(MonitorSection(stall_factor=20.0, stall_seconds=300.0), **settings)
        self.alerts = Alerts(run_dir / "alerts.jsonl", (), self.settings.cooldown_seconds, self.clock)
        self.dog = Watchdog(self.alerts, self.settings, run_dir, clock=self.clock)

    def train(self, *seconds: float) -> None:
        for duration in seconds:
            self.clock.now += duration
            self.step = getattr(self, "step", 0) + 1
            self.dog.step_done(self.step)

    def wait(self, seconds: float) -> list[tuple[str, str, int]]:
        """Let time go by, and return all alerts so far."""
        self.clock.now += seconds
        self.dog.check_steps()
        return self.sent()

    def sent(self) -> list[tuple[str, str, int]]:
        path = self.run_dir / "alerts.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [(row["kind"], row["level"], row["step"]) for row in map(json.loads, lines)]

    def texts(self) -> list[str]:
        lines = (self.run_dir / "alerts.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["text"] for line in lines]


@pytest.mark.parametrize(("step_seconds", "limit"), [(1.0, 300.0), (37.0, 740.0)])
def test_stall_is_told_once_and_its_end_too(tmp_path, step_seconds, limit, caplog):
    watched = Watched(tmp_path)
    watched.train(500.0, *[step_seconds] * 7)
    assert watched.wait(limit - 1) == []
    assert watched.wait(2) == [("stall", "warning", 8)]
    assert watched.wait(5000) == [("stall", "warning", 8)]
    assert "test_stall_is_told_once_and_its_end_too" in caplog.text  # the stack
    watched.train(10.0)
    assert watched.wait(0) == [("stall", "warning", 8), ("stall", "info", 9)]
    assert watched.wait(1)[2:] == []
    assert watched.texts() == [
        f"a step has taken {limit + 1:.3g} s so far (limit {limit:.3g} s; the median of the last steps is "
        f"{step_seconds:.3g} s). The last step done is 8.",
        f"The stall lasted {limit + 1 + 5000 + 10:.3g} s.",
    ]


def test_second_stall_is_told_after_the_cooldown_alone(tmp_path):
    watched = Watched(tmp_path, cooldown_seconds=2000.0)
    watched.train(1.0, 1.0, 1.0)
    assert len(watched.wait(301)) == 1
    watched.train(1.0)
    assert len(watched.wait(0)) == 2
    watched.wait(301)  # within the cool-down: neither it nor its end is told
    watched.train(1.0)
    assert len(watched.wait(0)) == 2
    watched.train(*[100.0] * 15)
    assert [level for _, level, _ in watched.wait(2001)] == ["warning", "info", "warning"]


def test_one_slow_step_does_not_change_the_limit(tmp_path):
    watched = Watched(tmp_path)
    watched.train(1.0, 1.0, 1.0, 299.0)
    assert watched.wait(299) == []
    assert len(watched.wait(2)) == 1


def test_first_steps_may_take_long(tmp_path):
    watched = Watched(tmp_path)
    assert watched.wait(12 * 300 - 1) == []
    assert watched.wait(2) == [("stall", "warning", 0)]
    watched = Watched(tmp_path / "..")
    watched.train(3000.0)
    watched.clock.now += 12 * 300 - 1
    watched.dog.check_steps()
    assert not (tmp_path / ".." / "alerts.jsonl").exists()


def test_evaluation_and_saving_are_no_stall(tmp_path):
    watched = Watched(tmp_path)
    watched.train(1.0, 1.0, 1.0)
    watched.clock.now += 200
    with watched.dog.busy("evaluation"):
        assert watched.wait(3000) == []
        with watched.dog.busy("saving"):
            assert watched.wait(500) == []
        assert watched.wait(50) == []
    assert watched.wait(99) == []
    assert watched.wait(2) == [("stall", "warning", 3)]


def test_evaluation_that_hangs_is_told(tmp_path):
    watched = Watched(tmp_path)
    watched.train(1.0, 1.0, 1.0)
    with watched.dog.busy("evaluation"):
        assert watched.wait(12 * 300 + 1) == [("stall", "warning", 3)]
    assert watched.texts() == [
        "evaluation has taken 3.6e+03 s so far (limit 3.6e+03 s). The last step done is 3.",
    ]
    assert watched.wait(0) == [("stall", "warning", 3), ("stall", "info", 3)]


def test_busy_ends_when_its_block_raises(tmp_path):
    watched = Watched(tmp_path)
    watched.train(1.0, 1.0, 1.0)
    with pytest.raises(OSError, match="full"), watched.dog.busy("saving"):
        raise OSError("full")
    assert len(watched.wait(301)) == 1


@pytest.mark.parametrize("off", [{"stall_factor": 0.0}, {"stall_seconds": 0.0}])
def test_zero_switches_the_stall_alert_off(tmp_path, off):
    watched = Watched(tmp_path, **off)
    watched.train(1.0, 1.0, 1.0)
    assert watched.wait(1e9) == []


def wait_until(condition, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def test_thread_tells_of_a_real_stall(tmp_path):
    settings = MonitorSection(stall_factor=3.0, stall_seconds=0.2)
    alerts = Alerts(tmp_path / "alerts.jsonl", (), 60.0)
    before = threading.active_count()
    dog = Watchdog(alerts, settings, tmp_path, gpu_utilisation=lambda: 75.0, poll_seconds=0.01)
    dog.start(step=40)
    try:
        with pytest.raises(RuntimeError, match="once until it is stopped"):
            dog.start()
        for step in (41, 42, 43):
            dog.step_done(step)
            time.sleep(0.02)
        assert not (tmp_path / "alerts.jsonl").exists()
        wait_until((tmp_path / "alerts.jsonl").exists)
        dog.step_done(44)
    finally:
        dog.stop()
    rows = [json.loads(line) for line in (tmp_path / "alerts.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["kind"], row["level"], row["step"]) for row in rows] == [
        ("stall", "warning", 43),
        ("stall", "info", 44),
    ]
    assert dog.gpu_utilisation_percent == 75.0
    assert threading.active_count() == before
    dog.stop()
    dog.start()
    dog.stop()
    assert threading.active_count() == before


def test_noting_a_step_costs_microseconds(tmp_path):
    dog = Watchdog(Alerts(None, (), 60.0), MonitorSection(), tmp_path, poll_seconds=0.001)
    dog.start()
    best = float("inf")
    for _ in range(20):
        begin = time.perf_counter()
        for step in range(1000):
            dog.step_done(step)
        best = min(best, time.perf_counter() - begin)
    dog.stop()
    assert best / 1000 < 50e-6


def checkpoint(run_dir, step: int, size: int):
    folder = run_dir / f"checkpoint-{step}"
    (folder / "optimizer").mkdir(parents=True)
    for path, share in ((folder / "model.safetensors", size // 3), (folder / "optimizer" / "0.pt", size - size // 3)):
        path.touch()
        try:
            os.truncate(path, share)  # sparse: takes no room
        except OSError as error:
            pytest.skip(f"the file system takes no sparse file of {share} bytes: {error}")
    return folder


def test_disk_without_room_for_the_next_checkpoints_is_told(tmp_path):
    watched = Watched(tmp_path)
    watched.dog.check_disk()
    free = shutil.disk_usage(tmp_path).free
    checkpoint(tmp_path, 9, 3 * free)
    checkpoint(tmp_path, 10, free // 4)
    watched.train(1.0, 1.0)
    watched.dog.check_disk()  # the newest counts
    assert watched.sent() == []
    checkpoint(tmp_path, 11, free)
    with watched.dog.busy("saving"):
        watched.dog.check_disk()
    assert watched.sent() == []
    watched.dog.check_disk()
    watched.dog.check_disk()
    assert watched.sent() == [("disk", "warning", 2)]
    assert "2 are asked for. Free space" in watched.texts()[0]
    watched.clock.now += watched.settings.cooldown_seconds + 1
    watched.dog.check_disk()
    assert len(watched.sent()) == 2


def test_checkpoint_written_again_is_measured_again(tmp_path):
    watched = Watched(tmp_path)
    checkpoint(tmp_path, 7, 1300)
    watched.dog.check_disk()
    shutil.rmtree(tmp_path / "checkpoint-7")
    checkpoint(tmp_path, 7, shutil.disk_usage(tmp_path).free)
    watched.dog.check_disk()
    assert [kind for kind, *_ in watched.sent()] == ["disk"]


def test_zero_switches_the_disk_alert_off(tmp_path):
    watched = Watched(tmp_path, disk_checkpoints=0.0)
    checkpoint(tmp_path, 7, 2 * shutil.disk_usage(tmp_path).free)
    watched.dog.check_disk()
    assert watched.sent() == []


def test_thread_tells_of_the_disk(tmp_path):
    checkpoint(tmp_path, 7, 2 * shutil.disk_usage(tmp_path).free)
    dog = Watchdog(Alerts(tmp_path / "alerts.jsonl", (), 60.0), MonitorSection(), tmp_path, poll_seconds=0.01)
    dog.start()
    wait_until((tmp_path / "alerts.jsonl").exists)
    dog.stop()
    assert json.loads((tmp_path / "alerts.jsonl").read_text(encoding="utf-8"))["kind"] == "disk"


def test_utilisation_is_the_mean_of_the_last_readings_while_training(tmp_path):
    readings = iter([None, *[90.0] * 7, *[float(value) for value in range(30)]])
    dog = Watchdog(Alerts(None, (), 60.0), MonitorSection(), tmp_path, gpu_utilisation=lambda: next(readings))
    dog.check_gpu()
    assert dog.gpu_utilisation_percent is None
    dog.check_gpu()
    assert dog.gpu_utilisation_percent == 90.0
    with dog.busy("saving"):
        dog.check_gpu()
    for _ in range(6 + 30):
        dog.check_gpu()
    assert dog.gpu_utilisation_percent == sum(range(30)) / 30


def test_check_that_fails_is_logged_once_and_others_go_on(tmp_path, caplog):
    def lost() -> float:
        raise OSError("GPU is lost")

    settings = MonitorSection(stall_factor=3.0, stall_seconds=0.1)
    dog = Watchdog(Alerts(tmp_path / "alerts.jsonl", (), 60.0), settings, tmp_path, lost, poll_seconds=0.01)
    dog.start()
    for step in (1, 2, 3):
        dog.step_done(step)
    wait_until((tmp_path / "alerts.jsonl").exists)
    dog.stop()
    assert caplog.text.count("check_gpu failed") == 1
    assert "GPU is lost" in caplog.text


def test_reader_that_hangs_holds_up_neither_alerts_nor_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("modeling_astrobio.training.monitoring.watchdog._STOP_SECONDS", 0.1)
    release = threading.Event()
    settings = MonitorSection(stall_factor=3.0, stall_seconds=0.1)
    dog = Watchdog(Alerts(tmp_path / "alerts.jsonl", (), 60.0), settings, tmp_path, release.wait, poll_seconds=0.01)
    dog.start()
    for step in (1, 2, 3):
        dog.step_done(step)
    wait_until((tmp_path / "alerts.jsonl").exists)
    begin = time.monotonic()
    dog.stop()
    assert time.monotonic() - begin < 1
    release.set()
