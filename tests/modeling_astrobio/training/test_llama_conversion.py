"""Conversion between AstroLLM and Llama, Mistral, Qwen2, Qwen3: logits, bits, refusals, memory."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from modeling_astrobio import AstroLLMConfig, AstroLLMForCausalLM
from modeling_astrobio.training.errors import CheckpointError, RunFolderError
from modeling_astrobio.training.llama_configs import from_astro_llm_config, to_astro_llm_config
from modeling_astrobio.training.llama_conversion import NEW_ROW_SPREAD, convert_checkpoint
from modeling_astrobio.training.safetensors_stream import CheckpointReader, write_shard


EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
# hidden_size is not num_attention_heads * head_dim, and every other size differs too.
SIZES = {
    "vocab_size": 101,
    "hidden_size": 42,
    "intermediate_size": 74,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 10,
    "max_position_embeddings": 64,
}
DENSE = {name: value for name, value in SIZES.items() if name != "head_dim"} | {"hidden_size": 48}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 13,
}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16}
LINEAR = {"rope_type": "linear", "rope_theta": 2e4, "factor": 2.5}
# Sequences in these tests are longer than 16, so that the frequencies are recomputed.
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4],
    "long_factor": [1.5, 2.0, 2.5, 3.0, 3.5],
}
MIXED = ["sliding_attention", "full_attention", "sliding_attention"]

FOREIGN = {
    "llama": LlamaConfig(**SIZES),
    "llama_multi_query": LlamaConfig(**{**SIZES, "num_key_value_heads": 1}),
    "llama_all_biases": LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
    "llama_tied": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "llama_gelu": LlamaConfig(**SIZES, hidden_act="gelu", rms_norm_eps=1e-3),
    "llama_llama3": LlamaConfig(**SIZES, rope_parameters=dict(LLAMA3)),
    "llama_yarn": LlamaConfig(**SIZES, rope_parameters=dict(YARN)),
    "llama_linear": LlamaConfig(**SIZES, rope_parameters=dict(LINEAR)),
    "llama_dynamic": LlamaConfig(**{**SIZES, "max_position_embeddings": 16}, rope_parameters=dict(DYNAMIC)),
    "llama_longrope": LlamaConfig(**SIZES, rope_parameters=dict(LONGROPE)),
    "mistral": MistralConfig(**SIZES, sliding_window=5),
    "mistral_full": MistralConfig(**SIZES, sliding_window=None),
    "qwen2": Qwen2Config(**DENSE),
    "qwen2_tied": Qwen2Config(**DENSE, tie_word_embeddings=True, rope_parameters=dict(YARN)),
    "qwen2_last_layer_slides": Qwen2Config(**DENSE, use_sliding_window=True, sliding_window=7, max_window_layers=2),
    "qwen2_head_dim": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES),
    "qwen3_biases": Qwen3Config(**SIZES, attention_bias=True, tie_word_embeddings=True),
    "qwen3_mixed": Qwen3Config(**SIZES, use_sliding_window=True, sliding_window=7, layer_types=list(MIXED)),
}
# One for each field that decides the model type, with the type it must get.
OURS = {
    "plain": ({**SIZES, "hidden_size": 48}, "llama"),
    "biases": ({**SIZES, "hidden_size": 48, "attention_bias": True, "mlp_bias": True}, "llama"),
    "uneven_heads": ({**SIZES, "hidden_size": 44}, "mistral"),
    "slides": ({**SIZES, "sliding_window": 5, "layer_types": ["sliding_attention"] * 3}, "mistral"),
    "input_biases": ({**SIZES, "attention_bias": True, "attention_output_bias": False}, "qwen2"),
    "input_biases_mixed": (
        {
            **SIZES,
            "attention_bias": True,
            "attention_output_bias": False,
            "sliding_window": 7,
            "layer_types": MIXED,
            "tie_word_embeddings": True,
        },
        "qwen2",
    ),
    "qk_norm": ({**SIZES, "use_qk_norm": True}, "qwen3"),
    "qk_norm_mixed": (
        {**SIZES, "use_qk_norm": True, "attention_bias": True, "sliding_window": 7, "layer_types": MIXED},
        "qwen3",
    ),
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_model(config: PreTrainedConfig, dtype: torch.dtype = torch.float32):
    """A model none of whose tensors is at its initial value; transformers sets biases to 0 and norms to 1."""
    config = type(config)(**config.to_dict())
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.to(dtype)


def save(model, folder: Path, max_shard_size: str = "20KB") -> Path:
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    return folder


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


def same_bits(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype
        and torch.equal(first[name].view(torch.uint8), second[name].view(torch.uint8))
        for name in first
    )


def edit_json(path: Path, **changes) -> None:
    """Set keys of a JSON file; a value `None` removes the key."""
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


@torch.no_grad()
def assert_same_function(first, second, tolerance: float = 1e-5) -> None:
    """Equal logits and equal greedy continuations: the latter run through the cache."""
    tokens = torch.randint(0, 101, (2, 23), generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(second(tokens).logits, first(tokens).logits, rtol=0, atol=tolerance)
    arguments = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    assert torch.equal(first.generate(tokens, **arguments), second.generate(tokens, **arguments))


@pytest.fixture
def llama(tmp_path) -> Path:
    """A saved Llama in several shards."""
    return save(random_model(FOREIGN["llama"]), tmp_path / "llama")


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_model_becomes_ours_and_comes_back(name, tmp_path):
    model = random_model(FOREIGN[name])
    source = save(model, tmp_path / "source")
    assert len(list(source.glob("*.safetensors"))) > 3

    report = convert_checkpoint(source, tmp_path / "ours", max_shard_size="30KB", progress=False)
    assert report.target_type == "astro_llm"
    assert report.shards == len(list((tmp_path / "ours").glob("*.safetensors"))) > 2
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert type(ours) is AstroLLMForCausalLM
    assert_same_function(model, ours)
    assert same_bits(tensors(source), tensors(tmp_path / "ours"))

    # Loaded anew, since a model with dynamic frequencies remembers the longest sequence it has seen.
    model = AutoModelForCausalLM.from_pretrained(source)
    convert_checkpoint(tmp_path / "ours", tmp_path / "back", to=model.config.model_type, progress=False)
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "back")
    assert type(back) is type(model)
    assert_same_function(model, back, tolerance=0)
    assert same_bits(tensors(source), tensors(tmp_path / "back"))
    before, after = (type(model.config).from_pretrained(tmp_path / folder).to_dict() for folder in ("source", "back"))
    if name == "qwen2_last_layer_slides":
        assert after["max_window_layers"] == 2
    # Where no layer slides, Qwen's window fields mean nothing.
    assert {key for key in before if before[key] != after.get(key)} <= {"max_window_layers"}


@pytest.mark.parametrize("name", OURS)
def test_our_model_becomes_the_first_type_that_fits(name, tmp_path):
    fields_, expected = OURS[name]
    model = random_model(AstroLLMConfig(**fields_))
    source = save(model, tmp_path / "ours")
    report = convert_checkpoint(source, tmp_path / "theirs", progress=False)
    assert report.target_type == expected
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "theirs")
    assert theirs.config.model_type == expected
    assert type(theirs).__module__.startswith("transformers.")
    assert not list((tmp_path / "theirs").glob("*.py"))
    assert_same_function(model, theirs)
    assert same_bits(tensors(source), tensors(tmp_path / "theirs"))

    convert_checkpoint(tmp_path / "theirs", tmp_path / "back", progress=False)
    assert_same_function(model, AutoModelForCausalLM.from_pretrained(tmp_path / "back"), tolerance=0)


def test_a_type_can_be_forced_and_types_pass_into_one_another(llama, tmp_path):
    report = convert_checkpoint(llama, tmp_path / "mistral", to="mistral", progress=False)
    assert (report.source_type, report.target_type) == ("llama", "mistral")
    first, second = (AutoModelForCausalLM.from_pretrained(folder) for folder in (llama, tmp_path / "mistral"))
    assert_same_function(first, second)


@pytest.mark.parametrize("name", ["llama_tied", "mistral", "qwen2", "qwen3"])
def test_bfloat16_passes_bit_for_bit(name, tmp_path):
    model = random_model(FOREIGN[name], torch.bfloat16)
    source = save(model, tmp_path / "source", "10KB")
    report = convert_checkpoint(source, tmp_path / "ours", max_shard_size="13KB", progress=False)
    assert report.dtypes == ["bfloat16"]
    assert same_bits(tensors(source), tensors(tmp_path / "ours"))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert loaded.dtype == torch.bfloat16
    assert same_bits(model.state_dict(), loaded.state_dict())


def test_dtype_casts_every_tensor(llama, tmp_path):
    report = convert_checkpoint(llama, tmp_path / "ours", dtype=torch.bfloat16, progress=False)
    cast = {name: tensor.to(torch.bfloat16) for name, tensor in tensors(llama).items()}
    assert same_bits(cast, tensors(tmp_path / "ours"))
    assert report.size_bytes == 2 * report.parameters == 2 * sum(tensor.numel() for tensor in cast.values())
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "ours").dtype == torch.bfloat16


def test_tensors_of_several_dtypes_keep_their_own(llama, tmp_path):
    for path in llama.glob("*.safetensors"):
        mixed = {k: v.to(torch.float32 if "norm" in k else torch.bfloat16) for k, v in load_file(path).items()}
        save_file(mixed, path, {"format": "pt"})
    report = convert_checkpoint(llama, tmp_path / "ours", progress=False)
    assert report.dtypes == ["bfloat16", "float32"]
    assert same_bits(tensors(llama), tensors(tmp_path / "ours"))


def test_ours_loads_where_the_package_is_not_installed(tmp_path):
    model = random_model(FOREIGN["qwen3_mixed"])
    convert_checkpoint(save(model, tmp_path / "source"), tmp_path / "ours", progress=False)
    tokens = torch.arange(23)[None]
    torch.save(model(tokens).logits, tmp_path / "logits.pt")
    script = """
import sys
sys.modules["modeling_astrobio"] = None
import torch
from transformers import AutoModel, AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained("ours", trust_remote_code=True)
assert type(model).__module__.startswith("transformers_modules."), type(model)
torch.testing.assert_close(model(torch.arange(23)[None]).logits, torch.load("logits.pt"), rtol=0, atol=1e-5)
assert type(AutoModel.from_pretrained("ours", trust_remote_code=True)).__name__ == "AstroLLMModel"
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


OLD_STYLE = {
    "theta": {"rope_theta": 12345.0},
    "linear": {"rope_theta": 2e4, "rope_scaling": {"type": "linear", "factor": 2.5}},
    "llama3": {"rope_theta": 5e5, "rope_scaling": {k: v for k, v in LLAMA3.items() if k != "rope_theta"}},
    "yarn": {"rope_theta": 1e4, "rope_scaling": {k: v for k, v in YARN.items() if k != "rope_theta"}},
}


@pytest.mark.parametrize("name", OLD_STYLE)
def test_old_style_rope_keys(name, llama, tmp_path):
    edit_json(llama / "config.json", rope_parameters=None, dtype=None, torch_dtype="float32", **OLD_STYLE[name])
    first = AutoModelForCausalLM.from_pretrained(llama)
    assert first.config.rope_parameters["rope_theta"] == OLD_STYLE[name]["rope_theta"]
    report = convert_checkpoint(llama, tmp_path / "ours", progress=False)
    assert report.ignored_keys == []
    assert_same_function(first, AutoModelForCausalLM.from_pretrained(tmp_path / "ours"))


def test_old_style_window_keys(tmp_path):
    source = save(random_model(FOREIGN["qwen2_last_layer_slides"]), tmp_path / "source")
    edit_json(source / "config.json", layer_types=None, max_window_layers=1)
    convert_checkpoint(source, tmp_path / "ours", progress=False)
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    assert ours.config.layer_types == ["full_attention", "sliding_attention", "sliding_attention"]
    assert_same_function(AutoModelForCausalLM.from_pretrained(source), ours)


def test_llama_2_13b_extended_is_the_preset_13b_open():
    config = LlamaConfig(
        hidden_size=5120,
        intermediate_size=13824,
        num_hidden_layers=40,
        num_attention_heads=40,
        max_position_embeddings=4096,
        rms_norm_eps=1e-5,
    )
    ours, preset = to_astro_llm_config(config, vocab_size=44032), AstroLLMConfig.from_preset("13b_open")
    differing = {f.name for f in fields(ours) if getattr(ours, f.name) != getattr(preset, f.name)}
    assert differing <= {"bos_token_id", "eos_token_id"}
    with torch.device("meta"):
        assert AstroLLMForCausalLM(ours).num_parameters() == 13_139_072_000


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_vocabulary_extension(tied, dtype, tmp_path):
    model = random_model(LlamaConfig(**SIZES, tie_word_embeddings=tied), dtype)
    source = save(model, tmp_path / "source")
    report = convert_checkpoint(source, tmp_path / "ours", vocab_size=137, progress=False)
    assert report.vocab_sizes == (101, 137)
    assert "101 -> 137" in str(report)
    before, after = tensors(source), tensors(tmp_path / "ours")
    names = [EMBEDDING] if tied else [EMBEDDING, HEAD]
    offsets = {}
    assert same_bits(
        {name: tensor for name, tensor in before.items() if name not in names},
        {name: tensor for name, tensor in after.items() if name not in names},
    )
    for name in names:
        old, new = after[name][:101], after[name][101:].double()
        assert torch.equal(old, before[name])
        assert new.shape == (36, 42)
        assert after[name].dtype == dtype
        assert len(new.unique(dim=0)) == 36
        spread = old.double().std(0, correction=0)
        offset = offsets[name] = (new - old.double().mean(0)) / spread
        # 36 * 42 normal deviates of NEW_ROW_SPREAD: their root mean square is within 10% (5 standard errors); bfloat16
        # adds its rounding.
        rounding = 0.01 if dtype == torch.bfloat16 else 0.0
        assert abs(offset.square().mean().sqrt() - NEW_ROW_SPREAD) < 0.1 * NEW_ROW_SPREAD + rounding
        assert offset.abs().max() < 5 * NEW_ROW_SPREAD + 3 * rounding
    if not tied:
        # Independent noise: a correlation of 36 * 42 pairs of standard error 0.026.
        assert torch.corrcoef(torch.stack([offsets[name].flatten() for name in names]))[0, 1].abs() < 0.15

    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "ours")
    tokens = torch.arange(23)[None]
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens).logits[..., :101], model(tokens).logits, rtol=0, atol=tolerance)

    convert_checkpoint(source, tmp_path / "again", vocab_size=137, progress=False)
    assert same_bits(after, tensors(tmp_path / "again"))


def test_vocabulary_cannot_shrink(llama, tmp_path):
    with pytest.raises(CheckpointError, match=r"vocab_size must be at least the source's \(101\); got 100"):
        convert_checkpoint(llama, tmp_path / "ours", vocab_size=100, progress=False)


def test_old_rotary_buffers_are_dropped_and_named(llama, tmp_path):
    index = json.loads((llama / "model.safetensors.index.json").read_text())
    name = "model.layers.1.self_attn.rotary_emb.inv_freq"
    index["weight_map"][name] = "model-old.safetensors"
    (llama / "model.safetensors.index.json").write_text(json.dumps(index))
    save_file({name: torch.ones(5)}, llama / "model-old.safetensors", {"format": "pt"})
    report = convert_checkpoint(llama, tmp_path / "ours", progress=False)
    assert list(report.dropped) == [name]
    assert name not in tensors(tmp_path / "ours")
    assert f"Left out {name}" in str(report)


def single_file(folder: Path, **changes: torch.Tensor | None) -> Path:
    """Make a folder's shards one file, with some tensors changed or, where `None`, removed."""
    content = tensors(folder)
    for path in folder.glob("model*.safetensors*"):
        path.unlink()
    content = {name: tensor for name, tensor in {**content, **changes}.items() if tensor is not None}
    save_file(content, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_tied_head_that_is_stored_too(tmp_path):
    source = save(random_model(FOREIGN["llama_tied"]), tmp_path / "source")
    embedding = tensors(source)[EMBEDDING]

    single_file(source, **{HEAD: embedding.clone()})
    report = convert_checkpoint(source, tmp_path / "both", progress=False)
    assert list(report.dropped) == [HEAD]

    single_file(source, **{HEAD: embedding.clone(), EMBEDDING: None})
    convert_checkpoint(source, tmp_path / "head_only", progress=False)
    assert same_bits(tensors(tmp_path / "both"), tensors(tmp_path / "head_only"))

    single_file(source, **{HEAD: embedding + 1, EMBEDDING: embedding})
    with pytest.raises(CheckpointError, match=r"'lm_head.weight' must equal 'model.embed_tokens.weight'"):
        convert_checkpoint(source, tmp_path / "differ", progress=False)


def tokenizer_of(folder: Path) -> PreTrainedTokenizerFast:
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=["<s>", "</s>"])
    inner.train_from_iterator(["water methane oxygen 2024 ozone 1234"] * 20, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", chat_template="{{ messages[0].content }}"
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


TEXT = "Ozone and 1234 methane,  oxygen's lines"


def test_tokenizer_generation_config_and_licence_travel(llama, tmp_path):
    tokenizer = tokenizer_of(llama)
    # Llama 2's own file: transformers refuses to save it, as temperature without sampling means nothing.
    (llama / "generation_config.json").write_text('{"do_sample": false, "temperature": 0.9, "eos_token_id": [2, 5]}')
    (llama / "LICENSE.txt").write_text("terms")
    (llama / "README.md").write_text("another model's card")
    report = convert_checkpoint(llama, tmp_path / "ours", progress=False)
    assert report.warnings == []
    assert {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"} <= set(
        report.copied
    )
    assert not (tmp_path / "ours" / "README.md").exists()
    assert (tmp_path / "ours" / "LICENSE.txt").read_text() == "terms"
    assert (tmp_path / "ours" / "generation_config.json").read_text() == (llama / "generation_config.json").read_text()
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "ours").generation_config.eos_token_id == [2, 5]
    loaded = AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert loaded(TEXT).input_ids == tokenizer(TEXT).input_ids
    assert loaded.chat_template == tokenizer.chat_template


def test_tokenizer_that_the_model_type_decides_stays_the_same(tmp_path):
    """transformers gives a qwen2 folder a Qwen2Tokenizer, which cuts digits singly, whatever the folder says."""
    source = save(random_model(FOREIGN["qwen2"]), tmp_path / "source")
    tokenizer_of(source)
    as_qwen2 = AutoTokenizer.from_pretrained(source)(TEXT).input_ids
    report = convert_checkpoint(source, tmp_path / "ours", progress=False)
    assert report.warnings == []
    assert AutoTokenizer.from_pretrained(tmp_path / "ours")(TEXT).input_ids == as_qwen2

    source = save(random_model(AstroLLMConfig(**OURS["input_biases"][0])), tmp_path / "plain")
    as_saved = tokenizer_of(source)(TEXT).input_ids
    assert as_saved != as_qwen2
    report = convert_checkpoint(source, tmp_path / "theirs", progress=False)
    assert report.target_type == "qwen2"
    assert any("cuts text otherwise under model type 'qwen2'" in warning for warning in report.warnings)
    assert PreTrainedTokenizerFast.from_pretrained(tmp_path / "theirs")(TEXT).input_ids == as_saved


def test_keys_that_the_model_does_not_use_are_named(llama, tmp_path):
    edit_json(llama / "config.json", attention_multiplier=0.5)
    report = convert_checkpoint(llama, tmp_path / "ours", progress=False)
    assert report.ignored_keys == ["attention_multiplier"]
    assert "attention_multiplier" in str(report)


INEXPRESSIBLE = {
    "mixed_layers": (
        {"sliding_window": 7, "layer_types": MIXED},
        None,
        "mistral: layer_types mixes full and sliding layers",
    ),
    "output_bias_only": (
        {"attention_output_bias": True},
        None,
        "llama: attention_output_bias must equal attention_bias",
    ),
    "qk_norm_and_mlp_bias": ({"use_qk_norm": True, "mlp_bias": True}, None, "qwen3: mlp_bias is not available"),
    "forced_llama": ({"use_qk_norm": True}, "llama", "cannot be expressed as llama. llama: use_qk_norm is not"),
    "forced_mistral": ({"mlp_bias": True}, "mistral", "mistral: mlp_bias is not available"),
    "forced_qwen2": ({}, "qwen2", "qwen2: attention_bias must be true"),
    "forced_qwen3": ({}, "qwen3", "qwen3: use_qk_norm must be true"),
    "forced_llama_uneven": ({"hidden_size": 44}, "llama", r"hidden_size \(44\) must be a multiple of"),
}


@pytest.mark.parametrize("name", INEXPRESSIBLE)
def test_configs_that_no_type_expresses_are_refused(name):
    changes, to, message = INEXPRESSIBLE[name]
    with pytest.raises(CheckpointError, match=message):
        from_astro_llm_config(AstroLLMConfig(**{**SIZES, **changes}), to)


def test_unknown_target_is_refused():
    with pytest.raises(CheckpointError, match=r"to must be one of .*; got 'gpt2'"):
        from_astro_llm_config(AstroLLMConfig(**SIZES), "gpt2")


REFUSED_CONFIGS = {
    "pretraining_tp": ("llama", {"pretraining_tp": 2}, "pretraining_tp must be 1; got 2"),
    "model_type": ("llama", {"model_type": "gemma"}, "model_type must be one of .*; got 'gemma'"),
    "quantised": (
        "llama",
        {"quantization_config": {"quant_method": "gptq"}},
        r"quantization_config \(gptq\) is not supported",
    ),
    "own_code": ("llama", {"auto_map": {"AutoModel": "mine.Model"}}, "auto_map says that the checkpoint runs code"),
    "per_layer": ("llama", {"per_layer_config": {"0": {"hidden_size": 8}}}, "per_layer_config is not supported"),
    "llama_window": ("llama", {"sliding_window": 5}, "sliding_window must be absent for model_type 'llama'"),
    "llama_layers": ("llama", {"layer_types": MIXED}, "layer_types must be absent or all 'full_attention'"),
    "partial_rotary": (
        "llama",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}},
        r"\['partial_rotary_factor'\] must be absent or 1",
    ),
    "rope_type": (
        "llama",
        {"rope_parameters": {"rope_type": "ntk", "rope_theta": 1e4}},
        r"rope_parameters\['rope_type'\] must be one of .*; got 'ntk'",
    ),
    "mrope": (
        "qwen2",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 2, 2]}},
        r"\['mrope_section'\] is for images",
    ),
    "rope_by_layer": (
        "qwen3",
        {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}},
        "rope_parameters must be one set for all layers",
    ),
    "window_off": ("qwen3", {"layer_types": MIXED}, "but use_sliding_window is false"),
    "wrong_type": ("llama", {"hidden_size": "wide"}, "LlamaConfig refuses it: .*hidden_size"),
    "rope_keys": ("llama", {"rope_parameters": {"rope_type": "linear"}}, "LlamaConfig refuses it: .*factor"),
    "uneven_groups": ("qwen3", {"num_key_value_heads": 4}, "AstroLLM cannot express .*num_attention_heads must be"),
}


@pytest.mark.parametrize("name", REFUSED_CONFIGS)
def test_configs_that_ours_does_not_express_are_refused(name, tmp_path):
    which, changes, message = REFUSED_CONFIGS[name]
    (tmp_path / "source").mkdir()
    FOREIGN[which].save_pretrained(tmp_path / "source")
    edit_json(tmp_path / "source" / "config.json", **changes)
    with pytest.raises(CheckpointError, match=message):
        convert_checkpoint(tmp_path / "source", tmp_path / "ours", progress=False)
    assert not (tmp_path / "ours").exists()


def shard_with(folder: Path, name: str) -> Path:
    return folder / json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"][name]


def rewrite(path: Path, **changes: torch.Tensor | None) -> None:
    content = {**load_file(path), **changes}
    save_file({name: tensor for name, tensor in content.items() if tensor is not None}, path, {"format": "pt"})


GATE = "model.layers.1.mlp.gate_proj.weight"


def break_truncated(folder):
    path = shard_with(folder, GATE)
    path.write_bytes(path.read_bytes()[:-8])


def break_in_header(folder):
    path = shard_with(folder, GATE)
    path.write_bytes(path.read_bytes()[:20])


def break_header(folder):
    path = shard_with(folder, GATE)
    content = bytearray(path.read_bytes())
    content[12:16] = b"\xff\xff\xff\xff"
    path.write_bytes(content)


def break_offsets(folder):
    path = shard_with(folder, GATE)
    path.write_bytes(path.read_bytes() + b"extra bytes")


def break_absent(folder):
    shard_with(folder, GATE).unlink()


def break_lfs(folder):
    shard_with(folder, GATE).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def break_index(folder):
    (folder / "model.safetensors.index.json").write_text("{}")


def break_index_path(folder):
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"][GATE] = "../elsewhere.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def break_not_in_shard(folder):
    rewrite(shard_with(folder, GATE), **{GATE: None, "filler": torch.ones(3)})


def break_not_in_index(folder):
    rewrite(shard_with(folder, GATE), stowaway=torch.ones(3))


def break_unexpected(folder):
    single_file(folder, **{"score.weight": torch.ones(2, 42)})


def break_missing(folder):
    single_file(folder, **{GATE: None})


def break_shape(folder):
    single_file(folder, **{GATE: torch.ones(42, 74)})


def break_integer(folder):
    single_file(folder, **{GATE: torch.ones(74, 42, dtype=torch.int8)})


def break_nan(folder):
    rewrite(shard_with(folder, GATE), **{GATE: torch.full((74, 42), torch.nan)})


def break_pickled(folder):
    for path in folder.glob("model*.safetensors*"):
        path.unlink()
    torch.save({}, folder / "pytorch_model.bin")


def break_adapter(folder):
    for path in folder.glob("model*.safetensors*"):
        path.unlink()
    (folder / "adapter_config.json").write_text("{}")


def break_empty(folder):
    for path in folder.glob("model*.safetensors*"):
        path.unlink()


def break_config_absent(folder):
    (folder / "config.json").unlink()


def break_config(folder):
    (folder / "config.json").write_text("[1, 2")


BROKEN = {
    break_truncated: rf"model-\d+-of-\d+.safetensors: tensor '{GATE}' ends at byte .* truncated to",
    break_in_header: r"model-\d+-of-\d+.safetensors is truncated within its header",
    break_header: r"model-\d+-of-\d+.safetensors has a corrupted header",
    break_offsets: r"model-\d+-of-\d+.safetensors is corrupted",
    break_absent: r"model-\d+-of-\d+.safetensors is missing, though the index names it",
    break_lfs: "is a Git LFS pointer, not weights",
    break_index: "must be JSON with a 'weight_map'",
    break_index_path: rf"shard '../elsewhere.safetensors' of tensor '{GATE}' must be a plain file name",
    break_not_in_shard: rf"safetensors: tensor '{GATE}' is missing, though the index places it there",
    break_not_in_index: "safetensors: tensor 'stowaway' is unexpected: the index does not place it there",
    break_unexpected: r"model.safetensors: tensor 'score.weight' is unexpected in a llama",
    break_missing: rf"tensor '{GATE}', shape \(74, 42\), is missing",
    break_shape: rf"tensor '{GATE}' must have shape \(74, 42\) by config.json; got \(42, 74\)",
    break_integer: rf"tensor '{GATE}' must be one of .*; got I8. Quantised checkpoints are not converted",
    break_nan: rf"tensor '{GATE}' holds infinities or NaN",
    break_pickled: r"got only pickled weights \(pytorch_model.bin\). Turn them into safetensors once: python -c",
    break_adapter: "holds a PEFT adapter",
    break_empty: "must hold model.safetensors or model.safetensors.index.json; neither is there",
    break_config_absent: "config.json is missing",
    break_config: "config.json must be a JSON object",
}


@pytest.mark.parametrize("breakage", BROKEN, ids=lambda function: function.__name__)
def test_broken_checkpoints_are_refused_and_leave_nothing(breakage, llama, tmp_path):
    breakage(llama)
    with pytest.raises(CheckpointError, match=BROKEN[breakage]):
        convert_checkpoint(llama, tmp_path / "ours", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["llama"]


def test_pickled_weights_convert_after_the_remedy(llama, tmp_path):
    content = tensors(llama)
    break_empty(llama)
    torch.save(content, llama / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="python -c") as refusal:
        convert_checkpoint(llama, tmp_path / "ours", progress=False)
    command = str(refusal.value).split('python -c "')[1].removesuffix('"')
    subprocess.run([sys.executable, "-c", command], check=True, capture_output=True)
    convert_checkpoint(llama, tmp_path / "ours", progress=False)
    assert same_bits(content, tensors(tmp_path / "ours"))


def test_overflow_in_float16_is_refused(llama, tmp_path):
    rewrite(shard_with(llama, GATE), **{GATE: torch.full((74, 42), 1e6)})
    with pytest.raises(CheckpointError, match=rf"tensor '{GATE}' overflows torch.float16. Use bfloat16"):
        convert_checkpoint(llama, tmp_path / "ours", dtype=torch.float16, progress=False)
    assert not (tmp_path / "ours").exists()


def test_dest_that_exists_is_refused(llama, tmp_path):
    with pytest.raises(RunFolderError, match=r"dest must be new or an empty folder; .*llama exists. Remove it"):
        convert_checkpoint(llama, llama, progress=False)
    (tmp_path / "empty").mkdir()
    convert_checkpoint(llama, tmp_path / "empty", progress=False)
    assert (tmp_path / "empty" / "config.json").is_file()


def test_source_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"source must be a checkpoint folder on disk; got .*hf download"):
        convert_checkpoint("meta-llama/Llama-2-13b-hf", tmp_path / "ours", progress=False)


def test_shard_size_that_is_no_size_is_refused(llama, tmp_path):
    with pytest.raises(CheckpointError, match="max_shard_size must be bytes or a size as '5GB'; got 'large'"):
        convert_checkpoint(llama, tmp_path / "ours", max_shard_size="large", progress=False)


def test_full_disk_is_refused_before_writing(llama, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    with pytest.raises(CheckpointError, match=r"must have [\d,]+ bytes free; it has 10,000"):
        convert_checkpoint(llama, tmp_path / "ours", progress=False)


def test_writer_makes_what_safetensors_reads(tmp_path):
    content = {"odd": torch.randn(7, 3).bfloat16(), "wide": torch.randn(5), "empty": torch.empty(0, 4)}
    specs = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in content.items()}
    write_shard(tmp_path / "model.safetensors", specs, lambda name: iter(content[name].split(2)))
    assert same_bits(content, load_file(tmp_path / "model.safetensors"))
    with safe_open(tmp_path / "model.safetensors", framework="pt") as shard:
        assert shard.metadata() == {"format": "pt"}
    assert CheckpointReader(tmp_path).specs == specs


def test_writer_refuses_pieces_that_do_not_fit(tmp_path):
    specs = {"weight": (torch.float32, (7, 3))}
    with pytest.raises(CheckpointError, match=r"'weight' must fill 84 bytes of x.safetensors; got 72"):
        write_shard(tmp_path / "x.safetensors", specs, lambda name: iter([torch.ones(6, 3)]))
    with pytest.raises(CheckpointError, match=r"'weight' must be written as torch.float32; got torch.float16"):
        write_shard(tmp_path / "x.safetensors", specs, lambda name: iter([torch.ones(7, 3).half()]))


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peak memory is read from Linux's /proc")
@pytest.mark.parametrize("shard_size", ["40MB", "1GB"])
def test_memory_does_not_grow_with_the_model(shard_size, tmp_path):
    """Peak memory for 251 MB of weights, in shards or in one file, stays near that of a nearly empty model.

    It is VmHWM, not getrusage's ru_maxrss: the latter keeps the peak that the starting process had before exec.
    """
    script = """
import sys
import torch
from transformers import LlamaConfig
from modeling_astrobio.training.llama_conversion import convert_checkpoint, _meta_model, _plan_shards, _shapes
from modeling_astrobio.training.safetensors_stream import write_shard
import json
from pathlib import Path
torch.set_num_threads(1)
def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024
def make(folder, layers):
    config = LlamaConfig(vocab_size=999, hidden_size=768, intermediate_size=2304, num_hidden_layers=layers,
                         num_attention_heads=12)
    Path(folder).mkdir()
    config.save_pretrained(folder)
    specs = {name: (torch.float32, shape) for name, shape in _shapes(_meta_model(config, torch.float32)).items()}
    plan = _plan_shards(specs, sys.argv[1])
    for file, names in plan.filename_to_tensors.items():
        write_shard(Path(folder) / file, {name: specs[name] for name in names},
                    lambda name: iter([torch.full(specs[name][1], 0.01)]))
    if plan.is_sharded:
        index = {"weight_map": plan.tensor_to_filename}
        (Path(folder) / "model.safetensors.index.json").write_text(json.dumps(index))
make("small", 1)
make("large", 8)
arguments = dict(vocab_size=1100, dtype=torch.bfloat16, max_shard_size=sys.argv[1], progress=False)
convert_checkpoint("small", "small_ours", **arguments)
before = peak()
report = convert_checkpoint("large", "large_ours", **arguments)
print(json.dumps([before, peak(), 2 * report.size_bytes, report.shards]))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3]), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, shard_size],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    before, after, model_size, shards = json.loads(done.stdout.splitlines()[-1])
    assert model_size > 240e6
    assert shards == (1 if shard_size == "1GB" else 4)
    assert after - before < 30e6
