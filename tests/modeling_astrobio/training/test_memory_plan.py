"""Plans: what lies on a device, in host memory and on the disk, for each way to share and to offload."""

import dataclasses
import functools
import re

import pytest
import torch
import yaml
from transformers import ViTConfig, ViTForImageClassification

from modeling_astrobio import AstroLLMConfig, AstroLLMForCausalLM
from modeling_astrobio.training.gpu_specs import parse_hardware
from modeling_astrobio.training.llm_recipe import LLMRecipe
from modeling_astrobio.training.llm_step import llm_step
from modeling_astrobio.training.memory_plan import COMPONENTS, plan_step
from modeling_astrobio.training.optimizer_specs import OPTIMIZERS
from modeling_astrobio.training.plan_report import plan_table, plot_plans, strategy_table
from modeling_astrobio.training.plan_search import TraceCache, plan_one, plan_strategies, smallest_change
from modeling_astrobio.training.recipe import lay_over, recipe_from_dict
from modeling_astrobio.training.strategy import Strategy
from modeling_astrobio.training.training_step import TrainingStep


GIB = 2**30
TRACE = TraceCache()
SHAPE = {"hidden_size": 56, "num_hidden_layers": 5, "vocab_size": 1031, "intermediate_size": 136}


def recipe(**sections) -> LLMRecipe:
    values = {
        "model": {"preset": "tiny", "dtype": "bfloat16", "config": SHAPE},
        "data": {"sequence_length": 97},
        "training": {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 4},
    }
    return recipe_from_dict(LLMRecipe, lay_over(values, sections))


def step(sharding="none", **sections) -> TrainingStep:
    strategy = {"sharding": sharding, **sections.pop("strategy", {})}
    return llm_step(recipe(strategy=strategy, **sections))


def plan(sharding="none", gpus=1, **sections):
    return plan_step(
        step(sharding, **sections), parse_hardware(gpus, gpu="A100 80GB SXM", ram=64, disk=100), gpus, TRACE
    )


def parameter_bytes() -> int:
    model = AstroLLMForCausalLM(AstroLLMConfig.from_preset("tiny", **SHAPE))
    return 2 * sum(parameter.numel() for parameter in model.parameters())


def share(shape, processes) -> int:
    """What FSDP2 keeps of a parameter: rows, rounded up."""
    return -(-shape[0] // processes) * torch.Size(shape[1:]).numel()


def test_one_device_holds_everything():
    found = plan()
    model = AstroLLMForCausalLM(AstroLLMConfig.from_preset("tiny", **SHAPE))
    whole, spec = parameter_bytes(), OPTIMIZERS["adamw"]
    buffers = sum(buffer.nbytes for buffer in model.buffers())
    # The allocator rounds the two small buffers up.
    assert whole + buffers <= found.device["parameters"] <= whole + buffers + 4 * 512
    assert found.device["optimizer"] == sum(spec.state_bytes(p.shape, torch.bfloat16) for p in model.parameters())
    # Of the parameters' size, but that each is rounded up to 512 bytes.
    assert whole <= found.device["gradients"] <= whole + 512 * len(list(model.parameters()))
    assert found.device["gather_buffers"] == found.device["reduce_buffers"] == 0
    assert found.device_bytes == sum(found.device.values())
    assert tuple(found.device) == COMPONENTS
    assert found.disk["model"] == whole
    assert found.fits


@pytest.mark.parametrize("processes", [2, 3, 8])
def test_fsdp2_divides_what_is_kept_and_adds_what_is_gathered(processes):
    found = plan("fsdp2", processes)
    model = AstroLLMForCausalLM(AstroLLMConfig.from_preset("tiny", **SHAPE))
    shares = [share(p.shape, processes) for p in model.parameters()]
    assert found.device["gradients"] == 2 * sum(shares)
    assert found.device["optimizer"] == sum(2 * 2 * numbers + 4 for numbers in shares)
    layer = 2 * sum(p.numel() for p in model.model.layers[0].parameters())
    embedding, norm = 2 * model.model.embed_tokens.weight.numel(), 2 * model.model.norm.weight.numel()
    assert parameter_bytes() == 5 * layer + 2 * embedding + norm
    # Norm and head stay; the embedding, larger than a layer here, and what comes after it.
    assert found.device["gather_buffers"] == (norm + embedding) + 2 * max(layer, embedding)
    alone = plan()
    for component in ("activations", "logits"):
        assert found.device[component] == alone.device[component]


def test_ddp_adds_the_buckets_of_its_gradients():
    assert plan("ddp", 2).device["reduce_buffers"] == parameter_bytes()
    assert plan("ddp", 2).device["parameters"] == plan().device["parameters"]


@pytest.mark.parametrize("sharding", ["fsdp2", "zero3"])
def test_parameter_offload_moves_everything_kept_to_the_host(sharding):
    strategy = {"parameter_offload": True, "optimizer_offload": sharding == "zero3"}
    found = plan(sharding, 2, strategy=strategy)
    assert found.device["parameters"] == found.device["gradients"] == found.device["optimizer"] == 0
    model = AstroLLMForCausalLM(AstroLLMConfig.from_preset("tiny", **SHAPE))
    numbers = sum(p.numel() for p in model.parameters())
    # bfloat16 parameters, gradients and moments; ZeRO-3: bfloat16 parameters, float32 gradients, master and moments.
    per_weight = 2 + 4 + 12 if sharding == "zero3" else 2 + 2 + 4
    assert found.host["offloaded"] == pytest.approx(per_weight * numbers, rel=0.02)


def test_optimizer_offload_leaves_parameters_and_gradients():
    found = plan(strategy={"optimizer_offload": True}, training={"max_grad_norm": 0.0})
    assert found.device["optimizer"] == 0
    assert found.device["gradients"] == plan().device["gradients"]
    assert found.host["offloaded"] == pytest.approx(4 * parameter_bytes(), rel=0.02)


def test_paged_moments_may_lie_in_host_memory():
    # Only tensors of 100,000 numbers and more are paged.
    large = {"model": {"config": {**SHAPE, "vocab_size": 4001}}}
    plain = plan(strategy={"optimizer": "adamw_bnb_8bit"}, **large)
    paged = plan(strategy={"optimizer": "paged_adamw_bnb_8bit"}, **large)
    # The head's two moments of a byte each; the embedding's are of four bytes.
    assert paged.host["paged"] == 4001 * 56 * 2 * (1 + 4)
    assert paged.device["optimizer"] + paged.host["paged"] == plain.device["optimizer"]
    assert plain.host["paged"] == 0


def test_gradients_that_are_used_at_once_are_not_kept():
    # Few tokens, so that weights are what counts.
    training = {"max_grad_norm": 0.0, "gradient_accumulation_steps": 1, "per_device_train_batch_size": 1}
    sections = {"training": training, "data": {"sequence_length": 5}, "model": {"config": {"loss_chunk_size": 0}}}
    kept = plan(**sections)
    at_once = plan(strategy={"optimizer_in_backward": True}, **sections)
    largest = 2 * max(SHAPE["vocab_size"], SHAPE["intermediate_size"]) * SHAPE["hidden_size"]
    assert at_once.device_bytes < kept.device_bytes - parameter_bytes() + 3 * largest
    offload = {"optimizer_offload": True}
    moved = plan(strategy={**offload, "gradient_offload": True}, **sections)
    assert moved.device_bytes < plan(strategy=offload, **sections).device_bytes - parameter_bytes() + 3 * largest


def test_checkpointing_offload_and_loss_chunks_change_what_they_say():
    plain, full = plan(), plan(strategy={"activation_checkpointing": "full"})
    selective = plan(strategy={"activation_checkpointing": "selective"})
    offloaded = plan(strategy={"activation_checkpointing": "full", "activation_offload": True})
    assert full.device["activations"] < selective.device["activations"] < plain.device["activations"]
    assert offloaded.trace.saved_activation_bytes < full.trace.saved_activation_bytes
    # An input of each layer, rows x tokens x width in bfloat16.
    assert offloaded.host["offloaded_activations"] == pytest.approx(5 * 3 * 97 * 56 * 2, rel=0.2)
    whole = plan(model={"config": {**SHAPE, "loss_chunk_size": 0}})
    assert whole.device["logits"] >= 3 * 97 * 1031 * 2


@pytest.mark.parametrize(("bits", "bytes_each"), [("4bit", 0.5159), ("8bit", 1.0)])
def test_quantised_weights_take_what_bitsandbytes_packs(bits, bytes_each):
    adapted = {"adapter": {"r": 4}}
    plain, found = plan(**adapted), plan(model={"quantization": bits}, **adapted)
    model = AstroLLMForCausalLM(AstroLLMConfig.from_preset("tiny", **SHAPE))
    linear = sum(p.numel() for n, p in model.named_parameters() if "proj" in n)
    others = sum(p.numel() for n, p in model.named_parameters() if "proj" not in n)
    # What is not quantised is widened to float32.
    expected = plain.device["parameters"] - 2 * linear + bytes_each * linear + 2 * others
    assert found.device["parameters"] == pytest.approx(expected, rel=0.01)
    assert found.device["optimizer"] == plain.device["optimizer"]


def test_any_model_can_be_planned():
    config = ViTConfig(hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96, image_size=32)
    images = {"pixel_values": torch.float32, "labels": torch.long}
    shapes = {"pixel_values": (5, 3, 32, 32), "labels": (5,)}
    step = TrainingStep(
        name="vit",
        identity="vit",
        make_model=functools.partial(ViTForImageClassification, config),
        make_batch=lambda: {name: torch.zeros(shapes[name], dtype=dtype) for name, dtype in images.items()},
        strategy=Strategy(sharding="fsdp2", activation_checkpointing="full"),
        dtype="float32",
        mixed_precision="bf16",
        accumulation_steps=2,
        max_grad_norm=1.0,
        micro_batch=5,
        items=5,
        item="image",
    )
    found = plan_step(step, parse_hardware(2, gpu="L40S", ram=32, disk=10))
    assert found.fits
    assert found.device["parameters"] > 0
    assert found.device["activations"] > 0
    assert "images/s" in plan_table(found, 1.0)


def test_cpu_plans_hold_everything_in_host_memory():
    hardware = parse_hardware(0, ram=4)
    found = plan_step(step(), hardware, 1, TRACE)
    assert found.host["training"] == found.device_bytes
    assert found.time.seconds is None
    assert "not known" in plan_table(found, 1.0)


def test_shortfalls_name_what_is_short_by_how_much():
    hardware = parse_hardware(1, vram=24, ram=2, disk=1)
    big = llm_step(recipe_from_dict(LLMRecipe, {"model": {"preset": "1b"}, "data": {"sequence_length": 256}}))
    big = dataclasses.replace(big, strategy=Strategy(sharding="none"))
    short = plan_step(big, hardware, 1, TRACE).shortfalls
    assert len(short) == 2
    assert re.fullmatch(r"host memory must be at least \d+\.\d GiB; got 1\.9 GiB", short[0])
    assert re.fullmatch(r"disk must be at least \d+\.\d GiB; got 0\.9 GiB", short[1])


def make_step(layer, sharding="none"):
    values = {
        "model": {"preset": "1b", "config": {"num_hidden_layers": 6, "vocab_size": 2048}},
        "data": {"sequence_length": 512},
        "training": {"per_device_train_batch_size": 12, "gradient_accumulation_steps": 2},
        "strategy": {"sharding": sharding},
    }
    return llm_step(recipe_from_dict(LLMRecipe, lay_over(values, layer)))


def gpus_of(size_bytes: float, gpus: int = 1):
    return dataclasses.replace(parse_hardware(gpus, gpu="A100 80GB SXM"), vram_bytes=int(size_bytes) + GIB // 2)


def as_layer(changes):
    layer = {}
    for change in changes:
        section, _, rest = change.partition(".")
        key, _, value = rest.partition("=")
        if not change.startswith("--"):
            layer.setdefault(section, {})[key] = yaml.safe_load(value)
    return layer


def test_the_smallest_change_that_fits_is_the_smallest():
    whole = plan_one("", make_step({}), gpus_of(80 * GIB), TRACE).plan
    assert whole.moment == "backward"
    # A little less than it needs: keeping fewer activations is enough.
    changes, _ = smallest_change(make_step, gpus_of(0.98 * whole.reserved_bytes), TRACE)
    assert changes == ["strategy.activation_checkpointing=selective"]
    # Less than weights, gradients and 32-bit moments need: more must change, and each of the changes is needed.
    static = sum(whole.device[name] for name in ("parameters", "gradients", "optimizer"))
    hardware = gpus_of(0.8 * static)
    changes, found = smallest_change(make_step, hardware, TRACE)
    assert found.fits
    assert plan_one("", make_step(as_layer(changes)), hardware, TRACE).fits
    settings = [change for change in changes if not change.startswith("--") and "accumulation" not in change]
    assert len(settings) > 1
    for left_out in settings:
        fewer = [change for change in changes if change != left_out]
        assert not plan_one("", make_step(as_layer(fewer)), hardware, TRACE).fits
    assert smallest_change(make_step, gpus_of(GIB // 8), TRACE) is None


def test_a_model_that_ddp_cannot_hold_is_told_to_shard():
    shared = functools.partial(make_step, sharding="ddp")
    whole = plan_one("", shared({}), gpus_of(80 * GIB, 2), TRACE).plan
    static = sum(whole.device[name] for name in ("parameters", "gradients", "optimizer", "reduce_buffers"))
    hardware = gpus_of(0.8 * static, 2)
    assert not plan_one("", shared({}), hardware, TRACE).fits
    changes, found = smallest_change(shared, hardware, TRACE)
    assert found.fits
    assert "strategy.sharding=fsdp2" in changes
    assert "--config_file recipes/hardware/fsdp2.yaml" in changes


def test_strategies_are_sorted_and_drawn(tmp_path):
    hardware = parse_hardware(2, gpu="RTX A6000", ram=64, disk=100)
    strategies = {
        "plain": {},
        "sharded": {"strategy": {"sharding": "fsdp2"}},
        "impossible": {"strategy": {"sharding": "fsdp2", "optimizer": "adamw_bnb_8bit"}},
    }
    rows = plan_strategies(lambda layer: step(**layer), strategies, hardware, TRACE)
    assert len(rows) == 12
    speeds = [row.plan.time.items_per_second for row in rows if row.fits]
    assert speeds == sorted(speeds, reverse=True)
    assert [row.plan is None for row in rows] == [False] * 8 + [True] * 4
    text = strategy_table(rows, 1.0)
    assert text.count("fits") == 8
    assert "Cannot work: impossible, none, " in text
    assert "bitsandbytes_with_fsdp2" in text
    picture = tmp_path / "plan.png"
    plot_plans([(row.name, row.plan) for row in rows if row.plan], hardware, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
