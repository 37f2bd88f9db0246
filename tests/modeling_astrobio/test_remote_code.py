"""A saved model opens where the package is not installed, from the `.py` files that were saved beside its weights."""

import json

import pytest
import torch
from reference_models import random_tokens, randomised, tiny_config, tiny_model
from remote_reader import read_elsewhere
from safetensors.torch import save_file
from transformers import PreTrainedModel

from modeling_astrobio import AstroLLMForCausalLM, AstroLLMForSequenceClassification, AstroLLMModel


# What the LLM needs and nothing else: no training code, no other model.
CLOSURE = {
    "attention_eager.py",
    "attention_packing.py",
    "configuration_astro_llm.py",
    "configuration_presets.py",
    "gate_swiglu.py",
    "loss_chunked_cross_entropy.py",
    "modeling_astro_llm.py",
    "norm_rms.py",
}
LAYERS = {"layer_types": ["sliding_attention", "full_attention", "full_attention"], "sliding_window": 5}

READER = """
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

tokens = load_file(exchange / "tokens.safetensors")["tokens"]
config = AutoConfig.from_pretrained(source, trust_remote_code=True)
assert type(config).__module__.startswith("transformers_modules."), type(config)
assert config.sliding_window == 5
found = {}
with torch.no_grad():
    base = AutoModel.from_pretrained(source, trust_remote_code=True)
    found["hidden"] = base(tokens).last_hidden_state
    model = AutoModelForCausalLM.from_pretrained(source, trust_remote_code=True)
    found["logits"] = model(tokens).logits
    found["generated"] = model.generate(tokens, max_new_tokens=5, do_sample=False, pad_token_id=0)
    classifier = AutoModelForSequenceClassification.from_pretrained(source, trust_remote_code=True)
    assert classifier(tokens[:1]).logits.shape == (1, 2)
loss = model.train()(tokens, labels=tokens).loss
loss.backward()
found["loss"] = loss.detach()
model.eval()
for saved_model, name in ((model, "saved_again"), (base, "saved_base")):
    saved_model.save_pretrained(exchange / name)
    with torch.no_grad():
        again = AutoModelForCausalLM.from_pretrained(exchange / name, trust_remote_code=True)
        if name == "saved_again":
            found["again"] = again(tokens).logits
save_file({key: value.contiguous() for key, value in found.items()}, exchange / "found.safetensors")
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A causal model saved in several shards, and what a process without the package made of it."""
    model = tiny_model(**LAYERS)
    source, exchange = tmp_path_factory.mktemp("saved"), tmp_path_factory.mktemp("exchange")
    model.save_pretrained(source, max_shard_size="100KB")
    tokens = random_tokens(2, 13)
    save_file({"tokens": tokens}, exchange / "tokens.safetensors")
    return model, tokens, source, exchange, read_elsewhere(READER, source, exchange)


def test_folder_holds_shards_of_safetensors_and_the_files_needed(saved):
    _, _, source, exchange, _ = saved
    for folder in (source, exchange / "saved_again", exchange / "saved_base"):
        names = {path.name for path in folder.iterdir()}
        assert {name for name in names if name.endswith(".py")} == CLOSURE
        assert not [name for name in names if name.endswith((".bin", ".pt", ".pth", ".pkl"))]
    assert len(list(source.glob("model-*.safetensors"))) > 2
    assert (source / "model.safetensors.index.json").exists()


@pytest.mark.parametrize("folder", ["saved", "saved_again", "saved_base"])
def test_every_auto_class_is_named(saved, folder):
    path = saved[2] if folder == "saved" else saved[3] / folder
    assert json.loads((path / "config.json").read_text())["auto_map"] == {
        "AutoConfig": "configuration_astro_llm.AstroLLMConfig",
        "AutoModel": "modeling_astro_llm.AstroLLMModel",
        "AutoModelForCausalLM": "modeling_astro_llm.AstroLLMForCausalLM",
        "AutoModelForSequenceClassification": "modeling_astro_llm.AstroLLMForSequenceClassification",
    }


def test_results_there_equal_those_here(saved):
    model, tokens, _, _, found = saved
    with torch.no_grad():
        output = model(tokens, output_hidden_states=True)
        generated = model.generate(tokens, max_new_tokens=5, do_sample=False, pad_token_id=0)
    # The same code on the same machine: bit for bit.
    assert torch.equal(found["logits"], output.logits)
    assert torch.equal(found["again"], output.logits)
    assert torch.equal(found["hidden"], output.hidden_states[-1])
    assert torch.equal(found["generated"], generated)
    assert torch.equal(found["loss"], model.train()(tokens, labels=tokens).loss.detach())
    model.eval()


def test_model_saved_there_opens_here(saved):
    model, tokens, _, exchange, _ = saved
    loaded, report = AstroLLMForCausalLM.from_pretrained(exchange / "saved_again", output_loading_info=True)
    assert type(loaded) is AstroLLMForCausalLM
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    with torch.no_grad():
        assert torch.equal(loaded(tokens).logits, model(tokens).logits)


@pytest.mark.parametrize("model_class", [AstroLLMModel, AstroLLMForSequenceClassification])
def test_every_class_saves_the_same_files_and_map(model_class, tmp_path):
    config = tiny_config(**LAYERS)
    config.num_labels = 3
    model = randomised(model_class(config)).eval()
    model.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.glob("*.py")} == CLOSURE
    assert len(json.loads((tmp_path / "config.json").read_text())["auto_map"]) == 4
    tokens = random_tokens(1, 7)
    with torch.no_grad():
        expected, found = model(tokens), model_class.from_pretrained(tmp_path)(tokens)
    assert torch.equal(found[0], expected[0])


def test_other_entries_of_the_map_are_kept(tmp_path):
    model = tiny_model()
    model.config.auto_map = {"AutoTokenizer": ["tokenization_astro.AstroTokenizer", None]}
    model.save_pretrained(tmp_path)
    auto_map = json.loads((tmp_path / "config.json").read_text())["auto_map"]
    assert auto_map["AutoTokenizer"] == ["tokenization_astro.AstroTokenizer", None]
    assert len(auto_map) == 5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_dtype_of_the_weights_survives(dtype, tmp_path):
    model = tiny_model(dtype)
    model.save_pretrained(tmp_path)
    loaded = AstroLLMForCausalLM.from_pretrained(tmp_path)
    assert loaded.dtype == dtype
    # The frequencies are computed anew, in float32.
    assert loaded.model.rotary_emb.inv_freq.dtype == torch.float32
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_weights_are_saved_in_shards_of_five_gigabytes(tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr(PreTrainedModel, "save_pretrained", lambda self, folder, **kwargs: asked.update(kwargs))
    model = tiny_model()
    model.save_pretrained(tmp_path)
    assert asked == {"max_shard_size": "5GB"}
    model.save_pretrained(tmp_path, max_shard_size="1GB")
    assert asked == {"max_shard_size": "1GB"}
