"""Winds of one month from geopotential, learned from another month: geostrophic wind, a U-Net, and AstroDatacube.

    python recipes/benchmarks/wind_from_geopotential.py --data eraint_uvz.nc --train january --row unet

The data are monthly means of ERA-Interim for January and July at 200, 500 and 850 hPa. A model is given the height of
all levels and reconstructs the winds as a departure from the geostrophic wind; both models have about as many
parameters, the same time, stem, head, start, loss and training data: the one month, rolled along the parallels and
mirrored at the equator. Errors are those of cells from 20 to 80 degrees of both hemispheres, weighted by area.

Settings are to be chosen with `--hold-out`: a quarter of the circle is then left out of the training month, errors are
those there, and the other month is not looked at. Without it the run is added to results/wind_from_geopotential.json.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import xarray
from interleaved import RESULTS
from result_runs import add_run
from timed_training import train_for
from torch import nn
from unet_trunk import unet_of_size

from modeling_astrobio import AstroDatacubeConfig, AstroDatacubeForMaskedReconstruction
from modeling_astrobio.datacube_fit import fit_statistics
from modeling_astrobio.geostrophic_wind import start_from_geostrophic_wind
from modeling_astrobio.sphere_grid import sphere_grid
from modeling_astrobio.training.hardware import describe_hardware, package_versions


MONTHS = {"january": 1, "july": 7}
# Chosen with `--hold-out`.
LEARNING_RATES = {"unet": 4e-3, "astro": 5e-3}
WEIGHT_DECAY = 0.01
# What winds depart by is decided nearby: most blocks are at the finest scale.
ASTRO = {
    "hidden_sizes": [64, 64, 96],
    "num_attention_heads": [4, 4, 6],
    "depths": [2, 1, 1],
    "conv_ratio": 1,
    "num_latent_levels": 1,
}
VARIABLES, WINDS = ["zg", "ua", "va"], ["ua", "va"]
EARTH = {
    "gravity_m_s2": 9.80665,
    "radius_m": 6.37122e6,
    "rotation_period_s": 86164.1,
    "surface_pressure_pa": 101325.0,
}
FIRST_DEG, LAST_DEG = 20.0, 80.0
HELD_OUT_DEG = (-90.0, 0.0)
AXES = ("levels", "latitude_deg", "longitude_deg", "planet")


def read_month(path: Path, month: str) -> dict[str, torch.Tensor]:
    """Return a month as a batch of one, all known, shape (1, V, 1, L, Y, X)."""
    with xarray.open_dataset(path) as data:
        chosen = data.sel(month=MONTHS[month]).load()
    height = torch.from_numpy(chosen.z.values) / EARTH["gravity_m_s2"]
    fields = torch.stack((height, *(torch.from_numpy(chosen[name].values) for name in ("u", "v"))))
    levels = torch.from_numpy(chosen.level.values) * (100.0 / EARTH["surface_pressure_pa"])
    return {
        "level_fields": fields.float()[None, :, None],
        "levels": levels[None],
        "latitude_deg": torch.from_numpy(chosen.latitude.values).double()[None],
        "longitude_deg": torch.from_numpy(chosen.longitude.values).double()[None],
        "planet": torch.tensor([list(EARTH.values())], dtype=torch.float64),
    }


def hidden(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The batch without its winds."""
    fields = batch["level_fields"].clone()
    fields[:, 1:] = torch.nan
    return {**batch, "level_fields": fields}


def start_of(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Geostrophic winds, shape (1, 2, L, Y, X)."""
    grid = sphere_grid(batch["latitude_deg"][0], batch["longitude_deg"][0])
    fields = hidden(batch)["level_fields"][:, :, 0]
    return start_from_geostrophic_wind(fields, VARIABLES, grid, batch["planet"], list(EARTH))[:, 1:]


def counted(batch: dict[str, torch.Tensor], in_sector: bool | None) -> torch.Tensor:
    """Cells whose winds count, bool, shape (Y, X): in the held-out sector, out of it, or everywhere."""
    latitude, longitude = batch["latitude_deg"][0].abs(), batch["longitude_deg"][0]
    rows = (latitude >= FIRST_DEG) & (latitude <= LAST_DEG)
    sector = (longitude >= HELD_OUT_DEG[0]) & (longitude < HELD_OUT_DEG[1])
    columns = torch.ones_like(sector) if in_sector is None else sector == in_sector
    return rows[:, None] & columns


def errors(winds: torch.Tensor, batch: dict[str, torch.Tensor], cells: torch.Tensor) -> dict[str, list[float]]:
    """Root mean square errors of winds (1, 2, L, Y, X) of each level, m s-1, weighted by area."""
    weights = cells * torch.deg2rad(batch["latitude_deg"][0]).cos()[:, None]
    squares = (winds - batch["level_fields"][:, 1:, 0]).double().square().masked_fill(~cells, 0.0)
    found = ((squares * weights).sum((-2, -1)) / weights.sum()).sqrt()[0]
    return {name: found[place].tolist() for place, name in enumerate(WINDS)}


def statistics_of(batch: dict[str, torch.Tensor], cells: torch.Tensor) -> dict[str, Any]:
    """Statistics of the month; the scale of changes of winds is that of their departures from the start."""
    item = {name: value[0] for name, value in batch.items()}
    names = {"level": VARIABLES, "surface": [], "forcing": []}
    statistics = fit_statistics([item], names, WINDS, list(EARTH))
    for name, departures in errors(start_of(batch), batch, cells).items():
        statistics["variables"][name]["difference_scale"] = departures
    return statistics


def turned(
    batch: dict[str, torch.Tensor], labels: torch.Tensor, seed: int
) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
    """The month again and again, from any meridian on, and as seen in a mirror on the plane of the equator."""
    generator = torch.Generator().manual_seed(seed)
    given = hidden(batch)
    signs = torch.tensor([1.0, 1.0, -1.0]).view(1, 3, 1, 1, 1)
    while True:
        shift = int(torch.randint(labels.shape[-1], (1,), generator=generator))
        fields, wanted = given["level_fields"].roll(shift, -1), labels.roll(shift, -1)
        if torch.rand(1, generator=generator) < 0.5:
            fields, wanted = fields.flip(-2), wanted.flip(-2) * signs
        yield {**given, "level_fields": fields}, wanted


def build(row: str, statistics: dict[str, Any], patch_size: int) -> Any:
    """The model of a row; untrained, it predicts the geostrophic wind."""
    config = AstroDatacubeConfig(
        level_variables=VARIABLES,
        surface_variables=[],
        forcing_variables=[],
        planet_parameters=list(EARTH),
        level_kind="pressure",
        geostrophic_start=True,
        patch_size=patch_size,
        statistics=statistics,
        **ASTRO,
    )
    model = AstroDatacubeForMaskedReconstruction(config)
    if row == "unet":
        wanted = sum(parameter.numel() for parameter in model.parameters())
        number = len(statistics["levels"])
        model = unet_of_size(AstroDatacubeForMaskedReconstruction, model.config, wanted, patch_size, number)
    nn.init.zeros_(model.head.level.conv.weight)
    nn.init.zeros_(model.head.level.conv.bias)
    return model


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="eraint_uvz.nc")
    parser.add_argument("--train", choices=MONTHS, required=True)
    parser.add_argument("--row", choices=LEARNING_RATES, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--learning-rate", type=float, help="by default what was chosen for the row")
    parser.add_argument("--patch-size", type=int, default=4)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--hold-out", action="store_true", help="choose settings within the training month")
    parser.add_argument("--out", type=Path, default=RESULTS / "wind_from_geopotential.json")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    learning_rate = parsed.learning_rate or LEARNING_RATES[parsed.row]
    trained = read_month(parsed.data, parsed.train)
    if parsed.hold_out:
        cells, tested, tested_cells = counted(trained, False), trained, counted(trained, True)
        tested_on = f"{parsed.train}, held-out sector"
    else:
        (tested_on,) = set(MONTHS) - {parsed.train}
        tested = read_month(parsed.data, tested_on)
        cells = tested_cells = counted(trained, None)
    torch.manual_seed(parsed.seed)
    model = build(parsed.row, statistics_of(trained, cells), parsed.patch_size)
    labels = trained["level_fields"][:, :, 0].masked_fill(~cells, torch.nan)
    training = train_for(
        60 * parsed.minutes,
        model,
        turned(trained, labels, parsed.seed),
        lambda pair, share: model(**pair[0], level_labels=pair[1]).loss,
        learning_rate=learning_rate,
        weight_decay=WEIGHT_DECAY,
        clock=time.process_time if parsed.clock == "cpu" else time.monotonic,
    )
    with torch.no_grad():
        winds = model(**hidden(tested)).level_fields[:, 1:]
    # Of the start 1 / f is bounded near the equator; of the wind that models are compared with it is not.
    sine, bound = torch.deg2rad(tested["latitude_deg"][0]).sin()[:, None], math.sin(math.radians(5.0))
    start = start_of(tested)
    run = {
        "row": parsed.row,
        "train": parsed.train,
        "test": tested_on,
        "seed": parsed.seed,
        "minutes": parsed.minutes,
        "learning_rate": learning_rate,
        "patch_size": parsed.patch_size,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training": training,
        "rmse_m_s": {
            "geostrophic": errors(start * (1 + (bound / sine) ** 4), tested, tested_cells),
            "start": errors(start, tested, tested_cells),
            "model": errors(winds, tested, tested_cells),
        },
        "hardware": describe_hardware(),
        "versions": package_versions(),
    }
    if not parsed.hold_out:
        levels_hpa = [round(level * EARTH["surface_pressure_pa"] / 100) for level in tested["levels"][0].tolist()]
        add_run(parsed.out, {"levels_hpa": levels_hpa}, run)
    print(parsed.row, parsed.train, "to", tested_on, parsed.seed, run["parameters"], training["steps"], "steps")
    for name, found in run["rmse_m_s"].items():
        print(f"{name:12}", {wind: [round(each, 3) for each in found[wind]] for wind in WINDS})
    return 0


if __name__ == "__main__":
    sys.exit(main())
