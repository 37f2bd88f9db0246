"""The model that completes networks: losses as written out, batches that do not mix, gradients, learning, saving."""

import pytest
import torch
from metabolic_models import REACTIONS, small_network, stoichiometry

from modeling_astrobio.configuration_astro_graph_vae import AstroGraphVAEConfig
from modeling_astrobio.graph_record import collate_graphs
from modeling_astrobio.modeling_astro_graph_vae import AstroGraphVAEModel
from modeling_astrobio.modeling_astro_graph_vae_gap_filling import AstroGraphVAEForReactionCompletion
from modeling_astrobio.reaction_neighbourhood import NeighbourhoodIndex


CONFIG = AstroGraphVAEConfig.from_preset("tiny")
NETWORK = small_network()
INDEX = NeighbourhoodIndex(NETWORK, CONFIG)
NAMES = ["PGI", "PYK", "LDH", "ATPM", "FBA", "TPI"]


def batch_of(names=NAMES, hidden=True):
    graphs = [
        INDEX.record(
            {key: float(number) for key, number in stoichiometry(*REACTIONS[name][:2]).items()},
            hidden=(name,) if hidden else (),
        )
        for name in names
    ]
    return collate_graphs(graphs)


def compounds(names=NAMES):
    found = list(NETWORK.compounds)
    labels = torch.zeros(len(names), len(found))
    for row, name in enumerate(names):
        for key, number in stoichiometry(*REACTIONS[name][:2]).items():
            labels[row, found.index(key)] = float(number)
    return {
        "compound_features": torch.stack([torch.from_numpy(INDEX.features_of(name)) for name in found]),
        "compound_degrees": torch.tensor([float(INDEX.degree(name)) for name in found]),
        "pointer_labels": labels,
    }


def whole_batch():
    generator = torch.Generator().manual_seed(0)
    return {
        **batch_of(),
        **compounds(),
        "prior_features": torch.randn(6, 4, generator=generator),
        "candidate_labels": torch.tensor([0, 2]),
        "candidate_offsets": torch.randn(6, generator=generator),
        "direction_prior": torch.randn(6, 3, generator=generator).log_softmax(-1),
        "direction_labels": torch.tensor([0, 1, 2, -100, 1, 2]),
    }


def model_of(seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    model = AstroGraphVAEForReactionCompletion(CONFIG)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.to(dtype).eval()


def test_losses_equal_what_is_written_out():
    model, batch = model_of(), whole_batch()
    output = model(**batch)
    logits = output.candidate_logits + batch["candidate_offsets"]
    expected = -(logits[:3].log_softmax(0)[0] + logits[3:].log_softmax(0)[2]) / 2
    torch.testing.assert_close(output.candidate_loss, expected)
    known = batch["direction_labels"] >= 0
    shares = output.direction_logits[known].log_softmax(-1)
    torch.testing.assert_close(output.direction_loss, -shares.gather(1, batch["direction_labels"][known, None]).mean())
    chance = output.pointer_logits.sigmoid()
    member = batch["pointer_labels"] != 0
    likelihood = torch.where(member, chance, 1 - chance).log()
    wanted = batch["pointer_labels"].sign() * batch["pointer_labels"].abs().log1p()
    stated = output.pointer_coefficients.sign() * output.pointer_coefficients.abs().log1p()
    expected = (-likelihood + member * (stated - wanted) ** 2).sum(-1).mean()
    torch.testing.assert_close(output.pointer_loss, expected)
    torch.testing.assert_close(output.expected_stoichiometry, chance * output.pointer_coefficients)
    torch.testing.assert_close(output.loss, output.candidate_loss + output.direction_loss + output.pointer_loss)


def test_priors_are_added_with_learned_factors():
    model, batch = model_of(), whole_batch()
    bare = {name: value for name, value in batch.items() if "prior" not in name}
    with_priors, without = model(**batch), model(**bare)
    added = batch["prior_features"].double() @ model.prior_weight
    torch.testing.assert_close(with_priors.candidate_logits, without.candidate_logits + added)
    added = batch["direction_prior"].double() * model.direction_prior_weight
    torch.testing.assert_close(with_priors.direction_logits, without.direction_logits + added)


def test_a_batch_is_its_graphs_one_by_one():
    model = model_of()
    together = model(**batch_of())
    for row, name in enumerate(NAMES):
        alone = model(**batch_of([name]))
        torch.testing.assert_close(together.candidate_logits[row], alone.candidate_logits[0], rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(together.direction_logits[row], alone.direction_logits[0], rtol=1e-9, atol=1e-9)


def test_gradients_reach_every_parameter():
    model = model_of().train()
    model(**whole_batch()).loss.backward()
    idle = [name for name, each in model.named_parameters() if each.grad is None or not each.grad.abs().sum()]
    # These graphs have no motifs.
    assert idle == ["encoder.motif_embedding.weight"]


def test_it_learns_which_reactions_belong():
    torch.manual_seed(0)
    model = AstroGraphVAEForReactionCompletion(CONFIG).train()
    batch = {
        **batch_of(NAMES),
        "candidate_labels": torch.tensor([1, 0]),
        "direction_labels": torch.tensor([0, 1, 2] * 2),
    }
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    first = None
    for _ in range(120):
        output = model(**batch)
        first = first or output.loss.item()
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
    assert output.loss.item() < 0.1 * first
    assert output.direction_logits.argmax(-1).tolist() == [0, 1, 2] * 2


def test_offset_candidates_stand_for_all():
    # The mean over draws of the estimated sum of exponentials is the sum over all wrong candidates.
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(40, generator=generator, dtype=torch.float64)
    rates = (2 * scores).softmax(0) * 0.5 + 0.5 / 40
    drawn = torch.multinomial(rates, 8 * 20000, replacement=True, generator=generator).view(-1, 8)
    offsets = -(8 * rates[drawn]).log()
    estimate = (scores[drawn] + offsets).exp().sum(-1).mean()
    torch.testing.assert_close(estimate, scores.exp().sum(), rtol=0.01, atol=0)


def test_saved_weights_answer_alike(tmp_path):
    model = model_of(dtype=torch.float32)
    model.save_pretrained(tmp_path)
    loaded = AstroGraphVAEForReactionCompletion.from_pretrained(tmp_path).eval()
    batch = whole_batch()
    torch.testing.assert_close(loaded(**batch).loss, model(**batch).loss)
    assert loaded.config.auto_map["AutoModelForMultipleChoice"].endswith(
        "gap_filling.AstroGraphVAEForReactionCompletion"
    )


def test_the_encoder_of_a_vae_can_be_loaded(tmp_path):
    vae = AstroGraphVAEModel(CONFIG)
    vae.save_pretrained(tmp_path)
    loaded = AstroGraphVAEForReactionCompletion.from_pretrained(tmp_path)
    weights = vae.encoder.state_dict()
    # Edges are known to it by the bias of attention; it has no tokens of them.
    assert weights.keys() - loaded.encoder.state_dict().keys() == {"edge_embedding.weight", "edge_proj.weight"}
    for name, weight in loaded.encoder.state_dict().items():
        torch.testing.assert_close(weight, weights[name])
    assert loaded.prior_weight.tolist() == [0.5, 1.0, -1.0, 1.0]
    assert loaded.pointer.degree_scale.tolist() == [1.0, -6.0]


def test_wrong_inputs_are_refused():
    model, batch = model_of(), batch_of()
    with pytest.raises(ValueError, match="candidates must be as many for each question; got 6 graphs for 4"):
        model(**batch, candidate_labels=torch.zeros(4, dtype=torch.long))
    with pytest.raises(ValueError, match="compound_features must be given with pointer_labels"):
        model(**batch, pointer_labels=torch.zeros(6, 3))
    with pytest.raises(ValueError, match="compound_degrees must be given with compound_features"):
        model(**batch, compound_features=torch.zeros(3, CONFIG.num_node_features))
    batch["node_types"][3, 0] = CONFIG.compound_type
    with pytest.raises(ValueError, match=r"the first node of each graph must be a reaction .* graph 3 has type"):
        model(**batch)
