"""How well the steady climates of held-out planets are predicted.

Shape suffixes: C fields, Y latitudes, X longitudes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ..sphere_grid import sphere_grid
from .datacube_data import ClimateTrajectory, collate_climates
from .steady_data import SteadyRows, climate_fields, stacked_fields


__all__ = ["Predictor", "mean_errors", "model_climate", "relative_errors"]

Predictor = Callable[[ClimateTrajectory], torch.Tensor]


@torch.no_grad()
def model_climate(model: Any, climate: ClimateTrajectory) -> torch.Tensor:
    """Return the climate that an `AstroDatacubeForSteadyState` predicts, shape (C, Y, X)."""
    batch = {
        name: value.to(model.device)
        for name, value in collate_climates([SteadyRows([climate])[0]]).items()
        if not name.endswith("labels")
    }
    found = model(**batch)
    level = None if found.level_fields is None else found.level_fields[0]
    return stacked_fields(level, None if found.surface_fields is None else found.surface_fields[0]).cpu().double()


def relative_errors(
    predict: Predictor, climate: ClimateTrajectory, spread: torch.Tensor, variables: Sequence[str]
) -> dict[str, float]:
    """Return the root mean square error of each variable, over area and levels, over the spread of each field.

    Args:
        predict: Gives the fields of a climate.
        climate: Of one state.
        spread: Of the training planets, see `field_spread`, shape (C,).
        variables: That each field is of, see `field_variables`.

    Returns:
        Of the variables that are known somewhere.
    """
    weights = sphere_grid(climate.latitude_deg, climate.longitude_deg).cell_weights
    truth = climate_fields(climate)
    known = truth.isfinite()
    error = torch.where(known, (predict(climate) - truth) / spread[:, None, None], 0.0)
    squares, area = (error.square() * weights).sum((-2, -1)), (known * weights).sum((-2, -1))
    found = {}
    for name in dict.fromkeys(variables):
        places = [place for place, each in enumerate(variables) if each == name and area[place] > 0]
        if places:
            found[name] = float((squares[places] / area[places]).mean().sqrt())
    return found


def mean_errors(of_planets: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the root mean square over planets of each variable's relative error, and their mean as `mean`."""
    names = dict.fromkeys(name for each in of_planets for name in each)
    errors = {
        name: float(torch.tensor([each[name] for each in of_planets if name in each]).square().mean().sqrt())
        for name in names
    }
    return {**errors, "mean": sum(errors.values()) / len(errors)}
