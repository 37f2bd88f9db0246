"""LoRA on full weights and on weights quantised to 4 and 8 bits: gradients reach the adapters and nothing else."""

import copy

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from reference_models import random_tokens, tiny_model
from transformers import BitsAndBytesConfig

from modeling_astrobio import AstroLLMForCausalLM
from modeling_astrobio.loss_chunked_cross_entropy import ChunkedLossHead


bitsandbytes = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# bitsandbytes quantises in blocks of 64.
SIZES = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16, "num_attention_heads": 4}
QUANTISED = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16},
    "nf4_double": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True},
    "int8": {"load_in_8bit": True},
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A saved model, in float32, and its folder."""
    model = tiny_model(**SIZES)
    folder = tmp_path_factory.mktemp("checkpoint")
    model.save_pretrained(folder)
    return model, folder


def assert_gradients_reach_the_adapters_only(model) -> None:
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable
    assert all("lora_" in name for name in trainable)
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trainable.values())
    # B begins at zero, so that only its gradient must be other than zero in the first step.
    assert all(parameter.grad.any() for name, parameter in trainable.items() if "lora_B" in name)
    assert all(parameter.grad is None for parameter in model.parameters() if not parameter.requires_grad)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_lora_trains_the_adapters_only(checkpointing):
    model = get_peft_model(tiny_model(), LoraConfig(r=3, target_modules=TARGETS)).train()
    if checkpointing:
        model.activation_checkpointing_enable()
        model.enable_input_require_grads()
    tokens = random_tokens(2, 13)
    model(input_ids=tokens, labels=tokens).loss.backward()
    assert_gradients_reach_the_adapters_only(model)


def test_lora_starts_where_the_model_stands_and_merges_into_it(tmp_path):
    base = tiny_model()
    tokens = random_tokens(2, 13)
    with torch.no_grad():
        before = base(tokens).logits
        model = get_peft_model(base, LoraConfig(r=3, target_modules=TARGETS)).eval()
        torch.testing.assert_close(model(input_ids=tokens).logits, before)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        adapted = model(input_ids=tokens).logits
        assert not torch.allclose(adapted, before, atol=1e-2)
        model.save_pretrained(tmp_path)
        reloaded = PeftModel.from_pretrained(tiny_model(), tmp_path)
        torch.testing.assert_close(reloaded(input_ids=tokens).logits, adapted)
        merged = model.merge_and_unload()
        assert type(merged) is AstroLLMForCausalLM
        torch.testing.assert_close(merged(tokens).logits, adapted, rtol=1e-4, atol=1e-5)


def test_every_linear_layer_can_be_asked_for():
    model = get_peft_model(tiny_model(), LoraConfig(r=3, target_modules="all-linear"))
    adapted = {name.split(".")[-4] for name, parameter in model.named_parameters() if "lora_A" in name}
    assert adapted == set(TARGETS)
    assert isinstance(model.get_base_model().lm_head, ChunkedLossHead)


def quantised_model(folder, kind) -> AstroLLMForCausalLM:
    config = BitsAndBytesConfig(**QUANTISED[kind])
    return AstroLLMForCausalLM.from_pretrained(folder, quantization_config=config, device_map="cpu")


@pytest.mark.parametrize("kind", QUANTISED)
def test_layers_are_quantised_and_the_head_is_not(checkpoint, kind):
    model = quantised_model(checkpoint[1], kind)
    linear = bitsandbytes.nn.Linear8bitLt if kind == "int8" else bitsandbytes.nn.Linear4bit
    names = {name.split(".")[-1] for name, module in model.named_modules() if isinstance(module, linear)}
    assert names == set(TARGETS)
    # The head keeps its class, and with it the fused route of the loss.
    assert type(model.lm_head) is ChunkedLossHead


@pytest.mark.parametrize("kind", ["nf4", "nf4_double"])
def test_4_bit_model_computes_what_its_rounded_weights_say(checkpoint, kind):
    # bitsandbytes multiplies in bfloat16 on a CPU: 0.3% for each product, added up over three layers.
    full, folder = checkpoint
    model = quantised_model(folder, kind)
    rounded = copy.deepcopy(full)
    for name, module in model.named_modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            weight = bitsandbytes.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
            rounded.get_submodule(name).weight.data.copy_(weight)
    tokens = random_tokens(2, 13)
    with torch.no_grad():
        found, expected = model(tokens).logits.float(), rounded(tokens).logits
    assert ((found - expected).norm() / expected.norm()).item() < 0.03


def test_8_bit_model_computes_nearly_what_the_full_one_does(checkpoint):
    # 8 bits keep weights and activations to about 1%; three layers add that up.
    full, folder = checkpoint
    tokens = random_tokens(2, 13)
    with torch.no_grad():
        found, expected = quantised_model(folder, "int8")(tokens).logits.float(), full(tokens).logits
    assert ((found - expected).norm() / expected.norm()).item() < 0.05


@pytest.mark.parametrize("kind", QUANTISED)
def test_quantised_lora_trains_the_adapters_only(checkpoint, kind):
    _, folder = checkpoint
    model = prepare_model_for_kbit_training(quantised_model(folder, kind))
    model = get_peft_model(model, LoraConfig(r=3, target_modules=TARGETS)).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    tokens = random_tokens(2, 13)
    losses = []
    for _ in range(6):
        output = model(input_ids=tokens, labels=tokens)
        assert output.logits is None
        optimizer.zero_grad()
        output.loss.backward()
        if not losses:
            assert_gradients_reach_the_adapters_only(model)
        optimizer.step()
        losses.append(output.loss.item())
    assert losses[-1] < losses[0] - 0.1
