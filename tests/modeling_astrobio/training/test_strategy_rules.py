"""Combinations that cannot work are refused by name, with a remedy; those that work are not."""

import dataclasses
import importlib.util

import pytest

from modeling_astrobio.training.errors import StrategyError
from modeling_astrobio.training.strategy import Strategy
from modeling_astrobio.training.strategy_rules import RULES, StepSettings, check_strategy, find_refusals


FIELDS = {field.name for field in dataclasses.fields(Strategy)}


def settings(**values) -> StepSettings:
    """Settings of a step on one Linux GPU; fields of the strategy and of the settings may be mixed."""
    strategy = Strategy(**{"sharding": "none", **{k: v for k, v in values.items() if k in FIELDS}})
    others = {key: value for key, value in values.items() if key not in FIELDS}
    return StepSettings(strategy=strategy, **{"platform": "linux", **others})


# For each rule, settings that break it and no other.
BROKEN = {
    "average_of_weights_elsewhere": {
        "is_averaged": True,
        "sharding": "fsdp2",
        "processes": 2,
        "parameter_offload": True,
    },
    "one_process_sharded": {"sharding": "fsdp2"},
    "many_processes_unshared": {"processes": 2},
    "fsdp2_on_cpu": {"sharding": "fsdp2", "processes": 2, "device": "cpu"},
    "fsdp2_widens_narrow_weights": {
        "sharding": "fsdp2",
        "processes": 2,
        "dtype": "bfloat16",
        "mixed_precision": "bf16",
    },
    "parameter_offload_unsharded": {"parameter_offload": True},
    "quantized_weights_sharded": {"sharding": "fsdp2", "processes": 2, "quantization": "4bit"},
    "bitsandbytes_with_fsdp2": {"sharding": "fsdp2", "processes": 2, "optimizer": "adamw_bnb_8bit"},
    "zero3_optimizer": {"sharding": "zero3", "processes": 2, "optimizer": "adamw_torchao_8bit"},
    "sophia_sharded": {"sharding": "fsdp2", "processes": 2, "optimizer": "sophia"},
    "sophia_with_fp16": {"optimizer": "sophia", "mixed_precision": "fp16"},
    "stochastic_rounding_without_torchao": {"stochastic_rounding": True, "dtype": "bfloat16"},
    "stochastic_rounding_of_wide_weights": {"stochastic_rounding": True, "optimizer": "adamw_torchao_8bit"},
    "optimizer_in_backward_with_accumulation": {"optimizer_in_backward": True, "accumulation_steps": 2},
    "optimizer_in_backward_with_clipping": {"optimizer_in_backward": True, "max_grad_norm": 1.0},
    "optimizer_in_backward_with_many_processes": {"optimizer_in_backward": True, "processes": 2, "sharding": "ddp"},
    "optimizer_in_backward_with_fp16": {"optimizer_in_backward": True, "mixed_precision": "fp16"},
    "optimizer_in_backward_with_offload": {"optimizer_in_backward": True, "optimizer_offload": True},
    "optimizer_in_backward_with_sophia": {"optimizer_in_backward": True, "optimizer": "sophia"},
    "torchao_offload_with_clipping": {"optimizer_offload": True, "max_grad_norm": 1.0},
    "gradient_offload_with_accumulation": {
        "optimizer_offload": True,
        "gradient_offload": True,
        "accumulation_steps": 32,
    },
    "gradient_offload_alone": {"gradient_offload": True},
    "optimizer_offload_on_many_gpus": {"optimizer_offload": True, "sharding": "ddp", "processes": 2},
    "optimizer_offload_on_cpu": {"optimizer_offload": True, "device": "cpu"},
    "optimizer_offload_of_another": {"optimizer_offload": True, "optimizer": "lion"},
    "optimizer_offload_with_fp16": {"optimizer_offload": True, "mixed_precision": "fp16"},
    "activation_offload_alone": {"activation_offload": True, "activation_checkpointing": "selective"},
    "activation_offload_on_cpu": {
        "activation_offload": True,
        "activation_checkpointing": "full",
        "device": "cpu",
    },
    "fp16_weights_with_fp16_training": {"mixed_precision": "fp16", "dtype": "float16"},
    "fp16_weights_alone": {"dtype": "float16"},
    "fp16_on_cpu": {"mixed_precision": "fp16", "device": "cpu"},
    "bf16_weights_with_fp16_training": {"mixed_precision": "fp16", "dtype": "bfloat16"},
    "bf16_on_old_gpu": {"mixed_precision": "bf16", "compute_capability": (7, 0)},
    "liger_on_cpu": {"liger": True, "device": "cpu"},
    "flash_attention_on_cpu": {"attn_implementation": "flash_attention_2", "dtype": "bfloat16", "device": "cpu"},
    "flex_attention_on_cpu": {"attn_implementation": "flex_attention", "device": "cpu"},
    "flash_attention_in_float32": {"attn_implementation": "flash_attention_2"},
    "fp8_without_tensor_cores": {"fp8": True, "dtype": "bfloat16", "compute_capability": (8, 0)},
    "fp8_of_quantized_weights": {"fp8": True, "dtype": "bfloat16", "quantization": "4bit"},
    "fp8_with_adapter": {"fp8": True, "dtype": "bfloat16", "is_adapted": True},
    "fp8_of_narrow_weights": {"fp8": True},
    "fp8_of_odd_batches": {"fp8": True, "dtype": "bfloat16", "items": 3 * 97},
    "compile_with_zero3": {"sharding": "zero3", "processes": 2, "compile": True},
    "zero3_off_linux": {"sharding": "zero3", "processes": 2, "platform": "win32"},
    "fsdp2_off_linux": {"sharding": "fsdp2", "processes": 2, "platform": "darwin"},
}


def test_every_rule_has_a_case():
    assert [rule.name for rule in RULES if rule.name not in BROKEN] == []
    assert len({rule.name for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_combination_is_refused_by_its_name_alone(rule):
    broken = settings(**BROKEN[rule.name])
    assert [refusal.name for refusal in find_refusals(broken, check_packages=False)] == [rule.name]
    with pytest.raises(StrategyError, match=rf"{rule.name}: .+\. .+\."):
        check_strategy(broken, check_packages=False)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"processes": 2, "sharding": "ddp", "accumulation_steps": 32, "max_grad_norm": 1.0},
        {
            "processes": 2,
            "sharding": "fsdp2",
            "optimizer": "adamw_torchao_8bit",
            "stochastic_rounding": True,
            "dtype": "bfloat16",
            "accumulation_steps": 32,
            "max_grad_norm": 1.0,
            "activation_checkpointing": "full",
        },
        {"sharding": "fsdp2", "parameter_offload": True, "dtype": "bfloat16"},
        {"processes": 2, "sharding": "zero3", "parameter_offload": True, "optimizer_offload": True},
        {"optimizer_offload": True, "accumulation_steps": 32, "dtype": "bfloat16"},
        {"optimizer_offload": True, "gradient_offload": True, "dtype": "bfloat16"},
        {"optimizer_in_backward": True, "optimizer": "adamw_torchao_8bit", "dtype": "bfloat16"},
        {"optimizer": "paged_adamw_bnb_8bit", "quantization": "4bit", "max_grad_norm": 1.0},
        {"mixed_precision": "fp16", "compute_capability": (7, 0)},
        {"mixed_precision": "bf16", "device": "cpu"},
        # peft keeps an adapter's weights in float32.
        {"mixed_precision": "fp16", "dtype": "float16", "is_adapted": True},
        {"compile": True, "quantization": "4bit"},
        {"liger": True, "fp8": True, "dtype": "bfloat16", "compute_capability": (9, 0)},
        {"platform": "darwin", "device": "cpu"},
    ],
)
def test_what_works_is_not_refused(values):
    assert find_refusals(settings(**values), check_packages=False) == []


@pytest.mark.parametrize(
    ("package", "values", "remedy"),
    [
        ("bitsandbytes", {"optimizer": "adamw_bnb_8bit"}, r"modeling_astrobio\[gpu\]"),
        ("bitsandbytes", {"quantization": "4bit"}, r"modeling_astrobio\[gpu\]"),
        ("torchao", {"optimizer": "adamw_torchao"}, r"modeling_astrobio\[gpu\]"),
        ("torchao", {"optimizer_offload": True}, r"modeling_astrobio\[gpu\]"),
        ("deepspeed", {"sharding": "zero3", "processes": 2}, r"modeling_astrobio\[gpu\]"),
        ("liger_kernel", {"liger": True}, r"modeling_astrobio\[gpu\]"),
        ("flash_attn", {"attn_implementation": "flash_attention_2", "dtype": "bfloat16"}, "pip install flash-attn"),
    ],
)
def test_absent_package_is_named(monkeypatch, package, values, remedy):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else found(name))
    with pytest.raises(
        StrategyError, match=rf"{package}_missing: .*needs {package}, which is not installed.*{remedy}"
    ):
        check_strategy(settings(**values))


def test_every_reason_is_given():
    both = settings(optimizer_in_backward=True, accumulation_steps=32, max_grad_norm=1.0)
    with pytest.raises(
        StrategyError, match=r"in_backward_with_accumulation: .* optimizer_in_backward_with_clipping: "
    ):
        check_strategy(both, check_packages=False)
