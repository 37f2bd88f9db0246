"""The trace of a step against what real steps allocate, and against closed forms."""

import functools
import itertools
import random

import pytest
import torch
from accelerate.utils.operations import convert_to_fp32
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import create_selective_checkpoint_contexts
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForMaskedLM, ViTConfig, ViTForImageClassification

from modeling_astrobio import AstroLLMConfig, AstroLLMForCausalLM
from modeling_astrobio.training.adapters import add_lora, lora_config
from modeling_astrobio.training.memory_kernels import kernel_bytes
from modeling_astrobio.training.memory_trace import MemoryTraceError, trace_step
from modeling_astrobio.training.storage_log import KINDS, StorageLog


ROWS, LENGTH = 2, 261


def llm(dtype=torch.float32, attention="sdpa", lora_rank=0, **overrides) -> nn.Module:
    shape = {"hidden_size": 192, "intermediate_size": 416, "head_dim": 32, "vocab_size": 1531, **overrides}
    config = AstroLLMConfig.from_preset("tiny", max_position_embeddings=512, use_cache=False, **shape)
    model = AstroLLMForCausalLM._from_config(config, dtype=dtype, attn_implementation=attention)
    return add_lora(model, lora_config(lora_rank)) if lora_rank else model


def packed_batch() -> dict:
    """Two documents in each row; every place is learned."""
    tokens = torch.randint(0, 512, (ROWS, LENGTH))
    positions = (torch.arange(LENGTH) % 140).repeat(ROWS, 1)
    items = torch.tensor(ROWS * LENGTH)
    return {"input_ids": tokens, "shift_labels": tokens, "position_ids": positions, "num_items_in_batch": items}


def collated_batch() -> dict:
    """As `collate_packed` makes it: the first token of a document is not learned."""
    batch = packed_batch()
    return {**batch, "labels": batch.pop("shift_labels").masked_fill(batch["position_ids"] == 0, -100)}


class ConvolutionsAndAttention(nn.Module):
    """Patches by convolution, one transformer layer with dropout, and an auxiliary head that the loss leaves out."""

    def __init__(self, dropout=0.0):
        super().__init__()
        self.patches = nn.Conv2d(3, 56, 8, 8)
        self.layer = nn.TransformerEncoderLayer(56, 7, 224, dropout, batch_first=True)
        self.head = nn.Linear(56, 13)
        self.unused = nn.Linear(56, 37)

    def forward(self, images, labels):
        x = self.head(self.layer(self.patches(images).flatten(2).transpose(1, 2)).mean(1))
        return {"loss": nn.functional.cross_entropy(x, labels)}


def images() -> dict:
    return {"images": torch.randn(5, 3, 64, 88), "labels": torch.randint(0, 13, (5,))}


def bert() -> nn.Module:
    sizes = {"hidden_size": 144, "num_hidden_layers": 2, "num_attention_heads": 6, "intermediate_size": 312}
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertForMaskedLM(BertConfig(vocab_size=997, **sizes, **no_dropout))


def tokens() -> dict:
    ids = torch.randint(0, 997, (3, 173))
    return {"input_ids": ids, "labels": ids}


def vit() -> nn.Module:
    sizes = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 6, "intermediate_size": 208}
    return ViTForImageClassification(ViTConfig(image_size=112, patch_size=8, **sizes))


def pixels() -> dict:
    return {"pixel_values": torch.randn(3, 3, 112, 112), "labels": torch.randint(0, 2, (3,))}


def full_checkpointing(model) -> None:
    model.activation_checkpointing_enable({"use_reentrant": False})


def selective_checkpointing(model) -> None:
    kept = [torch.ops.aten.mm.default, torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default]
    contexts = functools.partial(create_selective_checkpoint_contexts, kept)
    model.activation_checkpointing_enable({"use_reentrant": False, "context_fn": contexts})


def allocated_at_peak(step) -> int:
    """Bytes that torch's allocator gave out during a step, kernels' own buffers too, beyond what was held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(itertools.accumulate(event.nbytes() for event in events))


def real_peak(
    make_model, make_batch, prepare=None, mixed_precision="no", gradients_kept=True
) -> tuple[int, nn.Module]:
    """Parameters, buffers, inputs, gradients kept, and what a real step allocates beyond them."""
    model = make_model()
    model.train()
    if prepare:
        prepare(model)
    batch = make_batch()

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed_precision == "bf16"):
            outputs = model(**batch)
        if mixed_precision == "bf16":
            outputs = convert_to_fp32(outputs)
        loss = outputs["loss"]
        del outputs
        loss.backward()

    step()
    if not gradients_kept:
        model.zero_grad(set_to_none=True)
    tensors = [*model.parameters(), *model.buffers(), *(w.grad for w in model.parameters() if w.grad is not None)]
    tensors += [value for value in batch.values() if isinstance(value, torch.Tensor)]
    held = sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())
    return held + allocated_at_peak(step), model


CASES = {
    "llm": (llm, packed_batch, None),
    "llm_collated": (llm, collated_batch, None),
    "llm_full": (llm, packed_batch, full_checkpointing),
    "llm_selective": (llm, packed_batch, selective_checkpointing),
    "llm_eager": (functools.partial(llm, attention="eager"), packed_batch, None),
    "llm_all_logits": (functools.partial(llm, loss_chunk_size=0), packed_batch, None),
    "llm_small_chunks_tied": (
        functools.partial(llm, loss_chunk_size=37, tie_word_embeddings=True),
        packed_batch,
        None,
    ),
    "llm_bf16": (functools.partial(llm, torch.bfloat16), packed_batch, None),
    "llm_fp64_full": (functools.partial(llm, torch.float64), packed_batch, full_checkpointing),
    "llm_lora": (functools.partial(llm, lora_rank=4), packed_batch, None),
    "bert": (bert, tokens, None),
    "vit": (vit, pixels, None),
    "convolutions": (ConvolutionsAndAttention, images, None),
}


@pytest.mark.parametrize("gradients_kept", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_peak_is_that_of_a_real_step(name, gradients_kept):
    make_model, make_batch, prepare = CASES[name]
    expected, _ = real_peak(make_model, make_batch, prepare, gradients_kept=gradients_kept)
    trace = trace_step(make_model, make_batch, prepare=prepare, gradients_kept=gradients_kept, device="cpu")
    # Kernels have buffers of some KiB of their own, and convolutions reorder what they read.
    assert trace.peak_bytes == pytest.approx(expected, rel=0.02)
    assert sum(trace.components.values()) == trace.peak_bytes


@pytest.mark.parametrize("name", ["llm", "llm_full", "llm_all_logits", "bert"])
def test_peak_under_autocast_is_that_of_a_real_step(name):
    make_model, make_batch, prepare = CASES[name]
    expected, _ = real_peak(make_model, make_batch, prepare, mixed_precision="bf16")
    trace = trace_step(make_model, make_batch, prepare=prepare, mixed_precision="bf16", device="cpu")
    assert trace.peak_bytes == pytest.approx(expected, rel=0.02)
    assert trace.components["weight_casts"] > 0


def test_components_of_a_linear_model_in_closed_form():
    class Regression(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(64, 128)
            self.second = nn.Linear(128, 16, bias=False)

        def forward(self, x):
            return self.second(self.first(x).relu()).square().mean()

    weights = 64 * 128 + 128 + 128 * 16
    rows = 256
    trace = trace_step(Regression, lambda: {"x": torch.zeros(rows, 64)}, device="cpu")
    assert trace.components["parameters"] == 4 * weights
    assert trace.components["gradients"] == 4 * weights
    assert trace.components["inputs"] == 4 * rows * 64
    # Kept: the result of relu, which is what relu's own formula needs too, and the result of the second layer; the
    # loss is one block of 64 bytes.
    assert trace.saved_activation_bytes == 4 * rows * (128 + 16) + 64
    # Worst: relu's argument is still there as its result is made, or the gradient of relu as that of its argument is.
    assert trace.phases["forward"]["activations"] == 4 * rows * (128 + 128)
    assert trace.peak_bytes == sum(trace.phases["backward"].values()) > sum(trace.phases["forward"].values())
    products = 2 * rows * (64 * 128 + 128 * 16)
    assert trace.forward_flops == products
    # The input needs no gradient.
    assert trace.model_flops == trace.executed_flops == 3 * products - 2 * rows * 64 * 128


def test_sizes_are_rounded_as_the_allocator_does():
    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(129))

        def forward(self, x):
            return (self.weight * x).sum()

    for device, size in (("cpu", 576), ("cuda", 1024)):
        trace = trace_step(One, lambda: {"x": torch.zeros(129)}, device=device)
        assert trace.components["parameters"] == trace.components["inputs"] == size
        assert trace.parameters[0].nbytes == 4 * 129


def test_weights_and_blocks():
    plain = trace_step(llm, packed_batch)
    tied = trace_step(functools.partial(llm, tie_word_embeddings=True), packed_batch)
    model = llm()
    assert {p.name: (p.shape, p.dtype, p.trainable) for p in plain.parameters} == {
        name: (tuple(weight.shape), weight.dtype, True) for name, weight in model.named_parameters()
    }
    assert [p.name for p in plain.parameters if p.is_embedding] == ["model.embed_tokens.weight"]
    blocks = [f"model.layers.{index}" for index in range(3)]
    assert [layer.name for layer in plain.layers] == [*blocks, "model.embed_tokens", ""]
    assert [layer.name for layer in tied.layers] == [*blocks, ""]
    for trace in (plain, tied):
        assert sum(layer.nbytes for layer in trace.layers) == sum(p.nbytes for p in trace.parameters)
        assert trace.layers[0].numel == sum(weight.numel() for weight in model.model.layers[0].parameters())
    assert plain.layers[-1].numel == tied.layers[-1].numel == 192 * 1531 + 192
    difference = 4 * 192 * 1531
    assert plain.components["parameters"] - tied.components["parameters"] == pytest.approx(difference, rel=1e-3)


def test_frozen_weights_have_no_gradients():
    trace = trace_step(functools.partial(llm, torch.bfloat16, lora_rank=4), packed_batch)
    trained = [p for p in trace.parameters if p.trainable]
    assert {p.name.rsplit(".", 3)[-3] for p in trained} == {"lora_A", "lora_B"}
    assert sum(layer.trainable_nbytes for layer in trace.layers) == sum(p.nbytes for p in trained)
    assert trace.components["gradients"] == pytest.approx(sum(p.nbytes for p in trained), rel=0.05)


def test_weights_that_the_loss_does_not_reach_have_no_gradients():
    trace = trace_step(ConvolutionsAndAttention, images, device="cpu")
    reached = sum(p.nbytes for p in trace.parameters if not p.name.startswith("unused"))
    assert reached <= trace.components["gradients"] < reached + 64 * len(trace.parameters)


def test_gradients_released_as_they_come_are_workspace():
    def release(model) -> None:
        for weight in model.parameters():
            weight.register_post_accumulate_grad_hook(lambda weight: setattr(weight, "grad", None))

    released = trace_step(llm, packed_batch, prepare=release, gradients_kept=False)
    kept = trace_step(llm, packed_batch, gradients_kept=False)
    assert released.components["gradients"] == released.phases["backward"]["gradients"] == 0
    assert sum(released.phases["backward"].values()) <= sum(kept.phases["backward"].values())
    assert kept.phases["backward"]["gradients"] > 0


def test_checkpointing_and_offload():
    traces = {
        "none": trace_step(llm, packed_batch),
        "selective": trace_step(llm, packed_batch, prepare=selective_checkpointing),
        "full": trace_step(llm, packed_batch, prepare=full_checkpointing),
        "offloaded": trace_step(llm, packed_batch, prepare=full_checkpointing, activation_offload=True),
    }
    kept = {name: trace.saved_activation_bytes for name, trace in traces.items()}
    assert kept["none"] > kept["selective"] > kept["full"] > kept["offloaded"]
    # The inputs of three layers; that of the first is also the embedding's result, kept by nothing else.
    hidden = 4 * ROWS * LENGTH * 192
    hidden = -(-hidden // 512) * 512
    assert traces["offloaded"].offloaded_activation_bytes == kept["full"] - kept["offloaded"] == 3 * hidden
    assert traces["full"].offloaded_activation_bytes == 0
    assert len({trace.model_flops for trace in traces.values()}) == 1
    assert len({trace.forward_flops for trace in traces.values()}) == 1
    executed = [traces[name].executed_flops for name in ("none", "selective", "full")]
    assert executed == sorted(executed)
    assert executed[0] < executed[2] < 4 / 3 * executed[0]


@pytest.mark.parametrize("prepare", [None, full_checkpointing])
def test_flops_are_those_that_torch_counts_in_a_real_step(prepare):
    make_model = functools.partial(llm, attention="eager", loss_chunk_size=0)
    trace = trace_step(make_model, packed_batch, prepare=prepare)
    model = make_model().train()
    if prepare:
        prepare(model)
    with FlopCounterMode(display=False) as counter:
        loss = model(**packed_batch()).loss
        forward = counter.get_total_flops()
        loss.backward()
    assert trace.forward_flops == forward
    assert trace.executed_flops == counter.get_total_flops()
    # Every product has two in the backward pass.
    assert trace.model_flops == 3 * forward


def test_attention_kernels_count_as_attention_written_out():
    eager, kernel = (
        trace_step(functools.partial(llm, attention=attention), packed_batch) for attention in ("eager", "sdpa")
    )
    assert kernel.forward_flops == eager.forward_flops
    assert kernel.model_flops == eager.model_flops
    assert kernel.executed_flops > eager.executed_flops


def test_logits_are_told_from_activations_and_from_the_gradient_of_the_head():
    whole = trace_step(functools.partial(llm, loss_chunk_size=0), packed_batch)
    chunked = trace_step(functools.partial(llm, loss_chunk_size=37), packed_batch)
    row = 4 * 1531
    # Logits, their log-softmax, and the gradient of either.
    assert 2 * ROWS * LENGTH * row <= whole.components["logits"] <= 3 * ROWS * LENGTH * row + 512 * 3
    assert max(chunked.phases[phase]["logits"] for phase in ("forward", "backward")) <= 3 * (37 * row + 512)


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(64, 512)
        self.norm = nn.LayerNorm(512)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x):
        return self.dropout(self.norm(self.project(x))).float().mean()


def test_a_gpu_keeps_a_mask_of_bytes_for_dropout():
    x = {"x": torch.zeros(256, 64)}
    on_cpu, on_gpu = (trace_step(Dropping, lambda: x, device=device) for device in ("cpu", "cuda"))
    assert on_cpu.saved_activation_bytes - on_gpu.saved_activation_bytes == pytest.approx(3 * 256 * 512, abs=8 * 512)


def test_a_gpus_autocast_widens_norms():
    x = {"x": torch.zeros(256, 64)}
    on_cpu, on_gpu = (
        trace_step(Dropping, lambda: x, device=device, mixed_precision="bf16").saved_activation_bytes
        for device in ("cpu", "cuda")
    )
    number = 256 * 512
    # CPU: the norm's argument in bfloat16, twice the mask of the dropout (its own dtype) and result; GPU: the argument
    # in both, one byte of mask.
    assert on_gpu > on_cpu - 2 * number
    assert on_gpu >= number * (4 + 1)


def test_a_gpus_attention_sums_in_float32():
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward.default

    def taken(kv_heads: int, device: str) -> int:
        query, key = (torch.empty(2, heads, 261, 40, dtype=torch.bfloat16, device="meta") for heads in (6, kv_heads))
        return kernel_bytes(backward, (query, query, key, key), (query, key, key), device)

    # Lengths are rounded to 128, widths to 32.
    sums = 4 * 2 * 6 * 384 * (64 + 1)
    assert taken(6, "cuda") == sums
    # The gradients of keys and values, one for each query head before they are added.
    assert taken(2, "cuda") == sums + 2 * 2 * 2 * 6 * 261 * 40
    assert taken(2, "cpu") == 0


def test_the_cpu_copies_operands_to_a_common_dtype():
    wide, narrow, scalar = torch.empty(7, 13), torch.empty(7, 13, dtype=torch.bfloat16), torch.tensor(2.0)
    add_, add = torch.ops.aten.add_.Tensor, torch.ops.aten.add.Tensor
    assert kernel_bytes(add_, (wide, narrow), wide, "cpu") == 4 * 7 * 13
    # The operand and, aside, the result.
    assert kernel_bytes(add_, (narrow, wide), narrow, "cpu") == 2 * 4 * 7 * 13
    assert kernel_bytes(add, (narrow, scalar), narrow, "cpu") == 0
    assert kernel_bytes(add, (wide, wide), wide, "cpu") == kernel_bytes(add_, (wide, narrow), wide, "cuda") == 0


def test_a_batch_of_single_documents_needs_no_mask():
    packed = trace_step(llm, packed_batch)
    single = trace_step(llm, lambda: {**packed_batch(), "attention_mask": {"full_attention": None}})
    # A mask for each layer in the dtype of the scores.
    masks = 3 * 4 * ROWS * LENGTH**2
    assert packed.saved_activation_bytes - single.saved_activation_bytes >= masks


def test_most_alive_against_a_naive_count():
    rng = random.Random(0)
    log = StorageLog("cpu")
    held: dict[int, tuple[torch.Tensor, str, int]] = {}
    history = [dict.fromkeys(KINDS, 0)]
    for _ in range(300):
        if held and rng.random() < 0.45:
            held.pop(rng.choice(list(held)))
        else:
            tensor, kind = torch.empty(rng.randrange(1, 400), dtype=torch.uint8), rng.choice(KINDS)
            log.add(tensor, kind)
            held[id(tensor)] = tensor, kind, -(-tensor.nbytes // 64) * 64
            del tensor
        assert log.now == len(history)
        history.append({kind: sum(size for _, k, size in held.values() if k == kind) for kind in KINDS})
    device = [kind for kind in KINDS if kind != "host"]
    for start, stop in ((0, 300), (17, 17), (40, 211), (299, 300)):
        most = max(sum(moment[kind] for kind in device) for moment in history[start : stop + 1])
        assert sum(log.most_alive(start, stop).values()) == most
        assert log.most_alive(start, stop, host=True)["host"] == max(m["host"] for m in history[start : stop + 1])


def test_a_trace_leaves_nothing_behind():
    before = torch.get_rng_state()
    threads = torch.get_num_threads()
    trace_step(llm, packed_batch, prepare=full_checkpointing)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads
    assert torch.empty(1).device.type == "cpu"


class BranchesOnValues(nn.Linear):
    def forward(self, x):
        return super().forward(x).mean() * (2 if x.sum() > 0 else 1)


class ReturnsNoLoss(nn.Linear):
    def forward(self, x):
        return {"logits": super().forward(x)}


class Frozen(nn.Linear):
    def __init__(self, *args):
        super().__init__(*args)
        self.requires_grad_(False)

    def forward(self, x):
        return super().forward(x).mean()


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (BranchesOnValues, {}, "must not depend on the values of tensors"),
        (ReturnsNoLoss, {}, "must return a scalar loss .* got NoneType from dict"),
        (Frozen, {}, "must return a scalar loss that needs a gradient"),
        (Frozen, {"mixed_precision": "fp8"}, r"mixed_precision must be one of \('no', 'bf16', 'fp16'\); got 'fp8'"),
        (Frozen, {"device": "tpu"}, r"device must be one of \('cpu', 'cuda'\); got 'tpu'"),
        (ReturnsNoLoss, {"activation_offload": True}, "activation_offload needs checkpointed layers"),
    ],
)
def test_what_cannot_be_traced_is_refused(model, arguments, message):
    with pytest.raises(MemoryTraceError, match=message):
        trace_step(lambda: model(8, 8), lambda: {"x": torch.zeros(4, 8)}, **arguments)


@pytest.mark.slow
def test_thirteen_billion_parameters_with_full_checkpointing():
    def model() -> nn.Module:
        config = AstroLLMConfig.from_preset("13b")
        return AstroLLMForCausalLM._from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa")

    def batch() -> dict:
        tokens = torch.zeros(1, 4096, dtype=torch.long)
        return {"input_ids": tokens, "labels": tokens, "num_items_in_batch": torch.tensor(4096)}

    trace = trace_step(model, batch, prepare=full_checkpointing)
    weights = 2 * 13_139_072_000
    assert sum(p.nbytes for p in trace.parameters) == weights
    assert trace.components["gradients"] == weights
    assert 2 * weights < trace.peak_bytes < 2 * weights + 5 * 2**30
    matrices = 13_139_072_000 - 54272 * 5120
    attention = 12 * 40 * 5120 * 4096
    assert trace.model_flops == pytest.approx(4096 * (6 * matrices + attention), rel=0.001)
