"""Climates turned and mirrored are climates of the same laws: of shallow water the next state turns with them."""

import numpy as np
import pytest
import torch

from data_scripts.climate.shallow_water import integrate, random_planets, random_start
from modeling_astrobio.configuration_astro_datacube import PLANET_PARAMETERS, AstroDatacubeConfig
from modeling_astrobio.training.datacube_step import SHALLOW_WATER
from modeling_astrobio.training.sphere_symmetries import mirrored, symmetric_copies, turned


CONFIG = AstroDatacubeConfig.from_preset("tiny", **{**SHALLOW_WATER, "forcing_variables": ["sg"]})


def batch_of(rows=3, latitudes=6, longitudes=10):
    generator = torch.Generator().manual_seed(0)

    def noise(*shape):
        return torch.randn(rows, *shape, latitudes, longitudes, generator=generator)

    planet = torch.full((rows, len(PLANET_PARAMETERS)), torch.nan)
    planet[0, PLANET_PARAMETERS.index("substellar_longitude_deg")] = 36.0
    return {
        "surface_fields": noise(3, 2),
        "surface_labels": noise(3, 4),
        "forcing_fields": noise(1),
        "latitude_deg": torch.linspace(75, -75, latitudes).expand(rows, -1),
        "longitude_deg": (torch.arange(longitudes) * 36.0).expand(rows, -1),
        "planet": planet,
    }


def test_a_mirrored_row_has_its_rows_the_other_way_and_northward_winds_turned():
    batch = batch_of()
    found = mirrored(batch, torch.tensor([True, False, True]), CONFIG)
    for key in ("surface_fields", "surface_labels"):
        assert torch.equal(found[key][1], batch[key][1])
        assert torch.equal(found[key][0, :2], batch[key][0, :2].flip(-2))
        assert torch.equal(found[key][0, 2], -batch[key][0, 2].flip(-2))
    assert torch.equal(found["forcing_fields"][2], batch["forcing_fields"][2].flip(-2))
    assert found["planet"] is batch["planet"]
    twice = mirrored(found, torch.tensor([True, False, True]), CONFIG)
    assert all(torch.equal(twice[key], batch[key]) for key in batch if key != "planet")


def test_a_turned_row_has_ground_and_star_turned_too():
    batch = batch_of()
    columns = torch.tensor([3, 0, 9])
    found = turned(batch, columns, CONFIG)
    for key in ("surface_fields", "surface_labels", "forcing_fields"):
        for row, turn in enumerate(columns.tolist()):
            assert torch.equal(found[key][row], batch[key][row].roll(-turn, -1))
    star = found["planet"][:, PLANET_PARAMETERS.index("substellar_longitude_deg")]
    assert star[0] == (36.0 - 3 * 36.0) % 360.0
    assert star[1:].isnan().all()


@pytest.mark.parametrize("change", [mirrored, turned])
def test_shallow_water_keeps_its_laws(change):
    """From the changed start the integrator comes to the changed end."""
    planets = random_planets(2, 0)
    start = random_start(planets, 16, 0)
    chosen = torch.tensor([True, True]) if change is mirrored else torch.tensor([5, 11])
    config = AstroDatacubeConfig.from_preset("tiny", **SHALLOW_WATER)

    def changed(states):
        batch = {
            "surface_fields": torch.from_numpy(states).transpose(1, 2),
            "longitude_deg": (torch.arange(32) * 11.25).expand(2, -1),
            "planet": torch.full((2, len(PLANET_PARAMETERS)), torch.nan),
        }
        return change(batch, chosen, config)["surface_fields"].transpose(1, 2).numpy()

    end = integrate(planets, start, 21600.0, 3)
    found = integrate(planets, changed(start[:, None])[:, 0], 21600.0, 3)
    assert np.abs(changed(end) - end).max() > 1.0
    np.testing.assert_allclose(found, changed(end), rtol=0, atol=1e-6)


def test_copies_are_drawn_by_the_seed_and_labels_with_the_fields():
    batch = batch_of()
    # A label that is the last state.
    batch["surface_labels"] = batch["surface_fields"][:, :, -1:]
    found = []
    for _ in range(2):
        torch.manual_seed(1)
        found.append(symmetric_copies(batch, CONFIG))
    assert torch.equal(found[0]["surface_fields"], found[1]["surface_fields"])
    assert not torch.equal(found[0]["surface_fields"], batch["surface_fields"])
    assert torch.equal(found[0]["surface_labels"], found[0]["surface_fields"][:, :, -1:])
