"""Steps that must not stand are found, and no others."""

import math
import random
import statistics

import pytest

from modeling_astrobio.training.errors import TrainingFault
from modeling_astrobio.training.loss_guard import LossFault, LossGuard, StabilitySection
from modeling_astrobio.training.rollbacks import Rollback, read_rollbacks, roll_back


def scattered(count: int, seed: int = 0) -> list[float]:
    rng = random.Random(seed)
    return [rng.gauss(2.0, 0.1) for _ in range(count)]


def fed(losses: list[float], **settings) -> LossGuard:
    guard = LossGuard(StabilitySection(**settings))
    for step, loss in enumerate(losses, start=1):
        guard.judge(step, loss, 1.0)
    return guard


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_loss_that_is_not_finite_is_a_fault_from_the_first_step(loss):
    with pytest.raises(LossFault, match=f"step 1: the loss is {loss}"):
        fed([loss], spike_sigma=0)


@pytest.mark.parametrize("norm", [math.nan, math.inf])
def test_gradient_that_is_not_finite_is_a_fault(norm):
    guard = fed(scattered(3))
    with pytest.raises(LossFault, match=f"step 4: the norm of the gradient is {norm}"):
        guard.judge(4, 2.0, norm)
    guard.judge(4, 2.0, None)


def test_spike_is_judged_by_mean_and_deviation_of_the_last_losses():
    losses = scattered(173)
    window = losses[-100:]
    limit = statistics.fmean(window) + 6 * statistics.stdev(window)
    fed(losses).judge(174, limit - 1e-9, 1.0)
    with pytest.raises(LossFault, match=r"step 174: the loss is .* more than 6 standard deviations above .* last 100"):
        fed(losses).judge(174, limit + 1e-9, 1.0)
    fed(losses, spike_sigma=0).judge(174, 1e9, 1.0)
    fed(losses).judge(174, -1e9, 1.0)


def test_fault_is_not_remembered():
    guard = fed(scattered(50))
    before = list(guard.losses)
    with pytest.raises(LossFault, match="step 51"):
        guard.judge(51, 50.0, 1.0)
    assert list(guard.losses) == before
    other = LossGuard(StabilitySection())
    other.restore(before)
    with pytest.raises(LossFault, match="step 51"):
        other.judge(51, 50.0, 1.0)


def test_few_losses_say_nothing_of_their_scatter():
    fed(scattered(29)).judge(30, 1e6, 1.0)
    with pytest.raises(LossFault, match="step 31"):
        fed(scattered(30)).judge(31, 1e6, 1.0)


def test_losses_that_do_not_scatter_may_ripple():
    flat = fed([2.0] * 60)
    flat.judge(61, 2.11, 1.0)
    with pytest.raises(LossFault, match="step 62"):
        flat.judge(62, 2.2, 1.0)


def test_falling_loss_never_is_a_fault():
    rng = random.Random(1)
    fed([8 * math.exp(-step / 90) + 1 + rng.gauss(0, 0.05) for step in range(2000)])


def test_rollbacks_are_kept_in_the_folder_and_end(tmp_path):
    checkpoint = tmp_path / "checkpoint-30"
    found: list[Rollback] = []
    for step in (40, 44):
        found = roll_back(LossFault(step, "the loss is nan", math.nan), found, checkpoint, 2, tmp_path)
    assert read_rollbacks(tmp_path) == found
    assert [rollback.step for rollback in found] == [40, 44]
    assert found[0] == Rollback(40, "the loss is nan", "nan", "checkpoint-30")
    with pytest.raises(
        TrainingFault, match=r"step 51: .*max_rollbacks=2, .* 40, 44. The last good state is the begin"
    ):
        roll_back(LossFault(51, "the loss is 9", 9.0), found, None, 2, tmp_path)
    assert len(read_rollbacks(tmp_path)) == 2
