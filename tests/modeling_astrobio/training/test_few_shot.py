"""Tasks of held-out families, the outer loop, baselines, and their comparison."""

import numpy as np
import pytest
import torch
from scipy import stats

from modeling_astrobio.graph_few_shot import GraphFewShotAdapter
from modeling_astrobio.training.errors import DataError
from modeling_astrobio.training.few_shot_baselines import forest_predictions, ridge_predictions
from modeling_astrobio.training.few_shot_evaluation import (
    adapter_method,
    evaluate_few_shot,
    forest_method,
    mean_interval,
    ridge_method,
    summarise_few_shot,
)
from modeling_astrobio.training.few_shot_tasks import (
    FEW_SHOT_FAMILIES,
    FewShotTasks,
    family_properties,
    nearest_training_property,
)
from modeling_astrobio.training.few_shot_training import task_loss, train_adapter
from modeling_astrobio.training.property_table import PROPERTY_FAMILIES


def table(rows=61, columns=5) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, columns)) * np.arange(1, columns + 1) + 10


def test_no_family_or_property_is_in_two_splits():
    families = [family for split in FEW_SHOT_FAMILIES.values() for family in split]
    assert sorted(families) == sorted(PROPERTY_FAMILIES)
    names = [name for split in FEW_SHOT_FAMILIES for name in family_properties(split)]
    assert len(names) == len(set(names))


def test_tasks_are_standardised_properties_of_different_molecules():
    labels = table()
    labels[7, 2] = np.nan
    tasks = FewShotTasks(labels, ("a", "a", "b", "b", "b"), mixed=0.0, seed=3)
    standard = (labels - np.nanmean(labels, 0)) / np.nanstd(labels, 0)
    batch = tasks.draw(200, support=13, query=11)
    assert batch.support.shape == (200, 13)
    assert batch.query_labels.shape == (200, 11)
    counts = np.zeros(5)
    for task in range(200):
        places = torch.cat((batch.support[task], batch.query[task])).numpy()
        drawn = torch.cat((batch.support_labels[task], batch.query_labels[task])).numpy()
        assert len(set(places)) == 24
        equal = [np.allclose(standard[places, column], drawn, atol=1e-5) for column in range(5)]
        assert sum(equal) == 1
        counts += equal
    # Families are drawn alike, whatever their size.
    assert abs(counts[:2].sum() / 200 - 0.5) < 4 * np.sqrt(0.25 / 200)
    assert (counts > 0).all()


def test_mixed_tasks_are_sums_of_standardised_properties():
    labels = table()
    tasks = FewShotTasks(labels, ("a", "a", "b", "b", "b"), mixed=1.0, seed=3)
    standard = (labels - labels.mean(0)) / labels.std(0)
    batch = tasks.draw(20, support=13, query=11)
    for task in range(20):
        places = torch.cat((batch.support[task], batch.query[task])).numpy()
        drawn = torch.cat((batch.support_labels[task], batch.query_labels[task])).double().numpy()
        weights, residual, *_ = np.linalg.lstsq(standard[places], drawn, rcond=None)
        assert residual.item() < 1e-9
        assert (np.abs(weights) > 1e-5).sum() in (2, 3)


def test_rare_roles_are_drawn_until_the_support_differs():
    labels = np.zeros((61, 1))
    labels[:6] = 1
    batch = FewShotTasks(labels, ("groups",), mixed=0.0).draw(50, support=4, query=3)
    assert (batch.support_labels.amax(1) > batch.support_labels.amin(1)).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FewShotTasks(table(), ("a",)), r"labels must have the shape \(N, 1\)"),
        (lambda: FewShotTasks(table() * [1, 1, 0, 1, 1], "aaaaa"), "property 2 does not"),
        (lambda: FewShotTasks(table(), "aaaaa", mixed=1.5), "mixed must be from 0 to 1"),
        (lambda: FewShotTasks(table(), "aaaaa").draw(1, 60, 2), r"needs 60 \+ 2 molecules with a label; got 61"),
        (lambda: FewShotTasks(np.eye(999)[:, :1], "a").draw(1, 2, 2), "alike in 100 draws of 2 molecules"),
    ],
)
def test_tasks_that_cannot_be_drawn_are_refused(make, message):
    with pytest.raises(DataError, match=message):
        make()


def test_the_nearest_training_property_is_found():
    rng = np.random.default_rng(1)
    training = rng.standard_normal((500, 3))
    near = nearest_training_property(np.c_[-2 * training[:, 1] + 0.1 * rng.standard_normal(500)], training)
    assert near[0][0] == 1
    assert near[0][1] == pytest.approx(0.9987, abs=1e-3)


def test_ridge_equals_fitting_without_each_label():
    rng = np.random.default_rng(2)
    support, query = rng.standard_normal((13, 7)), rng.standard_normal((5, 7))
    labels = support @ rng.standard_normal(7) + rng.standard_normal(13)
    penalties = np.logspace(-2, 2, 9)
    features, target = support - support.mean(0), labels - labels.mean()

    def weights(rows, penalty):
        inside = features[rows]
        return np.linalg.solve(inside.T @ inside + 7 * penalty * np.eye(7), inside.T @ target[rows])

    errors = []
    for penalty in penalties:
        rest = [[row for row in range(13) if row != left_out] for left_out in range(13)]
        missed = [target[row] - features[row] @ weights(rows, penalty) for row, rows in enumerate(rest)]
        errors.append(np.mean(np.square(missed)))
    best = penalties[int(np.argmin(errors))]
    expected = (query - support.mean(0)) @ weights(list(range(13)), best) + labels.mean()
    np.testing.assert_allclose(ridge_predictions(support, labels, query, penalties), expected, rtol=1e-8)
    assert penalties[0] < best < penalties[-1]


def test_ridge_refuses_what_does_not_fit():
    with pytest.raises(DataError, match=r"must have the shapes \(S, F\), \(S,\) and \(Q, F\)"):
        ridge_predictions(np.ones((3, 2)), np.ones(4), np.ones((5, 2)))
    with pytest.raises(DataError, match="must be finite"):
        ridge_predictions(np.ones((3, 2)), np.full(3, np.nan), np.ones((5, 2)))


def test_forest_learns_a_bit_and_repeats_itself():
    bits = np.random.default_rng(3).integers(0, 2, (80, 9))
    labels = 3.0 * bits[:, 4]
    predicted = forest_predictions(bits[:50], labels[:50], bits[50:], seed=5)
    assert np.abs(predicted - labels[50:]).max() < 1.0
    np.testing.assert_array_equal(predicted, forest_predictions(bits[:50], labels[:50], bits[50:], seed=5))


def narrow_tasks(seed: int) -> tuple[torch.Tensor, np.ndarray]:
    """Tokens of twenty features, and labels that depend on three of them: what learning across tasks can find."""
    rng = np.random.default_rng(seed)
    tokens = rng.standard_normal((300, 2, 10))
    return torch.from_numpy(tokens).float(), tokens[:, 0, :3] @ rng.standard_normal((3, 5))


def test_the_outer_loop_lowers_the_loss_of_held_out_tasks():
    torch.manual_seed(0)
    tokens, labels = narrow_tasks(0)
    adapter = GraphFewShotAdapter(2, 10, hidden_size=7, inner_steps=2)
    training, held_out = FewShotTasks(labels[:, :4], "abcd", seed=1), FewShotTasks(labels[:, 4:], "e", mixed=0.0)
    found = train_adapter(
        adapter, tokens, training, held_out, steps=20, support_sizes=(8, 16), query_size=20, evaluate_every=10,
        learning_rate=3e-2,
    )  # fmt: skip
    losses = found["validation_loss"]
    assert list(losses) == [0, 10, 20]
    assert losses[found["best_step"]] == min(losses.values()) < losses[0] - 0.1
    # It is left with the weights of the best step: the same tasks again give its loss.
    again = FewShotTasks(labels[:, 4:], "e", mixed=0.0)
    batches = [again.draw(24, size, 20) for size in (8, 16)]
    with torch.no_grad():
        loss = sum(float(task_loss(adapter, tokens, batch)) for batch in batches) / 2
    assert loss == pytest.approx(losses[found["best_step"]], rel=1e-5)


def test_the_task_loss_is_that_of_the_query_in_units_of_the_support():
    torch.manual_seed(0)
    tokens, labels = narrow_tasks(0)
    adapter = GraphFewShotAdapter(2, 10, hidden_size=7)
    batch = FewShotTasks(labels, "abcde").draw(3, 8, 9)
    mean, variance = adapter(tokens[batch.support], batch.support_labels, tokens[batch.query])
    scale = batch.support_labels.std(1, keepdim=True)
    nats = -torch.distributions.Normal(mean, variance.sqrt()).log_prob(batch.query_labels) - scale.log()
    torch.testing.assert_close(task_loss(adapter, tokens, batch), nats.mean(), rtol=1e-5, atol=1e-5)


def test_all_methods_see_the_same_molecules():
    _, labels = narrow_tasks(1)
    seen = {}

    def spy(name):
        def predict(support, support_labels, query, seed):
            np.testing.assert_array_equal(support_labels, labels[support])
            assert not set(support) & set(query)
            seen.setdefault(name, []).append((support.tolist(), query.tolist()))
            return labels[query].T + 0.5, np.full((5, len(query)), 0.25**2) if name == "first" else None

        return predict

    rows = evaluate_few_shot(
        {"first": spy("first"), "second": spy("second")}, "abcde", labels, support_sizes=(4, 8), draws=3, query_size=50
    )
    assert seen["first"] == seen["second"]
    assert [len(support) for support, _ in seen["first"]] == [4, 4, 4, 8, 8, 8]
    assert len(rows) == 2 * 3 * 2 * 5
    query = seen["first"][0][1]
    assert rows[0]["r2"] == pytest.approx(1 - 0.25 / labels[query, 0].var())
    assert rows[0]["scaled_error"] == pytest.approx(0.5 / labels[query, 0].std())
    assert rows[0]["coverage_90"] == 0  # 1.64 * 0.25 does not reach 0.5
    assert "coverage_90" not in rows[5]


def test_summary_is_over_draws_and_paired():
    rows = [
        {"support": 16, "draw": draw, "method": method, "property": name, "r2": value + draw + (name == "b")}
        for draw in range(3)
        for method, value in (("ours", 0.5), ("theirs", 0.0))
        for name in "ab"
    ]
    found = summarise_few_shot(rows, "r2", "ours")["16"]
    assert found["ours"]["mean"] == pytest.approx(2.0)
    reach = stats.t.ppf(0.975, 2) / np.sqrt(3)
    assert found["ours"]["upper"] == pytest.approx(2.0 + reach)
    assert found["theirs"]["reference_minus"] == pytest.approx({"mean": 0.5, "lower": 0.5, "upper": 0.5})
    assert found["theirs"]["reference_higher_in"] == found["theirs"]["properties"] == 2
    with pytest.raises(DataError, match="at least 2 draws; got 1"):
        mean_interval([1.0])


def test_the_methods_predict_better_than_the_mean():
    torch.manual_seed(0)
    tokens, _ = narrow_tasks(2)
    labels = tokens[:, 0, :2].double().numpy() * [3.0, -1.0] + [0.0, 50.0]
    bits = (tokens.flatten(1) > 0).numpy().astype(np.uint8)
    adapter = GraphFewShotAdapter(2, 10, hidden_size=7)
    methods = {
        "adapter": adapter_method(adapter, tokens),
        "ridge": ridge_method(tokens.flatten(1).numpy()),
        "forest": forest_method(bits),
    }
    rows = evaluate_few_shot(methods, "ab", labels, support_sizes=(40,), draws=2, query_size=60)
    for method in methods:
        assert min(row["r2"] for row in rows if row["method"] == method) > 0.3, method


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full((30, 1), np.nan), "labels must be finite"),
        (table(30, 1)[:12], r"8 \+ 10 molecules are needed; got 12"),
        (np.ones((30, 1)), "in 100 draws of 8 molecules a property never varied"),
    ],
)
def test_comparisons_that_cannot_be_made_are_refused(labels, message):
    with pytest.raises(DataError, match=message):
        evaluate_few_shot({}, "a", labels, support_sizes=(8,), draws=1, query_size=10)
