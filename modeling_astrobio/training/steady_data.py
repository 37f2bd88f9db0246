"""Steady climates as rows: the mean of a climate's last states, of the planet and its ground alone.

Shape suffixes: P planets, V variables on levels, S at the surface, L levels, Y latitudes, X longitudes, C fields:
each variable at each level and at the surface.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..configuration_astro_datacube import AstroDatacubeConfig
from ..sphere_grid import area_mean, sphere_grid
from .datacube_data import ClimateTrajectory, check_one_grid, climate_statistics
from .errors import DataError


__all__ = [
    "SteadyRows",
    "climate_fields",
    "departures_from_mean",
    "field_spread",
    "field_variables",
    "radiation_residual_w_m2",
    "stacked_fields",
    "steady_climate",
    "steady_statistics",
]


def steady_climate(climate: ClimateTrajectory, states: int) -> ClimateTrajectory:
    """Return the mean of a climate's last states, as a climate of one state.

    Raises:
        DataError: If it has fewer.
    """
    if climate.num_states < states:
        raise DataError(
            f"climates must have at least {states} states, whose mean is steady; {climate.name} has "
            f"{climate.num_states}."
        )
    level, surface = (
        None if fields is None else fields[:, -states:].double().mean(1, keepdim=True).float()
        for fields in (climate.level_fields, climate.surface_fields)
    )
    assert surface is not None
    return replace(climate, level_fields=level, surface_fields=surface)


def radiation_residual_w_m2(climate: ClimateTrajectory, surface_variables: Sequence[str]) -> float | None:
    """Return the mean over area and states of `rst` + `rlut`, W m-2 into the planet; `None` without both."""
    names = list(surface_variables)
    if not {"rst", "rlut"} <= set(names):
        return None
    rst, rlut = (climate.surface_fields[names.index(name)].double() for name in ("rst", "rlut"))
    weights = sphere_grid(climate.latitude_deg, climate.longitude_deg).cell_weights
    return float(area_mean(rst + rlut, weights).mean())


def stacked_fields(level: torch.Tensor | None, surface: torch.Tensor | None) -> torch.Tensor:
    """Return fields on levels, shape (V, L, Y, X), and at the surface, (S, Y, X), as one (C, Y, X)."""
    parts = [] if level is None else [level.flatten(0, 1)]
    return torch.cat(parts if surface is None else [*parts, surface])


def field_variables(config: AstroDatacubeConfig, levels: int) -> list[str]:
    """Return the variable that each field of `stacked_fields` is of."""
    return [name for name in config.level_variables for _ in range(levels)] + list(config.surface_variables)


def climate_fields(climate: ClimateTrajectory) -> torch.Tensor:
    """Return the fields of a climate of one state, shape (C, Y, X), float64, NaN where a value is missing."""
    level = None if climate.level_fields is None else climate.level_fields[:, 0]
    return stacked_fields(level, climate.surface_fields[:, 0]).double()


def field_spread(climates: Sequence[ClimateTrajectory]) -> torch.Tensor:
    """Return the root of the mean square, over planets and area, of what differs from the planets' mean, shape (C,).

    It is 1 where nothing differs; what is missing is taken to be the mean.
    """
    departures, _ = departures_from_mean(climates)
    weights = sphere_grid(climates[0].latitude_deg, climates[0].longitude_deg).cell_weights
    spread = area_mean(departures.square(), weights).mean(0).sqrt()
    return torch.where(spread > 0, spread, 1.0)


def departures_from_mean(climates: Sequence[ClimateTrajectory]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what differs from the planets' mean, shape (P, C, Y, X), and that mean; 0 where it is not known."""
    fields = torch.stack([climate_fields(each) for each in climates])
    mean = fields.nanmean(0)
    return (fields - mean).nan_to_num(), mean.nan_to_num()


def steady_statistics(climates: Sequence[ClimateTrajectory], config: AstroDatacubeConfig) -> dict[str, Any]:
    """Return `climate_statistics` with the spread between the planets as scales.

    A model of steady climates reads no fields: scales are those of its output, and weigh its loss. So that variables
    count alike in the loss, where every level counts, those on levels are wider by the root of the number of levels.

    Args:
        climates: To train on, each of one state, and on one grid.
        config: Of the model.

    Raises:
        DataError: If a variable on levels has no value anywhere.
    """
    statistics = climate_statistics(climates, config)
    number = len(climates[0].levels)
    spread = field_spread(climates)
    of_levels, at_surface = spread.split([number * len(config.level_variables), len(config.surface_variables)])
    for name, scale in zip(config.surface_variables, at_surface, strict=True):
        statistics["variables"][name]["scale"] = float(scale)
    heights = climates[0].levels.log().numpy()
    for name, scales in zip(config.level_variables, of_levels.view(-1, number), strict=True):
        scale = np.interp(np.log(statistics["levels"]), heights, scales.numpy()) * number**0.5
        statistics["variables"][name]["scale"] = scale.tolist()
    return statistics


class SteadyRows(Dataset):
    """A row for each climate: the arguments of `AstroDatacubeForSteadyState.forward`, without a batch.

    Args:
        climates: Each of one state, see `steady_climate`, and on one grid.

    Raises:
        DataError: If grids differ.
    """

    def __init__(self, climates: Sequence[ClimateTrajectory]):
        check_one_grid(climates)
        self.climates = list(climates)

    def __len__(self) -> int:
        return len(self.climates)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        row = self.climates[index].row(0, 0, 1)
        del row["lead_time_s"]
        # Of no states that are read, and one that is predicted.
        labels = {name: row[name][:, 0] for name in ("level_labels", "surface_labels") if name in row}
        return {name: value for name, value in row.items() if not name.startswith(("level_f", "surface_f"))} | labels
