"""Metrics of climate fields against loops and known cases, and as `evaluate` modules."""

from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch

import modeling_astrobio.training.climate_metrics as package
from modeling_astrobio.sphere_grid import sphere_grid
from modeling_astrobio.training.climate_metrics.anomaly_correlation import anomaly_correlation
from modeling_astrobio.training.climate_metrics.conservation_drift import conservation_drift
from modeling_astrobio.training.climate_metrics.fair_crps import fair_crps, spread_skill_ratio
from modeling_astrobio.training.climate_metrics.weighted_rmse import weighted_rmse
from modeling_astrobio.training.climate_metrics.zonal_spectrum import zonal_spectrum
from modeling_astrobio.training.errors import DataError


LATITUDE, LONGITUDE = np.linspace(90, -90, 7), np.arange(10) * 36.0
GRID = sphere_grid(torch.from_numpy(LATITUDE), torch.from_numpy(LONGITUDE))
WEIGHTS = GRID.cell_weights


def fields(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((*shape, 7, 10)))


pytestmark = pytest.mark.usefixtures("module_cache")


def load(name):
    return evaluate.load(str(Path(package.__file__).with_name(f"{name}.py")))


GRID_ARGUMENTS = {"latitude_deg": LATITUDE.tolist(), "longitude_deg": LONGITUDE.tolist()}


def test_rmse_weighs_cells_by_their_area():
    predicted, truth = fields(3), fields(3, seed=1)
    expected = [
        np.sqrt(sum(WEIGHTS[y, x] * (predicted[i, y, x] - truth[i, y, x]) ** 2 for y in range(7) for x in range(10)))
        for i in range(3)
    ]
    np.testing.assert_allclose(weighted_rmse(predicted, truth, WEIGHTS), expected, rtol=1e-12)
    found = load("weighted_rmse").compute(predictions=predicted.tolist(), references=truth.tolist(), **GRID_ARGUMENTS)
    assert found["rmse"] == pytest.approx(np.mean(expected))
    # An error at the poles counts less than one at the equator.
    polar, equatorial = torch.zeros(2, 1, 7, 10)
    polar[:, 0], equatorial[:, 3] = 1.0, 1.0
    assert weighted_rmse(polar, 0 * polar, WEIGHTS) < 0.3 * weighted_rmse(equatorial, 0 * polar, WEIGHTS)


def test_anomaly_correlation_is_that_of_departures():
    truth, mean = fields(2), fields(seed=2)
    anomaly = truth - mean
    for factor, expected in ((1.0, 1.0), (0.3, 1.0), (-2.0, -1.0)):
        found = anomaly_correlation(mean + factor * anomaly, truth, mean, WEIGHTS)
        np.testing.assert_allclose(found, [expected] * 2, rtol=1e-12)
    inputs = {"predictions": fields(2, seed=3).tolist(), "references": truth.tolist(), "climatology": mean.numpy()}
    assert abs(load("anomaly_correlation").compute(**inputs, **GRID_ARGUMENTS)["anomaly_correlation"]) < 0.5
    with pytest.raises(DataError, match="must differ from climatology somewhere"):
        anomaly_correlation(mean[None], truth[:1], mean, WEIGHTS)


def test_fair_crps_is_its_definition_and_does_not_depend_on_the_number_of_members():
    members, truth = fields(5, 2), fields(2, seed=1)
    pairs = [(i, j) for i in range(5) for j in range(5) if i != j]
    spread = torch.stack([(members[i] - members[j]).abs() for i, j in pairs]).mean(0)
    expected = ((members - truth).abs().mean(0) - spread / 2) * WEIGHTS
    np.testing.assert_allclose(fair_crps(members, truth, WEIGHTS), expected.sum((-2, -1)), rtol=1e-12)
    truths = fields(400, seed=2)
    few, many = (fair_crps(fields(number, 400, seed=100 + number), truths, WEIGHTS).mean() for number in (2, 20))
    assert abs(few - many) < 0.02 * many
    # Of the standard normal, by a perfect ensemble: 1 / root of pi.
    assert many == pytest.approx(np.pi**-0.5, rel=0.02)
    with pytest.raises(DataError, match="an ensemble of at least 2 members"):
        fair_crps(members[:1], truth, WEIGHTS)


def test_spread_over_skill_is_one_where_the_truth_is_as_a_member():
    truths = fields(300, seed=9)
    for number in (2, 10):
        members = fields(number, 300, seed=number)
        assert spread_skill_ratio(members, truths, WEIGHTS) == pytest.approx(1.0, abs=0.02)
        assert spread_skill_ratio(0.5 * members, truths, WEIGHTS) < 0.65
    found = load("fair_crps").compute(
        predictions=np.moveaxis(members.numpy(), 0, 1)[:3].tolist(), references=truths[:3].tolist(), **GRID_ARGUMENTS
    )
    assert set(found) == {"fair_crps", "spread_skill_ratio"}


def test_spectrum_adds_up_to_the_mean_square_and_finds_a_wave():
    values = fields(2)
    found = zonal_spectrum(values, GRID.row_weights)
    assert found.shape == (2, 6)
    np.testing.assert_allclose(found.sum(-1), (values.square() * WEIGHTS).sum((-2, -1)), rtol=1e-12)
    wave = np.cos(3 * np.deg2rad(LONGITUDE)) * np.ones((7, 1))
    np.testing.assert_allclose(zonal_spectrum(wave, GRID.row_weights), np.eye(6)[3] / 2, atol=1e-12)
    smooth = {"predictions": (0.5 * values).tolist(), "references": values.tolist(), **GRID_ARGUMENTS}
    assert load("zonal_spectrum").compute(**smooth)["log_spectral_distance"] == pytest.approx(np.log(4))


def test_drift_is_of_the_mean_over_area():
    start = 5 + fields(2)
    np.testing.assert_allclose(conservation_drift(1.01 * start, start, WEIGHTS), 0.01, rtol=1e-9)
    np.testing.assert_allclose(conservation_drift(start.roll(3, -1), start, WEIGHTS), 0, atol=1e-15)
    found = load("conservation_drift").compute(
        predictions=(start * 0.9).tolist(), references=start.tolist(), **GRID_ARGUMENTS
    )
    assert found["drift"] == pytest.approx(0.1)


def test_wrong_fields_are_refused():
    with pytest.raises(DataError, match="references must have the axes of the others"):
        weighted_rmse(fields(2), fields(3), WEIGHTS)
    with pytest.raises(DataError, match="predictions must be finite"):
        weighted_rmse(fields(1) * np.nan, fields(1), WEIGHTS)
    with pytest.raises(ValueError, match="latitude_deg must rise or fall"):
        load("weighted_rmse").compute(
            predictions=fields(1).tolist(),
            references=fields(1).tolist(),
            latitude_deg=[0] * 7,
            longitude_deg=LONGITUDE,
        )
