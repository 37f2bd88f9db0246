"""Geostrophic wind against flows that are known: other planets, odd grids, poles, the equator, missing heights."""

import math

import pytest
import torch
from datacube_batches import gaussian_latitudes, randomised

from modeling_astrobio.configuration_astro_datacube import AstroDatacubeConfig
from modeling_astrobio.datacube_statistics import level_statistic
from modeling_astrobio.geostrophic_wind import geostrophic_wind, start_from_geostrophic_wind
from modeling_astrobio.modeling_astro_datacube_heads import AstroDatacubeForMaskedReconstruction
from modeling_astrobio.sphere_grid import sphere_grid


# Gravity m s-2, radius m, rotation period s; the second turns westward, as Venus does.
PLANETS = torch.tensor([[12.5, 4.1e6, 5.0e4], [3.7, 9.3e6, -2.2e5]], dtype=torch.float64)
PARAMETERS = ["rotation_period_s", "radius_m", "surface_pressure_pa", "gravity_m_s2"]
STATISTICS = {
    "levels": [0.2, 0.6, 0.9],
    "variables": {
        "ta": {"mean": [210.0, 240.0, 270.0], "scale": [9.0, 11.0, 14.0], "difference_scale": [1.0, 2.0, 3.0]},
        "va": {"mean": [0.0] * 3, "scale": [8.0, 6.0, 4.0], "difference_scale": [2.0, 0.5, 1.0]},
        "zg": {"mean": [9e3, 4e3, 1e3], "scale": [400.0, 300.0, 200.0], "difference_scale": [40.0, 30.0, 20.0]},
        "ua": {"mean": [0.0] * 3, "scale": [20.0, 10.0, 5.0], "difference_scale": [3.0, 2.0, 1.5]},
    },
    "planet": {name: {"mean": 3.0, "scale": 2.0} for name in PARAMETERS},
}
NAMES = ["ta", "va", "zg", "ua"]


def even_latitudes(rows):
    return torch.linspace(90, -90, rows, dtype=torch.float64)


def grid_of(latitude, columns, first=0.0):
    return sphere_grid(latitude, first + torch.arange(columns, dtype=torch.float64) * 360 / columns)


def solid_body_height(grid, speed_m_s):
    """Height that balances u = speed cos(latitude): -radius Omega speed / g sin(latitude)^2, m, shape (B, Y, X)."""
    gravity, radius, period = (part[:, None, None] for part in PLANETS.T)
    sine = torch.deg2rad(grid.latitude_deg).sin()[:, None].expand(-1, len(grid.longitude_deg))
    return -radius * (2 * math.pi / period) * speed_m_s / gravity * sine.square()


@pytest.mark.parametrize("latitude", [even_latitudes(61), even_latitudes(61).flip(0), gaussian_latitudes(64)])
@pytest.mark.parametrize("columns", [36, 37])
def test_a_zonal_flow_that_turns_like_a_solid_body_is_found_on_any_planet(latitude, columns):
    grid = grid_of(latitude, columns, first=-180.0)
    u, v = geostrophic_wind(solid_body_height(grid, 23.0), grid, *PLANETS.T)
    expected = 23.0 * torch.deg2rad(grid.latitude_deg).cos()[:, None].expand(2, -1, columns)
    outer = grid.latitude_deg.abs() >= 20
    # Differences of second order, and 1 / f as bounded near the equator.
    torch.testing.assert_close(u[:, outer], expected[:, outer], rtol=0, atol=0.23)
    torch.testing.assert_close(v, torch.zeros_like(v), rtol=0, atol=1e-6)


@pytest.mark.parametrize("columns", [90, 91])
def test_waves_along_a_parallel_are_derived_eastward(columns):
    grid = grid_of(even_latitudes(73), columns)
    latitude, longitude = torch.deg2rad(grid.latitude_deg)[:, None], torch.deg2rad(grid.longitude_deg)
    height = (50.0 * latitude.cos().square() * (2 * longitude).sin()).expand(2, -1, -1)
    u, v = geostrophic_wind(height, grid, *PLANETS.T)
    gravity, radius, period = (part[:, None, None] for part in PLANETS.T)
    factor = gravity / radius / (4 * math.pi / period * latitude.sin())
    outer = (grid.latitude_deg.abs() >= 20) & (grid.latitude_deg.abs() < 89)
    expected = (
        factor * 100.0 * latitude.cos() * latitude.sin() * (2 * longitude).sin(),
        factor * 100.0 * latitude.cos() * (2 * longitude).cos(),
    )
    for found, wanted in zip((u, v), expected, strict=True):
        torch.testing.assert_close(
            found[:, outer], wanted[:, outer], rtol=0, atol=0.02 * float(wanted[:, outer].abs().max())
        )


@pytest.mark.parametrize("columns", [40, 41])
@pytest.mark.parametrize("falls", [True, False])
def test_a_flow_across_a_pole_has_one_direction_there(columns, falls):
    latitude = even_latitudes(181) if falls else even_latitudes(181).flip(0)
    grid = grid_of(latitude, columns)
    angle, longitude = torch.deg2rad(grid.latitude_deg)[:, None], torch.deg2rad(grid.longitude_deg)
    # A plane in the coordinates of the equatorial plane.
    height = (80.0 * angle.cos() * (longitude - 0.7).cos()).expand(2, -1, -1)
    u, v = geostrophic_wind(height, grid, *PLANETS.T)
    gravity, radius, period = (part[:, None] for part in PLANETS.T)
    for row in (0, -1):
        north = torch.sign(grid.latitude_deg[row])
        factor = gravity / radius / (4 * math.pi / period * north) * 80.0
        expected_u, expected_v = factor * north * (longitude - 0.7).cos(), -factor * (longitude - 0.7).sin()
        torch.testing.assert_close(u[:, row], expected_u, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(v[:, row], expected_v, rtol=1e-3, atol=1e-3)


def test_the_equator_and_planets_that_do_not_turn():
    grid = grid_of(even_latitudes(13), 7)
    height = 1e3 + 50 * torch.randn(4, 3, 13, 7, generator=torch.Generator().manual_seed(0))
    gravity, radius = torch.full((4,), 9.0), torch.full((4,), 5e6)
    period = torch.tensor([4e4, torch.inf, torch.nan, -4e4])
    u, v = geostrophic_wind(height, grid, gravity, radius, period)
    for wind in (u, v):
        assert wind.dtype == torch.float32
        assert wind.shape == height.shape
        assert bool(wind[[0, 3]].isfinite().all())
        assert not wind[[0, 3], :, 6].any()
        assert bool(wind[1:3].isnan().all())


def test_missing_heights_have_no_wind_and_spoil_their_neighbours_alone():
    grid = grid_of(even_latitudes(13), 7)
    height = 50 * torch.randn(2, 13, 7, generator=torch.Generator().manual_seed(0)).double()
    whole = geostrophic_wind(height, grid, *PLANETS.T)
    height[1, 4, 0] = torch.nan
    for found, known in zip(geostrophic_wind(height, grid, *PLANETS.T), whole, strict=True):
        assert bool(found[1, 4, 0].isnan())
        around = torch.zeros(2, 13, 7, dtype=torch.bool)
        around[1, [3, 4, 5, 4, 4], [0, 0, 0, 1, 6]] = True
        assert bool(found[~around].isfinite().all())
        torch.testing.assert_close(found[~around], known[~around], rtol=0, atol=0)


def test_wrong_inputs_are_named():
    grid, height = grid_of(even_latitudes(13), 7), torch.zeros(2, 13, 7)
    with pytest.raises(
        ValueError, match=r"height must have the axes .*latitude 13, longitude 7.*got shape \(2, 7, 13\)"
    ):
        geostrophic_wind(height.mT, grid, *PLANETS.T)
    with pytest.raises(ValueError, match=r"radius_m must have the axes \(batch 2\); got shape \(1,\)"):
        geostrophic_wind(height, grid, PLANETS[:, 0], PLANETS[:1, 1], PLANETS[:, 2])
    with pytest.raises(ValueError, match="at least 3 latitudes to find slopes; got 2"):
        geostrophic_wind(height[:, :2], grid_of(gaussian_latitudes(2), 7), *PLANETS.T)


def reconstruction(**fields):
    config = AstroDatacubeConfig.from_preset(
        "tiny",
        **{
            "level_variables": NAMES,
            "surface_variables": [],
            "forcing_variables": [],
            "planet_parameters": PARAMETERS,
            "level_kind": "pressure",
            "geostrophic_start": True,
            "statistics": STATISTICS,
            **fields,
        },
    )
    return randomised(AstroDatacubeForMaskedReconstruction(config)).eval()


def climates(rows=17, columns=22, steps=1):
    """Levels of two planets with winds hidden but in one half of one level."""
    generator = torch.Generator().manual_seed(2)
    levels = torch.tensor([0.25, 0.5, 0.8], dtype=torch.float64).expand(2, -1)
    fields = torch.randn(2, 4, steps, 3, rows, columns, generator=generator)
    for place, name in enumerate(NAMES):
        mean, scale = (
            level_statistic(STATISTICS, [name], kind, levels)[..., None, None] for kind in ("mean", "scale")
        )
        fields[:, place] = mean + scale * fields[:, place]
    truth = fields[:, :, -1].clone()
    fields[:, [1, 3], :, :2] = torch.nan
    fields[:, [1, 3], :, 2, :, ::2] = torch.nan
    planet = torch.stack((PLANETS[:, 2], PLANETS[:, 1], torch.full((2,), 1e5), PLANETS[:, 0]), dim=1)
    batch = {
        "level_fields": fields,
        "levels": levels,
        "latitude_deg": even_latitudes(rows).expand(2, -1),
        "longitude_deg": (torch.arange(columns, dtype=torch.float64) * 360 / columns).expand(2, -1),
        "planet": planet,
    }
    return batch, truth


def without_head(model):
    torch.nn.init.zeros_(model.head.level.conv.weight)
    torch.nn.init.zeros_(model.head.level.conv.bias)
    return model


@pytest.mark.parametrize("steps", [1, 2])
def test_missing_winds_are_started_from_the_geostrophic_wind(steps):
    model = without_head(reconstruction(num_input_steps=steps))
    batch, truth = climates(steps=steps)
    output = model(**batch, level_labels=truth)
    grid = sphere_grid(batch["latitude_deg"][0], batch["longitude_deg"][0])
    given = batch["level_fields"][:, :, -1]
    u, v = geostrophic_wind(given[:, 2], grid, *PLANETS.T)
    for place, wind in ((3, u), (1, v)):
        expected = torch.where(given[:, place].isfinite(), given[:, place], wind)
        torch.testing.assert_close(output.level_fields[:, place], expected, rtol=0, atol=0)
    # Errors of winds count in the scale of their departures.
    weights, terms = grid.cell_weights, []
    for place in (1, 3):
        scale = level_statistic(STATISTICS, [NAMES[place]], "difference_scale", batch["levels"])[:, 0]
        hidden = given[:, place].isnan() * weights
        squares = (output.level_fields[:, place] - truth[:, place]).double().square() * hidden
        terms.append(squares.sum((-2, -1)) / hidden.sum((-2, -1)) / scale.square())
    torch.testing.assert_close(output.loss.double(), torch.stack(terms).mean(), rtol=1e-5, atol=0)


def test_the_head_adds_departures_in_their_scale():
    model = without_head(reconstruction())
    batch, _ = climates()
    start = model(**batch).level_fields
    torch.nn.init.ones_(model.head.level.conv.bias)
    change = model(**batch).level_fields - start
    hidden = batch["level_fields"][:, :, 0].isnan()
    for place in (1, 3):
        scale = level_statistic(STATISTICS, [NAMES[place]], "difference_scale", batch["levels"])[:, 0]
        expected = scale[..., None, None] * hidden[:, place]
        # What is the same everywhere is no field of a vector about a pole, and is turned round there.
        torch.testing.assert_close(change[:, place, :, 2:-2], expected[:, :, 2:-2], rtol=0, atol=1e-3)


def test_the_trunk_reads_the_start_and_still_knows_that_winds_are_missing():
    model = reconstruction()
    batch, _ = climates()
    fields = batch["level_fields"]
    grid = sphere_grid(batch["latitude_deg"][0], batch["longitude_deg"][0])
    start = start_from_geostrophic_wind(fields, NAMES, grid, batch["planet"], PARAMETERS)
    filled = torch.where(fields.isnan(), start, fields)
    seen = model.model(**batch).last_hidden_state
    model.config.geostrophic_start = False
    assert not torch.allclose(seen, model.model(**batch).last_hidden_state, atol=1e-3)
    assert not torch.allclose(seen, model.model(**{**batch, "level_fields": filled}).last_hidden_state, atol=1e-3)
    channels = []
    for values in (batch["level_fields"], filled):
        model.model.stem.level_conv.register_forward_pre_hook(lambda _, inputs: channels.append(inputs[0]))
        model.config.geostrophic_start = values is batch["level_fields"]
        model.model(**{**batch, "level_fields": values})
    # Values first, then where they are known.
    torch.testing.assert_close(channels[0][:, :4], channels[-1][:, :4], rtol=1e-5, atol=1e-5)
    assert not torch.equal(channels[0][:, 4:], channels[-1][:, 4:])


def test_without_heights_nothing_changes():
    model = reconstruction()
    batch, truth = climates()
    batch["level_fields"][:, 2] = torch.nan
    found = model(**batch, level_labels=truth)
    model.config.geostrophic_start = False
    plain = model(**batch, level_labels=truth)
    torch.testing.assert_close(found.level_fields, plain.level_fields, rtol=0, atol=0)
    torch.testing.assert_close(found.loss, plain.loss, rtol=0, atol=0)


def test_gradients_reach_every_parameter():
    model = reconstruction()
    batch, truth = climates()
    model(**batch, level_labels=truth).loss.backward()
    assert [name for name, each in model.named_parameters() if each.grad is None or not each.grad.any()] == []
    assert all(bool(each.grad.isfinite().all()) for each in model.parameters())


def test_a_saved_model_starts_as_before(tmp_path):
    model = reconstruction()
    batch, _ = climates()
    model.save_pretrained(tmp_path)
    loaded = AstroDatacubeForMaskedReconstruction.from_pretrained(tmp_path).eval()
    assert loaded.config.geostrophic_start
    torch.testing.assert_close(loaded(**batch).level_fields, model(**batch).level_fields, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"level_kind": "sigma"}, "level_kind must be pressure for geostrophic_start; got 'sigma'"),
        (
            {"level_variables": ["zg", "ua"]},
            "level_variables must name zg, ua, va for geostrophic_start; va is missing",
        ),
        (
            {"planet_parameters": ["radius_m", "gravity_m_s2"]},
            "planet_parameters must name .* for geostrophic_start; rotation_period_s is missing",
        ),
    ],
)
def test_a_start_that_cannot_be_found_is_refused(fields, message):
    with pytest.raises(Exception, match=message):
        reconstruction(**fields)
