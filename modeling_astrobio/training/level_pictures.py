"""Pictures of variables on levels: sections, profiles and maps of what is true and of what was predicted.

Shape suffixes: V variables, L levels, Y latitudes, X longitudes.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import torch
from matplotlib.figure import Figure

from ..sphere_grid import area_mean, sphere_grid
from .climate_maps import ClimateMaps, finite_range, with_unit
from .datacube_data import ClimateTrajectory


__all__ = ["draw_levels"]


def draw_levels(
    names: Sequence[str], truth: torch.Tensor, predicted: torch.Tensor, climate: ClimateTrajectory, path: Path
) -> None:
    """Draw of each variable zonal means over latitude and level, the profile of global means, and a level's map.

    Args:
        names: Of the variables.
        truth: Shape (V, L, Y, X), NaN where a value is missing.
        predicted: Likewise.
        climate: Whose levels, pressure over nominal surface pressure, and grid they are on.
        path: Of the picture.
    """
    matplotlib.use("agg")
    latitude, levels = climate.latitude_deg.double(), climate.levels.double()
    weights = sphere_grid(climate.latitude_deg, climate.longitude_deg).cell_weights
    middle = len(levels) // 2
    figure = Figure(figsize=(18, 2.8 * len(names)), layout="constrained")
    maps = ClimateMaps(figure, latitude, climate.longitude_deg)
    panels = figure.subplots(len(names), 5, squeeze=False)
    for row, name in enumerate(with_unit(name, climate.units) for name in names):
        both = {"truth": truth[row].double(), "predicted": predicted[row].double()}
        for column, (what, field) in enumerate(both.items()):
            section, map_axes = panels[row][column], panels[row][3 + column]
            zonal, shown = both["truth"].nanmean(-1), both["truth"][middle]
            low, high = finite_range(zonal)
            image = section.pcolormesh(
                latitude.numpy(),
                levels.numpy(),
                field.nanmean(-1).numpy(),
                vmin=low,
                vmax=high,
                shading="nearest",
            )
            section.set_ylim(1.0, 0.0)
            section.set_title(f"{name}, zonal mean, {what}", fontsize=9)
            section.set_xlabel("latitude (degrees)", fontsize=8)
            section.set_ylabel("pressure / surface pressure", fontsize=8)
            figure.colorbar(image, ax=section)
            maps.draw(map_axes, field[middle], shown, f"{name} at {float(levels[middle]):.2f}, {what}")
            panels[row][2].plot(area_mean(field, weights).numpy(), levels.numpy(), label=what)
        panels[row][2].set_ylim(1.0, 0.0)
        panels[row][2].set_title(f"{name}, global mean", fontsize=9)
        panels[row][2].legend(fontsize=7)
    figure.savefig(path, dpi=90)
