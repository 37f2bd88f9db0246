"""Heads with mean and variance: units, unknown labels, gradients, saving, and use without the package."""

import math
import os
import subprocess
import sys

import pytest
import torch
from graph_batches import SMILES, tiny_batch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from modeling_astrobio.configuration_astro_graph_vae import AstroGraphVAEConfig
from modeling_astrobio.loss_gaussian import gaussian_loss
from modeling_astrobio.modeling_astro_graph_vae import AstroGraphVAEModel
from modeling_astrobio.modeling_astro_graph_vae_properties import AstroGraphVAEForPropertyPrediction


NAMES = ("molar_mass_g_mol", "log_p", "qed")
MEANS, STDS = [123.5, 0.25, 0.5], [8.0, 1.5, 0.0625]


def property_config(**changed) -> AstroGraphVAEConfig:
    config = AstroGraphVAEConfig.from_preset("tiny", id2label=dict(enumerate(NAMES)))
    for name, value in {"label_means": MEANS, "label_scales": STDS, **changed}.items():
        setattr(config, name, value)
    return config


def property_model(dtype=torch.float64, **changed) -> AstroGraphVAEForPropertyPrediction:
    torch.manual_seed(0)
    model = AstroGraphVAEForPropertyPrediction(property_config(**changed)).to(dtype)
    # Zero biases would hide what an unused one costs.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def labels() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randn(len(SMILES), len(NAMES), generator=generator, dtype=torch.float64)
    return torch.tensor(MEANS) + torch.tensor(STDS) * drawn


def test_predictions_are_in_the_labels_units():
    in_units, standard = property_model(), property_model(label_means=None, label_scales=None)
    batch, truth = tiny_batch(dtype=torch.float64), labels()
    means, stds = torch.tensor(MEANS), torch.tensor(STDS)
    ours, theirs = in_units(**batch, labels=truth), standard(**batch, labels=(truth - means) / stds)
    torch.testing.assert_close(ours.mean, means + stds * theirs.mean, rtol=1e-12, atol=0)
    torch.testing.assert_close(ours.variance, stds.square() * theirs.variance, rtol=1e-12, atol=0)
    torch.testing.assert_close(ours.loss, theirs.loss, rtol=1e-10, atol=0)
    # The likelihood in the label's units differs by the logarithm of the unit alone.
    shift = sum(map(math.log, STDS)) / len(STDS)
    torch.testing.assert_close(gaussian_loss(ours.mean, ours.variance, truth), ours.loss + shift, rtol=1e-10, atol=0)
    assert ours.mean.shape == ours.variance.shape == (len(SMILES), 3)
    assert (ours.variance > 0).all()
    assert ours.readout.shape == (len(SMILES), in_units.config.num_latent_tokens + 1, in_units.config.hidden_size)


def test_a_batch_equals_its_graphs_one_by_one():
    model, batch = property_model(), tiny_batch(dtype=torch.float64)
    whole = model(**batch)
    for row, smiles in enumerate(SMILES):
        alone = model(**tiny_batch((smiles,), dtype=torch.float64))
        torch.testing.assert_close(whole.mean[row], alone.mean[0], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(whole.variance[row], alone.variance[0], rtol=1e-9, atol=1e-9)


def test_unknown_labels_are_as_if_removed():
    model, batch, truth = property_model(), tiny_batch(dtype=torch.float64), labels()
    truth[2] = float("nan")
    truth[4, 1] = float("nan")
    output = model(**batch, labels=truth)
    known = ~truth.isnan()
    unit = torch.tensor(STDS).expand_as(truth)[known]
    mean, std = output.mean[known] / unit, output.variance[known].sqrt() / unit
    written_out = -torch.distributions.Normal(mean, std).log_prob(truth[known] / unit).mean()
    torch.testing.assert_close(output.loss, written_out, rtol=1e-10, atol=1e-12)

    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    ours = torch.autograd.grad(output.loss, weights, retain_graph=True)
    theirs = torch.autograd.grad(written_out, weights)
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_without_known_labels_loss_and_gradients_are_zero():
    model, batch = property_model(), tiny_batch(dtype=torch.float64)
    loss = model(**batch, labels=torch.full((len(SMILES), 3), float("nan"))).loss
    loss.backward()
    assert loss == 0
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or not parameter.grad.any(), name


def test_gradients_reach_every_trained_parameter():
    model = property_model().train()
    model(**tiny_batch(dtype=torch.float64), labels=labels()).loss.backward()
    for name, parameter in model.named_parameters():
        assert not parameter.requires_grad or parameter.grad is not None, name
    for name, parameter in model.head.named_parameters():
        assert (parameter.grad.abs().amax() > 0).all(), name
    unread = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    of_latents = ("open_places", "open_proj.weight", "open_proj.bias", "posterior_proj.weight", "posterior_proj.bias")
    assert unread == {f"model.latents.{name}" for name in of_latents}


def test_bfloat16_weights_predict_in_float32():
    output = property_model(torch.bfloat16)(**tiny_batch(dtype=torch.bfloat16), labels=labels().float())
    assert output.mean.dtype == output.variance.dtype == output.loss.dtype == torch.float32
    assert output.mean.isfinite().all()


def test_saved_and_loaded_it_predicts_the_same(tmp_path):
    model, batch = property_model(torch.float32), tiny_batch()
    model.save_pretrained(tmp_path)
    again = AstroGraphVAEForPropertyPrediction.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        for name in ("mean", "variance"):
            # Weights mapped from a file lie at other addresses, by which kernels choose how to add up.
            torch.testing.assert_close(again(**batch)[name], model(**batch)[name], rtol=1e-5, atol=1e-6)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name
    assert again.config.id2label == dict(enumerate(NAMES))
    assert not again.model.latents.open_places.requires_grad


def test_starts_from_a_pretrained_autoencoder(tmp_path):
    torch.manual_seed(3)
    base = AstroGraphVAEModel(AstroGraphVAEConfig.from_preset("tiny"))
    base.save_pretrained(tmp_path)
    model, report = AstroGraphVAEForPropertyPrediction.from_pretrained(
        tmp_path, config=property_config(), output_loading_info=True
    )
    assert {name.split(".")[0] for name in report["missing_keys"]} == {"head"}
    assert not report["unexpected_keys"]
    for name, weight in base.state_dict().items():
        if not name.startswith(("decoder.", "latent_prior.")):
            assert torch.equal(weight, model.model.state_dict()[name]), name
    assert model(**tiny_batch(), labels=labels()).loss.isfinite()


READER = """
import sys
for name in ("modeling_astrobio", "data_scripts"):
    sys.modules[name] = None
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification
torch.set_num_threads(1)
source, exchange = sys.argv[1:]
batch = load_file(exchange + "/batch.safetensors")
model = AutoModelForSequenceClassification.from_pretrained(source, trust_remote_code=True).eval()
assert type(model).__module__.startswith("transformers_modules."), type(model)
with torch.no_grad():
    output = model(**batch)
    hidden = AutoModel.from_pretrained(source, trust_remote_code=True).eval().encode(**batch).mean
found = {"mean": output.mean, "variance": output.variance, "latents": hidden.contiguous()}
save_file(found, exchange + "/found.safetensors")
"""


def test_predicts_where_the_package_is_not_installed(tmp_path):
    AstroGraphVAEForPropertyPrediction.register_for_auto_class("AutoModelForSequenceClassification")
    AstroGraphVAEConfig.register_for_auto_class()
    model, batch = property_model(torch.float32), tiny_batch()
    source, exchange = tmp_path / "saved", tmp_path / "exchange"
    exchange.mkdir()
    model.save_pretrained(source)
    assert (source / "modeling_astro_graph_vae_properties.py").exists()
    assert not (source / "graph_few_shot.py").exists()
    save_file({name: tensor.contiguous() for name, tensor in batch.items()}, exchange / "batch.safetensors")
    reader = exchange / "reader.py"
    reader.write_text(READER)
    environment = {**os.environ, "HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    finished = subprocess.run(
        [sys.executable, str(reader), str(source), str(exchange)],
        capture_output=True, text=True, cwd=exchange, env=environment, check=False,
    )  # fmt: skip
    assert not finished.returncode, finished.stderr
    found = load_file(exchange / "found.safetensors")
    with torch.no_grad():
        output, latents = model(**batch), model.model.encode(**batch).mean
    torch.testing.assert_close(found["mean"], output.mean, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found["variance"], output.variance, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found["latents"], latents, rtol=1e-6, atol=1e-6)


def test_auto_map_names_every_class(tmp_path):
    property_model(torch.float32).save_pretrained(tmp_path)
    saved = AutoConfig.from_pretrained(tmp_path).auto_map
    assert saved["AutoModelForSequenceClassification"].endswith(".AstroGraphVAEForPropertyPrediction")
    assert saved["AutoModel"].endswith(f".{AstroGraphVAEModel.__name__}")


@pytest.mark.parametrize("shape", [(7, 2), (6, 3), (7,)])
def test_labels_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"labels must have the shape \(7, 3\)"):
        property_model()(**tiny_batch(dtype=torch.float64), labels=torch.zeros(shape))


def test_infinite_labels_are_refused_by_name():
    truth = labels()
    truth[4, 1] = -math.inf
    with pytest.raises(ValueError, match=r"got -inf of graph 4 for 'log_p'"):
        property_model()(**tiny_batch(dtype=torch.float64), labels=truth)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"label_means": [1.0, 2.0]}, "label_means must have 3 finite entries"),
        ({"label_means": [1.0, 2.0, float("nan")]}, "label_means must have 3 finite entries"),
        ({"label_scales": [1.0, 0.0, 1.0]}, "label_scales must be above 0"),
    ],
)
def test_a_scale_that_does_not_fit_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        AstroGraphVAEForPropertyPrediction(property_config(**changed))
