"""The configuration of an ensemble about a forecast, and how far that forecast errs.

Shape suffixes: B starts, V variables, L levels, R levels of the statistics, Y latitudes, X longitudes.
"""

import copy
from collections.abc import Sequence

import numpy as np
import torch

from ..configuration_astro_datacube import FORECAST_SHARES, AstroDatacubeConfig
from ..datacube_loss import known_mean
from ..datacube_statistics import level_statistic, surface_statistic
from ..modeling_astro_datacube_diffusion import change_size
from ..modeling_astro_datacube_heads import AstroDatacubeForForecasting
from ..sphere_grid import sphere_grid
from .datacube_data import ClimateTrajectory, batch_of_starts


__all__ = ["add_departure_shares", "share_with_forecast"]

_BATCH = 16


def share_with_forecast(config: AstroDatacubeConfig, forecast: AstroDatacubeConfig) -> None:
    """Let a configuration of a diffusion model draw departures from a forecast, of the variables of that.

    Every `departure_share` is 1 until `add_departure_shares` finds it.
    """
    for name in (*FORECAST_SHARES, "statistics"):
        setattr(config, name, copy.deepcopy(getattr(forecast, name)))
    if config.statistics is not None:
        for name, statistic in config.statistics["variables"].items():
            is_on_levels = name in config.level_variables
            statistic["departure_share"] = [1.0] * len(config.statistics["levels"]) if is_on_levels else 1.0
    config.forecast_config = forecast.to_diff_dict()
    config.validate()


@torch.no_grad()
def add_departure_shares(
    config: AstroDatacubeConfig, forecast: AstroDatacubeForForecasting, climates: Sequence[ClimateTrajectory]
) -> None:
    """Add `departure_share` of every variable to the statistics of a configuration.

    The root of the mean square, over area and starts, of errors over the size of what is forecast to change; the
    median of the climates, so that one that is forecast badly does not count for all.

    Args:
        config: With statistics.
        forecast: In evaluation.
        climates: That the ensembles are trained on.
    """
    assert config.statistics is not None
    found: dict[str, list[np.ndarray]] = {}
    known_levels = np.log(config.statistics["levels"])
    window = forecast.config.num_input_steps
    for climate in (each for each in climates if each.num_states > window):
        heights = np.log(climate.levels.double().numpy())
        for kind, shares in zip(("level", "surface"), _shares(forecast, climate, config), strict=True):
            if shares is None:
                continue
            for name, share in zip(getattr(config, f"{kind}_variables"), shares.numpy(), strict=True):
                if kind == "level":
                    share = np.interp(known_levels, heights, share)
                found.setdefault(name, []).append(share)
    for name in (*config.level_variables, *config.surface_variables):
        # 1 where no climate says it.
        share = np.ma.filled(np.ma.median(np.ma.masked_invalid(found[name]), axis=0), 1.0)
        config.statistics["variables"][name]["departure_share"] = np.asarray(share).tolist()


def _shares(
    forecast: AstroDatacubeForForecasting, climate: ClimateTrajectory, config: AstroDatacubeConfig
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Errors over changes of a climate, shape (V, L) and (S,); NaN where nothing is known."""
    scales = (
        level_statistic(config.statistics, config.level_variables, "difference_scale", climate.levels[None])[0],
        surface_statistic(config.statistics, config.surface_variables, "difference_scale", torch.device("cpu")),
    )
    window = forecast.config.num_input_steps
    weights = sphere_grid(climate.latitude_deg, climate.longitude_deg).cell_weights
    squares: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
    for starts in torch.arange(window - 1, climate.num_states - 1).split(_BATCH):
        batch = batch_of_starts(climate, starts.tolist(), window, forecast.device)
        predicted = forecast(**batch)
        for kind, kept, scale in zip(("level", "surface"), squares, scales, strict=True):
            fields = getattr(climate, f"{kind}_fields")
            if fields is None:
                continue
            truth = torch.stack([fields[:, start + 1] for start in starts.tolist()])
            field = getattr(predicted, f"{kind}_fields").cpu()
            change = field - batch[f"{kind}_fields"][:, :, -1].cpu()
            error = known_mean((field - truth).square(), weights)[..., 0, 0].double()
            kept.append(error / change_size(change, scale, weights).double().square())
    level, surface = (torch.cat(kept).nanmean(0).sqrt() if kept else None for kept in squares)
    return level, surface
