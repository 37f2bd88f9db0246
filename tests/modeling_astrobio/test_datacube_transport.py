"""What is carried across a pole or across the origin of longitude arrives as what it was."""

import math

import pytest
import torch

from modeling_astrobio.configuration_astro_datacube import PLANET_PARAMETERS, AstroDatacubeConfig
from modeling_astrobio.modeling_astro_datacube_heads import AstroDatacubeForForecasting


ROWS, COLUMNS, TURN_DEG, WIDTH = 16, 32, 12.0, 0.35
LATITUDE = torch.linspace(90 - 90 / ROWS, -90 + 90 / ROWS, ROWS, dtype=torch.float64)
LONGITUDE = torch.arange(COLUMNS, dtype=torch.float64) * 360 / COLUMNS


def directions(latitude_deg, longitude_deg):
    latitude, longitude = torch.deg2rad(latitude_deg), torch.deg2rad(longitude_deg)
    parts = (latitude.cos() * longitude.cos(), latitude.cos() * longitude.sin(), latitude.sin())
    return torch.stack(torch.broadcast_tensors(*parts), dim=-1)


def turned(centres, degrees):
    """Centres turned about the axis that pierces the equator at the origin of longitude: over both poles."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return centres @ torch.tensor([[1, 0, 0], [0, c, -s], [0, s, c]], dtype=torch.float64).T


def blobs(centres, sizes):
    """Fields of a sum of blobs, shape (..., Y, X), of centres (..., K, 3) and sizes (..., K)."""
    cells = directions(LATITUDE[:, None], LONGITUDE)
    near = torch.einsum("...kd,yxd->...kyx", centres, cells)
    return (sizes[..., None, None] * ((near - 1) / WIDTH**2).exp()).sum(-3).float()


def batch_of(fields):
    return {
        "surface_fields": fields[:, None, None],
        "latitude_deg": LATITUDE.expand(len(fields), -1),
        "longitude_deg": LONGITUDE.expand(len(fields), -1),
        "planet": torch.ones(len(fields), len(PLANET_PARAMETERS)),
        "lead_time_s": torch.full((len(fields),), 3600.0),
    }


@pytest.fixture(scope="module")
def carrier():
    """A model that has seen blobs of both signs all over the sphere be carried over the poles."""
    torch.manual_seed(0)
    config = AstroDatacubeConfig.from_preset(
        "nano", level_variables=[], surface_variables=["h"], forcing_variables=[], num_latent_levels=1
    )
    config.statistics = {
        "levels": [],
        "variables": {"h": {"mean": 0.0, "scale": 0.5, "difference_scale": 0.2}},
        "planet": {name: {"mean": 0.0, "scale": 1.0} for name in PLANET_PARAMETERS},
    }
    model = AstroDatacubeForForecasting(config)
    steps = 400
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(steps):
        centres = torch.nn.functional.normalize(torch.randn(8, 6, 3, dtype=torch.float64), dim=-1)
        sizes = torch.randn(8, 6, dtype=torch.float64)
        labels = blobs(turned(centres, TURN_DEG), sizes)[:, None]
        loss = model(**batch_of(blobs(centres, sizes)), surface_labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize("longitude", [90.0, 0.5])
def test_a_blob_survives_the_pole(carrier, longitude):
    """From 30 degrees north over the pole to 30 degrees north beyond it, or, near the axis, round it."""
    steps = 10
    centre = directions(torch.tensor([30.0], dtype=torch.float64), torch.tensor([longitude], dtype=torch.float64))
    truth = torch.stack([blobs(turned(centre, TURN_DEG * k), torch.ones(1)) for k in range(steps + 1)])
    found = carrier.rollout(steps, **batch_of(truth[:1])).surface_fields[0, 0]
    for k in (4, 5, 6, steps):
        correlation = torch.corrcoef(torch.stack((found[k - 1].flatten(), truth[k].flatten())))[0, 1]
        assert correlation > 0.9, k
        assert found[k - 1].max() > 0.8 * truth[k].max(), k


@pytest.mark.slow
def test_no_seam_shows_at_the_origin_of_longitude(carrier):
    """Steps between columns are as large across the origin as elsewhere, to 5 %, in fields that know no origin."""
    generator = torch.Generator().manual_seed(1)
    centres = torch.nn.functional.normalize(torch.randn(400, 6, 3, generator=generator, dtype=torch.float64), dim=-1)
    start = blobs(centres, torch.randn(400, 6, generator=generator, dtype=torch.float64))
    found = carrier.rollout(3, **batch_of(start)).surface_fields[:, 0, -1]
    change = (found - found.roll(1, dims=-1)).abs().mean(dim=(0, 1))
    at_borders = change[::2]
    assert at_borders[0] / at_borders.mean() == pytest.approx(1.0, abs=0.05)
    assert change[0] / change.mean() == pytest.approx(1.0, abs=0.05)
