"""Small climates for tests of AstroDatacube: odd sizes, no Earth."""

import numpy as np
import torch

from modeling_astrobio.configuration_astro_datacube import AstroDatacubeConfig
from modeling_astrobio.datacube_statistics import level_statistic


STATISTICS = {
    "levels": [0.2, 0.6, 0.9],
    "variables": {
        "ta": {"mean": [210.0, 240.0, 270.0], "scale": [9.0, 11.0, 14.0], "difference_scale": [1.0, 2.0, 3.0]},
        "ua": {"mean": [0.0, 0.0, 0.0], "scale": [20.0, 10.0, 5.0], "difference_scale": [4.0, 3.0, 2.0]},
        "va": {"mean": [0.0, 0.0, 0.0], "scale": [8.0, 6.0, 4.0], "difference_scale": [4.0, 3.0, 2.0]},
        "hus": {"mean": [1e-6, 1e-4, 5e-3], "scale": [1e-6, 1e-4, 4e-3], "difference_scale": [1e-7, 1e-5, 1e-3]},
        "ps": {"mean": 9e4, "scale": 2e3, "difference_scale": 200.0},
        "ts": {"mean": 280.0, "scale": 15.0, "difference_scale": 2.0},
        "pr": {"mean": 4e-5, "scale": 3e-5, "difference_scale": 3e-5},
        "lsm": {"mean": 0.4, "scale": 0.5, "difference_scale": 1.0},
        "sg": {"mean": 3e3, "scale": 5e3, "difference_scale": 1.0},
    },
    "planet": None,
}


def tiny_config(**fields):
    """The preset with statistics of every variable and parameter."""
    config = AstroDatacubeConfig.from_preset("tiny", **fields)
    planet = {name: {"mean": 3.0, "scale": 2.0} for name in config.planet_parameters}
    config.statistics = {**STATISTICS, "planet": planet}
    return config


def gaussian_latitudes(rows):
    return torch.from_numpy(np.degrees(np.arcsin(np.polynomial.legendre.leggauss(rows)[0])).copy()).flip(0)


def cube_batch(config, batch=2, rows=16, columns=32, num_levels=5, seed=0, dtype=torch.float32, states=None):
    """What `AstroDatacubeModel.forward` takes, in the units of `STATISTICS`."""
    generator = torch.Generator().manual_seed(seed)
    states = config.num_input_steps if states is None else states

    def noise(*shape):
        return torch.randn(batch, *shape, rows, columns, generator=generator, dtype=torch.float64)

    levels = torch.linspace(0.15, 0.95, num_levels, dtype=torch.float64).expand(batch, -1)

    def scaled(names, values):
        rows = [STATISTICS["variables"][name] for name in names]
        mean, scale = (
            torch.tensor([row[kind] for row in rows]).view(-1, *(1,) * (values.ndim - 2)) for kind in ("mean", "scale")
        )
        return (mean + scale * values).to(dtype)

    def scaled_on_levels(names, values):
        mean, scale = (
            level_statistic(STATISTICS, names, kind, levels)[:, :, None, :, None, None] for kind in ("mean", "scale")
        )
        return (mean + scale * values).to(dtype)

    level, surface, forcing = (getattr(config, f"{kind}_variables") for kind in ("level", "surface", "forcing"))
    planet = (10 * torch.rand(batch, len(config.planet_parameters), generator=generator)).to(dtype)
    # Planets that turn under their star.
    planet[:, config.planet_parameters.index("synchronous")] = 0.0
    return {
        "level_fields": scaled_on_levels(level, noise(len(level), states, num_levels)),
        "surface_fields": scaled(surface, noise(len(surface), states)),
        "forcing_fields": scaled(forcing, noise(len(forcing))),
        "levels": levels,
        "latitude_deg": gaussian_latitudes(rows).expand(batch, -1),
        "longitude_deg": (torch.arange(columns, dtype=torch.float64) * 360 / columns).expand(batch, -1),
        "planet": planet,
    }


def randomised(model, seed=0):
    """The model with every parameter random, so that nothing hides behind a zero or a one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            size = parameter[0].numel() if parameter.ndim > 1 else 4
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * size**-0.5)
    return model
