"""What a strategy puts into a model's layers computes what the plain model computes, and leaves everything else alone.

Tolerances: compiled layers sum in another order, 1e-10 in float64. Float8 rounds weights and activations by up to 6 %
(e4m3) and gradients by up to 12 % (e5m2), some 8 % of a product in the mean. Eight products in a row, the backward
pass of two layers, leave 23 % and a cosine of 0.97 to the exact gradient; the softmax, which takes differences, makes
that 0.94 for queries. The bound is 0.93; a wrong product would leave about 0.
"""

import copy
import sys

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from training_builders import small_model
from transformers import LlamaConfig, LlamaForCausalLM, TrainingArguments
from transformers.utils import is_liger_kernel_available

from modeling_astrobio import AstroLLMForCausalLM
from modeling_astrobio.gate_swiglu import swiglu_naive
from modeling_astrobio.modeling_astro_llm import AstroLLMRMSNorm, rotate
from modeling_astrobio.norm_rms import rms_norm_naive
from modeling_astrobio.training.activations import apply_activation_policy
from modeling_astrobio.training.adapters import add_lora, lora_config
from modeling_astrobio.training.errors import HardwareError, StrategyError
from modeling_astrobio.training.kernels import apply_compile, apply_fp8, apply_strategy, float8_linear_names
from modeling_astrobio.training.liger import apply_liger, use_kernels
from modeling_astrobio.training.strategy import Strategy
from modeling_astrobio.training.trainer import AstroTrainer


CPU = torch.device("cpu")
EXACT = {"rtol": 1e-10, "atol": 1e-12}
PROJECTIONS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
FEED_FORWARD = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


@pytest.fixture(autouse=True)
def fresh_compiler():
    yield
    torch.compiler.reset()


def step(model: nn.Module, device: torch.device = CPU, **inputs) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss and the gradients of two rows."""
    model.zero_grad(set_to_none=True)
    ids = torch.randint(3, 97, (2, 16), generator=torch.Generator().manual_seed(0)).to(device)
    loss = model(input_ids=ids, labels=ids, use_cache=False, **inputs).loss
    loss.backward()
    return loss.detach(), {name: value.grad for name, value in model.named_parameters() if value.requires_grad}


def assert_close_steps(found, expected, **tolerance) -> None:
    torch.testing.assert_close(found[0], expected[0], **tolerance)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        torch.testing.assert_close(found[1][name], gradient, msg=lambda text, n=name: f"{n}: {text}", **tolerance)


def float8_model(**overrides) -> AstroLLMForCausalLM:
    """Every size of a linear layer a multiple of 16, as float8 products need."""
    return small_model(**{"intermediate_size": 112, "num_hidden_layers": 2, **overrides}).to(torch.bfloat16).train()


def emulate_float8(model: nn.Module) -> None:
    """As `apply_fp8`, with the same roundings in bfloat16 products, which any device has."""
    float8 = pytest.importorskip("torchao.float8")
    names = set(float8_linear_names(model))
    config = float8.Float8LinearConfig(emulate=True)
    float8.convert_to_float8_training(model, module_filter_fn=lambda _, name: name in names, config=config)


# torch.compile


@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
def test_compiled_layers_equal_eager_ones(checkpointing):
    model = small_model(num_hidden_layers=5).double().train()
    positions = torch.tensor([[*range(7), *range(9)], [*range(13), *range(3)]])
    expected = step(model, position_ids=positions)
    graphs = []

    def count_graphs(graph, inputs):
        graphs.append(graph)
        return graph

    apply_activation_policy(model, Strategy(activation_checkpointing=checkpointing))
    apply_compile(model, backend=count_graphs, fullgraph=True)
    assert_close_steps(step(model, position_ids=positions), expected, **EXACT)
    # One for all five layers.
    assert len(graphs) == 1


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
def test_generated_code_equals_eager_layers(checkpointing):
    model = small_model(attention_dropout=0.0).double().train()
    expected = step(model)
    apply_strategy(model, Strategy(activation_checkpointing=checkpointing, compile=True), CPU)
    assert_close_steps(step(model), expected, **EXACT)


def test_compiled_layers_with_an_adapter():
    model = add_lora(small_model(), lora_config(r=4)).double().train()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    expected = step(model)
    apply_compile(model, backend="eager", fullgraph=True)
    assert_close_steps(step(model), expected, **EXACT)


def test_compiled_layers_leave_no_trace_in_what_is_saved(tmp_path):
    model = small_model()
    names = list(model.state_dict())
    apply_compile(model, backend="eager")
    assert list(model.state_dict()) == names
    step(model.train())
    model.save_pretrained(tmp_path)
    loaded = AstroLLMForCausalLM.from_pretrained(tmp_path)
    for (name, ours), theirs in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    twin = copy.deepcopy(model)
    twin.load_state_dict(model.state_dict(), strict=True)
    assert twin.model.layers[0]._compiled_call_impl is None


def test_compiled_layers_run_eagerly_where_asked_to():
    # For what a compiler would have to be run anew at each call, such as generation.
    model = small_model()
    graphs = []
    apply_compile(model, backend=lambda graph, inputs: graphs.append(graph) or graph)
    ids = torch.tensor([[5, 7, 11]])
    with torch.compiler.set_stance("force_eager"):
        found = model.generate(ids, max_new_tokens=4, do_sample=False)
    assert not graphs
    assert torch.equal(found, small_model().generate(ids, max_new_tokens=4, do_sample=False))
    model(ids)
    assert graphs


@pytest.mark.parametrize(("checkpointing", "sharded_first"), [("none", True), ("selective", False), ("full", False)])
def test_compiled_layers_under_fsdp2(checkpointing, sharded_first):
    model = small_model().double().train()
    expected = step(copy.deepcopy(model))
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        strategy = Strategy(activation_checkpointing=checkpointing)
        for turn in (False, True):
            if turn == sharded_first:
                apply_activation_policy(model, strategy)
                apply_compile(model, backend="aot_eager")
            else:
                for layer in model.model.layers:
                    fully_shard(layer)
                fully_shard(model)
        loss, found = step(model)
        assert all(isinstance(value, DTensor) for value in found.values())
        assert_close_steps((loss, {name: value.full_tensor() for name, value in found.items()}), expected, **EXACT)
    finally:
        dist.destroy_process_group()


def test_models_without_layers_are_not_compiled():
    with pytest.raises(StrategyError, match=r"strategy.compile needs .* got Linear, which has none"):
        apply_compile(nn.Linear(3, 5))


def test_a_run_of_compiled_layers_writes_the_weights_of_an_eager_run(tmp_path):
    rows = torch.randint(3, 97, (12, 16), generator=torch.Generator().manual_seed(1))
    data = [{"input_ids": row, "labels": row} for row in rows]
    written = []
    for name in ("eager", "compiled"):
        model = small_model().double()
        if name == "compiled":
            apply_activation_policy(model, Strategy(activation_checkpointing="selective"))
            apply_compile(model, backend="aot_eager")
        arguments = TrainingArguments(
            output_dir=str(tmp_path / name),
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            max_steps=3,
            save_steps=3,
            report_to="none",
            use_cpu=True,
        )
        AstroTrainer(model=model, args=arguments, train_dataset=data).train()
        written.append(AstroLLMForCausalLM.from_pretrained(tmp_path / name / "checkpoint-3").state_dict())
    start = small_model().double().state_dict()
    for name, weight in written[0].items():
        assert not torch.equal(weight, start[name])
        # Adam divides by gradients that may be near 0, which magnifies roundings.
        torch.testing.assert_close(written[1][name], weight, rtol=1e-7, atol=1e-9)


# float8


def test_only_linear_layers_of_the_decoder_become_float8():
    names = float8_linear_names(float8_model(tie_word_embeddings=False))
    assert names == [f"model.layers.{i}.{name}" for i in range(2) for name in (*PROJECTIONS, *FEED_FORWARD)]
    model = float8_model()
    kept = model.state_dict()
    emulate_float8(model)
    classes = {name: type(part).__name__ for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    assert classes == {**dict.fromkeys(names, "Float8Linear"), "lm_head": "ChunkedLossHead"}
    assert list(model.state_dict()) == list(kept)
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    assert all(value.dtype == torch.bfloat16 for value in model.parameters())


@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
def test_float8_products_are_near_bfloat16_ones(checkpointing):
    model = float8_model()
    exact = step(copy.deepcopy(model).double())
    plain = step(copy.deepcopy(model))
    emulate_float8(model)
    apply_activation_policy(model, Strategy(activation_checkpointing=checkpointing))
    loss, found = step(model)
    assert not torch.equal(loss, plain[0])
    assert (loss - exact[0]).abs() < 0.02 * exact[0]
    for name, gradient in exact[1].items():
        direction = nn.functional.cosine_similarity(found[name].double().flatten(), gradient.flatten(), dim=0)
        assert direction > 0.93, (name, direction)


@pytest.mark.parametrize("checkpointing", ["selective", "full"])
def test_checkpointing_keeps_gradients_of_float8_products(checkpointing):
    model = float8_model()
    emulate_float8(model)
    expected = step(model)
    apply_activation_policy(model, Strategy(activation_checkpointing=checkpointing))
    assert_close_steps(step(model), expected, rtol=0, atol=0)


def test_float8_refuses_what_it_cannot_multiply():
    with pytest.raises(StrategyError, match=r"multiples of 16; got model.layers.0.mlp.gate_proj of 48 to 104"):
        float8_linear_names(small_model())
    with pytest.raises(StrategyError, match=r"needs weights that are trained.*q_proj.base_layer, which is frozen"):
        float8_linear_names(add_lora(float8_model(), lora_config(r=16)))
    with pytest.raises(StrategyError, match=r"needs .* got Linear, which has none"):
        float8_linear_names(nn.Linear(16, 16))
    quantised = float8_model()
    for layer in quantised.model.layers:
        for part in layer.modules():
            # What a quantised layer is: a subclass.
            part.__class__ = type("Linear4bit", (nn.Linear,), {}) if type(part) is nn.Linear else part.__class__
    with pytest.raises(StrategyError, match=r"converts layers of the class torch.nn.Linear; got AstroLLMForCausalLM"):
        float8_linear_names(quantised)


def test_float8_needs_a_gpu_that_has_it():
    with pytest.raises(HardwareError, match=r"compute capability 8.9 or higher .*; got the device 'cpu'"):
        apply_fp8(float8_model(), CPU)
    with pytest.raises(HardwareError, match=r"strategy.fp8 needs a GPU"):
        apply_strategy(float8_model(), Strategy(fp8=True), CPU)


# Liger


def naive_rotation(query, key, cos, sin):
    return tuple(rotate(x, cos.unsqueeze(1), sin.unsqueeze(1)) for x in (query, key))


@pytest.mark.parametrize(
    ("overrides", "attention"),
    [
        ({}, "sdpa"),
        ({"use_qk_norm": True, "attention_bias": True, "mlp_bias": True}, "eager"),
        ({"layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "sliding_window": 5}, "sdpa"),
        ({"hidden_act": "gelu"}, "sdpa"),
    ],
    ids=["plain", "biases", "sliding", "gelu"],
)
def test_layers_with_other_functions_compute_the_same(overrides, attention):
    model = small_model(**overrides).double().train()
    model.set_attn_implementation(attention)
    expected = step(model)
    calls = {"norm": 0, "rotation": 0, "gate": 0}

    def counted(name, function):
        def call(*args):
            calls[name] += 1
            return function(*args)

        return call

    use_kernels(
        model,
        counted("norm", rms_norm_naive),
        counted("rotation", naive_rotation),
        counted("gate", swiglu_naive),
    )
    assert_close_steps(step(model), expected, **EXACT)
    assert calls["norm"] == sum(isinstance(part, AstroLLMRMSNorm) for part in model.modules())
    assert calls["rotation"] == 3
    assert calls["gate"] == (0 if "hidden_act" in overrides else 3)


def test_other_functions_serve_generation_and_an_adapter():
    ids = torch.tensor([[5, 7, 11], [13, 17, 19]])
    expected = small_model().generate(ids, max_new_tokens=5, do_sample=False)
    model = add_lora(small_model(), lora_config(r=4)).eval()
    use_kernels(model, rms_norm_naive, naive_rotation, swiglu_naive)
    assert torch.equal(model.generate(input_ids=ids, max_new_tokens=5, do_sample=False), expected)


def test_other_functions_stay_in_their_model():
    def refuse(*args):
        raise AssertionError("called from another model")

    model, other = small_model(), small_model()
    names = list(model.state_dict())
    use_kernels(model, refuse, refuse, refuse)
    step(other.train())
    with pytest.raises(AssertionError, match="another model"):
        step(model)
    assert list(model.state_dict()) == names


def test_liger_needs_a_gpu_and_is_not_imported_without_one():
    with pytest.raises(
        HardwareError, match=r"strategy.liger needs a CUDA device; got 'cpu'. Set strategy.liger=false"
    ):
        apply_liger(small_model(), CPU)
    with pytest.raises(HardwareError, match=r"strategy.liger needs a CUDA device"):
        apply_strategy(small_model(), Strategy(liger=True), CPU)
    assert not any(name.partition(".")[0] == "liger_kernel" for name in sys.modules)


@pytest.mark.skipif(is_liger_kernel_available(), reason="liger-kernel is installed")
def test_liger_must_be_installed():
    with pytest.raises(HardwareError, match=r"needs liger-kernel .*, which is not installed. pip install"):
        apply_liger(small_model(), torch.device("cuda"))


def test_liger_is_for_astro_llm():
    llama = LlamaForCausalLM(
        LlamaConfig(vocab_size=97, hidden_size=42, intermediate_size=74, num_hidden_layers=1, num_attention_heads=7)
    )
    with pytest.raises(StrategyError, match="written for AstroLLM; got LlamaForCausalLM"):
        use_kernels(llama, rms_norm_naive, naive_rotation, swiglu_naive)


# All together


def test_a_strategy_is_applied_whole():
    model = small_model().double().train()
    expected = step(model)
    apply_strategy(model, Strategy(), CPU)
    assert not model.is_activation_checkpointing
    assert model.model.layers[0]._compiled_call_impl is None
    apply_strategy(model, Strategy(activation_checkpointing="full", compile=True), CPU)
    assert model.is_activation_checkpointing
    assert all(layer._compiled_call_impl is not None for layer in model.model.layers)
    assert model._compiled_call_impl is None
    with torch.compiler.set_stance("force_eager"):
        assert_close_steps(step(model), expected, **EXACT)


# On a GPU


def cuda_model(**overrides) -> AstroLLMForCausalLM:
    """Heads of 32, sizes that float8 products take, and weights so small that no softmax is sharp."""
    sizes = {"hidden_size": 192, "head_dim": 32, "intermediate_size": 208, "initializer_range": 0.05}
    return small_model(**{**sizes, **overrides}).cuda().train()


@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_liger_is_as_near_float64_as_the_plain_model(dtype, qk_norm, checkpointing):
    pytest.importorskip("liger_kernel")
    device = torch.device("cuda")
    model = cuda_model(use_qk_norm=qk_norm).to(dtype)
    exact = step(copy.deepcopy(model).double(), device)
    plain = step(copy.deepcopy(model), device)
    apply_strategy(model, Strategy(liger=True, activation_checkpointing=checkpointing), device)
    loss, found = step(model, device)
    torch.testing.assert_close(loss, plain[0], rtol=1e-5 if dtype == torch.float32 else 1e-2, atol=0)
    for name, gradient in exact[1].items():
        error, plain_error = ((gradients[name] - gradient).norm() for gradients in (found, plain[1]))
        # Both round as often, but not the same numbers.
        assert error < 2 * plain_error + 1e-5 * gradient.norm(), name


@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_float8_on_a_gpu_that_has_it(compile, checkpointing):
    pytest.importorskip("torchao")
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("no float8 products before compute capability 8.9")
    device = torch.device("cuda")
    model = cuda_model(num_hidden_layers=2).to(torch.bfloat16)
    exact = step(copy.deepcopy(model).double(), device)
    apply_strategy(model, Strategy(fp8=True, compile=compile, activation_checkpointing=checkpointing), device)
    loss, found = step(model, device)
    assert (loss - exact[0]).abs() < 0.02 * exact[0]
    for name, gradient in exact[1].items():
        direction = nn.functional.cosine_similarity(found[name].double().flatten(), gradient.flatten(), dim=0)
        assert direction > 0.93, (name, direction)
