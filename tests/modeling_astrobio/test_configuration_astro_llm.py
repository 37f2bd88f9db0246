"""Presets have the sizes they promise, and a configuration whose sizes do not fit is refused."""

import json
import time

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from reference_models import tiny_config
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

import modeling_astrobio
from modeling_astrobio import ASTRO_LLM_PRESETS, AstroLLMConfig, AstroLLMForCausalLM


ROPE = {"rope_type": "default", "rope_theta": 10000.0}


def parameter_count(preset: str) -> int:
    with torch.device("meta"):
        return AstroLLMForCausalLM(AstroLLMConfig.from_preset(preset)).num_parameters()


@pytest.mark.parametrize("preset", ["13b", "13b_open"])
def test_13b_has_exactly_the_promised_parameters(preset):
    start = time.perf_counter()
    assert parameter_count(preset) == 13_139_072_000
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(("preset", "parameters"), [("tiny", 112_848), ("nano", 918_656), ("1b", 1_033_971_712)])
def test_small_presets_have_the_counted_parameters(preset, parameters):
    assert parameter_count(preset) == parameters


def test_13b_is_grouped_and_every_size_is_a_multiple_of_128():
    config = AstroLLMConfig.from_preset("13b")
    assert config.num_attention_heads // config.num_key_value_heads == 5
    sizes = (config.vocab_size, config.hidden_size, config.intermediate_size, config.head_dim)
    assert all(size % 128 == 0 for size in sizes)


def test_defaults_are_derived_from_the_other_fields():
    config = AstroLLMConfig(hidden_size=48, num_attention_heads=6, num_hidden_layers=2, attention_bias=True)
    assert (config.num_key_value_heads, config.head_dim) == (6, 8)
    assert config.layer_types == ["full_attention", "full_attention"]
    assert config.attention_output_bias is True
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 10000.0}


@pytest.mark.parametrize("preset", sorted(ASTRO_LLM_PRESETS))
def test_saved_configuration_round_trips(preset, tmp_path):
    config = AstroLLMConfig.from_preset(preset, use_qk_norm=True, attention_bias=True, attention_output_bias=False)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert type(loaded) is AstroLLMConfig
    assert loaded.auto_map == {"AutoConfig": "configuration_astro_llm.AstroLLMConfig"}
    loaded.name_or_path = config.name_or_path
    assert loaded.to_dict() == config.to_dict()


def test_parallel_plans_are_not_written_to_the_file(tmp_path):
    tiny_config(use_qk_norm=True).save_pretrained(tmp_path)
    assert not [key for key in json.loads((tmp_path / "config.json").read_text()) if "plan" in key]


def test_plan_of_one_configuration_does_not_change_another():
    tiny_config(use_qk_norm=True)
    assert "layers.*.self_attn.q_norm" not in tiny_config().base_model_tp_plan


def test_preset_takes_the_number_of_labels_of_a_classifier():
    assert AstroLLMConfig.from_preset("tiny", num_labels=3).num_labels == 3


def test_auto_classes_know_the_model():
    with torch.device("meta"):
        for auto_class in (AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification):
            model = auto_class.from_config(tiny_config())
            assert type(model).__module__.startswith("modeling_astrobio.")


def test_every_public_name_exists():
    missing = [name for name in modeling_astrobio.__all__ if not hasattr(modeling_astrobio, name)]
    assert missing == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_key_value_heads": 4}, r"num_attention_heads must be a multiple of num_key_value_heads \(4\); got 6"),
        ({"head_dim": 7}, "head_dim must be even for rotary positions; got 7"),
        ({"layer_types": ["full_attention"]}, r"layer_types must have num_hidden_layers \(3\) entries; got 1"),
        (
            {"layer_types": ["full_attention", "mamba2", "full_attention"]},
            r"layer_types\[1\] must be one of .*'mamba2'",
        ),
        ({"layer_types": ["sliding_attention"] * 3}, "sliding_window must be a number of tokens.*got None"),
        ({"layer_types": ["sliding_attention"] * 3, "sliding_window": 0}, "sliding_window must be.*got 0"),
        ({"loss_chunk_size": -1}, r"loss_chunk_size must be 0 .* or a number of tokens; got -1"),
        ({"vocab_size": 0}, "vocab_size must be at least 1; got 0"),
        ({"num_attention_heads": 0}, "num_attention_heads must be at least 1; got 0"),
        ({"num_key_value_heads": 0}, "num_key_value_heads must be at least 1; got 0"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be at least 1; got 0"),
        ({"initializer_range": 1.5}, "initializer_range"),
        ({"attention_dropout": 1.5}, "attention_dropout"),
        ({"rms_norm_eps": -1e-6}, "rms_norm_eps"),
        ({"hidden_act": "sillu"}, "hidden_act must be .*'sillu'"),
        ({"rope_parameters": {**ROPE, "partial_rotary_factor": 0.5}}, "partial_rotary_factor.* must be 1"),
        ({"rope_parameters": {"full_attention": ROPE}}, "rope_parameters must be one set for all layers"),
        ({"hidden_size": 48.5}, "hidden_size"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(overrides, message):
    with pytest.raises(StrictDataclassError, match=message):
        AstroLLMConfig.from_preset("tiny", **overrides)


def test_size_that_no_longer_fits_is_refused_before_saving(tmp_path):
    config = tiny_config()
    config.num_key_value_heads = 4
    with pytest.raises(StrictDataclassError, match="num_attention_heads must be a multiple"):
        config.save_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("preset", "overrides", "message"),
    [
        ("13B", {}, r"preset must be one of \['13b', '13b_open', '1b', 'nano', 'tiny'\]; got '13B'"),
        ("tiny", {"num_kv_heads": 2}, "'num_kv_heads' is not a field of AstroLLMConfig"),
        ("tiny", {"hiden_size": 48}, "Did you mean 'hidden_size'"),
    ],
)
def test_unknown_preset_or_field_is_refused(preset, overrides, message):
    with pytest.raises(ValueError, match=message):
        AstroLLMConfig.from_preset(preset, **overrides)
