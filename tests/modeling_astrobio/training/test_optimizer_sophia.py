"""Sophia-G equals a loop over single weights, and its curvature the Gauss-Newton diagonal it estimates."""

import io
import math
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from accelerate import Accelerator
from torch import nn
from training_builders import small_model

from modeling_astrobio.training.errors import StrategyError
from modeling_astrobio.training.optimizer_sophia import HESSIAN_INTERVAL, Sophia, estimate_hessian


SETTINGS = {"lr": 0.03, "betas": (0.9, 0.7), "eps": 1e-3, "weight_decay": 0.2, "gamma": 0.5}


def naive_sophia(weights: list[float], gradients, curvatures, *, lr, betas, eps, weight_decay, gamma) -> list[float]:
    """Algorithm 3, weight by weight; `curvatures[t]` is the estimate at step t, or `None`."""
    means, hessians = [0.0] * len(weights), [0.0] * len(weights)
    for gradient, curvature in zip(gradients, curvatures, strict=True):
        for i, weight in enumerate(weights):
            means[i] = betas[0] * means[i] + (1 - betas[0]) * gradient[i]
            if curvature is not None:
                hessians[i] = betas[1] * hessians[i] + (1 - betas[1]) * curvature[i]
            weight -= lr * weight_decay * weight
            weights[i] = weight - lr * max(-1.0, min(1.0, means[i] / max(gamma * hessians[i], eps)))
    return weights


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-6)])
def test_steps_equal_the_algorithm_weight_by_weight(dtype, tolerance):
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(7, generator=generator, dtype=torch.float64)
    gradients = 0.05 * torch.randn(23, 7, generator=generator, dtype=torch.float64)
    sampled = torch.randn(23, 7, generator=generator, dtype=torch.float64)
    parameter = nn.Parameter(start.to(dtype, copy=True))
    optimizer = Sophia([parameter], **SETTINGS)
    curvatures, clipped = [], 0
    for step in range(23):
        curvatures.append(None)
        if step % 5 == 0:
            parameter.grad = sampled[step].to(dtype)
            optimizer.update_hessian(13)
            curvatures[-1] = (13 * sampled[step] ** 2).tolist()
        parameter.grad = gradients[step].to(dtype)
        before = parameter.detach().clone()
        optimizer.step()
        moved = (parameter - before * (1 - SETTINGS["lr"] * SETTINGS["weight_decay"])).abs()
        clipped += int((moved > 0.999 * SETTINGS["lr"]).sum())
    assert 0 < clipped < 23 * 7
    expected = naive_sophia(start.tolist(), gradients.tolist(), curvatures, **SETTINGS)
    assert parameter.tolist() == pytest.approx(expected, rel=tolerance, abs=tolerance)


def test_all_directions_of_a_quadratic_shrink_alike_whatever_their_curvature():
    curvature = torch.tensor([1e-3, 1.0, 1e3], dtype=torch.float64)
    parameter = nn.Parameter(torch.tensor([0.5, -0.5, 0.5], dtype=torch.float64))
    optimizer = Sophia([parameter], lr=0.1, betas=(0.0, 0.0), eps=1e-12, weight_decay=0.0, gamma=1.0)
    for step in range(1, 41):
        parameter.grad = curvature.sqrt()
        optimizer.update_hessian(1)
        parameter.grad = curvature * parameter.detach()
        optimizer.step()
        assert parameter.tolist() == pytest.approx([0.5 * 0.9**step * sign for sign in (1, -1, 1)], rel=1e-12)


def test_no_weight_moves_further_than_the_learning_rate():
    parameter = nn.Parameter(torch.zeros(5))
    optimizer = Sophia([parameter], lr=0.25, betas=(0.0, 0.9), eps=1e-12, weight_decay=0.0)
    parameter.grad = torch.tensor([1e9, -1e9, 1e-3, 0.0, -7.0])
    optimizer.step()
    assert parameter.tolist() == [-0.25, 0.25, -0.25, 0.0, 0.25]


class SoftmaxRegression(nn.Module):
    """Logits of each place from fixed features; its Gauss-Newton matrix is known in closed form."""

    def __init__(self, rows: int = 3, places: int = 5, features: int = 4, classes: int = 6):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.features = torch.randn(rows, places, features, generator=generator)
        self.weight = nn.Parameter(0.5 * torch.randn(classes, features, generator=generator))

    def forward(self, rows: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.features[rows] @ self.weight.T)


def regression_inputs() -> dict[str, torch.Tensor]:
    labels = torch.tensor([[9, 1, -100, 3, 4], [-100, -100, 2, 2, -100], [9, 9, 9, 9, 0]])
    return {"rows": torch.arange(3), "labels": labels}


def exact_diagonal(model: SoftmaxRegression, counted: torch.Tensor) -> torch.Tensor:
    """Mean over the counted places of x_d^2 p_v (1 - p_v)."""
    features = model.features[:, :-1][counted]
    chances = (features @ model.weight.T).softmax(-1).detach()
    return torch.einsum("nd,nv->vd", features**2, chances * (1 - chances)) / len(features)


def test_the_estimate_is_the_gauss_newton_diagonal_in_expectation():
    model, inputs = SoftmaxRegression(), regression_inputs()
    optimizer = Sophia([model.weight], betas=(0.9, 0.0))
    draws = []
    for seed in range(1500):
        estimate_hessian(optimizer, model, inputs, seed=seed)
        draws.append(optimizer.state[model.weight]["hessian"].clone())
    draws = torch.stack(draws)
    expected = exact_diagonal(model, inputs["labels"][:, 1:] != -100)
    error = draws.std(0) / math.sqrt(len(draws))
    # 24 values: 4.5 standard errors are passed by chance in 1 of 6000 runs, and the seeds are fixed.
    assert ((draws.mean(0) - expected).abs() < 4.5 * error).all()
    assert (error / expected).max() < 0.08


def test_only_counted_labels_matter_and_their_values_do_not():
    found = []
    for labels in (regression_inputs()["labels"], regression_inputs()["labels"].clamp(max=0), None):
        model, inputs = SoftmaxRegression(), regression_inputs()
        inputs["labels"] = torch.zeros(3, 5, dtype=torch.int64) if labels is None else labels
        optimizer = Sophia([model.weight])
        estimate_hessian(optimizer, model, inputs, seed=3)
        found.append(optimizer.state[model.weight]["hessian"])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def llm_inputs(model) -> dict[str, torch.Tensor]:
    tokens = torch.randint(0, model.config.vocab_size, (2, 13), generator=torch.Generator().manual_seed(0))
    labels = tokens.clone()
    labels[:, :4] = -100
    return {"input_ids": tokens, "labels": labels, "position_ids": torch.arange(13).expand(2, -1)}


@pytest.mark.parametrize("loss_chunk_size", [0, 8])
def test_gradients_and_random_state_are_left_as_they_were(loss_chunk_size):
    model = small_model(attention_dropout=0.3, loss_chunk_size=loss_chunk_size).train()
    optimizer = Accelerator(cpu=True).prepare(Sophia(model.parameters()))
    inputs = llm_inputs(model)
    model(**inputs).loss.backward()
    missing = model.lm_head.weight
    missing.grad = None
    kept = {name: parameter.grad for name, parameter in model.named_parameters()}
    copies = {name: None if gradient is None else gradient.clone() for name, gradient in kept.items()}
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    random_state = torch.get_rng_state()
    estimate_hessian(optimizer, model, inputs, seed=0)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(old, new) for old, new in zip(weights, model.parameters(), strict=True))
    for name, parameter in model.named_parameters():
        assert parameter.grad is kept[name]
        assert kept[name] is None or torch.equal(parameter.grad, copies[name])
        assert (optimizer.optimizer.state[parameter]["hessian"] > 0).any()


def train(steps: range, model, optimizer: Sophia) -> None:
    inputs = llm_inputs(model)
    for step in steps:
        if step % HESSIAN_INTERVAL == 0:
            estimate_hessian(optimizer, model, inputs, seed=step)
        model(**inputs).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_resuming_is_bit_identical(dtype):
    """In bfloat16 too, where torch would round the loaded averages to the dtype of the weights."""

    def build():
        model = small_model(tie_word_embeddings=True).to(dtype).train()
        return model, Sophia(model.parameters(), lr=1e-2)

    model, optimizer = build()
    start = model.lm_head.weight.detach().clone()
    train(range(14), model, optimizer)
    resumed_model, resumed = build()
    train(range(8), resumed_model, resumed)
    file = io.BytesIO()
    torch.save((resumed_model.state_dict(), resumed.state_dict()), file)
    file.seek(0)
    model_state, optimizer_state = torch.load(file, weights_only=True)
    resumed_model, resumed = build()
    resumed_model.load_state_dict(model_state)
    resumed.load_state_dict(optimizer_state)
    assert {value.dtype for state in resumed.state.values() for value in state.values()} == {torch.float32}
    train(range(8, 14), resumed_model, resumed)
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), resumed_model.parameters(), strict=True))
    assert not torch.equal(model.lm_head.weight, start)


def test_a_loaded_state_is_not_shared():
    parameter = nn.Parameter(torch.ones(3))
    first, second = Sophia([parameter]), Sophia([parameter])
    parameter.grad = torch.ones(3)
    first.step()
    second.load_state_dict(first.state_dict())
    mean = first.state[parameter]["exp_avg"].clone()
    second.step()
    assert torch.equal(first.state[parameter]["exp_avg"], mean)


SHARES = ([0, 1], [2])


def share_of(rank: int) -> dict[str, torch.Tensor]:
    return {name: value[SHARES[rank]] for name, value in regression_inputs().items()}


def _worker(rank: int, path: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{path}/store", rank=rank, world_size=2)
    model = SoftmaxRegression()
    optimizer = Sophia([model.weight], betas=(0.9, 0.0))
    parallel = nn.parallel.DistributedDataParallel(model)
    # As for the first micro-batch of several.
    with parallel.no_sync():
        estimate_hessian(optimizer, parallel, share_of(rank), seed=5)
        assert not parallel.require_backward_grad_sync
    assert parallel.require_backward_grad_sync
    torch.save(optimizer.state[model.weight]["hessian"], f"{path}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_estimate_as_one_with_all_labels(tmp_path):
    """Five labels in one process, four in the other, each drawn from a generator of its own."""
    mp.spawn(_worker, args=(str(tmp_path),), nprocs=2)
    model, loss = SoftmaxRegression(), torch.tensor(0.0)
    for rank in range(2):
        inputs = share_of(rank)
        predictions = model(inputs["rows"]).logits[:, :-1][inputs["labels"][:, 1:] != -100]
        generator = torch.Generator().manual_seed(2 * 5 + rank)
        drawn = torch.multinomial(predictions.detach().softmax(-1), 1, generator=generator).squeeze(1)
        assert len(drawn) == (5, 4)[rank]
        loss = loss + nn.functional.cross_entropy(predictions, drawn, reduction="sum")
    (loss / 9).backward()
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), 9 * model.weight.grad**2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1.0}, "lr must be at least 0.0"),
        ({"betas": (1.0, 0.9)}, r"betas\[0\] must be .* less than 1.0; got 1.0"),
        ({"betas": (0.9, -0.1)}, r"betas\[1\]"),
        ({"weight_decay": -0.1}, "weight_decay"),
        ({"eps": 0.0}, "eps must be above 0"),
        ({"gamma": float("nan")}, "gamma must be above 0; got nan"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Sophia([nn.Parameter(torch.ones(1))], **settings)


def test_bad_estimates_are_refused():
    model, inputs = SoftmaxRegression(), regression_inputs()
    optimizer = Sophia([model.weight])
    with pytest.raises(ValueError, match="batch_size must be at least 1; got 0"):
        optimizer.update_hessian(0)
    with pytest.raises(ValueError, match=r"inputs must have labels.*got \['rows'\]"):
        estimate_hessian(optimizer, model, {"rows": inputs["rows"]}, seed=0)
    with pytest.raises(StrategyError, match="needs the optimizer Sophia; got SGD"):
        estimate_hessian(torch.optim.SGD([model.weight], lr=1.0), model, inputs, seed=0)


def test_a_batch_without_labels_changes_nothing():
    model, inputs = SoftmaxRegression(), regression_inputs()
    inputs["labels"].fill_(-100)
    optimizer = Sophia([model.weight])
    estimate_hessian(optimizer, model, inputs, seed=0)
    assert not optimizer.state
    assert model.weight.grad is None
