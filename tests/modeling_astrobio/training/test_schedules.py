"""Learning rates equal their formulas, step by step, and a resumed schedule goes on with the same bits."""

import io
import math

import pytest
import torch
from accelerate import Accelerator
from torch.optim.lr_scheduler import OneCycleLR

from modeling_astrobio.training.errors import RecipeError
from modeling_astrobio.training.recipe import SCHEDULE_NAMES
from modeling_astrobio.training.schedules import build_schedule


STEPS, WARMUP = 37, 5


def make_optimizer(lrs=(3e-3, 7e-4)) -> torch.optim.Optimizer:
    groups = [{"params": [torch.nn.Parameter(torch.ones(3))], "lr": lr} for lr in lrs]
    return torch.optim.AdamW(groups, lr=1.0, betas=(0.8, 0.9))


def run(optimizer, schedule, steps: int) -> list[list[float]]:
    """Learning rates of each step's groups; the schedule is stepped after the optimizer, as transformers does."""
    used = []
    for _ in range(steps):
        used.append([float(group["lr"]) for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return used


def warmup_factor(step: int) -> float | None:
    return step / WARMUP if step < WARMUP else None


def cosine_factor(step: int) -> float:
    rising = warmup_factor(step)
    return 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP))) if rising is None else rising


def linear_factor(step: int) -> float:
    rising = warmup_factor(step)
    return (STEPS - step) / (STEPS - WARMUP) if rising is None else rising


def wsd_factor(step: int) -> float:
    rising, decay = warmup_factor(step), 8  # a fifth of 37, rounded up
    if rising is not None:
        return rising
    return 1.0 if step < STEPS - decay else 0.5 * (1 + math.cos(math.pi * (step - STEPS + decay) / decay))


def one_cycle_factor(step: int) -> float:
    low, end = 1 / 25, 1 / 25 / 1e4
    if step <= WARMUP:
        return 1 + (low - 1) / 2 * (1 + math.cos(math.pi * step / WARMUP))
    return end + (1 - end) / 2 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - 1 - WARMUP)))


FACTORS = {
    "cosine": cosine_factor,
    "linear": linear_factor,
    "constant": lambda step: 1.0,
    "constant_with_warmup": lambda step: min(1.0, step / WARMUP),
    "wsd": wsd_factor,
    "one_cycle": one_cycle_factor,
}


def test_every_schedule_of_a_recipe_has_a_formula_here():
    assert set(FACTORS) == set(SCHEDULE_NAMES)


@pytest.mark.parametrize("name", FACTORS)
def test_rates_equal_the_formula_for_each_group(name):
    optimizer = make_optimizer()
    used = run(optimizer, build_schedule(name, optimizer, STEPS, WARMUP), STEPS)
    for step, rates in enumerate(used):
        assert rates == pytest.approx([3e-3 * FACTORS[name](step), 7e-4 * FACTORS[name](step)], rel=1e-12, abs=1e-18)
    assert [group["betas"] for group in optimizer.param_groups] == [(0.8, 0.9)] * 2


def test_one_cycle_equals_torch_on_its_own_terms():
    ours, theirs = make_optimizer(), make_optimizer()
    schedule = build_schedule("one_cycle", ours, STEPS, 10, div_factor=5.0, anneal_strategy="linear")
    reference = OneCycleLR(
        theirs,
        [3e-3, 7e-4],
        STEPS,
        pct_start=11 / STEPS,
        div_factor=5.0,
        anneal_strategy="linear",
        cycle_momentum=False,
    )
    assert run(ours, schedule, STEPS) == run(theirs, reference, STEPS)


@pytest.mark.parametrize("name", FACTORS)
@pytest.mark.parametrize("at", [1, WARMUP, 20])
def test_resumed_rates_have_the_same_bits(name, at):
    whole_optimizer = make_optimizer()
    whole = run(whole_optimizer, build_schedule(name, whole_optimizer, STEPS, WARMUP), STEPS)
    optimizer = make_optimizer()
    schedule = build_schedule(name, optimizer, STEPS, WARMUP)
    first = run(optimizer, schedule, at)
    file = io.BytesIO()
    torch.save((optimizer.state_dict(), schedule.state_dict()), file)
    file.seek(0)
    # As transformers resumes: both are built anew, then loaded.
    optimizer = make_optimizer()
    schedule = build_schedule(name, optimizer, STEPS, WARMUP)
    optimizer_state, schedule_state = torch.load(file, weights_only=True)
    optimizer.load_state_dict(optimizer_state)
    schedule.load_state_dict(schedule_state)
    assert first + run(optimizer, schedule, STEPS - at) == whole


@pytest.mark.parametrize("name", ["one_cycle", "cosine", "wsd"])
def test_a_run_made_longer_goes_on_along_the_longer_schedule(name):
    short = make_optimizer()
    schedule = build_schedule(name, short, 20, WARMUP)
    run(short, schedule, 12)
    longer = make_optimizer()
    resumed = build_schedule(name, longer, STEPS, WARMUP)
    longer.load_state_dict(short.state_dict())
    resumed.load_state_dict(schedule.state_dict())
    # The step resumed at was set before the run was made longer.
    rates = run(longer, resumed, STEPS - 12)[1:]
    expected = [[3e-3 * FACTORS[name](step), 7e-4 * FACTORS[name](step)] for step in range(13, STEPS)]
    for found, wanted in zip(rates, expected, strict=True):
        assert found == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("name", FACTORS)
def test_an_optimizer_that_accelerate_wraps_gets_the_same_rates(name):
    plain, inner = make_optimizer(), make_optimizer()
    wrapped = Accelerator(cpu=True).prepare(inner)
    assert wrapped is not inner
    expected = run(plain, build_schedule(name, plain, STEPS, WARMUP), STEPS)
    assert run(wrapped, build_schedule(name, wrapped, STEPS, WARMUP), STEPS) == expected
    assert inner.param_groups[0]["lr"] == plain.param_groups[0]["lr"]


@pytest.mark.parametrize("name", FACTORS)
def test_rates_held_as_tensors_follow_in_float32(name):
    plain, held = make_optimizer(), make_optimizer()
    tensors = [torch.tensor(group["lr"]) for group in held.param_groups]
    for group, tensor in zip(held.param_groups, tensors, strict=True):
        group["lr"] = tensor
    expected = run(plain, build_schedule(name, plain, STEPS, WARMUP), STEPS)
    found = run(held, build_schedule(name, held, STEPS, WARMUP), STEPS)
    assert torch.tensor(found) == pytest.approx(torch.tensor(expected), rel=1e-6, abs=1e-12)
    # torchao's compiled step reads the tensor itself.
    assert all(group["lr"] is tensor for group, tensor in zip(held.param_groups, tensors, strict=True))


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
@pytest.mark.parametrize("warmup_steps", [0, 1])
def test_short_runs_have_rates_in_range(steps, warmup_steps):
    for name in FACTORS:
        if name == "one_cycle" and not 1 <= warmup_steps < steps - 1:
            continue
        optimizer = make_optimizer()
        used = run(optimizer, build_schedule(name, optimizer, steps, warmup_steps), steps)
        assert all(0 <= rate <= 3e-3 for rates in used for rate in rates)


@pytest.mark.parametrize(
    ("name", "steps", "warmup_steps", "options", "message"),
    [
        ("cosin", 9, 1, {}, "schedule must be one of .*one_cycle.*got 'cosin'"),
        ("cosine", 0, 0, {}, "at least 1 step.*steps=0"),
        ("cosine", 9, -1, {}, "warmup_steps=-1"),
        ("constant", 9, 0, {"num_cycles": 1}, r"may be \(\); got \['num_cycles'\]"),
        ("cosine", 9, 1, {"max_lr": 1}, r"num_cycles.*got \['max_lr'\]"),
        ("wsd", 9, 5, {"num_decay_steps": 5}, "fit into 9 steps; got 5 and 5"),
        ("wsd", 9, 10, {}, "fit into 9 steps; got 10 and 0"),
        ("wsd", 9, 1, {"num_decay_steps": "two"}, "does not do for schedule='wsd'"),
        ("wsd", 9, 1, {"decay_type": "cliff"}, "does not do for schedule='wsd': Unknown decay type"),
        ("one_cycle", 9, 0, {}, "at least 1 and less than 8; got 0 of 9"),
        ("one_cycle", 9, 8, {}, "at least 1 and less than 8; got 8 of 9"),
        ("one_cycle", 9, 2, {"max_momentum": 0.9}, r"div_factor.*got \['max_momentum'\]"),
        ("one_cycle", 9, 2, {"anneal_strategy": "cubic"}, "does not do for schedule='one_cycle'"),
        ("one_cycle", 9, 2, {"div_factor": 0}, "does not do for schedule='one_cycle'"),
    ],
)
def test_bad_input_is_refused_by_name(name, steps, warmup_steps, options, message):
    with pytest.raises(RecipeError, match=message):
        build_schedule(name, make_optimizer(), steps, warmup_steps, **options)
