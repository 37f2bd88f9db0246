"""The inner loop of the few-shot adapter, against one written out, and against Gaussian processes by definition."""

import math

import pytest
import torch
from graph_batches import tiny_batch
from torch import nn

from modeling_astrobio.configuration_astro_graph_vae import AstroGraphVAEConfig
from modeling_astrobio.graph_few_shot import FewShotFeatures, GraphFewShotAdapter, leave_one_out_loss
from modeling_astrobio.modeling_astro_graph_vae_properties import AstroGraphVAEForPropertyPrediction


SUPPORT, QUERY, TOKENS, WIDTH, TASKS = 7, 5, 3, 11, 2


def adapter(inner_steps=3, dtype=torch.float64) -> GraphFewShotAdapter:
    torch.manual_seed(0)
    made = GraphFewShotAdapter(TOKENS, WIDTH, hidden_size=13, inner_steps=inner_steps).to(dtype)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    made.set_token_scale(torch.randn(37, TOKENS, WIDTH, dtype=dtype) * 2 + 1)
    return made


def tasks(dtype=torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    shapes = ((TASKS, SUPPORT, TOKENS, WIDTH), (TASKS, SUPPORT), (TASKS, QUERY, TOKENS, WIDTH))
    support, labels, query = (torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes)
    return support, 40 + 3 * labels, query


def written_out_features(body, adapted, tokens):
    standard = (tokens - body.token_mean) / body.token_std
    modulated = torch.flatten(adapted["scale"] * standard + adapted["shift"], 1)
    first = nn.functional.gelu(modulated @ body.first.weight.T + body.first.bias)
    second = nn.functional.gelu(first @ body.second.weight.T + body.second.bias)
    parts = [
        torch.exp(adapted["log_weights"][place]) * part / math.sqrt(part.shape[1])
        for place, part in enumerate((modulated, first, second))
    ]
    return torch.cat(parts, 1), torch.exp(adapted["log_noise"]) + 1e-3


def written_out_leave_one_out(features, noise, labels):
    """Fit the regression to all labels but one, by its weights, and score that one."""
    nats = []
    for left_out in range(len(labels)):
        rest = [row for row in range(len(labels)) if row != left_out]
        gram = features[rest].T @ features[rest] / noise + torch.eye(features.shape[1], dtype=features.dtype)
        weights = torch.linalg.solve(gram, features[rest].T @ labels[rest] / noise)
        variance = features[left_out] @ torch.linalg.solve(gram, features[left_out]) + noise
        error = labels[left_out] - features[left_out] @ weights
        nats.append(0.5 * (error**2 / variance + torch.log(variance)))
    return torch.stack(nats).mean()


def written_out(made, support, labels, query):
    """One task after another, gradients by autograd, the regression by its weights."""
    means, variances = [], []
    for x, y, z in zip(support, labels, query, strict=True):
        centre, spread = y.mean(), y.std()
        standard = (y - centre) / spread
        adapted = {name: getattr(made.features, name) for name in FewShotFeatures.ADAPTED}
        for step in range(made.inner_steps):
            loss = written_out_leave_one_out(*written_out_features(made.features, adapted, x), standard)
            slopes = torch.autograd.grad(loss, list(adapted.values()), create_graph=True)
            adapted = {
                name: value - torch.exp(made.log_rates[name][step]) * slope
                for (name, value), slope in zip(adapted.items(), slopes, strict=True)
            }
        features, noise = written_out_features(made.features, adapted, x)
        of_query, _ = written_out_features(made.features, adapted, z)
        gram = features.T @ features / noise + torch.eye(features.shape[1], dtype=x.dtype)
        weights = torch.linalg.solve(gram, features.T @ standard / noise)
        means.append(centre + spread * (of_query @ weights))
        latent = (of_query * torch.linalg.solve(gram, of_query.T).T).sum(1)
        variances.append(spread**2 * (latent + noise))
    return torch.stack(means), torch.stack(variances)


@pytest.mark.parametrize("inner_steps", [0, 1, 3])
def test_equals_the_loop_written_out_with_outer_gradients(inner_steps):
    made, (support, labels, query) = adapter(inner_steps), tasks()
    support.requires_grad_()
    query.requires_grad_()
    ours, theirs = made(support, labels, query), written_out(made, support, labels, query)
    wanted = [support, query, *(each for each in made.parameters() if each.numel())]
    gradients = []
    for mean, variance in (ours, theirs):
        loss = ((mean - 41).square() / variance + variance.log()).sum()
        gradients.append(torch.autograd.grad(loss, wanted))
    # The two ways to the regression, over graphs and over features, differ by rounding times the condition.
    torch.testing.assert_close(tuple(ours), theirs, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-8)


def test_leave_one_out_equals_leaving_out():
    generator = torch.Generator().manual_seed(3)
    features, labels = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((9, 4), (9,)))
    noise = torch.tensor(0.3, dtype=torch.float64)
    ours, theirs = leave_one_out_loss(features, noise, labels), written_out_leave_one_out(features, noise, labels)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_the_inner_loop_lowers_the_support_loss():
    made, (support, labels, _) = adapter(inner_steps=5), tasks()
    with torch.no_grad():
        for rates in made.log_rates.values():
            rates.fill_(-3.0)
    standard = (labels[0] - labels[0].mean()) / labels[0].std()
    before = leave_one_out_loss(*made.features(support[0]), standard)
    adapted = made.adapt(support[0], standard)
    after = leave_one_out_loss(*torch.func.functional_call(made.features, adapted, (support[0],)), standard)
    assert after < before - 1e-4


def test_outer_gradients_reach_every_parameter_and_the_encoder():
    config = AstroGraphVAEConfig.from_preset("tiny")
    torch.manual_seed(0)
    encoder = AstroGraphVAEForPropertyPrediction(config).double()
    made = GraphFewShotAdapter(config.num_latent_tokens + 1, config.hidden_size, hidden_size=13).double()
    tokens = encoder.embed(**tiny_batch(dtype=torch.float64))
    made.set_token_scale(tokens)
    labels = torch.arange(5, dtype=torch.float64)
    mean, variance = made(tokens[None, :5], labels[None], tokens[None, 5:])
    ((mean - 2).square() / variance + variance.log()).sum().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().amax() > 0, name
    for name, parameter in encoder.named_parameters():
        reached = parameter.requires_grad and not name.startswith("head.")
        assert (parameter.grad is not None) == reached, name


def test_the_unit_of_the_labels_passes_through():
    made, (support, labels, query) = adapter(), tasks()
    plain, scaled = made(support, labels, query), made(support, 1000 * labels - 7, query)
    torch.testing.assert_close(scaled.mean, 1000 * plain.mean - 7, rtol=1e-9, atol=1e-6)
    torch.testing.assert_close(scaled.variance, 1e6 * plain.variance, rtol=1e-9, atol=1e-6)


def test_the_order_of_support_and_tasks_does_not_matter():
    made, (support, labels, query) = adapter(), tasks()
    order = torch.randperm(SUPPORT, generator=torch.Generator().manual_seed(4))
    plain, shuffled = made(support, labels, query), made(support[:, order], labels[:, order], query)
    torch.testing.assert_close(tuple(plain), tuple(shuffled), rtol=1e-9, atol=1e-9)
    one = made(support[1:], labels[1:], query[1:])
    torch.testing.assert_close(one.mean[0], plain.mean[1], rtol=1e-10, atol=1e-10)


def test_no_grad_changes_nothing():
    made, arguments = adapter(), tasks()
    with torch.no_grad():
        found = made(*arguments)
    torch.testing.assert_close(tuple(made(*arguments)), tuple(found), rtol=0, atol=0)


def test_tokens_of_a_narrow_encoder_are_read_and_narrow_adapters_refused():
    made, (support, labels, query) = adapter(dtype=torch.float32), tasks(torch.float32)
    support, query = support.bfloat16(), query.bfloat16()
    expected = made(support.float(), labels, query.float())
    torch.testing.assert_close(tuple(made(support, labels, query)), tuple(expected), rtol=0, atol=0)
    with pytest.raises(ValueError, match=r"must be float32 or float64 .* got torch.bfloat16"):
        made.bfloat16()(support, labels, query)


def test_saved_and_loaded_it_predicts_the_same(tmp_path):
    made, arguments = adapter(dtype=torch.float32), tasks(torch.float32)
    made.save_pretrained(tmp_path)
    again = GraphFewShotAdapter.from_pretrained(tmp_path)
    torch.testing.assert_close(tuple(made(*arguments)), tuple(again(*arguments)), rtol=0, atol=0)


def test_features_that_never_vary_stay_finite():
    made = adapter()
    tokens = torch.randn(5, TOKENS, WIDTH, dtype=torch.float64)
    tokens[:, 1] = 4.0
    made.set_token_scale(tokens)
    assert made.features(tokens)[0].isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, y, z: (x[:, :1], y[:, :1], z), "at least 2 support graphs"),
        (lambda x, y, z: (x, torch.where(torch.arange(TASKS)[:, None] == 1, 3.0, y), z), "task 1 are all 3.0"),
        (lambda x, y, z: (x, y.masked_fill(y == y[0, 0], float("nan")), z), "support_labels must be finite"),
        (lambda x, y, z: (x, y.masked_fill(y == y[0, 0], float("inf")), z), "support_labels must be finite"),
        (lambda x, y, z: (x, y[:, :-1], z), r"support_labels must have the shape \(2, 7\)"),
        (lambda x, y, z: (x[..., :-1], y, z), r"support_tokens must have the shape \(B, S, 3, 11\)"),
        (lambda x, y, z: (x, y, z[:1]), r"query_tokens must have the shape \(2, Q, 3, 11\)"),
        (lambda x, y, z: (x[0], y, z), r"support_tokens must have the shape \(B, S, 3, 11\)"),
    ],
)
def test_tasks_that_cannot_be_learned_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        adapter()(*change(*tasks()))


def test_sizes_and_scales_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="inner_steps must be at least 0; got -1"):
        GraphFewShotAdapter(3, 11, inner_steps=-1)
    with pytest.raises(ValueError, match="num_tokens must be at least 1; got 0"):
        GraphFewShotAdapter(0, 11)
    with pytest.raises(ValueError, match=r"tokens must have the shape \(N, 3, 11\)"):
        adapter().set_token_scale(torch.zeros(1, TOKENS, WIDTH))
