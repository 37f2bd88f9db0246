"""Split-conformal intervals against quantiles by definition, and their coverage on exchangeable data."""

from fractions import Fraction

import numpy as np
import pytest

from modeling_astrobio.training.conformal import SplitConformal, conformal_quantile
from modeling_astrobio.training.errors import DataError
from modeling_astrobio.training.property_evaluation import evaluate_properties


def quantile_by_definition(scores, coverage: Fraction) -> float:
    """The least score that at least (n + 1) coverage of the scores do not exceed."""
    return min(score for score in scores if sum(other <= score for other in scores) >= (len(scores) + 1) * coverage)


@pytest.mark.parametrize("coverage", [0.1, 0.5, 0.7, 0.9, 0.95])
@pytest.mark.parametrize("count", [19, 20, 29, 37, 69, 99])
def test_quantile_equals_its_definition(count, coverage):
    scores = np.random.default_rng(count).standard_normal(count).round(1)  # with ties
    expected = quantile_by_definition(scores.tolist(), Fraction(str(coverage)))
    assert conformal_quantile(scores, coverage) == expected


def test_a_share_that_binary_numbers_miss_is_exact():
    # 10 * 0.7 is above 7 and 70 * 0.9 below 63 in some orders of rounding.
    assert conformal_quantile(np.arange(1.0, 10.0), 0.7) == 7
    assert conformal_quantile(np.arange(1.0, 70.0), 0.9) == 63
    assert conformal_quantile(np.arange(1.0, 10.0), 0.9) == 9


def test_coverage_is_that_asked_for_over_many_draws():
    # A wrong model and skewed noise of changing size: only exchangeability counts.
    rng = np.random.default_rng(0)
    draws, calibration, coverage = 2000, 39, 0.9
    held = 0
    for _ in range(draws):
        x = rng.standard_normal((calibration + 1, 1))
        y = x**2 + rng.exponential(0.1 + np.abs(x))
        mean, deviation = 0.3 * x, 0.5 + 0.1 * np.abs(x)
        fitted = SplitConformal.fit(mean[:-1], deviation[:-1], y[:-1], coverage)
        lower, upper = fitted.intervals(mean[-1:], deviation[-1:])
        held += bool(lower[0, 0] <= y[-1, 0] <= upper[0, 0])
    # Exactly 36 of 40 ranks lie within, so that the count is binomial with 0.9.
    assert abs(held / draws - coverage) < 4 * np.sqrt(coverage * (1 - coverage) / draws)


def test_each_property_has_its_own_quantile_over_known_labels():
    rng = np.random.default_rng(1)
    mean, deviation = rng.standard_normal((53, 3)), rng.uniform(0.5, 2, (53, 3))
    labels = mean + deviation * rng.standard_normal((53, 3)) * [1, 5, 0.1]
    labels[:20, 1] = np.nan
    fitted = SplitConformal.fit(mean, deviation, labels, 0.8)
    assert fitted.counts.tolist() == [53, 33, 53]
    for place in range(3):
        known = ~np.isnan(labels[:, place])
        scores = np.abs(labels - mean)[known, place] / deviation[known, place]
        assert fitted.quantiles[place] == quantile_by_definition(scores.tolist(), Fraction("0.8"))
    lower, upper = fitted.intervals(mean, deviation)
    np.testing.assert_allclose((lower + upper) / 2, mean, atol=1e-12)
    np.testing.assert_allclose((upper - lower) / 2, fitted.quantiles * deviation)


def test_evaluation_counts_known_labels_and_both_kinds_of_intervals():
    rng = np.random.default_rng(2)
    mean, deviation = rng.standard_normal((1500, 2)), rng.uniform(0.5, 2, (1500, 2))
    # The model thinks itself three times better than it is.
    labels = mean + 3 * deviation * rng.standard_normal((1500, 2))
    labels[:100, 1] = np.nan
    conformal = SplitConformal.fit(mean[:700], deviation[:700], labels[:700])
    found = evaluate_properties(("a", "b"), mean, deviation**2, labels, conformal)
    assert [found[name]["count"] for name in ("a", "b")] == [1500, 1400]
    for place, name in enumerate(("a", "b")):
        known = ~np.isnan(labels[:, place])
        error = labels[known, place] - mean[known, place]
        spread = deviation[known, place]
        row = found[name]
        assert row["mean_absolute_error"] == pytest.approx(np.abs(error).mean())
        assert row["r2"] == pytest.approx(1 - (error**2).mean() / labels[known, place].var())
        assert row["conformal_coverage"] == np.mean(np.abs(error) <= conformal.quantiles[place] * spread)
        assert row["gaussian_coverage"] == np.mean(np.abs(error) <= 1.6448536269514722 * spread)
        assert 0.87 < row["conformal_coverage"] < 0.93
        assert row["gaussian_coverage"] < 0.5
        assert row["calibration_error"] > 0.05
        assert row["conformal_width"] > row["gaussian_width"]


ONES = np.ones((20, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ONES, ONES, np.full((20, 2), np.inf)), "labels must be finite, or NaN"),
        ((ONES, ONES, ONES[:, :1]), r"labels must have the shape of means, \(20, 2\)"),
        ((ONES, 0 * ONES, ONES), "standard_deviations must be above 0"),
        ((ONES * np.nan, ONES, ONES), "must be finite"),
        ((ONES, ONES[:5], ONES), "must have one shape of two axes"),
        ((ONES, ONES, np.where(np.arange(20)[:, None] < 13, np.nan, ONES)), "property 0: .* at least 9 calib.* got 7"),
        ((ONES, ONES, ONES, 1.0), "coverage must be above 0 and below 1; got 1.0"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(arguments, message):
    with pytest.raises(DataError, match=message):
        SplitConformal.fit(*arguments)


def test_predictions_of_other_properties_are_refused():
    fitted = SplitConformal.fit(ONES, ONES, ONES)
    with pytest.raises(DataError, match="means must have 2 properties"):
        fitted.intervals(ONES[:, :1], ONES[:, :1])
    with pytest.raises(DataError, match="scores must be finite"):
        conformal_quantile([1.0, np.nan], 0.5)
    with pytest.raises(DataError, match="b must have at least one known label"):
        evaluate_properties(("a", "b"), ONES, ONES, ONES * [1, np.nan], fitted)
    with pytest.raises(DataError, match=r"must have one shape \(N, 3\)"):
        evaluate_properties(("a", "b", "c"), ONES, ONES, ONES, fitted)
