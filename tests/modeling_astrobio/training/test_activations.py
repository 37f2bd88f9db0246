"""Checkpointing changes what a step keeps and what it computes again, never its gradients.

A layer's second pass computes the same numbers, so gradients are equal to the last bit in every precision.
"""

import copy

import pytest
import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import CheckpointPolicy, SelectiveCheckpointContext
from torch.utils.flop_counter import FlopCounterMode
from training_builders import small_model
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedConfig, PreTrainedModel

from modeling_astrobio.training.activations import apply_activation_policy, keep_costly_results
from modeling_astrobio.training.adapters import LORA_TARGET_MODULES
from modeling_astrobio.training.errors import HardwareError, StrategyError
from modeling_astrobio.training.strategy import Strategy


POLICIES = {
    "selective": Strategy(activation_checkpointing="selective"),
    "full": Strategy(activation_checkpointing="full"),
}
OFFLOADED = Strategy(activation_checkpointing="full", activation_offload=True)
LAYERS, LENGTH = 3, 37


def tokens(rows: int = 2, length: int = LENGTH) -> torch.Tensor:
    return torch.randint(3, 97, (rows, length), generator=torch.Generator().manual_seed(0))


def gradients(model: nn.Module, **inputs) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss and the gradients of a step; the same random numbers at every call."""
    model.zero_grad(set_to_none=True)
    torch.manual_seed(0)
    ids = tokens()
    loss = model(input_ids=ids, labels=ids, use_cache=False, **inputs).loss
    loss.backward()
    return loss.detach(), {name: value.grad for name, value in model.named_parameters() if value.requires_grad}


def assert_equal_steps(found, expected) -> None:
    assert torch.equal(found[0], expected[0])
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        assert gradient.abs().max() > 0, name
        assert torch.equal(found[1][name], gradient), name


@pytest.fixture(scope="module")
def one_rank():
    """A process group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("overrides", "attention"),
    [
        ({}, "sdpa"),
        ({"loss_chunk_size": 0, "use_qk_norm": True}, "sdpa"),
        ({"attention_dropout": 0.3, "tie_word_embeddings": True}, "sdpa"),
        ({"attention_dropout": 0.3, "hidden_act": "gelu"}, "eager"),
        ({"layer_types": ["sliding_attention"] * LAYERS, "sliding_window": 5, "attention_bias": True}, "sdpa"),
    ],
    ids=["plain", "logits", "dropout", "eager_dropout", "sliding"],
)
def test_gradients_are_those_without_checkpointing(policy, dtype, overrides, attention):
    model = small_model(**overrides).to(dtype).train()
    model.set_attn_implementation(attention)
    expected = gradients(model)
    apply_activation_policy(model, POLICIES[policy])
    assert model.is_activation_checkpointing
    assert_equal_steps(gradients(model), expected)


@pytest.mark.parametrize("policy", POLICIES)
def test_packed_rows_keep_their_gradients(policy):
    model = small_model().train()
    positions = torch.tensor([[*range(20), *range(17)], [*range(5), *range(32)]])
    expected = gradients(model, position_ids=positions)
    assert not torch.equal(expected[0], gradients(model)[0])
    apply_activation_policy(model, POLICIES[policy])
    assert_equal_steps(gradients(model, position_ids=positions), expected)


@pytest.mark.parametrize("policy", POLICIES)
def test_adapters_with_dropout_keep_their_gradients(policy):
    lora = LoraConfig(r=4, lora_dropout=0.4, target_modules=[*LORA_TARGET_MODULES, "lm_head"], task_type="CAUSAL_LM")
    model = get_peft_model(small_model(attention_dropout=0.3), lora).train()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    expected = gradients(model)
    apply_activation_policy(model, POLICIES[policy])
    assert model.get_base_model().is_activation_checkpointing
    assert_equal_steps(gradients(model), expected)
    assert all(value.grad is None for name, value in model.named_parameters() if "lora" not in name)


@pytest.mark.parametrize("policy", POLICIES)
def test_mixed_precision_keeps_its_gradients(policy):
    model = small_model().train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = gradients(model)
        apply_activation_policy(model, POLICIES[policy])
        assert_equal_steps(gradients(model), expected)


@pytest.mark.parametrize("policy", POLICIES)
def test_frozen_parts_and_passes_without_gradients(policy):
    model = small_model().train()
    for part in (model.model.embed_tokens, model.model.layers[0], model.model.layers[2].mlp):
        part.requires_grad_(False)
    expected = gradients(model)
    with torch.no_grad():
        logits = model(input_ids=tokens(), use_cache=False).logits
    apply_activation_policy(model, POLICIES[policy])
    assert_equal_steps(gradients(model), expected)
    with torch.no_grad():
        assert torch.equal(model(input_ids=tokens(), use_cache=False).logits, logits)
    twin = copy.deepcopy(model)
    twin.load_state_dict(model.state_dict(), strict=True)
    assert_equal_steps(gradients(twin), expected)


@pytest.mark.parametrize("policy", POLICIES)
def test_accumulation_adds_up(policy):
    model = small_model().train()
    other = copy.deepcopy(model)
    apply_activation_policy(other, POLICIES[policy])
    for current in (model, other):
        for rows in (1, 3):
            ids = tokens(rows)
            current(input_ids=ids, labels=ids, num_items_in_batch=100, use_cache=False).loss.backward()
    for ours, theirs in zip(other.parameters(), model.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize("policy", POLICIES)
def test_sharded_layers_keep_their_gradients(one_rank, policy):
    model = small_model().train()
    expected = gradients(copy.deepcopy(model))
    apply_activation_policy(model, POLICIES[policy])
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model)
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    loss, found = gradients(model)
    assert_equal_steps((loss, {name: value.full_tensor() for name, value in found.items()}), expected)


@pytest.mark.parametrize("policy", POLICIES)
def test_gradients_of_a_compiled_layer_are_those_without_checkpointing(policy):
    model = small_model().double().train()
    expected = gradients(model)
    apply_activation_policy(model, POLICIES[policy])
    for layer in model.model.layers:
        layer.compile(backend="aot_eager", fullgraph=True)
    loss, found = gradients(model)
    torch.testing.assert_close(loss, expected[0], rtol=1e-10, atol=0)
    for name, gradient in expected[1].items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-10, atol=1e-12)
    torch.compiler.reset()


def flops_of_the_backward_pass(model: nn.Module) -> int:
    ids = tokens()
    loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    with FlopCounterMode(display=False) as counter:
        loss.backward()
    return counter.get_total_flops()


def test_products_computed_again():
    # Attention on the CPU is not counted, only products.
    model = small_model(loss_chunk_size=0).train()
    plain = flops_of_the_backward_pass(model)
    apply_activation_policy(model, POLICIES["selective"])
    assert flops_of_the_backward_pass(model) == plain
    apply_activation_policy(model, POLICIES["full"])
    sizes = {
        name: module.weight.numel()
        for name, module in model.model.layers.named_modules()
        if isinstance(module, nn.Linear)
    }
    # No backward pass asks for what the last product of a layer gave.
    again = sum(size for name, size in sizes.items() if not name.endswith("down_proj"))
    assert len(sizes) == 7 * LAYERS
    assert flops_of_the_backward_pass(model) == plain + 2 * again * tokens().numel()


def kept_bytes(model: nn.Module) -> int:
    """Bytes that the layers' forward pass leaves behind for the backward pass, on fake tensors."""
    tracker = MemTracker()
    tracker.track_external(model)
    with tracker:
        hidden = model.model(input_ids=torch.zeros(1, 64, dtype=torch.long), use_cache=False).last_hidden_state
        total = sum(sizes["Total"] for sizes in tracker.get_tracker_snapshot("current").values())
    del hidden
    return total


def test_bytes_kept_on_fake_tensors():
    kept = {}
    for name in ("none", "selective", "full"):
        sizes = []
        for layers in (2, 3):
            with FakeTensorMode():
                model = small_model(num_hidden_layers=layers).train()
                apply_activation_policy(model, Strategy(activation_checkpointing=name))
                parameters = sum(value.numel() * value.element_size() for value in model.parameters())
                sizes.append(kept_bytes(model) - parameters)
        kept[name] = sizes[1] - sizes[0]
    hidden, key_value, inner = 48, 16, 104
    row = 64 * 4
    assert kept["full"] == row * hidden
    # The layer's input, queries, keys, values, attention with its normaliser for each of 6 heads, its projection, and
    # the two wide products.
    assert kept["selective"] == row * (hidden + (hidden + 2 * key_value) + (hidden + 6) + hidden + 2 * inner)
    assert kept["none"] > 1.5 * kept["selective"]


def choice(operator, *args, width: int = 48, **kwargs) -> CheckpointPolicy:
    return keep_costly_results(width, SelectiveCheckpointContext(is_recompute=False), operator, *args, **kwargs)


@pytest.mark.parametrize(
    ("shared", "kept"), [(48, True), (47, True), (7, True), (6, False), (4, False), (49, False), (104, False)]
)
def test_products_that_are_kept_share_an_eighth_of_the_width_to_all_of_it(shared, kept):
    expected = CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE
    left, right, bias = torch.ones(5, shared), torch.ones(shared, 3), torch.ones(3)
    aten = torch.ops.aten
    assert choice(aten.mm.default, left, right) is expected
    assert choice(aten.addmm.default, bias, left, right) is expected
    assert choice(aten.bmm.default, left[None], right[None]) is expected
    assert choice(aten._scaled_mm.default, left, right, torch.ones(1), torch.ones(1)) is expected


def test_products_of_four_bit_weights_are_kept_too():
    bitsandbytes = pytest.importorskip("bitsandbytes")
    assert bitsandbytes.__version__
    product = torch.ops.bitsandbytes.gemm_4bit.default
    assert choice(product, torch.ones(5, 48)) is CheckpointPolicy.MUST_SAVE
    assert choice(product, torch.ones(5, 104)) is CheckpointPolicy.PREFER_RECOMPUTE


def test_attention_is_kept_unless_it_draws_dropout():
    # The mask of a later dropout would be another one if the numbers before it were not drawn again.
    aten = torch.ops.aten
    query = torch.ones(1, 2, 5, 8)
    for operator in (
        aten._scaled_dot_product_flash_attention.default,
        aten._scaled_dot_product_flash_attention_for_cpu.default,
        aten._scaled_dot_product_efficient_attention.default,
        aten._scaled_dot_product_cudnn_attention.default,
    ):
        bias = [] if "flash" in str(operator) else [None, True]
        assert choice(operator, query, query, query, *bias) is CheckpointPolicy.MUST_SAVE
        assert choice(operator, query, query, query, *bias, 0.0, True) is CheckpointPolicy.MUST_SAVE
        assert choice(operator, query, query, query, *bias, 0.1, True) is CheckpointPolicy.PREFER_RECOMPUTE
        assert choice(operator, query, query, query, *bias, dropout_p=0.1) is CheckpointPolicy.PREFER_RECOMPUTE
    assert choice(aten.silu.default, query) is CheckpointPolicy.PREFER_RECOMPUTE


@pytest.mark.parametrize("policy", POLICIES)
def test_other_transformers_models_keep_their_gradients(policy):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=97, hidden_size=42, intermediate_size=74, num_hidden_layers=2, num_attention_heads=7
    )
    model = LlamaForCausalLM(config).train()
    expected = gradients(model)
    apply_activation_policy(model, POLICIES[policy])
    assert_equal_steps(gradients(model), expected)


def test_a_later_policy_takes_the_place_of_an_earlier_one():
    model = small_model(loss_chunk_size=0).train()
    plain = flops_of_the_backward_pass(model)
    apply_activation_policy(model, POLICIES["full"])
    assert flops_of_the_backward_pass(model) > plain
    apply_activation_policy(model, POLICIES["selective"])
    assert flops_of_the_backward_pass(model) == plain


def test_nothing_is_checkpointed_unless_asked_for():
    model = small_model().train()
    apply_activation_policy(model, Strategy())
    assert not model.is_activation_checkpointing
    apply_activation_policy(nn.Linear(3, 5), Strategy())


class WithoutWidth(PreTrainedConfig):
    model_type = "without_width"


class WithoutLayers(PreTrainedModel):
    config_class = WithoutWidth

    def __init__(self, config):
        super().__init__(config)
        self.linear = nn.Linear(3, 5)
        self.post_init()


class WithoutWidthModel(WithoutLayers):
    supports_gradient_checkpointing = True


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("model", [nn.Linear(3, 5), WithoutLayers(WithoutWidth())], ids=["module", "transformers"])
def test_models_without_checkpointing_are_refused(model, policy):
    with pytest.raises(
        StrategyError, match=r"supports_gradient_checkpointing; got .*Set activation_checkpointing=none"
    ):
        apply_activation_policy(model, POLICIES[policy])


def test_selective_checkpointing_needs_a_width():
    with pytest.raises(StrategyError, match=r"config.hidden_size; got None for WithoutWidthModel"):
        apply_activation_policy(WithoutWidthModel(WithoutWidth()), POLICIES["selective"])


def test_an_unknown_policy_is_refused():
    with pytest.raises(StrategyError, match=r"must be one of .*'full'\); got 'half'"):
        apply_activation_policy(small_model(), Strategy(activation_checkpointing="half"))


@pytest.mark.parametrize("policy", ["none", "selective"])
def test_offload_without_full_checkpointing_is_refused(policy):
    with pytest.raises(StrategyError, match=rf"needs strategy.activation_checkpointing='full'; got '{policy}'"):
        apply_activation_policy(small_model(), Strategy(activation_checkpointing=policy, activation_offload=True))


@pytest.mark.skipif(torch.accelerator.is_available(), reason="has a GPU to offload from")
def test_offload_without_a_gpu_is_refused():
    with pytest.raises(HardwareError, match="needs a GPU; torch sees none"):
        apply_activation_policy(small_model(), OFFLOADED)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_offloaded_inputs_leave_the_gpu():
    model = small_model(num_hidden_layers=8).cuda().train()
    ids = tokens(4).cuda()

    def step() -> tuple[int, list[torch.Tensor]]:
        """Bytes that the forward pass of the layers leaves on the GPU, and the gradients."""
        model.zero_grad(set_to_none=True)
        before = torch.cuda.memory_allocated()
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        kept = torch.cuda.memory_allocated() - before
        hidden.square().sum().backward()
        return kept, [value.grad.clone() for value in model.model.layers.parameters()]

    apply_activation_policy(model, POLICIES["full"])
    step()
    plain, expected = step()
    apply_activation_policy(model, OFFLOADED)
    offloaded, found = step()
    inputs = 8 * ids.numel() * model.config.hidden_size * 4
    assert plain - offloaded > 0.8 * inputs
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)
