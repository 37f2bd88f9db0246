"""What a climate forecast must beat: persistence, climatology, and ridge regression on a cell's surroundings.

Shape suffixes: S variables, T states, K steps ahead, Y latitudes, X longitudes, N parameters of a planet.
"""

from collections.abc import Sequence

import torch

from ..sphere_grid import pad_sphere, sphere_grid
from .datacube_data import ClimateTrajectory


__all__ = ["RidgeForecast", "climatology", "persistence"]

# Cells on each side of a cell that ridge regression sees.
_REACH = 1


def persistence(climate: ClimateTrajectory, start: int, steps: int) -> torch.Tensor:
    """Return the state at `start` again and again, shape (S, K, Y, X)."""
    return climate.surface_fields[:, start : start + 1].expand(-1, steps, -1, -1)


def climatology(climate: ClimateTrajectory, start: int, steps: int) -> torch.Tensor:
    """Return the mean of all states of a climate, also those that are to be predicted, shape (S, K, Y, X).

    Of a planet that was held out no other mean is known; it is better than any that a forecast could have.
    """
    return climate.surface_fields.mean(1, keepdim=True).expand(-1, steps, -1, -1)


class RidgeForecast:
    """Ridge regression of what a step changes, on the cell and those around it, one for each latitude.

    Each variable is predicted from all variables of nine cells, each alone and times the planet's parameters, so that
    planets may differ. Steps follow one another.

    Args:
        climates: To fit.
        vector_variables: Places of the variables that turn round across a pole.
        strength: Added to the diagonal, relative to its mean.
    """

    def __init__(self, climates: Sequence[ClimateTrajectory], vector_variables: Sequence[int], strength: float):
        self.vectors = list(vector_variables)
        fields = torch.cat([each.surface_fields for each in climates], dim=1)
        axes = (1, 2, 3)
        self.scale = (fields - fields.mean(axes, keepdim=True)).square().mean(axes).sqrt().double()
        planets = torch.stack([_described(each) for each in climates])
        self.planet_mean, self.planet_scale = planets.mean(0), planets.std(0).clamp(min=1e-6)
        products, targets = torch.zeros(2, dtype=torch.float64)
        for climate in climates:
            inputs = self._inputs(climate, climate.surface_fields[:, :-1].double())
            changes = climate.surface_fields.double().diff(dim=1) / self.scale.view(-1, 1, 1, 1)
            changes = changes.permute(2, 1, 3, 0).flatten(1, 2)
            products = products + inputs.mT @ inputs
            targets = targets + inputs.mT @ changes
        diagonal = products.diagonal(dim1=-2, dim2=-1).mean(-1)
        penalty = strength * diagonal[:, None, None] * torch.eye(products.shape[-1], dtype=torch.float64)
        self.weights = torch.linalg.solve(products + penalty, targets)

    def _inputs(self, climate: ClimateTrajectory, fields: torch.Tensor) -> torch.Tensor:
        """Inputs of each latitude, shape (Y, T * X, features), of fields (S, T, Y, X)."""
        grid = sphere_grid(climate.latitude_deg, climate.longitude_deg)
        # The mean depth says nothing of how it changes.
        centred = fields - fields.mean((-2, -1), keepdim=True)
        centred = torch.where(self._is_vector(fields), fields, centred) / self.scale.view(-1, 1, 1, 1)
        padded = pad_sphere(centred, grid, _REACH, _REACH, is_vector=self._is_vector(fields)[..., 0, 0])
        height, width = fields.shape[-2:]
        around = [
            padded[..., row : row + height, column : column + width]
            for row in range(2 * _REACH + 1)
            for column in range(2 * _REACH + 1)
        ]
        cells = torch.stack(around).flatten(0, 1)
        cells = cells.permute(2, 1, 3, 0).flatten(1, 2)
        planet = (_described(climate) - self.planet_mean) / self.planet_scale
        factors = torch.cat((torch.ones(1, dtype=torch.float64), planet))
        return torch.cat([factor * cells for factor in factors], dim=-1)

    def _is_vector(self, fields: torch.Tensor) -> torch.Tensor:
        marks = torch.zeros(len(fields), dtype=torch.bool)
        marks[self.vectors] = True
        return marks.view(-1, 1, 1, 1)

    def __call__(self, climate: ClimateTrajectory, start: int, steps: int) -> torch.Tensor:
        """Return the states after `start`, shape (S, K, Y, X)."""
        state = climate.surface_fields[:, start : start + 1].double()
        found = []
        for _ in range(steps):
            changes = (self._inputs(climate, state) @ self.weights).unflatten(1, (1, -1)).permute(3, 1, 0, 2)
            state = state + changes * self.scale.view(-1, 1, 1, 1)
            found.append(state)
        return torch.cat(found, dim=1).float()


def _described(climate: ClimateTrajectory) -> torch.Tensor:
    """What is known of the planet, as `datacube_statistics` describes it; 0 where it is not known."""
    return torch.asinh(climate.planet.double()).nan_to_num()
