"""Updating in the backward pass gives the weights of updating after it, bit for bit."""

import copy
import io

import bitsandbytes
import pytest
import torch
import torchao.optim
from accelerate import Accelerator
from torch import nn

from modeling_astrobio.training.errors import StrategyError
from modeling_astrobio.training.optimizer_in_backward import OptimizerInBackward
from modeling_astrobio.training.optimizer_sophia import Sophia
from modeling_astrobio.training.schedules import build_schedule


# The embedding is large enough for 8-bit averages, in whole blocks of 256.
VOCABULARY, WIDTH = 96, 48


class TiedModel(nn.Module):
    """An embedding used again as the head, a frozen layer, and one that the forward pass never uses."""

    def __init__(self, dtype: torch.dtype = torch.float32):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.hidden = nn.Linear(WIDTH, 7)
        self.frozen = nn.Linear(7, WIDTH).requires_grad_(False)
        self.unused = nn.Linear(3, 2)
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.embedding.weight
        self.to(dtype)

    def loss(self, tokens: torch.Tensor) -> torch.Tensor:
        hidden = self.norm(self.frozen(torch.tanh(self.hidden(self.embedding(tokens[:, :-1])))))
        return nn.functional.cross_entropy(self.head(hidden).flatten(0, 1).float(), tokens[:, 1:].flatten())


MAKERS = {
    "adamw": lambda groups: torch.optim.AdamW(groups, lr=3e-2, betas=(0.8, 0.9), fused=True),
    "torchao": lambda groups: torchao.optim.AdamW8bit(groups, lr=3e-2),
    "bitsandbytes": lambda groups: bitsandbytes.optim.AdamW8bit(groups, lr=3e-2, min_8bit_size=1),
    "lion": lambda groups: bitsandbytes.optim.Lion(groups, lr=3e-3),
    "sophia": lambda groups: Sophia(groups, lr=3e-3),
}


def build(name: str, in_backward: bool, dtype: torch.dtype = torch.float32) -> tuple[TiedModel, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = TiedModel(dtype)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.dim() > 1], "weight_decay": 0.1},
        {"params": [parameter for parameter in trained if parameter.dim() == 1], "weight_decay": 0.0},
    ]
    optimizer = MAKERS[name](groups)
    return model, OptimizerInBackward(optimizer) if in_backward else optimizer


def batch(step: int) -> torch.Tensor:
    return torch.randint(0, VOCABULARY, (5, 11), generator=torch.Generator().manual_seed(step))


def train(model: TiedModel, optimizer: torch.optim.Optimizer, schedule, steps: range) -> None:
    for step in steps:
        model.loss(batch(step)).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def assert_same(first: list[torch.Tensor], second: list[torch.Tensor]) -> None:
    assert len(first) == len(second)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.fixture(autouse=True)
def _eager():
    # torchao would compile its step for every shape, for seconds each.
    with torch.compiler.set_stance("force_eager"):
        yield


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_weights_equal_those_of_the_plain_optimizer(name, dtype):
    found = []
    for in_backward in (False, True):
        model, optimizer = build(name, in_backward, dtype)
        before = weights(model)
        train(model, optimizer, build_schedule("one_cycle", optimizer, 7, 2), range(7))
        found.append(weights(model))
        moved = [not torch.equal(old, new) for old, new in zip(before, weights(model), strict=True)]
        names = [key for key, _ in model.named_parameters()]
        assert {key for key, has_moved in zip(names, moved, strict=True) if not has_moved} == {
            *("frozen.weight", "frozen.bias", "unused.weight", "unused.bias"),
        }
    assert_same(*found)


def test_no_gradient_outlives_its_update():
    model, optimizer = build("adamw", in_backward=True)
    alive = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            # Runs after the update, for it is registered after it.
            parameter.register_post_accumulate_grad_hook(
                lambda _: alive.append(sum(other.grad is not None for other in model.parameters()))
            )
    model.loss(batch(0)).backward()
    optimizer.step()
    assert len(alive) == 5
    assert set(alive) == {0}


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("resumed_in_backward", [False, True])
def test_resuming_is_bit_identical_and_may_change_over(name, resumed_in_backward):
    model, optimizer = build(name, in_backward=True)
    train(model, optimizer, build_schedule("cosine", optimizer, 8, 2), range(8))
    expected = weights(model)

    model, optimizer = build(name, in_backward=True)
    schedule = build_schedule("cosine", optimizer, 8, 2)
    train(model, optimizer, schedule, range(3))
    file = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict(), schedule.state_dict()), file)
    file.seek(0)
    model, optimizer = build(name, resumed_in_backward)
    schedule = build_schedule("cosine", optimizer, 8, 2)
    for part, state in zip((model, optimizer, schedule), torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(state)
    train(model, optimizer, schedule, range(3, 8))
    assert_same(weights(model), expected)


def test_accelerate_wraps_it():
    plain_model, plain = build("adamw", in_backward=False)
    train(plain_model, plain, build_schedule("cosine", plain, 5, 1), range(5))
    model, optimizer = build("adamw", in_backward=True)
    wrapped = Accelerator(cpu=True).prepare(optimizer)
    train(model, wrapped, build_schedule("cosine", wrapped, 5, 1), range(5))
    assert wrapped.state is optimizer.optimizer.state
    assert wrapped.defaults["betas"] == (0.8, 0.9)
    assert_same(weights(model), weights(plain_model))


def test_a_second_backward_pass_before_the_step_is_refused():
    model, _ = build("adamw", in_backward=True)
    model.loss(batch(0)).backward()
    with pytest.raises(StrategyError, match=r"second one before step\(\).*gradient_accumulation_steps=1"):
        model.loss(batch(1)).backward()


def test_a_closure_is_refused():
    _, optimizer = build("adamw", in_backward=True)
    with pytest.raises(StrategyError, match="takes no closure"):
        optimizer.step(lambda: 0.0)


def test_a_failing_update_leaves_the_groups_whole():
    model, optimizer = build("adamw", in_backward=True)
    groups = optimizer.param_groups
    optimizer.optimizer.step = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        model.loss(batch(0)).backward()
    assert optimizer.param_groups is groups


def test_removed_hooks_leave_gradients_to_a_plain_step():
    plain_model, plain = build("adamw", in_backward=False)
    model, optimizer = build("adamw", in_backward=True)
    optimizer.remove_hooks()
    for each, stepped in ((plain_model, plain), (model, optimizer.optimizer)):
        each.loss(batch(0)).backward()
        stepped.step()
    assert all(
        p.grad is not None
        for p in model.parameters()
        if p.requires_grad and p is not model.unused.weight and p is not model.unused.bias
    )
    assert_same(weights(model), weights(plain_model))


def test_a_group_added_later_is_updated_too():
    found = []
    for in_backward in (False, True):
        model, optimizer = build("adamw", in_backward)
        model.frozen.requires_grad_(True)
        optimizer.add_param_group({"params": list(model.frozen.parameters()), "lr": 1e-3})
        before = copy.deepcopy(model.frozen.weight.detach())
        train(model, optimizer, build_schedule("constant", optimizer, 3, 0), range(3))
        assert not torch.equal(model.frozen.weight, before)
        found.append(weights(model))
    assert_same(*found)
