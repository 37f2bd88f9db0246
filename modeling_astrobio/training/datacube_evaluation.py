"""How well held-out climates are forecast at every lead, beside the baselines, and what is conserved.

Shape suffixes: B starts, S variables, K steps ahead, Y latitudes, X longitudes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ..sphere_grid import sphere_grid
from .climate_metrics.anomaly_correlation import anomaly_correlation
from .climate_metrics.weighted_rmse import weighted_rmse
from .datacube_baselines import RidgeForecast, climatology, persistence
from .datacube_data import ClimateTrajectory, batch_of_starts


__all__ = ["best_ridge", "forecast_figures", "model_forecasts"]

Forecast = Callable[[ClimateTrajectory, int, int], torch.Tensor]


def starts_of(climate: ClimateTrajectory, num_input_steps: int, steps: int, number: int) -> list[int]:
    """Return places of last states read, spread evenly over a climate."""
    first, last = num_input_steps - 1, climate.num_states - steps - 1
    number = min(number, last - first + 1)
    return [first + round(place * (last - first) / max(number - 1, 1)) for place in range(number)]


@torch.no_grad()
def model_forecasts(
    model: Any, climate: ClimateTrajectory, starts: Sequence[int], steps: int
) -> tuple[torch.Tensor, Mapping[str, torch.Tensor] | None]:
    """Return roll-outs from several starts, shape (B, S, K, Y, X), and residuals (K, B) of the constraints."""
    rolled = model.rollout(steps, **batch_of_starts(climate, starts, model.config.num_input_steps, model.device))
    return rolled.surface_fields.cpu(), rolled.residuals


def forecast_figures(
    model: Any, climates: Sequence[ClimateTrajectory], ridge: RidgeForecast, steps: int, starts: int
) -> dict[str, Any]:
    """Return errors of the model and of the baselines on held-out climates.

    An error is relative to that of climatology at the same lead of the same roll-outs, so that planets whose winds are
    strong do not count more: the mean over planets of the root of the mean square, for each variable.

    Returns:
        By forecast, variable and lead: `relative_rmse`, 1 is as good as the mean of all states of that planet, and
        `anomaly_correlation`; `residuals`, the greatest of each constraint at each lead.
    """
    names = list(model.config.surface_variables)
    baselines: dict[str, Forecast] = {"persistence": persistence, "climatology": climatology, "ridge": ridge}
    errors: dict[str, list[torch.Tensor]] = {name: [] for name in (*baselines, "model")}
    correlations: dict[str, list[torch.Tensor]] = {name: [] for name in ("persistence", "ridge", "model")}
    residuals: dict[str, list[torch.Tensor]] = {}
    for climate in climates:
        places = starts_of(climate, model.config.num_input_steps, steps, starts)
        truth = torch.stack([climate.surface_fields[:, place + 1 : place + 1 + steps] for place in places])
        weights = sphere_grid(climate.latitude_deg, climate.longitude_deg).cell_weights
        mean = climatology(climate, 0, 1)
        predicted = {
            name: torch.stack([forecast(climate, place, steps) for place in places])
            for name, forecast in baselines.items()
        }
        predicted["model"], kept = model_forecasts(model, climate, places, steps)
        of_mean = weighted_rmse(predicted["climatology"], truth, weights).square().mean((0, 2)).sqrt()
        for name, fields in predicted.items():
            square = _finite(fields, truth, weights)
            errors[name].append(square.mean(0).sqrt() / of_mean[:, None])
            if name in correlations:
                correlations[name].append(
                    anomaly_correlation(torch.nan_to_num(fields, posinf=0, neginf=0), truth, mean, weights).mean(0)
                )
        for name, values in (kept or {}).items():
            residuals.setdefault(name, []).append(values.max(1).values.cpu())
    return {
        "variables": names,
        "planets": len(climates),
        "relative_rmse": {name: _by_variable(names, values) for name, values in errors.items()},
        "anomaly_correlation": {name: _by_variable(names, values) for name, values in correlations.items()},
        "residuals": {name: torch.stack(values).max(0).values.tolist() for name, values in residuals.items()},
    }


def _finite(fields: torch.Tensor, truth: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean square errors, infinite where a forecast has blown up, shape (B, S, K)."""
    is_finite = fields.flatten(-2).isfinite().all(-1)
    safe = torch.where(is_finite[..., None, None], fields, truth)
    return torch.where(is_finite, weighted_rmse(safe, truth, weights).square(), torch.inf)


def _by_variable(names: Sequence[str], values: Sequence[torch.Tensor]) -> dict[str, list[float]]:
    mean = torch.stack(list(values)).mean(0)
    return {name: mean[place].tolist() for place, name in enumerate(names)}


def best_ridge(
    train: Sequence[ClimateTrajectory],
    validation: Sequence[ClimateTrajectory],
    vectors: Sequence[int],
    strengths: Sequence[float],
    steps: int,
) -> tuple[RidgeForecast, float]:
    """Return the ridge regression, and its strength, with the least error on the validation climates."""
    best: tuple[float, float, RidgeForecast] | None = None
    for strength in strengths:
        ridge = RidgeForecast(train, vectors, strength)
        total = 0.0
        for climate in validation:
            start = (climate.num_states - steps) // 2
            truth = climate.surface_fields[:, start + 1 : start + 1 + steps]
            weights = sphere_grid(climate.latitude_deg, climate.longitude_deg).cell_weights
            error = _finite(ridge(climate, start, steps)[None], truth[None], weights)[0]
            spread = weighted_rmse(climatology(climate, start, steps), truth, weights).square().mean(1)
            total += float((error.mean(1) / spread).mean())
        if best is None or total < best[0]:
            best = (total, strength, ridge)
    assert best is not None
    return best[2], best[1]
