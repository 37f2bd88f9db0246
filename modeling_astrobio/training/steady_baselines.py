"""What a predicted steady climate must beat: the mean of the planets, the nearest planet, and ridge regression.

Shape suffixes: P planets, F what is known of each, C fields, Y latitudes, X longitudes.
"""

from collections.abc import Sequence
from typing import Any

import torch

from ..sphere_grid import area_mean, sphere_grid
from .datacube_data import ClimateTrajectory
from .steady_data import climate_fields, departures_from_mean, field_spread


__all__ = ["MeanClimate", "NearestClimate", "RidgeClimate", "steady_baselines"]


class _Described:
    """What is known of planets in units of its spread: logarithms of parameters, and the mean of the ground.

    A parameter is known by its inverse hyperbolic sine, the logarithm where it is large. What does not differ between
    the planets is left out.
    """

    def __init__(self, climates: Sequence[ClimateTrajectory]):
        known = torch.stack([self._all(each) for each in climates])
        spread = known.std(0, correction=0)
        self.kept = spread > 1e-9 * (1 + known.abs().amax(0))
        self.mean, self.spread = known.mean(0)[self.kept], spread[self.kept]
        self.of_training = (known[:, self.kept] - self.mean) / self.spread

    def __call__(self, climate: ClimateTrajectory) -> torch.Tensor:
        return (self._all(climate)[self.kept] - self.mean) / self.spread

    @staticmethod
    def _all(climate: ClimateTrajectory) -> torch.Tensor:
        planet = torch.asinh(climate.planet.double()).nan_to_num()
        if climate.forcing_fields is None:
            return planet
        weights = sphere_grid(climate.latitude_deg, climate.longitude_deg).cell_weights
        return torch.cat((planet, area_mean(climate.forcing_fields.double().nan_to_num(), weights)))


class MeanClimate:
    """The mean of the planets, cell by cell.

    Args:
        climates: To learn from, each of one state.
    """

    def __init__(self, climates: Sequence[ClimateTrajectory]):
        self.mean = departures_from_mean(climates)[1]

    def __call__(self, climate: ClimateTrajectory) -> torch.Tensor:
        """Return the predicted fields of a climate, of which only the planet and its ground are looked at."""
        return self.mean


class NearestClimate:
    """The climate of the planet whose parameters are nearest, see `_Described`.

    Args:
        climates: To learn from, each of one state.
    """

    def __init__(self, climates: Sequence[ClimateTrajectory]):
        self.climates, self.described = list(climates), _Described(climates)

    def __call__(self, climate: ClimateTrajectory) -> torch.Tensor:
        """Return the predicted fields of a climate, of which only the planet and its ground are looked at."""
        distances = (self.described.of_training - self.described(climate)).square().sum(-1)
        return climate_fields(self.climates[int(distances.argmin())]).nan_to_num()


class RidgeClimate:
    """Ridge regression of every field in every cell on what is known of the planet, see `_Described`.

    The strength is that whose leave-one-out error, over the spread of each field, is least. As the prediction is a
    linear function of the training climates, the error of a climate left out is its own divided by 1 - H_ii, with H
    the matrix of that function (Golub, Heath and Wahba 1979, doi:10.1080/00401706.1979.10489751).

    Args:
        climates: To learn from, each of one state.
        strengths: To choose from: added to the variance, 1, of what is known.
    """

    def __init__(self, climates: Sequence[ClimateTrajectory], strengths: Sequence[float]):
        self.described = _Described(climates)
        known = self.described.of_training
        departures, self.mean = departures_from_mean(climates)
        weights = sphere_grid(climates[0].latitude_deg, climates[0].longitude_deg).cell_weights
        spread, errors = field_spread(climates), {}
        for strength in strengths:
            fitted = known @ self._solve(known, strength) + 1 / len(known)
            residual = departures - torch.einsum("pq,qcyx->pcyx", fitted, departures)
            left_out = residual / (1 - fitted.diagonal()).view(-1, 1, 1, 1)
            squares = area_mean(left_out.square(), weights).mean(0) / spread.square()
            errors[strength] = float(squares.mean())
        self.strength = min(errors, key=lambda strength: errors[strength])
        self.weights = torch.einsum("fp,pcyx->fcyx", self._solve(known, self.strength), departures)

    @staticmethod
    def _solve(known: torch.Tensor, strength: float) -> torch.Tensor:
        """Matrix from departures to weights, shape (F, P)."""
        penalty = strength * len(known) * torch.eye(known.shape[1], dtype=known.dtype)
        return torch.linalg.solve(known.mT @ known + penalty, known.mT)

    def __call__(self, climate: ClimateTrajectory) -> torch.Tensor:
        """Return the predicted fields of a climate, of which only the planet and its ground are looked at."""
        return self.mean + torch.einsum("f,fcyx->cyx", self.described(climate), self.weights)


def steady_baselines(climates: Sequence[ClimateTrajectory], strengths: Sequence[float]) -> dict[str, Any]:
    """Return all of them by name, of climates that are known; strengths as of `RidgeClimate`."""
    return {
        "mean of the planets": MeanClimate(climates),
        "nearest planet": NearestClimate(climates),
        "ridge": RidgeClimate(climates, strengths),
    }
