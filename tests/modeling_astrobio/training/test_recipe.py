"""Recipes: a wrong key, type or value is refused by name; every recipe that ships can be used."""

import re
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from transformers import AutoModelForCausalLM

from modeling_astrobio import AstroLLMConfig
from modeling_astrobio.training.errors import RecipeError
from modeling_astrobio.training.llm_recipe import LLMRecipe
from modeling_astrobio.training.recipe import TRAINING_DEFAULTS, load_recipe, read_yaml, recipe_from_dict


RECIPES = Path(__file__).resolve().parents[3] / "recipes"
LLM_RECIPES = sorted((RECIPES / "llm").glob("*.yaml"))
HARDWARE = sorted((RECIPES / "hardware").glob("*.yaml"))
STRATEGIES = sorted((RECIPES / "strategies").glob("*.yaml"))
NAMES = [path.stem for path in LLM_RECIPES]


def recipe(**sections):
    return recipe_from_dict(LLMRecipe, {"model": {"preset": "tiny"}, **sections})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modle": {}}, "unknown recipe key 'modle'. Did you mean 'model'?"),
        ({"model": {"presett": "tiny"}}, "unknown recipe key 'model.presett'. Did you mean 'preset'?"),
        ({"adapter": {"rr": 1}}, "unknown recipe key 'adapter.rr'. Did you mean 'r'?"),
        ({"tokenizer": {"pathh": "x"}}, "unknown recipe key 'tokenizer.pathh'. Did you mean 'path'?"),
        (
            {"data": {"sequence_lenght": 8}},
            "key 'data.sequence_lenght'. Did you mean 'sequence_length'?",
        ),
        ({"evaluation": {"max_question": 8}}, "unknown recipe key 'evaluation.max_question'. Did you mean"),
        (
            {"training": {"learning_rat": 1}},
            "key 'training.learning_rat'. Did you mean 'learning_rate'?",
        ),
        ({"data": {"zzzz": 1}}, "unknown recipe key 'data.zzzz'. Known: ['dataset_config', 'dataset_name',"),
        ({1: 2}, "unknown recipe key '1'"),
        ({"training": {1: 2}}, "unknown recipe key 'training.1'"),
    ],
)
def test_unknown_keys_are_refused_at_every_level(values, message):
    with pytest.raises(RecipeError, match=re.escape(message)):
        recipe_from_dict(LLMRecipe, values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "tiny"}, "model must be a mapping; got 'tiny'"),
        ({"data": None}, "data must be a mapping; got None"),
        ({"training": [1]}, "training must be dict; got [1] (list)"),
        ({"data": {"sequence_length": "many"}}, "data.sequence_length must be int; got 'many' (str)"),
        ({"data": {"sequence_length": 64.5}}, "data.sequence_length must be int; got 64.5 (float)"),
        ({"data": {"sequence_length": True}}, "data.sequence_length must be int; got True (bool)"),
        ({"data": {"pack": 1}}, "data.pack must be bool; got 1 (int)"),
        ({"data": {"text_column": None}}, "data.text_column must be str; got None"),
        ({"data": {"dataset_name": 3}}, "data.dataset_name must be str or NoneType; got 3"),
        ({"adapter": {"target_modules": "q_proj"}}, "adapter.target_modules must be list or NoneType; got 'q_proj'"),
        ({"training": {"max_steps": "abc"}}, "training.max_steps must be int; got 'abc'"),
        ({"training": {"learning_rate": "fast"}}, "training.learning_rate must be float; got 'fast'"),
        ({"training": {"bf16": "yes"}}, "training.bf16 must be bool; got 'yes'"),
    ],
)
def test_wrong_types_are_refused(values, message):
    with pytest.raises(RecipeError, match=re.escape(message)):
        recipe(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": {}}, "exactly one of model.preset and model.checkpoint must be set; got preset=None"),
        ({"model": {"preset": "tiny", "checkpoint": "x"}}, "exactly one of model.preset and model.checkpoint"),
        ({"model": {"checkpoint": "x", "config": {"head_dim": 8}}}, "model.config changes a preset"),
        ({"model": {"preset": "tiny", "dtype": "float8"}}, "model.dtype must be one of"),
        ({"model": {"checkpoint": "x", "quantization": "4bit"}}, "it needs adapter.r above 0; got 0"),
        ({"model": {"checkpoint": "x", "quantization": "2bit"}}, "model.quantization must be one of"),
        ({"device": "gpu"}, "device must be one of ('auto', 'cpu', 'cuda'); got 'gpu'"),
        ({"data": {"sequence_length": 1}}, "data.sequence_length must be at least 2; got 1"),
        ({"data": {"max_rows": -1}}, "data.max_rows must be at least 0"),
        ({"data": {"streaming": True}}, "data.streaming needs training.max_steps of at least 1"),
        ({"adapter": {"r": -1}}, "adapter.r must be at least 0"),
        ({"evaluation": {"ngram_order": 0}}, "evaluation.ngram_order must be at least 1"),
        ({"evaluation": {"max_questions": -1}}, "evaluation.max_questions must be at least 0"),
        ({"evaluation": {"batch_size": 0}}, "evaluation.batch_size must be at least 1"),
        ({"evaluation": {"max_new_tokens": 0}}, "evaluation.max_new_tokens must be at least 1"),
        ({"schedule": "cosin"}, "schedule must be one of ('cosine', 'linear', "),
        (
            {"strategy": {"sharding": "fsdp"}},
            "strategy.sharding must be one of ('auto', 'none', 'ddp', 'fsdp2', 'zero3')",
        ),
        ({"strategy": {"optimizer": "adam"}}, "strategy.optimizer must be one of ('adamw', "),
        (
            {"strategy": {"activation_checkpointing": "some"}},
            "strategy.activation_checkpointing must be one of ('none', 'selective', 'full'); got 'some'",
        ),
        ({"training": {"gradient_accumulation_steps": 0}}, "gradient_accumulation_steps must be at least 1; got 0"),
        ({"training": {"per_device_train_batch_size": -1}}, "per_device_train_batch_size must be at least 1; got -1"),
    ],
)
def test_values_that_contradict_are_refused(values, message):
    with pytest.raises(RecipeError, match=re.escape(message)):
        recipe(**values)


@pytest.mark.parametrize(
    ("key", "value", "remedy"),
    [
        ("output_dir", "x", "set output_dir at the top"),
        ("push_to_hub", True, "hf upload"),
        ("resume_from_checkpoint", "x", "pass --resume"),
        ("overwrite_output_dir", True, "choose another output_dir"),
        ("remove_unused_columns", True, "the data section names the columns"),
        ("load_best_model_at_end", True, "the run ends with its last weights"),
        ("use_cpu", True, "set device: cpu"),
        ("save_only_model", True, "cannot be continued"),
        ("ignore_data_skip", True, "had not seen"),
        ("lr_scheduler_type", "cosine", "set schedule"),
        ("optim", "adamw_torch", "set strategy.optimizer"),
        ("activation_checkpointing", True, "set strategy.activation_checkpointing"),
        ("gradient_checkpointing", True, "set strategy.activation_checkpointing"),
        ("torch_compile", True, "set strategy.compile"),
        ("use_liger_kernel", True, "set strategy.liger"),
        ("fsdp", "full_shard", "recipes/hardware/fsdp2.yaml"),
        ("deepspeed", "x.json", "recipes/hardware/zero3_offload.yaml"),
    ],
)
def test_reserved_training_keys_name_what_to_do_instead(key, value, remedy):
    with pytest.raises(RecipeError, match=rf"training\.{key} is not taken; .*{re.escape(remedy)}"):
        recipe(training={key: value})


def test_numbers_in_text_and_whole_numbers_are_floats():
    # YAML reads 1e-4 as text, since it wants a dot.
    resolved = recipe(training={"learning_rate": "1e-4", "weight_decay": 1, "warmup_steps": "0.1"}).training
    assert (resolved["learning_rate"], resolved["weight_decay"], resolved["warmup_steps"]) == (1e-4, 1.0, 0.1)
    assert isinstance(resolved["weight_decay"], float)


def test_defaults_are_filled_in_and_can_be_read_back():
    resolved = recipe(training={"seed": 7})
    assert resolved.training == {**TRAINING_DEFAULTS, "seed": 7}
    assert recipe_from_dict(LLMRecipe, resolved.to_dict()) == resolved


def test_overrides_reach_every_level(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("model:\n  preset: tiny\ndata:\n  pack: true\n", encoding="utf-8")
    overrides = [
        "device=cpu",
        "data.pack=false",
        "model.config.head_dim=16",
        "training.learning_rate=1e-4",
        "data.text_column=a=b",
        "tokenizer.path=",
        "adapter.target_modules=[q_proj, v_proj]",
    ]
    resolved = load_recipe(LLMRecipe, path, overrides)
    assert resolved.output_dir == "outputs/llm-mine"
    assert resolved.device == "cpu"
    assert resolved.data.pack is False
    assert resolved.model.config == {"head_dim": 16}
    assert resolved.training["learning_rate"] == 1e-4
    assert resolved.data.text_column == "a=b"
    assert resolved.tokenizer.path is None
    assert resolved.adapter.target_modules == ["q_proj", "v_proj"]


def test_layers_replace_values_and_overrides_replace_layers(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "model: {preset: tiny, config: {head_dim: 8}}\nadapter: {r: 4}\ndata: {pack: false}\n", encoding="utf-8"
    )
    layers = (
        {"model": {"dtype": "bfloat16", "config": {"loss_chunk_size": 0}}, "strategy": {"optimizer": "lion"}},
        {"strategy": {"optimizer": "sophia", "liger": True}},
    )
    resolved = load_recipe(LLMRecipe, path, ["strategy.liger=false"], layers=layers)
    assert (resolved.model.preset, resolved.model.dtype) == ("tiny", "bfloat16")
    assert resolved.model.config == {"head_dim": 8, "loss_chunk_size": 0}
    assert (resolved.strategy.optimizer, resolved.strategy.liger) == ("sophia", False)
    assert (resolved.adapter.r, resolved.data.pack) == (4, False)
    with pytest.raises(RecipeError, match=r"unknown recipe key 'strategy.optimiser'. Did you mean 'optimizer'"):
        load_recipe(LLMRecipe, path, layers=({"strategy": {"optimiser": "lion"}},))


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda path: path.stem)
@pytest.mark.parametrize("name", ["1b", "13b"])
def test_strategies_that_ship_lie_over_recipes(name, strategy):
    layer = read_yaml(strategy.stem, RECIPES / "strategies", "strategy")
    resolved = load_recipe(LLMRecipe, name, folder=RECIPES / "llm", layers=(layer,))
    for key, value in layer.get("strategy", {}).items():
        assert getattr(resolved.strategy, key) == value
    for key, value in layer.get("training", {}).items():
        assert resolved.training[key] == value


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("device", "an override must be section.key=value; got 'device'"),
        ("device.name=cpu", "'device' is a value, not a section"),
        ("data.sequence_length=[1", "'data.sequence_length=[1': the value is not valid YAML"),
        ("data.sequence=64", "unknown recipe key 'data.sequence'"),
        ("data=64", "data must be a mapping; got 64"),
    ],
)
def test_wrong_overrides_are_refused(tmp_path, override, message):
    path = tmp_path / "mine.yaml"
    path.write_text("device: cpu\nmodel: {preset: tiny}\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=re.escape(message)):
        load_recipe(LLMRecipe, path, [override])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"model: {preset: [", "recipe mine.yaml is not valid YAML"),
        (b"\xff\xfe\x00\x81", "recipe mine.yaml is not valid YAML"),
        (b"- model\n", "recipe mine.yaml must be a mapping of sections; got list"),
        (b"", "exactly one of model.preset and model.checkpoint must be set"),
    ],
)
def test_files_that_are_no_recipes_are_refused(tmp_path, content, message):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=re.escape(message)):
        load_recipe(LLMRecipe, path)


def test_absent_recipe_names_those_that_are_there():
    with pytest.raises(RecipeError, match=r"one of \['13b', .*'nano', 'tiny'\]; got 'nanno'"):
        load_recipe(LLMRecipe, "nanno", folder=RECIPES / "llm")


@pytest.mark.parametrize("name", NAMES)
def test_recipes_that_ship_resolve(name):
    resolved = load_recipe(LLMRecipe, name, folder=RECIPES / "llm")
    assert resolved.output_dir == f"outputs/llm-{name}"
    if resolved.model.preset is not None:
        config = AstroLLMConfig.from_preset(resolved.model.preset, **resolved.model.config)
        assert resolved.data.sequence_length <= config.max_position_embeddings


@pytest.mark.parametrize("name", [name for name in NAMES if name in ("13b", "1b", "nano", "tiny")])
def test_models_of_recipes_build_on_the_meta_device(name):
    settings = load_recipe(LLMRecipe, name, folder=RECIPES / "llm").model
    config = AstroLLMConfig.from_preset(settings.preset, **settings.config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, settings.dtype))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert all(parameter.is_meta for parameter in model.parameters())
    if name == "13b":
        assert parameters == 13_139_072_000


@pytest.mark.parametrize("path", HARDWARE, ids=lambda path: path.stem)
def test_hardware_files_are_read_by_accelerate(path):
    config = load_config_from_file(str(path))
    assert config.num_machines == 1
    assert config.num_processes == (1 if path.stem in ("cpu", "one_gpu") else 2)
    assert config.use_cpu == (path.stem == "cpu")
    if config.fsdp_config:
        assert config.fsdp_config["fsdp_version"] == 2
        assert config.fsdp_config["fsdp_transformer_layer_cls_to_wrap"] == "AstroLLMDecoderLayer"
