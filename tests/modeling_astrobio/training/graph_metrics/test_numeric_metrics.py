"""Active units, calibration and coverage, against cases computed by hand."""

from statistics import NormalDist

import numpy as np
import pytest


pytest.importorskip("evaluate", reason="evaluate is not installed: pip install evaluate")
from modeling_astrobio.training.errors import DataError
from modeling_astrobio.training.graph_metrics.active_units import active_units
from modeling_astrobio.training.graph_metrics.gaussian_calibration import gaussian_calibration_error
from modeling_astrobio.training.graph_metrics.interval_coverage import interval_coverage


def test_active_units_by_hand():
    # Variances 0.0225, 0.0064 and 0; of the fourth exactly 0.01 but for rounding upwards.
    means = [[0.0, 0.0, 5.0], [0.3, 0.16, 5.0]]
    assert active_units(means) == {"active_units": 1, "active_unit_share": pytest.approx(1 / 3)}
    many = np.random.default_rng(0).normal(size=(1000, 7)) * [1, 0.2, 0.15, 0.05, 0.01, 0, 2]
    assert active_units(many)["active_units"] == 4


@pytest.mark.parametrize(
    ("means", "message"),
    [
        ([[1.0, 2.0]], "at least 2 rows; got 1"),
        ([1.0, 2.0], "must have 2 axes"),
        ([], "must have 2 axes"),
        ([[1.0], [float("nan")]], r"must be finite; got nan at \[1, 0\]"),
        ([[1.0], [1.0, 2.0]], "numbers in rows of one length"),
    ],
)
def test_active_units_refuses(means, message):
    with pytest.raises(DataError, match=message):
        active_units(means)


def naive_calibration_error(means, deviations, targets):
    total = 0.0
    for step in range(1, 20):
        level = step / 20
        below = [
            target <= NormalDist(mean, deviation).inv_cdf(level)
            for mean, deviation, target in zip(means, deviations, targets, strict=True)
        ]
        total += abs(sum(below) / len(below) - level)
    return total / 19


def test_calibration_error_against_the_quantiles():
    generator = np.random.default_rng(2)
    means, deviations = generator.normal(size=137), generator.uniform(0.1, 3, size=137)
    targets = means + deviations * generator.normal(size=137)
    for scale in (0.3, 1.0, 4.0):
        found = gaussian_calibration_error(means, deviations * scale, targets)
        assert found == pytest.approx(naive_calibration_error(means, deviations * scale, targets), abs=1e-12)
    right, wrong = (gaussian_calibration_error(means, deviations * scale, targets) for scale in (1.0, 4.0))
    assert right < 0.05 < wrong
    # All targets lie below all quantiles: the share is 1 at each level.
    assert gaussian_calibration_error([0.0] * 5, [1.0] * 5, [-90.0] * 5) == pytest.approx(0.5)


def test_calibration_refuses():
    with pytest.raises(DataError, match="must have one length; got 2, 1 and 2"):
        gaussian_calibration_error([0, 1], [1], [0, 1])
    with pytest.raises(DataError, match=r"standard_deviations must be above 0; got 0.0 at 1"):
        gaussian_calibration_error([0, 1], [1, 0], [0, 1])
    with pytest.raises(DataError, match=r"targets must be finite; got inf at \[0\]"):
        gaussian_calibration_error([0], [1], [float("inf")])
    with pytest.raises(DataError, match="means must be numbers"):
        gaussian_calibration_error(["a"], [1], [0])


def test_coverage_by_hand():
    found = interval_coverage([0, 0, 0, 5], [1, 1, 1, 9], [0, 1, 1.5, 6])
    assert found == {
        "coverage": 0.75,
        "coverage_standard_error": pytest.approx((0.75 * 0.25 / 4) ** 0.5),
        "mean_interval_width": 1.75,
    }
    with pytest.raises(DataError, match=r"upper must not be below lower; got 2.0 to 1.0 at 1"):
        interval_coverage([0, 2], [1, 1], [0, 0])
    with pytest.raises(DataError, match="one length; got 1, 2 and 1"):
        interval_coverage([0], [1, 1], [0])
    with pytest.raises(DataError, match="lower must have 1 axes and at least one number"):
        interval_coverage([], [], [])
