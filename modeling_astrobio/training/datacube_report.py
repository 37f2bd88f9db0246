"""What a run of climate forecasts leaves for its reader: model card, lines of figures, pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from ..sphere_grid import area_mean, sphere_grid
from .climate_maps import ClimateMaps, with_unit
from .datacube_data import ClimateTrajectory, batch_of_starts
from .datacube_evaluation import model_forecasts
from .level_pictures import draw_levels
from .model_card import write_card


__all__ = [
    "draw_errors",
    "draw_forecast",
    "draw_level_forecast",
    "ensemble_lines",
    "error_lines",
    "forecast_lines",
    "shown_leads",
    "write_climate_card",
    "write_datacube_card",
    "write_ensemble_card",
]

_COLOURS = {"persistence": "#9a9a9a", "climatology": "#000000", "ridge": "#5a9e6f", "model": "#c8501e"}


def shown_leads(steps: int) -> list[int]:
    """Return leads to show, in steps from 1: 1, 2, 4, 8 and so on, and the last."""
    leads = [2**power for power in range(steps.bit_length()) if 2**power <= steps]
    return leads if leads[-1] == steps else [*leads, steps]


def forecast_lines(figures: dict[str, Any], step_s: float) -> list[str]:
    """Return the errors of `forecast_figures` as lines of text, a table for each variable."""
    steps = len(figures["relative_rmse"]["model"][figures["variables"][0]])
    leads = shown_leads(steps)
    lines = []
    for variable in figures["variables"]:
        head = "  ".join(f"{lead * step_s / 3600:>5.0f} h" for lead in leads)
        lines.append(f"{variable + ', RMSE over that of climatology':40}  {head}")
        for name, values in figures["relative_rmse"].items():
            row = "  ".join(f"{values[variable][lead - 1]:>7.3f}" for lead in leads)
            lines.append(f"{name:40}  {row}")
    return lines


def draw_errors(figures: dict[str, Any], step_s: float, path: Path) -> None:
    """Draw relative errors over the lead, a panel for each variable."""
    matplotlib.use("agg")
    names = figures["variables"]
    figure = Figure(figsize=(4.2 * len(names), 3.6), layout="constrained")
    for place, variable in enumerate(names, start=1):
        axes = figure.add_subplot(1, len(names), place)
        for forecast, values in figures["relative_rmse"].items():
            hours = [(lead + 1) * step_s / 3600 for lead in range(len(values[variable]))]
            axes.plot(hours, values[variable], color=_COLOURS[forecast], label=forecast)
        axes.set_ylim(0, 2)
        axes.set_title(variable)
        axes.set_xlabel("lead (h)")
        axes.grid(alpha=0.25)
        if place == 1:
            axes.set_ylabel("RMSE / RMSE of climatology")
            axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def draw_forecast(model: Any, climate: ClimateTrajectory, steps: int, path: Path) -> None:
    """Draw a held-out climate at the last lead of a roll-out: maps of truth and forecast, zonal means, and drift."""
    matplotlib.use("agg")
    start = model.config.num_input_steps - 1
    steps = min(steps, climate.num_states - start - 1)
    fields, _ = model_forecasts(model, climate, [start], steps)
    predicted = fields[0]
    truth = climate.surface_fields[:, start + 1 : start + 1 + steps]
    grid = sphere_grid(climate.latitude_deg, climate.longitude_deg)
    names = model.config.surface_variables
    figure = Figure(figsize=(15, 2.6 * len(names)), layout="constrained")
    panels = figure.subplots(len(names), 4, squeeze=False)
    maps = ClimateMaps(figure, climate.latitude_deg, climate.longitude_deg)
    for row, name in enumerate(with_unit(name, climate.units) for name in names):
        last = {"truth": truth[row, -1], "forecast": predicted[row, -1]}
        for column, (what, field) in enumerate(last.items()):
            title = f"{name}, {what}, {steps * climate.step_s / 3600:.0f} h"
            maps.draw(panels[row][column], field, last["truth"], title)
            panels[row][2].plot(field.mean(-1).numpy(), climate.latitude_deg.numpy(), label=what)
        panels[row][2].set_title(f"{name}, zonal mean", fontsize=9)
        panels[row][2].legend(fontsize=7)
        first = area_mean(climate.surface_fields[row, start], grid.cell_weights)
        for what, several in (("truth", truth[row]), ("forecast", predicted[row])):
            panels[row][3].plot(range(1, steps + 1), area_mean(several, grid.cell_weights) - first, label=what)
        panels[row][3].set_title(f"{name}, change of the global mean", fontsize=9)
        panels[row][3].set_xlabel("step", fontsize=8)
    figure.savefig(path, dpi=100)


def draw_level_forecast(model: Any, climate: ClimateTrajectory, steps: int, path: Path) -> None:
    """Draw the variables on levels of a held-out climate at the last lead of a roll-out, see `draw_levels`."""
    start = model.config.num_input_steps - 1
    steps = min(steps, climate.num_states - start - 1)
    batch = batch_of_starts(climate, [start], model.config.num_input_steps, model.device)
    predicted = model.rollout(steps, **batch).level_fields[0, :, -1].cpu()
    assert climate.level_fields is not None
    draw_levels(model.config.level_variables, climate.level_fields[:, start + steps], predicted, climate, path)


def write_datacube_card(result: dict[str, Any], template: Path, path: Path) -> None:
    """Write the card of a model that forecasts climates, see `write_card`."""
    evaluation = result["evaluation"]
    leads: Sequence[int] = []
    if "relative_rmse" in evaluation:
        leads = shown_leads(len(evaluation["relative_rmse"]["model"][evaluation["variables"][0]]))
    write_card(result, template, path, pipeline_tag="time-series-forecasting", tags=("climate",), leads=leads)


_SCORES = {
    "fair_crps": "fair CRPS",
    "mae_of_mean": "mean absolute error of the ensemble's mean",
    "mae_deterministic": "mean absolute error of a deterministic forecast",
    "spread_skill_ratio": "spread over error of the mean",
}


def ensemble_lines(figures: dict[str, Any], step_s: float) -> list[str]:
    """Return the scores of `ensemble_figures` as lines of text, a table for each variable."""
    leads = shown_leads(len(figures["fair_crps"][figures["variables"][0]]))
    lines = []
    for variable in figures["variables"]:
        head = "  ".join(f"{lead * step_s / 3600:>5.0f} h" for lead in leads)
        lines.append(f"{variable + ', over the MAE of climatology':50}  {head}")
        for score, what in _SCORES.items():
            if score in figures:
                row = "  ".join(f"{figures[score][variable][lead - 1]:>7.3f}" for lead in leads)
                lines.append(f"{what:50}  {row}")
    return lines


def write_ensemble_card(result: dict[str, Any], template: Path, path: Path, kind: str) -> None:
    """Write the card of a model that draws climates, see `write_card`."""
    evaluation = result["evaluation"]
    leads: Sequence[int] = []
    if "fair_crps" in evaluation:
        leads = shown_leads(len(evaluation["fair_crps"][evaluation["variables"][0]]))
    tags = ("climate", "diffusion")
    write_card(
        result,
        template,
        path,
        pipeline_tag="time-series-forecasting",
        tags=tags,
        leads=leads,
        scores=_SCORES,
        kind=kind,
    )


def error_lines(figures: dict[str, Any]) -> list[str]:
    """Return the errors of `climate_tasks.ClimateWork.figures` as lines of text, a table for each case."""
    lines = []
    for case, predictors in figures["relative_rmse"].items():
        variables = list(predictors["model"])
        lines.append(f"{case + ', relative RMSE':30}  {'  '.join(f'{name:>7}' for name in variables)}")
        for predictor, values in predictors.items():
            lines.append(f"{predictor:30}  {'  '.join(f'{values[name]:>7.3f}' for name in variables)}")
    return lines


def write_climate_card(result: dict[str, Any], template: Path, path: Path) -> None:
    """Write the card of a model that fills climates in or predicts steady ones, see `write_card`."""
    write_card(result, template, path, pipeline_tag="image-to-image", tags=("climate",))
