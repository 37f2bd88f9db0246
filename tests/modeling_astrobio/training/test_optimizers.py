"""Every optimizer keeps the bytes its closed form says, resumes exactly, and refuses what cannot work."""

import gc
import io
import math
import sys

import bitsandbytes
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from torch.profiler import ProfilerActivity, profile
from torch.testing._internal.distributed.fake_pg import FakeStore

from modeling_astrobio.training.errors import HardwareError, RecipeError, StrategyError
from modeling_astrobio.training.optimizer_in_backward import OptimizerInBackward
from modeling_astrobio.training.optimizer_specs import OPTIMIZERS, measure_state_bytes, state_tensors
from modeling_astrobio.training.optimizers import build_optimizer, embedding_weights
from modeling_astrobio.training.schedules import build_schedule
from modeling_astrobio.training.strategy import OPTIMIZER_NAMES, Strategy


SETTINGS = {"learning_rate": 1e-2, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
# On both sides of 4096 values, in and out of whole blocks of 256, with a scalar, an empty part and an odd number of
# dimensions.
SHAPES = ((), (1,), (37,), (0, 5), (63, 65), (64, 64), (5, 7, 119), (17, 256), (4097,), (300, 341))
EMBEDDING = (79, 256)
QUANTISED_NAMES = {
    "adamw_torchao_8bit": {"exp_avg.codes": torch.uint8, "exp_avg_sq.codes": torch.uint8},
    "adamw_bnb_8bit": {"state1": torch.uint8, "state2": torch.uint8},
    "lion_bnb_8bit": {"state1": torch.uint8},
}
pytestmark = pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")


@pytest.fixture
def eager():
    """Run torchao's step uncompiled: compiling takes seconds for every shape."""
    with torch.compiler.set_stance("force_eager"):
        yield


def build(name: str, parameters, *, embeddings=(), **strategy) -> torch.optim.Optimizer:
    groups = [{"params": list(parameters)[::2]}, {"params": list(parameters)[1::2], "weight_decay": 0.0}]
    return build_optimizer(Strategy(optimizer=name, **strategy), groups, embeddings=embeddings, **SETTINGS)


def with_gradient(shape, dtype: torch.dtype, seed: int = 0, device: str = "cpu") -> nn.Parameter:
    generator = torch.Generator().manual_seed(seed)
    parameter = nn.Parameter(torch.randn(shape, generator=generator).to(device, dtype))
    parameter.grad = torch.randn(shape, generator=generator).to(device, dtype)
    return parameter


def test_every_name_of_a_strategy_has_a_spec():
    assert tuple(OPTIMIZERS) == OPTIMIZER_NAMES


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", OPTIMIZER_NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_state_bytes_after_a_step_are_those_planned(name, dtype):
    spec = OPTIMIZERS[name]
    # Some of bitsandbytes' kernels refuse empty tensors; only FSDP2 makes them, which bitsandbytes is not used with.
    shapes = [shape for shape in SHAPES if spec.library != "bitsandbytes" or math.prod(shape)]
    parameters = [with_gradient(shape, dtype) for shape in shapes]
    embedding = with_gradient(EMBEDDING, dtype)
    optimizer = build(name, [*parameters, embedding], embeddings=[embedding])
    for step in range(2):
        optimizer.step()
        planned = sum(spec.state_bytes(shape, dtype) for shape in shapes)
        planned += spec.state_bytes(EMBEDDING, dtype, is_embedding=True) + spec.shared_state_bytes
        assert measure_state_bytes(optimizer) == planned, f"step {step}"
        for parameter in parameters:
            assert sum(
                value.numel() * value.element_size() for value in own_tensors(optimizer, parameter, spec)
            ) == spec.state_bytes(parameter.shape, dtype)


def own_tensors(optimizer, parameter, spec) -> list[torch.Tensor]:
    """The tensors of one parameter's state; without the code books, where they belong to all."""
    return [
        value
        for owner, name, value in state_tensors(optimizer)
        if owner is parameter and not (spec.library == "bitsandbytes" and name.startswith("qmap"))
    ]


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", OPTIMIZER_NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_state_dtypes_are_those_planned(name, dtype):
    spec = OPTIMIZERS[name]
    large, small, embedding = (with_gradient(shape, dtype) for shape in ((17, 256), (37,), EMBEDDING))
    optimizer = build(name, [large, small, embedding], embeddings=[embedding])
    optimizer.step()
    found = {
        key: {part: value.dtype for owner, part, value in state_tensors(optimizer) if owner is parameter}
        for key, parameter in (("large", large), ("small", small), ("embedding", embedding))
    }
    quantised = QUANTISED_NAMES.get(name.removeprefix("paged_"), {})
    assert spec.quantises((17, 256)) == bool(quantised)
    assert quantised.items() <= found["large"].items()
    plain = {dtype for part, dtype in found["small"].items() if part != "step"}
    assert plain == {spec.state_dtype(dtype)}
    if spec.library == "bitsandbytes":
        assert set(found["embedding"].values()) == {torch.float32}
        assert not spec.quantises(EMBEDDING, is_embedding=True)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", [name for name in OPTIMIZER_NAMES if OPTIMIZERS[name].supports_dtensor])
@pytest.mark.parametrize("rank", [0, 2])
def test_state_bytes_of_a_process_are_those_of_its_part(name, rank):
    """Three processes share rows unevenly: the last has fewer, or none; parts decide what is quantised."""
    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=3)
    try:
        mesh = dist.init_device_mesh("cpu", (3,))
        parameters = []
        for shape in ((64, 256), (7, 1024), (37,), (2, 300), (65, 128)):
            parameter = nn.Parameter(distribute_tensor(torch.randn(shape), mesh, [Shard(0)], src_data_rank=None))
            parameter.grad = distribute_tensor(torch.randn(shape), mesh, [Shard(0)], src_data_rank=None)
            parameters.append(parameter)
        optimizer = build(name, parameters)
        optimizer.step()
        assert all(isinstance(parameter, DTensor) for parameter in parameters)
        parts = [parameter.to_local().shape for parameter in parameters]
        assert [tuple(part) for part in parts] == (
            [(22, 256), (3, 1024), (13,), (1, 300), (22, 128)]
            if rank == 0
            else [(20, 256), (1, 1024), (11,), (0, 300), (21, 128)]
        )
        planned = sum(OPTIMIZERS[name].state_bytes(part, torch.float32) for part in parts)
        assert measure_state_bytes(optimizer) == planned
    finally:
        dist.destroy_process_group()


def peak_bytes(action) -> int:
    """Bytes that torch's CPU allocator holds at most during an action, beyond those before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        action()
    held = highest = 0
    for event in recorded.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            highest = max(highest, held)
    return highest


def check_workspace(name: str, dtype: torch.dtype, is_embedding: bool) -> None:
    parameter = with_gradient((301, 1024), dtype)
    optimizer = build(name, [parameter], embeddings=[parameter] if is_embedding else [])
    for _ in range(3):
        optimizer.step()
    planned = OPTIMIZERS[name].update_workspace_bytes(parameter.shape, dtype, is_embedding=is_embedding, device="cpu")
    # Single numbers, such as bias corrections.
    assert 0 <= peak_bytes(optimizer.step) - planned < 200


@pytest.mark.parametrize("name", [name for name in OPTIMIZER_NAMES if OPTIMIZERS[name].library != "torchao"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("is_embedding", [False, True])
def test_workspace_on_the_cpu_is_the_planned(name, dtype, is_embedding):
    check_workspace(name, dtype, is_embedding)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adamw_torchao", "adamw_torchao_8bit"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_workspace_of_a_compiled_step_is_the_planned(name, dtype):
    check_workspace(name, dtype, False)


def train(model: nn.Module, optimizer, schedule, steps: range) -> None:
    for step in steps:
        inputs = torch.randn(11, 64, generator=torch.Generator().manual_seed(step)).to(model.weight.dtype)
        torch.tanh(model(inputs)).float().square().sum().backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()


def linear(dtype: torch.dtype, name: str, **strategy):
    torch.manual_seed(0)
    model = nn.Linear(64, 68).to(dtype)
    optimizer = build(name, model.parameters(), **strategy)
    return model, optimizer, build_schedule("wsd", optimizer, 9, 2)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", OPTIMIZER_NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_resuming_is_bit_identical(name, dtype):
    check_resuming(name, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adamw_torchao", "adamw_torchao_8bit"])
def test_resuming_a_compiled_step_that_rounds_at_random_is_bit_identical(name):
    check_resuming(name, torch.bfloat16)


def check_resuming(name: str, dtype: torch.dtype) -> None:
    strategy = {"stochastic_rounding": OPTIMIZERS[name].rounds_stochastically and dtype == torch.bfloat16}
    whole = linear(dtype, name, **strategy)
    assert OPTIMIZERS[name].quantises(whole[0].weight.shape) == OPTIMIZERS[name].is_8bit
    start = whole[0].weight.detach().clone()
    train(*whole, range(9))
    first = linear(dtype, name, **strategy)
    train(*first, range(4))
    file = io.BytesIO()
    torch.save(([part.state_dict() for part in first], torch.get_rng_state()), file)
    file.seek(0)
    second = linear(dtype, name, **strategy)
    states, random_state = torch.load(file, weights_only=True)
    for part, state in zip(second, states, strict=True):
        part.load_state_dict(state)
    torch.set_rng_state(random_state)
    train(*second, range(4, 9))
    assert torch.equal(second[0].weight, whole[0].weight)
    assert torch.equal(second[0].bias, whole[0].bias)
    assert not torch.equal(second[0].weight, start)
    assert measure_state_bytes(second[1]) == measure_state_bytes(whole[1])


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("adamw_torchao", 1e-6), ("adamw_torchao_8bit", 2e-2), ("adamw_bnb_8bit", 2e-2), ("paged_adamw_bnb_8bit", 2e-2)],
)
def test_adamw_of_every_library_moves_weights_alike(name, tolerance):
    reference = linear(torch.float32, "adamw")
    start = reference[0].weight.detach().clone()
    train(*reference, range(9))
    model, optimizer, schedule = linear(torch.float32, name)
    train(model, optimizer, schedule, range(9))
    moved, expected = model.weight.detach() - start, reference[0].weight.detach() - start
    assert (moved - expected).norm() < tolerance * expected.norm()
    assert expected.norm() > 0.1


def test_lion_moves_by_the_sign():
    parameter = with_gradient((7, 13), torch.float32)
    before = parameter.detach().clone()
    build("lion", [parameter]).step()
    expected = before * (1 - 1e-2 * 0.1) - 1e-2 * parameter.grad.sign()
    torch.testing.assert_close(parameter.detach(), expected)


@pytest.mark.usefixtures("eager")
def test_stochastic_rounding_keeps_updates_that_rounding_to_nearest_loses():
    """Updates of an eighth of the distance between neighbours: an eighth of the weights move, none without."""
    moved = {}
    for rounds in (False, True):
        torch.manual_seed(0)
        parameter = nn.Parameter(torch.ones(64, 1024, dtype=torch.bfloat16))
        optimizer = build_optimizer(
            Strategy(optimizer="adamw_torchao", stochastic_rounding=rounds),
            [{"params": [parameter]}],
            learning_rate=2**-7 / 8,
            betas=(0.9, 0.95),
            eps=0.0,
            weight_decay=0.0,
        )
        parameter.grad = -torch.ones_like(parameter)
        optimizer.step()
        assert set(parameter.unique().tolist()) <= {1.0, 1.0 + 2**-7}
        moved[rounds] = float((parameter > 1).float().mean())
    assert moved[False] == 0.0
    # Five standard errors of 65,536 draws.
    assert moved[True] == pytest.approx(1 / 8, abs=5 * math.sqrt(1 / 8 * 7 / 8 / 65536))


def test_embeddings_are_32bit_only_where_named_and_leave_no_trace():
    manager = bitsandbytes.optim.GlobalOptimManager.get_instance()
    before = dict(manager.pid2config), list(manager.module_weight_config_triple)
    model = nn.ModuleDict({"embedding": nn.Embedding(64, 65), "head": nn.Linear(65, 64, bias=False)})
    model.head.weight = model.embedding.weight
    assert [id(weight) for weight in embedding_weights(model)] == [id(model.head.weight)]
    for embeddings, dtype in ((embedding_weights(model), torch.float32), ([], torch.uint8)):
        model.embedding.weight.grad = torch.ones_like(model.embedding.weight)
        optimizer = build("adamw_bnb_8bit", model.parameters(), embeddings=embeddings)
        optimizer.step()
        assert optimizer.state[model.embedding.weight]["state1"].dtype == dtype
    assert (manager.pid2config, manager.module_weight_config_triple) == before


def test_frozen_parameters_have_no_state():
    model = nn.Linear(7, 13)
    model.bias.requires_grad_(False)
    optimizer = build("adamw", model.parameters())
    model(torch.ones(7)).sum().backward()
    optimizer.step()
    assert list(optimizer.state) == [model.weight]


def test_groups_keep_their_own_rates_and_are_not_changed():
    parameters = [with_gradient((3,), torch.float32), with_gradient((5,), torch.float32)]
    groups = [{"params": iter(parameters[:1]), "lr": 0.5}, {"params": parameters[1:], "weight_decay": 0.25}]
    optimizer = build_optimizer(Strategy(), groups, **SETTINGS)
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.5, 0.1), (1e-2, 0.25)]
    assert "weight_decay" not in groups[0]


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("name", [name for name in OPTIMIZER_NAMES if name != "sophia"])
def test_an_optimizer_in_the_backward_pass_is_built_around_any(name):
    plain, wrapped = linear(torch.float32, name), linear(torch.float32, name, optimizer_in_backward=True)
    assert isinstance(wrapped[1], OptimizerInBackward)
    for each in (plain, wrapped):
        train(*each, range(3))
    assert torch.equal(plain[0].weight, wrapped[0].weight)
    assert measure_state_bytes(wrapped[1]) == measure_state_bytes(plain[1])


@pytest.mark.parametrize(
    ("strategy", "error", "message"),
    [
        ({"optimizer": "adam"}, RecipeError, "strategy.optimizer must be one of .*got 'adam'"),
        ({"stochastic_rounding": True}, StrategyError, "needs a torchao optimizer; got strategy.optimizer='adamw'"),
        (
            {"optimizer": "adamw_torchao", "stochastic_rounding": True},
            StrategyError,
            "needs weights in bfloat16; got .*float32.*Set model.dtype=bfloat16",
        ),
        (
            {"optimizer": "sophia", "optimizer_in_backward": True},
            StrategyError,
            "optimizer_in_backward does not go with strategy.optimizer='sophia'",
        ),
        (
            {"optimizer_in_backward": True, "optimizer_offload": True},
            StrategyError,
            "optimizer_in_backward does not go with strategy.optimizer_offload",
        ),
        ({"gradient_offload": True}, StrategyError, "gradient_offload needs strategy.optimizer_offload=true"),
        (
            {"optimizer": "lion", "optimizer_offload": True},
            StrategyError,
            "optimizer_offload needs strategy.optimizer='adamw'; got 'lion'",
        ),
    ],
)
def test_what_cannot_work_is_refused_by_name(strategy, error, message):
    with pytest.raises(error, match=message):
        build_optimizer(Strategy(**strategy), [{"params": [with_gradient((3,), torch.float32)]}], **SETTINGS)


def test_nothing_to_train_is_refused():
    frozen = nn.Linear(3, 2).requires_grad_(False)
    with pytest.raises(RecipeError, match="at least one parameter that is trained; got none"):
        build("adamw", frozen.parameters())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to offload from")
def test_offload_without_a_gpu_is_refused():
    with pytest.raises(HardwareError, match="needs a CUDA device to offload from"):
        build("adamw", [with_gradient((3,), torch.float32)], optimizer_offload=True)


@pytest.mark.parametrize("name", [name for name in OPTIMIZER_NAMES if not OPTIMIZERS[name].supports_dtensor])
def test_sharded_parameters_are_refused_where_they_would_fail(name):
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        mesh = dist.init_device_mesh("cpu", (2,))
        parameter = nn.Parameter(distribute_tensor(torch.ones(4, 3), mesh, [Shard(0)], src_data_rank=None))
        with pytest.raises(StrategyError, match=f"'{name}' cannot update the DTensor.*adamw_torchao_8bit"):
            build(name, [parameter])
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize(
    ("name", "package", "module"),
    [
        ("adamw_torchao_8bit", "torchao", "torchao.optim"),
        ("lion_bnb_8bit", "bitsandbytes", "bitsandbytes.optim"),
    ],
)
def test_a_missing_package_is_named_with_what_installs_it(monkeypatch, name, package, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(StrategyError, match=rf"'{package}'.*pip install 'modeling_astrobio\[gpu\]'"):
        build(name, [with_gradient((3,), torch.float32)])


def test_a_missing_compiler_is_named_before_the_first_step(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(HardwareError, match=r"needs 'no-such-compiler', which is absent\. Install a C\+\+ compiler"):
        build("adamw_torchao", [with_gradient((3,), torch.float32)])
    build("adamw", [with_gradient((3,), torch.float32)])
    # The remedy that the message names.
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    parameter = with_gradient((3,), torch.float32)
    before = parameter.detach().clone()
    build("adamw_torchao", [parameter]).step()
    assert not torch.equal(parameter, before)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="DeepSpeed is for Linux")
def test_zero3_offload_has_deepspeeds_adam():
    """DeepSpeed compiles it on first use: minutes."""
    pytest.importorskip("deepspeed", reason="needs deepspeed")
    plain, ours = with_gradient((37, 119), torch.float32), with_gradient((37, 119), torch.float32)
    build("adamw", [plain]).step()
    optimizer = build("adamw", [ours], sharding="zero3", optimizer_offload=True)
    assert type(optimizer).__name__ == "DeepSpeedCPUAdam"
    optimizer.step()
    torch.testing.assert_close(ours.detach(), plain.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("name", OPTIMIZER_NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_allocated_bytes_on_a_gpu_are_those_planned(name, dtype):
    spec, shape = OPTIMIZERS[name], (301, 1024)
    parameter = with_gradient(shape, dtype, device="cuda")
    optimizer = build(name, [parameter])
    gc.collect()
    before = torch.cuda.memory_allocated()
    optimizer.step()
    kept = torch.cuda.memory_allocated() - before
    planned = spec.state_bytes(shape, dtype) + spec.shared_state_bytes - spec.paged_bytes(shape, dtype)
    # Each tensor is rounded up to 512 bytes.
    assert 0 <= kept - planned < 8 * 512 + 16
    optimizer.step()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    optimizer.step()
    workspace = torch.cuda.max_memory_allocated() - before
    bound = spec.update_workspace_bytes(shape, dtype, device="cuda")
    assert workspace <= bound + 8 * 512
    if spec.library != "torchao":
        assert workspace >= bound


@pytest.mark.gpu
@pytest.mark.parametrize("gradient_offload", [False, True])
def test_offloaded_adamw_equals_adamw_through_a_schedule_and_a_resume(gradient_offload):
    def make(**strategy):
        torch.manual_seed(0)
        # The bias is too small to be offloaded.
        model = nn.Linear(64, 68).cuda()
        optimizer = build("adamw", model.parameters(), **strategy)
        # As Accelerate does before it makes the schedule.
        optimizer.load_state_dict(optimizer.state_dict())
        return model, optimizer, build_schedule("cosine", optimizer, 9, 2)

    def go(model, optimizer, schedule, steps):
        for step in steps:
            inputs = torch.randn(11, 64, generator=torch.Generator().manual_seed(step)).cuda()
            torch.tanh(model(inputs)).square().sum().backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()

    plain = make()
    go(*plain, range(9))
    offload = {"optimizer_offload": True, "gradient_offload": gradient_offload}
    first = make(**offload)
    go(*first, range(4))
    states = [part.state_dict() for part in first]
    second = make(**offload)
    for part, state in zip(second, states, strict=True):
        part.load_state_dict(state)
    go(*second, range(4, 9))
    # The host adds in another order than the GPU.
    torch.testing.assert_close(second[0].weight, plain[0].weight, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(second[0].bias, plain[0].bias, rtol=1e-5, atol=1e-6)
    assert {tensor.device.type for _, _, tensor in state_tensors(second[1])} == {"cpu", "cuda"}


@pytest.mark.parametrize("name", ["adamw_torchao_8bit", "adamw_bnb_8bit"])
def test_rows_of_tokens_that_have_stopped_coming_stay_where_they_were(name):
    """The 8-bit average of squares of such a row vanishes before that of its gradient."""
    torch.manual_seed(0)

    def farthest(name: str) -> float:
        torch.manual_seed(0)
        weight = nn.Parameter(0.02 * torch.randn(64, 128))
        start = weight.detach().clone()
        optimizer = build(name, [weight], embeddings=[weight])
        for step in range(60):
            # Row 0 comes in the first steps only, and row 1, in the same block of 256, with larger gradients in all.
            weight.grad = torch.randn(64, 128)
            weight.grad[0] = 1e-3 * torch.randn(128) if step < 3 else 0
            optimizer.step()
        return (weight.detach() - start)[0].abs().max().item()

    with torch.compiler.set_stance("force_eager"):
        # Quantised, it would go 3,000 far with torchao.
        assert farthest(name) == pytest.approx(farthest("adamw"), rel=0.01)
