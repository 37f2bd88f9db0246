"""Speed, waiting and time to finish, from events at known times."""

import dataclasses

import pytest
from monitored_trainers import make_plan

from modeling_astrobio.training.gpu_specs import parse_hardware
from modeling_astrobio.training.memory_plan import plan_step
from modeling_astrobio.training.monitoring.speed import SpeedMeter


class Run:
    """A run whose clock stands still between events."""

    def __init__(self, plan=None, window_steps: int = 3):
        self.now = 100.0
        self.tokens = 0
        self.meter = SpeedMeter(plan or make_plan(), window_steps, lambda: self.now)

    def step(self, wait: float, work: float, after: float = 0.0, tokens: int = 0) -> None:
        self.now += wait
        self.meter.begin_step(self.tokens)
        self.now += work
        self.tokens += tokens
        self.meter.end_step()
        self.now += after
        self.meter.book("step")

    def pause(self, seconds: float) -> None:
        self.now += seconds
        self.meter.book("pause")

    def row(self, steps_left: int = 0):
        return self.meter.take_row(steps_left, self.tokens)


def test_a_row_tells_of_the_steps_since_the_last_one():
    run = Run()
    # What comes before the first step is neither waiting nor work.
    run.step(wait=50.0, work=4.0, tokens=10)
    assert run.row(9) == {"steps_per_second": 0.25, "tokens_per_second": 2.5}
    run.step(wait=1.0, work=2.5, after=0.5, tokens=10)
    run.step(wait=0.0, work=4.0, tokens=6)
    row = run.row(8)
    assert row["steps_per_second"] == 2 / 8
    assert row["tokens_per_second"] == 16 / 8
    assert row["data_wait_share"] == 1 / 8
    assert row["eta_seconds"] == 8 * 8 / 2


def test_evaluation_and_saving_count_for_the_time_to_finish_alone():
    run = Run()
    run.step(0.0, 7.0)
    run.row()
    for _ in range(4):
        run.step(1.0, 3.0)
        run.pause(6.0)
    row = run.row(steps_left=5)
    assert row["steps_per_second"] == 4 / 16
    assert row["data_wait_share"] == 4 / 16
    assert row["eta_seconds"] == 5 * 10


def test_tokens_nobody_counted_are_left_out():
    run = Run()
    run.step(0.0, 1.0)
    run.step(1.0, 1.0)
    assert run.row().keys() == {"steps_per_second", "data_wait_share", "eta_seconds"}
    # Of a resumed run, the tokens before it are not of its first row.
    resumed = Run()
    resumed.tokens = 10**9
    resumed.step(0.0, 2.0, tokens=6)
    assert resumed.row()["tokens_per_second"] == 3.0


def test_the_share_of_waiting_is_that_of_the_last_steps():
    run = Run(window_steps=3)
    run.step(90.0, 1.0)
    for wait in (0.0, 9.0):
        run.step(wait, 1.0)
        assert run.meter.wait_share is None
    run.step(3.0, 1.0)
    assert run.meter.wait_share == 12 / 15
    run.pause(1000.0)
    run.step(0.0, 1.0)
    assert run.meter.wait_share == 12 / 15
    run.step(0.0, 5.0)
    assert run.meter.wait_share == 3 / 10


def test_a_row_without_steps_and_one_before_the_first_step_are_empty():
    run = Run()
    assert run.row() == {}
    run.meter.book("pause")
    run.step(0.0, 1.0)
    run.row()
    assert run.row() == {}


def test_a_second_start_forgets_the_first():
    run = Run(window_steps=1)
    for _ in range(3):
        run.step(5.0, 1.0, tokens=4)
    run.meter.start()
    assert run.meter.wait_share is None
    run.now += 1000
    run.step(20.0, 2.0, tokens=4)
    assert run.row() == {"steps_per_second": 0.5, "tokens_per_second": 2.0}


@pytest.mark.parametrize("processes", [1, 4])
def test_utilisation_is_model_flops_over_the_peak(processes):
    plan = make_plan(accumulation=3)
    peak = 67e12  # float32 of the table's H100
    step = dataclasses.replace(
        plan.step, strategy=dataclasses.replace(plan.step.strategy, sharding="none" if processes == 1 else "ddp")
    )
    plan = plan_step(step, parse_hardware(processes, gpu="H100 SXM", ram=64, disk=100), processes)
    run = Run(plan)
    tokens = plan.step.items * 3 * processes
    run.step(0.0, 2e-6, tokens=tokens)
    assert run.row()["model_flops_utilisation"] == pytest.approx(3 * plan.trace.model_flops / 2e-6 / peak)
    # With half of the tokens, half of the FLOPs were of use; without a count, rows are as long as planned.
    run.step(0.0, 2e-6, tokens=tokens // 2)
    assert run.row()["model_flops_utilisation"] == pytest.approx(1.5 * plan.trace.model_flops / 2e-6 / peak)
    run.step(0.0, 2e-6)
    assert run.row()["model_flops_utilisation"] == pytest.approx(3 * plan.trace.model_flops / 2e-6 / peak)


def test_other_items_than_tokens_are_not_invented():
    plan = make_plan()
    run = Run(dataclasses.replace(plan, step=dataclasses.replace(plan.step, item="graph")))
    run.step(0.0, 2.0, tokens=10)
    assert run.row() == {"steps_per_second": 0.5}
