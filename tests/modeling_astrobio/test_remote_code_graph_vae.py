"""A saved AstroGraphVAE and its processor open where the package is not installed, with the same results."""

import json

import pytest
import torch
from graph_vae_models import GRAPH, processor_of, tiny_model
from remote_reader import read_elsewhere

from modeling_astrobio import AstroGraphVAEModel, AstroGraphVAEProcessor


SMILES = ["CCO", "c1ccc2[nH]ccc2c1", "[NH3+]CC(=O)[O-]"]
# What configuration, model and processor need and nothing else: no training code, no metabolic networks, no LLM.
MODEL_CLOSURE = {
    "attention_eager.py",
    "attention_graph_bias.py",
    "attention_small_graphs.py",
    "configuration_astro_graph_vae.py",
    "configuration_presets.py",
    "graph_dense.py",
    "graph_distances.py",
    "graph_encoder.py",
    "graph_encodings.py",
    "graph_features.py",
    "graph_latent.py",
    "graph_latent_prior.py",
    "modeling_astro_graph_vae.py",
    "molecule_decoder.py",
    "molecule_decoder_one_shot.py",
    "molecule_grammar.py",
}
PROCESSOR_CLOSURE = {
    "constraint_balance.py",
    "graph_features.py",
    "graph_record.py",
    "metabolic_files.py",
    "metabolic_network.py",
    "metabolic_tensors.py",
    "molecule_tensors.py",
    "processing_astro_graph_vae.py",
}
READER = """
import json
from transformers import AutoConfig, AutoModel, AutoProcessor

config = AutoConfig.from_pretrained(source, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(source, trust_remote_code=True)
model = AutoModel.from_pretrained(source, trust_remote_code=True)
for each in (config, processor, model):
    assert type(each).__module__.startswith("transformers_modules."), type(each)
assert not model.training
batch = processor(json.loads((exchange / "smiles.json").read_text()))
found = {f"batch.{name}": value for name, value in batch.items()}
with torch.no_grad():
    output = model(**batch)
    found |= {"loss": output.loss, "mean": output.mean, "log_likelihood": output.log_likelihood}
drawn = model.sample(7, generator=torch.Generator().manual_seed(0))
found |= {f"drawn.{name}": value for name, value in drawn.items()}
(exchange / "drawn.json").write_text(json.dumps(processor.batch_decode(**drawn)))
try:
    processor(["C", "C("])
except ValueError as error:
    assert "item 1: the SMILES 'C(' does not parse" in str(error), error
else:
    raise AssertionError("a SMILES that is none was read")
model.train()
torch.manual_seed(0)
loss = model(**batch).loss
loss.backward()
found["training_loss"] = loss.detach()
model.eval()
model.save_pretrained(exchange / "saved_again")
processor.save_pretrained(exchange / "saved_again")
with torch.no_grad():
    again = AutoModel.from_pretrained(exchange / "saved_again", trust_remote_code=True)
    reader = AutoProcessor.from_pretrained(exchange / "saved_again", trust_remote_code=True)
    found["again"] = again(**reader(json.loads((exchange / "smiles.json").read_text()))).loss
save_file({key: value.contiguous() for key, value in found.items()}, exchange / "found.safetensors")
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model saved with its processor, and what a process without the package made of them."""
    model = tiny_model()
    source, exchange = tmp_path_factory.mktemp("saved"), tmp_path_factory.mktemp("exchange")
    model.save_pretrained(source)
    processor_of(model.config).save_pretrained(source)
    (exchange / "smiles.json").write_text(json.dumps(SMILES))
    # Kernels round by where weights lie in memory, which a file decides: what was loaded equals what was loaded.
    model = AstroGraphVAEModel.from_pretrained(source)
    return model, source, exchange, read_elsewhere(READER, source, exchange)


def python_files(folder) -> set[str]:
    return {path.name for path in folder.glob("*.py")}


def test_folder_holds_the_files_needed_and_no_others(saved, tmp_path):
    model, source, exchange, _ = saved
    for folder in (source, exchange / "saved_again"):
        assert python_files(folder) == MODEL_CLOSURE | PROCESSOR_CLOSURE
        assert not [path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".pkl")]
        assert (folder / "model.safetensors").exists()
    model.save_pretrained(tmp_path / "model")
    processor_of(model.config).save_pretrained(tmp_path / "processor")
    assert python_files(tmp_path / "model") == MODEL_CLOSURE
    assert python_files(tmp_path / "processor") == PROCESSOR_CLOSURE


def test_every_auto_class_is_named(saved):
    _, source, exchange, _ = saved
    for folder in (source, exchange / "saved_again"):
        auto_map = json.loads((folder / "config.json").read_text())["auto_map"]
        assert auto_map == {
            "AutoConfig": "configuration_astro_graph_vae.AstroGraphVAEConfig",
            "AutoModel": "modeling_astro_graph_vae.AstroGraphVAEModel",
        }
        auto_map = json.loads((folder / "processor_config.json").read_text())["auto_map"]
        assert auto_map == {"AutoProcessor": "processing_astro_graph_vae.AstroGraphVAEProcessor"}


def test_results_there_equal_those_here(saved):
    model, _, exchange, found = saved
    processor = processor_of(model.config)
    batch = processor(SMILES)
    # The same code on the same machine: bit for bit.
    for name, value in batch.items():
        assert torch.equal(found[f"batch.{name}"], value), name
    with torch.no_grad():
        output = model(**batch)
    assert torch.equal(found["loss"], output.loss)
    assert torch.equal(found["again"], output.loss)
    assert torch.equal(found["mean"], output.mean)
    assert torch.equal(found["log_likelihood"], output.log_likelihood)
    drawn = model.sample(7, generator=torch.Generator().manual_seed(0))
    assert all(torch.equal(found[f"drawn.{name}"], drawn[name]) for name in GRAPH)
    assert json.loads((exchange / "drawn.json").read_text()) == processor.batch_decode(**drawn)
    torch.manual_seed(0)
    assert torch.equal(found["training_loss"], model.train()(**batch).loss.detach())
    model.eval()


def test_what_was_saved_there_opens_here(saved):
    model, _, exchange, _ = saved
    loaded, report = AstroGraphVAEModel.from_pretrained(exchange / "saved_again", output_loading_info=True)
    assert type(loaded) is AstroGraphVAEModel
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    processor = AstroGraphVAEProcessor.from_pretrained(exchange / "saved_again")
    assert type(processor) is AstroGraphVAEProcessor
    with torch.no_grad():
        assert torch.equal(loaded(**processor(SMILES)).loss, model(**processor(SMILES)).loss)
