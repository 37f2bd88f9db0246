"""Climates as rows that a forecasting model trains on: some states, and those that follow.

Shape suffixes: V variables on levels, S at the surface, F forcing variables, T states, K steps ahead, L levels, Y
latitudes, X longitudes, N parameters of a planet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from ..configuration_astro_datacube import AstroDatacubeConfig
from ..cube_errors import CubeError
from ..datacube_fit import fit_statistics
from .errors import DataError


__all__ = [
    "ClimateTrajectory",
    "ForecastRows",
    "batch_of_starts",
    "check_one_grid",
    "climate_statistics",
    "collate_climates",
    "describe_climates",
]


@dataclass(frozen=True)
class ClimateTrajectory:
    """The climate of one planet, state after state; tensors as of `AstroDatacubeModel.forward`, without a batch.

    Attributes:
        name: Of the planet or run.
        surface_fields: Shape (S, T, Y, X).
        level_fields: Shape (V, T, L, Y, X), or `None` where there are no levels.
        forcing_fields: Shape (F, Y, X), or `None` where there are none.
        levels: Shape (L,).
        latitude_deg: Shape (Y,).
        longitude_deg: Shape (X,).
        planet: Shape (N,).
        step_s: Time between states, s.
        units: Of the variables, as CF writes them.
    """

    name: str
    surface_fields: torch.Tensor
    level_fields: torch.Tensor | None
    forcing_fields: torch.Tensor | None
    levels: torch.Tensor
    latitude_deg: torch.Tensor
    longitude_deg: torch.Tensor
    planet: torch.Tensor
    step_s: float
    units: Mapping[str, str] = field(default_factory=dict)

    @property
    def num_states(self) -> int:
        """T."""
        return self.surface_fields.shape[1]

    def row(self, first: int, num_input_steps: int, num_label_steps: int) -> dict[str, torch.Tensor]:
        """Return a row of `ForecastRows` whose first state is `first`; without labels where none are asked for."""
        start = first + num_input_steps
        row = {
            name: value
            for name, value in (
                ("levels", self.levels),
                ("latitude_deg", self.latitude_deg),
                ("longitude_deg", self.longitude_deg),
                ("planet", self.planet),
                ("forcing_fields", self.forcing_fields),
            )
            if value is not None
        }
        for kind in ("surface", "level"):
            fields = getattr(self, f"{kind}_fields")
            if fields is not None:
                row[f"{kind}_fields"] = fields[:, first:start]
                if num_label_steps:
                    row[f"{kind}_labels"] = fields[:, start : start + num_label_steps]
        return {**row, "lead_time_s": torch.tensor(self.step_s)}


class ForecastRows(Dataset):
    """Every place of every climate from which so many states can be read and so many are known to follow.

    A row holds the arguments of `AstroDatacubeForForecasting.forward`, with labels of K states: `surface_labels`
    (S, K, Y, X) and `level_labels` (V, K, L, Y, X).

    Args:
        climates: On one grid and with one step.
        num_input_steps: States that are read, T.
        num_label_steps: States that follow, K.

    Raises:
        DataError: If there is no such place, or grids or steps differ.
    """

    def __init__(self, climates: Sequence[ClimateTrajectory], num_input_steps: int, num_label_steps: int):
        self.climates = list(climates)
        self.num_input_steps, self.num_label_steps = num_input_steps, num_label_steps
        self.places = [
            (climate, first)
            for climate in self.climates
            for first in range(climate.num_states - num_input_steps - num_label_steps + 1)
        ]
        if not self.places:
            raise DataError(
                f"climates must have at least {num_input_steps + num_label_steps} states one after another, "
                f"num_input_steps and the steps ahead; got {[climate.num_states for climate in self.climates]}."
            )
        check_one_grid(self.climates)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        climate, first = self.places[index]
        return climate.row(first, self.num_input_steps, self.num_label_steps)


def check_one_grid(climates: Sequence[ClimateTrajectory]) -> None:
    """Refuse climates that differ in grid, levels or step.

    Raises:
        DataError: Naming the axis, and two climates.
    """
    first = climates[0]
    for climate in climates:
        for name in ("latitude_deg", "longitude_deg", "levels", "step_s"):
            if not _is_same(getattr(first, name), getattr(climate, name)):
                raise DataError(
                    f"{name} must be the same in all climates of a split; that of {climate.name} is not that of "
                    f"{first.name}. Regrid them, or train on each grid by itself."
                )


def _is_same(first: torch.Tensor | float, second: torch.Tensor | float) -> bool:
    return torch.equal(torch.as_tensor(first), torch.as_tensor(second))


def collate_climates(rows: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Stack rows into a batch."""
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


def batch_of_starts(
    climate: ClimateTrajectory, starts: Sequence[int], num_input_steps: int, device: torch.device
) -> dict[str, torch.Tensor]:
    """Return what a model reads to forecast from several last states of a climate, given by their places."""
    rows = [climate.row(start - num_input_steps + 1, num_input_steps, 0) for start in starts]
    return {name: value.to(device) for name, value in collate_climates(rows).items()}


def climate_statistics(climates: Sequence[ClimateTrajectory], config: AstroDatacubeConfig) -> dict[str, Any]:
    """Return the statistics and units of training climates, see `datacube_statistics`.

    Raises:
        DataError: If a variable on levels has no value anywhere.
    """
    fields = ("surface_fields", "level_fields", "forcing_fields", "levels", "latitude_deg", "longitude_deg", "planet")
    items = [
        {name: getattr(climate, name) for name in fields if getattr(climate, name) is not None} for climate in climates
    ]
    names = {kind: getattr(config, f"{kind}_variables") for kind in ("level", "surface", "forcing")}
    units: dict[str, str] = {}
    for climate in climates:
        units.update(climate.units)
    try:
        return fit_statistics(items, names, config.vector_variables, config.planet_parameters, units)
    except CubeError as error:
        raise DataError(str(error)) from error


def describe_climates(
    data: Any, climates: Mapping[str, Sequence[ClimateTrajectory]], config: AstroDatacubeConfig
) -> dict[str, Any]:
    """Return the section `data` of a result.

    Args:
        data: Section of the recipe.
        climates: Of every split.
        config: Of the model.
    """
    return {
        "name": "worlds of shallow water" if data.folder is None else Path(data.folder).name,
        "is_shallow_water": data.folder is None,
        **{split: len(several) for split, several in climates.items()},
        "variables": [*config.level_variables, *config.surface_variables],
        "step_s": data.step_s,
    }
