"""Fitting the prior of a trained graph VAE."""

import sys

import numpy as np
import pytest
import torch
from graph_vae_models import tiny_model

from modeling_astrobio import AstroGraphVAEProcessor
from modeling_astrobio.training.errors import HardwareError
from modeling_astrobio.training.graph_evaluation import held_out_figures
from modeling_astrobio.training.graph_prior import fit_latent_prior


SMILES = [
    "C" * chain + end
    for chain in range(1, 9)
    for end in ("", "O", "N", "=O", "C#N", "C=C", "OC", "C(C)C", "F", "NC", "C1CC1", "C(O)O")
]


@pytest.fixture
def parts():
    model = tiny_model(num_prior_components=3).eval()
    with torch.no_grad():
        # So that latents of different molecules stand apart.
        model.latents.posterior_proj.weight.mul_(20)
    processor = AstroGraphVAEProcessor(model.config.atom_types, model.config.max_nodes)
    records, _ = processor.read(SMILES)
    return model, processor, records


def test_latents_are_likelier_under_the_fitted_prior(parts):
    model, processor, records = parts
    before = held_out_figures(model, processor, records, 40, seed=1)
    found = fit_latent_prior(model, processor, records, batch_size=7)
    after = held_out_figures(model, processor, records, 40, seed=1)
    assert found["molecules"] == len(SMILES)
    assert found["components"] == 3
    assert after["divergence_nats"] < 0.7 * before["divergence_nats"]
    assert after["standard_divergence_nats"] == before["standard_divergence_nats"]
    assert after["reconstruction_nats"] == before["reconstruction_nats"]
    assert after["nats"] == pytest.approx(after["reconstruction_nats"] + after["divergence_nats"])
    # The number of molecules encoded together does not matter, and neither does fitting again.
    prior = {name: tensor.clone() for name, tensor in model.latent_prior.state_dict().items()}
    fit_latent_prior(model, processor, records, batch_size=50)
    for name, tensor in model.latent_prior.state_dict().items():
        np.testing.assert_allclose(tensor, prior[name], rtol=1e-2, atol=1e-2, err_msg=name)


@pytest.mark.parametrize(("count", "components"), [(0, 0), (19, 0), (20, 1), (59, 2)])
def test_few_molecules_have_few_components(parts, count, components):
    model, processor, records = parts
    prior = {name: tensor.clone() for name, tensor in model.latent_prior.state_dict().items()}
    assert fit_latent_prior(model, processor, records[:count])["components"] == components
    assert int((model.latent_prior.log_weights > -torch.inf).sum()) == (components or 3)
    if not components:
        assert all(torch.equal(tensor, prior[name]) for name, tensor in model.latent_prior.state_dict().items())


def test_says_what_is_not_installed(parts, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.mixture", None)
    with pytest.raises(HardwareError, match=r"scikit-learn.*pip install .*chem"):
        fit_latent_prior(*parts)
