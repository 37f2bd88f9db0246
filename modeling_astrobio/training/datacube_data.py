"""Climates as rows that a forecasting model trains on: some states, and those that follow.

Shape suffixes: V variables on levels, S at the surface, F forcing variables, T states, K steps ahead, L levels, Y
latitudes, X longitudes, N parameters of a planet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.utils.data import Dataset

from .errors import DataError


__all__ = ["ClimateTrajectory", "ForecastRows", "collate_climates"]


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

    @property
    def num_states(self) -> int:
        """T."""
        return self.surface_fields.shape[1]

    def row(self, first: int, num_input_steps: int, num_label_steps: int) -> dict[str, torch.Tensor]:
        """Return a row of `ForecastRows` whose first state is `first`."""
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
        first = self.climates[0]
        for climate in self.climates:
            for name in ("latitude_deg", "longitude_deg", "levels", "step_s"):
                if not _is_same(getattr(first, name), getattr(climate, name)):
                    raise DataError(
                        f"{name} must be the same in all climates of a split; that of {climate.name} is not that of "
                        f"{first.name}. Regrid them, or train on each grid by itself."
                    )

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        climate, first = self.places[index]
        return climate.row(first, self.num_input_steps, self.num_label_steps)


def _is_same(first: torch.Tensor | float, second: torch.Tensor | float) -> bool:
    return torch.equal(torch.as_tensor(first), torch.as_tensor(second))


def collate_climates(rows: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Stack rows into a batch."""
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
