"""Statistics between levels, and what is known of planets."""

import math

import pytest
import torch
from datacube_batches import STATISTICS, tiny_config

from modeling_astrobio.datacube_statistics import described_planet, level_statistic, surface_statistic


def test_levels_lie_between_those_of_the_statistics():
    levels = torch.tensor([[0.2, 0.6, 0.9], [0.05, math.sqrt(0.2 * 0.6), 1.0]], dtype=torch.float64)
    found = level_statistic(STATISTICS, ["ta", "hus"], "mean", levels)
    assert found.shape == (2, 2, 3)
    torch.testing.assert_close(found[0, 0], torch.tensor([210.0, 240.0, 270.0]))
    # The ends are kept beyond them; half-way in the logarithm is half-way.
    torch.testing.assert_close(found[1, 0], torch.tensor([210.0, 225.0, 270.0]))
    torch.testing.assert_close(found[1, 1], torch.tensor([1e-6, (1e-6 + 1e-4) / 2, 5e-3]))
    one = {"levels": [0.5], "variables": {"ta": {"mean": [250.0]}}}
    assert level_statistic(one, ["ta"], "mean", levels).unique().tolist() == [250.0]


def test_without_statistics_values_stay():
    levels = torch.tensor([[0.2, 0.6]])
    assert level_statistic(None, ["ta"], "mean", levels).tolist() == [[[0.0, 0.0]]]
    assert level_statistic(None, ["ta"], "difference_scale", levels).tolist() == [[[1.0, 1.0]]]
    assert surface_statistic(None, ["ps", "ts"], "scale", levels.device).tolist() == [1.0, 1.0]
    with pytest.raises(KeyError, match="unheard_of"):
        surface_statistic(STATISTICS, ["unheard_of"], "scale", levels.device)


def test_unknown_parameters_are_marked():
    config = tiny_config()
    planet = torch.full((2, len(config.planet_parameters)), 9.0)
    planet[1, 3] = torch.nan
    values, known = described_planet(config.statistics, config.planet_parameters, planet)
    assert known.sum() == known.numel() - 1
    assert values[1, 3] == known[1, 3] == 0
    assert values[0, 0].item() == pytest.approx((math.asinh(9.0) - 3.0) / 2.0)
