"""Steady climates: their rows, what they are changed into, and what a model of them must beat."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from modeling_astrobio import AstroDatacubeConfig, AstroDatacubeForSteadyState
from modeling_astrobio.training.datacube_data import ClimateTrajectory, climate_statistics, collate_climates
from modeling_astrobio.training.errors import DataError
from modeling_astrobio.training.sphere_symmetries import mirrored
from modeling_astrobio.training.steady_baselines import MeanClimate, NearestClimate, RidgeClimate
from modeling_astrobio.training.steady_changes import changed_at_random, mixed
from modeling_astrobio.training.steady_data import (
    SteadyRows,
    climate_fields,
    field_spread,
    field_variables,
    radiation_residual_w_m2,
    steady_climate,
    steady_statistics,
)
from modeling_astrobio.training.steady_evaluation import mean_errors, model_climate, relative_errors


LEVELS, ROWS, COLUMNS = 3, 8, 16
NAMES = ("stellar_flux_w_m2", "synchronous", "substellar_longitude_deg", "gravity_m_s2")
CONFIG = AstroDatacubeConfig.from_preset(
    "tiny",
    level_variables=["ta", "va"],
    surface_variables=["rst", "rlut", "ts"],
    forcing_variables=["lsm"],
    planet_parameters=list(NAMES),
)


def climate(flux, faces=False, land=0.0, states=1, seed=0):
    """A climate whose fields are linear in the logarithm of the flux, with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    sines, _ = np.polynomial.legendre.leggauss(ROWS)
    follows = float(np.arcsinh(flux))
    pattern = torch.rand(5, ROWS, COLUMNS, generator=torch.Generator().manual_seed(9))
    surface = follows * pattern[:3, None] + 0.01 * torch.randn(3, states, ROWS, COLUMNS, generator=generator)
    level = follows * pattern[3:, None, None] + torch.randn(2, states, LEVELS, 1, 1, generator=generator) * 0.01
    return ClimateTrajectory(
        name=f"flux {flux:g}",
        surface_fields=surface,
        level_fields=level,
        forcing_fields=torch.full((1, ROWS, COLUMNS), land),
        levels=torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64),
        latitude_deg=torch.from_numpy(np.degrees(np.arcsin(sines))),
        longitude_deg=torch.arange(COLUMNS, dtype=torch.float64) * (360 / COLUMNS),
        planet=torch.tensor([flux, float(faces), 180.0 if faces else torch.nan, 9.8]),
        step_s=1.0,
    )


PLANETS = [climate(700.0 + 100.0 * place, seed=place) for place in range(7)]


def test_a_steady_climate_is_the_mean_of_the_last_states():
    whole = climate(900.0, states=5)
    steady = steady_climate(whole, 3)
    torch.testing.assert_close(steady.surface_fields[:, 0], whole.surface_fields[:, 2:].mean(1))
    torch.testing.assert_close(steady.level_fields[:, 0], whole.level_fields[:, 2:].mean(1))
    with pytest.raises(DataError, match="climates must have at least 6 states, whose mean is steady; flux 900 has 5"):
        steady_climate(whole, 6)


def test_the_residual_is_what_goes_in_and_does_not_come_out():
    flows = torch.zeros(3, 2, ROWS, COLUMNS)
    flows[0], flows[1, 0], flows[1, 1] = 240.0, -235.0, -239.0
    assert radiation_residual_w_m2(replace(PLANETS[0], surface_fields=flows), ["rst", "rlut", "ts"]) == pytest.approx(
        3.0
    )
    assert radiation_residual_w_m2(PLANETS[0], ["rst", "x", "ts"]) is None


def test_rows_are_what_the_model_reads_and_no_state():
    rows = SteadyRows(PLANETS)
    assert len(rows) == 7
    assert set(rows[0]) == {
        *("forcing_fields", "levels", "latitude_deg", "longitude_deg", "planet", "level_labels", "surface_labels")
    }
    assert rows[2]["level_labels"].shape == (2, LEVELS, ROWS, COLUMNS)
    assert torch.equal(rows[2]["surface_labels"], PLANETS[2].surface_fields[:, 0])
    other = replace(PLANETS[0], name="other", longitude_deg=PLANETS[0].longitude_deg + 1)
    with pytest.raises(DataError, match="longitude_deg must be the same in all climates of a split; that of other"):
        SteadyRows([PLANETS[0], other])


def batch_of(climates):
    return collate_climates([SteadyRows(climates)[place] for place in range(len(climates))])


def test_a_mirror_turns_the_rows_round_and_northward_winds_with_them():
    batch = batch_of(PLANETS[:3])
    batch["forcing_fields"] = torch.rand_like(batch["forcing_fields"])
    chosen = torch.tensor([True, False, True])
    other = mirrored(batch, chosen, CONFIG)
    assert torch.equal(other["level_labels"][0, 0], batch["level_labels"][0, 0].flip(-2))
    assert torch.equal(other["level_labels"][0, 1], -batch["level_labels"][0, 1].flip(-2))
    assert torch.equal(other["surface_labels"][2], batch["surface_labels"][2].flip(-2))
    assert torch.equal(other["forcing_fields"][2], batch["forcing_fields"][2].flip(-2))
    for name in ("level_labels", "surface_labels", "forcing_fields"):
        assert torch.equal(other[name][1], batch[name][1])
    again = mirrored(other, chosen, CONFIG)
    assert all(torch.equal(again[name], batch[name]) for name in ("level_labels", "surface_labels"))


def test_mixed_planets_lie_between_two_of_one_kind():
    climates = [climate(500.0), climate(2000.0), climate(800.0, faces=True), climate(900.0, land=1.0)]
    batch = batch_of(climates)
    found = mixed(batch, torch.tensor([1, 2, 3, 0]), torch.full((4,), 0.5), facing=1)
    # By logarithms: half-way between 500 and 2000 is 1000.
    assert found["planet"][0, 0].item() == pytest.approx(1000.0, rel=1e-4)
    torch.testing.assert_close(
        found["surface_labels"][0], (batch["surface_labels"][0] + batch["surface_labels"][1]) / 2
    )
    # The others differ in what faces the star or in their ground, and stay.
    torch.testing.assert_close(found["planet"][1:], batch["planet"][1:], equal_nan=True)
    assert torch.equal(found["level_labels"][1:], batch["level_labels"][1:])
    facing = batch_of([climate(500.0, faces=True), climate(2000.0, faces=True)])
    both = mixed(facing, torch.tensor([1, 0]), torch.tensor([0.25, 0.25]), facing=1)
    torch.testing.assert_close(both["planet"][:, 1:3], facing["planet"][:, 1:3])


def test_changes_follow_the_shares():
    batch = batch_of([climate(500.0), climate(2000.0)])
    assert all(
        torch.equal(value, batch[name]) or name == "planet"
        for name, value in changed_at_random(batch, CONFIG, 0.0, 0.0, 0.0).items()
    )
    whole = changed_at_random(batch, CONFIG, 1.0, 0.0, 0.0)
    assert torch.equal(whole["surface_labels"], batch["surface_labels"].flip(-2))
    torch.manual_seed(3)
    fluxes = {round(changed_at_random(batch, CONFIG, 0.0, 1.0, 0.0)["planet"][0, 0].item()) for _ in range(20)}
    assert len(fluxes) > 5
    assert all(500 <= flux <= 2000 for flux in fluxes)


def test_turned_planets_take_their_ground_and_their_star_along():
    batch = batch_of([climate(500.0, land=1.0), climate(2000.0, faces=True)])
    batch["forcing_fields"] = torch.randn(batch["forcing_fields"].shape)
    width = batch["surface_labels"].shape[-1]
    untold = copy.deepcopy(CONFIG)
    untold.planet_parameters = ["stellar_flux_w_m2", "synchronous", "gravity_m_s2"]
    less = {**batch, "planet": batch["planet"][:, [0, 1, 3]]}
    turns = []
    for _ in range(8):
        each = changed_at_random(less, untold, 0.0, 0.0, 1.0)
        turn = next(
            columns
            for columns in range(width)
            if torch.equal(each["forcing_fields"][0], batch["forcing_fields"][0].roll(-columns, -1))
        )
        assert torch.equal(each["surface_labels"][0], batch["surface_labels"][0].roll(-turn, -1))
        # Where the star stands cannot be told, it must not move.
        assert torch.equal(each["surface_labels"][1], batch["surface_labels"][1])
        turns.append(turn)
    assert len(set(turns)) > 2
    moved = [changed_at_random(batch, CONFIG, 0.0, 0.0, 1.0) for _ in range(8)]
    assert any((each["planet"][1, 2] - 180.0).abs() > 1 for each in moved)
    for each in moved:
        columns = round(((180.0 - each["planet"][1, 2].item()) % 360.0) / (360.0 / width))
        assert torch.equal(each["surface_labels"][1], batch["surface_labels"][1].roll(-columns, -1))


def test_the_nearest_planet_is_by_logarithms_and_ground():
    nearest = NearestClimate([climate(100.0), climate(1000.0, seed=1), climate(500.0, land=1.0)])
    # 320 is nearer to 100 than to 1000, but not in its logarithm.
    assert torch.equal(nearest(climate(320.0)), climate_fields(climate(1000.0, seed=1)))
    assert torch.equal(nearest(climate(500.0, land=1.0, seed=5)), climate_fields(climate(500.0, land=1.0)))


def test_ridge_is_least_squares_where_its_strength_is_small_and_the_mean_where_it_is_large():
    known = torch.tensor([np.arcsinh(700.0 + 100.0 * place) for place in range(7)])
    design = torch.stack((torch.ones(7, dtype=torch.float64), known.double()), dim=1)
    fields = torch.stack([climate_fields(each) for each in PLANETS])
    weights = torch.linalg.lstsq(design, fields.flatten(1)).solution
    wanted = climate(1150.0)
    expected = weights[0] + np.arcsinh(1150.0) * weights[1]
    torch.testing.assert_close(RidgeClimate(PLANETS, [1e-12])(wanted).flatten(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(RidgeClimate(PLANETS, [1e12])(wanted), MeanClimate(PLANETS)(wanted))


def test_ridge_chooses_the_strength_that_predicts_climates_left_out():
    # What chooses must be the error that is found by leaving each out in truth, with its described planets.
    strengths = [1e-4, 0.1, 10.0]
    ridge = RidgeClimate(PLANETS, strengths)
    known = ridge.described.of_training
    fields, spread = torch.stack([climate_fields(each) for each in PLANETS]), field_spread(PLANETS)
    errors = []
    for strength in strengths:
        total = 0.0
        for left in range(7):
            kept = [place for place in range(7) if place != left]
            design = torch.cat((torch.ones(6, 1, dtype=torch.float64), known[kept]), dim=1)
            penalty = torch.diag(torch.tensor([0.0, 7 * strength], dtype=torch.float64))
            solved = torch.linalg.solve(design.mT @ design + penalty, design.mT @ fields[kept].flatten(1))
            error = (torch.cat((torch.ones(1), known[left])).double() @ solved).view_as(fields[0]) - fields[left]
            total += float((error / spread[:, None, None]).square().mean())
        errors.append(total)
    assert ridge.strength == strengths[int(np.argmin(errors))]
    assert errors[0] < errors[2]


def test_errors_are_relative_to_the_spread_and_leave_out_what_is_not_known():
    spread = field_spread(PLANETS)
    variables = field_variables(CONFIG, LEVELS)
    assert variables == ["ta"] * LEVELS + ["va"] * LEVELS + ["rst", "rlut", "ts"]
    truth = PLANETS[3]
    found = relative_errors(lambda each: climate_fields(each) + 2 * spread[:, None, None], truth, spread, variables)
    assert found == pytest.approx(dict.fromkeys(("ta", "va", "rst", "rlut", "ts"), 2.0))
    unknown = truth.surface_fields.clone()
    unknown[2] = torch.nan
    assert "ts" not in relative_errors(climate_fields, replace(truth, surface_fields=unknown), spread, variables)
    assert mean_errors([{"a": 3.0, "b": 1.0}, {"a": 4.0}]) == pytest.approx(
        {"a": 12.5**0.5, "b": 1.0, "mean": (12.5**0.5 + 1) / 2}
    )
    # All planets about their mean, over their spread, are one.
    of_mean = [relative_errors(MeanClimate(PLANETS), each, spread, variables) for each in PLANETS]
    assert mean_errors(of_mean)["ts"] == pytest.approx(1.0, rel=1e-3)


def test_scales_are_the_spread_between_planets_so_that_the_loss_is_the_error():
    statistics = steady_statistics(PLANETS, CONFIG)
    spread = field_spread(PLANETS)
    variables = statistics["variables"]
    assert [variables[name]["scale"] for name in CONFIG.surface_variables] == pytest.approx(spread[-3:].tolist())
    assert variables["va"]["scale"] == pytest.approx((spread[3:6] * LEVELS**0.5).tolist())
    assert variables["ts"]["mean"] == climate_statistics(PLANETS, CONFIG)["variables"]["ts"]["mean"]
    torch.manual_seed(0)
    config = AstroDatacubeConfig(**{**CONFIG.to_dict(), "statistics": statistics})
    model = AstroDatacubeForSteadyState(config).eval()
    loss = model(**batch_of(PLANETS[2:3])).loss.item()
    names = field_variables(CONFIG, LEVELS)
    errors = relative_errors(lambda each: model_climate(model, each), PLANETS[2], spread, names)
    # The loss is a mean over levels of all variables, nine, and each variable counts alike.
    expected = sum(error**2 for error in errors.values()) / 9
    assert loss == pytest.approx(expected, rel=1e-4)


def test_a_model_predicts_in_the_order_of_the_fields():
    config = AstroDatacubeConfig(**{**CONFIG.to_dict(), "statistics": climate_statistics(PLANETS, CONFIG)})
    torch.manual_seed(0)
    model = AstroDatacubeForSteadyState(config).eval()
    found = model_climate(model, PLANETS[0])
    row = {name: value[None] for name, value in SteadyRows(PLANETS)[0].items() if not name.endswith("labels")}
    predicted = model(**row)
    torch.testing.assert_close(found[:3].float(), predicted.level_fields[0, 0])
    torch.testing.assert_close(found[-1].float(), predicted.surface_fields[0, 2])
