"""AstroGraphVAE: latents that do not depend on the order of a graph, an exact bound, gradients everywhere, learning.

Tolerances: latents of order 1 after three layers; float32 sums in another order differ by 1e-6, float64 by 1e-15.
"""

import pytest
import torch
from graph_vae_models import GRAPH, SMILES, molecule_batch, processor_of, randomised, tiny_config, tiny_model

from modeling_astrobio import AstroGraphVAEModel
from modeling_astrobio.graph_latent import free_bits_divergence


EXACT = {"rtol": 1e-10, "atol": 1e-10}
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def noise_of(batch: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(batch, 2, 10, dtype=dtype, generator=torch.Generator().manual_seed(3))


def permuted(batch: dict[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    """The graphs with nodes, edges and motifs in other orders, padding among them, and the ends of edges exchanged."""
    generator = torch.Generator().manual_seed(seed)
    nodes, edges, motifs = (
        torch.randperm(batch[name].shape[1], generator=generator)
        for name in ("node_types", "edge_types", "motif_types")
    )
    place = nodes.argsort()
    ends = place[batch["edge_index"]][..., edges]
    flip = torch.rand(ends[:, :1].shape, generator=generator) < 0.5
    return {
        "node_types": batch["node_types"][:, nodes],
        "node_features": batch["node_features"][:, nodes],
        "edge_index": torch.where(flip, ends.flip(1), ends),
        "edge_types": batch["edge_types"][:, edges],
        "edge_features": batch["edge_features"][:, edges],
        "motif_types": batch["motif_types"][:, motifs],
        "motif_nodes": batch["motif_nodes"][:, motifs][:, :, nodes],
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_order_of_nodes_edges_and_motifs_does_not_change_the_latents(dtype, attention):
    model, batch = tiny_model(dtype, attention), molecule_batch(dtype=dtype)
    with torch.no_grad():
        expected = model.encode(**batch)
        assert (expected.mean[0] - expected.mean[1]).abs().max() > 0.1
        for seed in range(3):
            found = model.encode(**permuted(batch, seed))
            assert (found.mean - expected.mean).abs().max() < TOLERANCE[dtype]
            assert (found.log_variance - expected.log_variance).abs().max() < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_batch_equals_its_graphs_one_by_one(dtype):
    model, noise = tiny_model(dtype), noise_of(len(SMILES), dtype)
    with torch.no_grad():
        together = model(**molecule_batch(dtype=dtype), latent_noise=noise)
        for row, smiles in enumerate(SMILES):
            alone = model(**molecule_batch([smiles], dtype=dtype), latent_noise=noise[row : row + 1])
            assert (alone.mean[0] - together.mean[row]).abs().max() < TOLERANCE[dtype]
            # A sum of tens of terms.
            torch.testing.assert_close(
                alone.log_likelihood[0], together.log_likelihood[row], rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
            )


def test_loss_is_the_bound_written_out():
    model, batch = tiny_model(torch.float64, free_bits=1.5, kl_weight=0.3), molecule_batch(dtype=torch.float64)
    noise = noise_of(len(SMILES))
    output = model(**batch, latent_noise=noise)
    posterior = model.encode(**batch)
    tokens = model.latents.open(posterior.mean + (0.5 * posterior.log_variance).exp() * noise)
    likelihood, violation = model.decoder(tokens, *(batch[name] for name in GRAPH))
    torch.testing.assert_close(output.log_likelihood, likelihood, **EXACT)
    torch.testing.assert_close(output.violation, violation, **EXACT)
    penalty = free_bits_divergence(output.divergence, 1.5)
    torch.testing.assert_close(output.loss, 0.3 * penalty - likelihood.mean(), **EXACT)
    torch.testing.assert_close(
        model(**batch, latent_noise=noise, kl_weight=0.7).loss, 0.7 * penalty - likelihood.mean()
    )
    torch.testing.assert_close(model(**batch, latent_noise=noise, kl_weight=0.0).loss, -likelihood.mean())
    weight = torch.tensor(0.7, dtype=torch.float64)
    torch.testing.assert_close(
        model(**batch, latent_noise=noise, kl_weight=weight).loss, 0.7 * penalty - likelihood.mean()
    )


def test_noise_is_drawn_in_training_alone():
    model, batch = tiny_model(), molecule_batch()
    with torch.no_grad():
        assert torch.equal(model(**batch).loss, model(**batch, latent_noise=torch.zeros(len(SMILES), 2, 10)).loss)
        model.train()
        torch.manual_seed(0)
        first = model(**batch).loss
        assert not torch.equal(model(**batch).loss, first)
        torch.manual_seed(0)
        assert torch.equal(model(**batch).loss, first)


@pytest.mark.parametrize("overrides", [{}, {"constrain_decoding": False}])
def test_gradients_reach_every_parameter(overrides):
    model = tiny_model(torch.float64, free_bits=0.0, **overrides).train()
    model(**molecule_batch(dtype=torch.float64), latent_latent_noise=noise_of(len(SMILES))).loss.backward()
    unreached = [name for name, value in model.named_parameters() if value.grad is None or value.grad.norm() < 1e-10]
    assert unreached == []
    assert all(value.grad.isfinite().all() for value in model.parameters())


def test_gradients_reach_every_parameter_as_it_is_made():
    torch.manual_seed(0)
    model = AstroGraphVAEModel(tiny_config(free_bits=0.0)).train()
    model(**molecule_batch(dtype=torch.float32)).loss.backward()
    assert [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()] == []


def test_kernels_agree():
    found = {}
    for attention in ("eager", "sdpa"):
        model = tiny_model(torch.float64, attention)
        output = model(**molecule_batch(dtype=torch.float64), latent_latent_noise=noise_of(len(SMILES)))
        output.loss.backward()
        found[attention] = (output.loss, output.mean, [value.grad for value in model.parameters()])
    torch.testing.assert_close(found["sdpa"], found["eager"], **EXACT)


def test_activation_checkpointing_changes_nothing():
    plain, saving = tiny_model(torch.float64).train(), tiny_model(torch.float64).train()
    saving.activation_checkpointing_enable()
    assert any(getattr(module, "gradient_checkpointing", False) for module in saving.decoder.modules())
    assert any(getattr(module, "gradient_checkpointing", False) for module in saving.encoder.modules())
    batch, noise = molecule_batch(dtype=torch.float64), noise_of(len(SMILES))
    for model in (plain, saving):
        model(**batch, latent_noise=noise).loss.backward()
    for (name, value), other in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(other.grad, value.grad, **EXACT, msg=lambda text, n=name: f"{n}: {text}")
    # Samples are drawn from a cache, in training too.
    drawn = [model.sample(5, generator=torch.Generator().manual_seed(0)) for model in (plain, saving)]
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in GRAPH)


def test_half_precision_is_finite_and_near():
    model, batch = tiny_model(), molecule_batch()
    with torch.no_grad():
        expected = model(**batch).mean
        found = model.to(torch.bfloat16)(**batch)
    assert found.loss.isfinite()
    # Eight bits of mantissa.
    assert (found.mean.float() - expected).abs().max() < 0.05 * expected.abs().max()


def test_samples_are_valid_and_follow_the_generator():
    model = tiny_model()
    drawn = [model.sample(37, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    smiles = [processor_of(model.config).batch_decode(**each) for each in drawn]
    assert len(smiles[0]) == 37
    assert smiles[0] == smiles[1] != smiles[2]
    assert None not in smiles[0]
    assert not [each for each in smiles[0] if "." in each]
    assert (model.sample(9, max_nodes=2)["node_types"] > 0).sum(1).max() <= 2
    assert model.sample()["node_types"].shape[0] == 1


def test_reconstruction_is_the_greedy_decoding_of_the_mean():
    model, batch = tiny_model(), molecule_batch()
    expected = model.sample(latents=model.encode(**batch).mean, greedy=True)
    found = model.reconstruct(**batch)
    assert found["node_types"].shape[0] == len(SMILES)
    assert all(torch.equal(found[name], expected[name]) for name in GRAPH)
    assert not model.training


def test_interpolation_begins_and_ends_at_the_graphs():
    model = tiny_model()
    start, end = molecule_batch(["CCO", "c1ccccc1"]), molecule_batch(["CN", "C1CC1"])
    steps = processor_of(model.config).batch_decode(**model.interpolate(start, end, steps=5))
    assert len(steps) == 10
    decode = processor_of(model.config).batch_decode
    assert steps[::5] == decode(**model.reconstruct(**start))
    assert steps[4::5] == decode(**model.reconstruct(**end))
    drawn = [model.interpolate(start, end, 3, greedy=False, generator=torch.Generator().manual_seed(0)) for _ in "ab"]
    assert torch.equal(drawn[0]["node_types"], drawn[1]["node_types"])


def test_arguments_that_do_not_fit_are_refused():
    model, batch = tiny_model(), molecule_batch(["CCO", "C"])
    with pytest.raises(ValueError, match=r"latents must have the shape \(B, 2, 10\); got \(3, 20\)"):
        model.sample(latents=torch.zeros(3, 20))
    with pytest.raises(ValueError, match="num_samples must be at least 1; got 0"):
        model.sample(0)
    with pytest.raises(ValueError, match="temperature must be above 0 and finite; got 0"):
        model.sample(1, temperature=0.0)
    with pytest.raises(ValueError, match="steps must be at least 2, both ends of the line; got 1"):
        model.interpolate(batch, batch, steps=1)
    with pytest.raises(ValueError, match="start and end must have as many graphs; got 2 and 1"):
        model.interpolate(batch, molecule_batch(["CC"]))
    batch["node_types"][1, 0] = model.config.compound_type
    with pytest.raises(ValueError, match="graph 1 is none that can be drawn"):
        model(**batch)


def test_model_without_a_decoder_only_reads():
    whole = tiny_model()
    reader = AstroGraphVAEModel(whole.config, with_decoder=False).eval()
    report = reader.load_state_dict(whole.state_dict(), strict=False)
    assert not report.missing_keys
    assert all(name.startswith(("decoder.", "latent_prior.")) for name in report.unexpected_keys)
    batch = molecule_batch()
    with torch.no_grad():
        found = reader(**batch)
        assert torch.equal(found.mean, whole(**batch).mean)
    assert found.loss is None
    assert found.log_likelihood is None
    for call in (reader.sample, lambda: reader.reconstruct(**batch), lambda: reader.interpolate(batch, batch)):
        with pytest.raises(ValueError, match="made without a decoder and only reads graphs; load AstroGraphVAEModel"):
            call()


def test_model_is_saved_and_loaded(tmp_path):
    model, batch = tiny_model(), molecule_batch()
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    loaded, report = AstroGraphVAEModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert not loaded.training
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    with torch.no_grad():
        # Kernels round by where weights lie in memory, which a file decides.
        torch.testing.assert_close(loaded(**batch).loss, model(**batch).loss, rtol=1e-5, atol=0)
        again = AstroGraphVAEModel.from_pretrained(tmp_path)
        assert torch.equal(loaded(**batch).loss, again(**batch).loss)


def test_hidden_states_and_attentions_are_returned_where_asked_for():
    model, batch = tiny_model(attention="eager"), molecule_batch()
    with torch.no_grad():
        output = model(**batch, output_hidden_states=True, output_attentions=True)
        plain = model(**batch)
    tokens = output.token_mask.shape[1] - batch["edge_types"].shape[1]
    assert plain.hidden_states is None
    assert plain.attentions is None
    assert torch.equal(output.loss, plain.loss)
    assert len(output.attentions) == 3
    assert len(output.hidden_states) == 4
    assert all(states.shape[0] == len(SMILES) and states.shape[2] == 24 for states in output.hidden_states)
    for weights in output.attentions:
        assert weights.shape == (len(SMILES), 3, tokens, tokens)
        # Each real token's attention is shared among real tokens.
        real = output.token_mask[:, : weights.shape[-1]].bool()
        rows = weights.transpose(1, 2)[real]
        torch.testing.assert_close(rows.sum(-1), torch.ones(rows.shape[:-1]))
        assert not weights.permute(0, 3, 1, 2)[~real].transpose(-1, -2)[..., 0, :].any()


OVERFIT = (
    *("CCO", "CCN", "CC(C)O", "C1CC1", "C1CCC1O", "c1ccccc1", "c1ccncc1", "CC#N", "C=CC=C", "CC(=O)O", "CC(N)=O"),
    *("OCC(O)CO", "COC", "CSC", "CCCl", "FC(F)F", "C1CCOC1", "c1ccoc1", "c1cc[nH]c1", "NCC(=O)O", "[NH3+]CC(=O)[O-]"),
    *("CC(C)(C)C", "C#CC#C", "O=C=O", "N#CC#N", "CC=O", "C1CN1", "CCCCC", "OC=O", "CNC", "NC=O", "C"),
)


def test_thirty_two_molecules_are_learnt_by_heart():
    assert len(set(OVERFIT)) == 32
    torch.manual_seed(0)
    model = AstroGraphVAEModel(
        tiny_config(hidden_size=48, intermediate_size=96, kl_weight=1e-4, num_encoder_layers=2)
    ).train()
    batch = molecule_batch(OVERFIT)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    steps = 450
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    assert losses[0] > 8
    assert losses[-1] < 0.5
    decode = processor_of(model.config).batch_decode
    pairs = list(zip(decode(**model.eval().reconstruct(**batch)), decode(**batch), strict=True))
    assert sum(found == expected for found, expected in pairs) >= 0.95 * len(pairs)


def test_input_embedding_is_that_of_the_nodes():
    model = tiny_model()
    assert model.get_input_embeddings() is model.encoder.node_embedding
    other = torch.nn.Embedding(model.config.num_node_types, 24)
    model.set_input_embeddings(other)
    assert model.encoder.node_embedding is other


def test_weights_are_initialised_as_the_config_says():
    torch.manual_seed(0)
    model = AstroGraphVAEModel(tiny_config(hidden_size=96, num_attention_heads=3, initializer_range=0.05))
    for name, value in model.named_parameters():
        if value.dim() == 1 and "norm" in name:
            assert value.unique().tolist() == [float(name.endswith("weight"))], name
        elif name.endswith("bias") and value.dim() == 1:
            assert not value.any(), name
        elif value.numel() > 500:
            assert value.std().item() == pytest.approx(0.05, rel=0.15), name


def test_randomised_models_are_the_same_twice():
    first, second = randomised(AstroGraphVAEModel(tiny_config())), randomised(AstroGraphVAEModel(tiny_config()))
    assert all(torch.equal(*pair) for pair in zip(first.parameters(), second.parameters(), strict=True))
