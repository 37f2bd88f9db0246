"""How well what is hidden of held-out climates is filled in, beside interpolation.

Shape suffixes: B states, V variables on levels, S at the surface, L levels, Y latitudes, X longitudes, C fields: those
of each variable at each level, and at the surface.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..sphere_grid import sphere_grid
from .datacube_data import ClimateTrajectory, batch_of_starts
from .datacube_evaluation import starts_of
from .hidden_values import hidden_batch
from .sphere_filling import filled_linearly, filled_with_nearest
from .steady_data import field_variables, stacked_fields


__all__ = ["filled_state", "reconstruction_figures"]


@torch.no_grad()
def reconstruction_figures(
    model: Any, climates: Sequence[ClimateTrajectory], shares: Mapping[str, float], patch_cells: int, states: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Return errors of the model and of interpolation where values are hidden.

    An error is relative to that of climatology, the mean of all states of that planet in each cell, which of a planet
    that was held out nobody could know: the root of the mean square over hidden cells, levels, and states, and the
    mean over planets.

    Args:
        model: An `AstroDatacubeForMaskedReconstruction`.
        climates: Held out.
        shares: See `hidden_values.hidden_batch`; each kind is measured by itself.
        patch_cells: As there.
        states: Of each climate, spread over it.

    Returns:
        By kind of hiding, predictor and variable; whole variables are not interpolated.
    """
    config = model.config
    found: dict[str, dict[str, dict[str, float]]] = {}
    for kind, share in shares.items():
        if share <= 0:
            continue
        errors: dict[str, list[dict[str, float]]] = {}
        for place, climate in enumerate(climates):
            starts = starts_of(climate, config.num_input_steps, 0, states)
            batch = batch_of_starts(climate, starts, config.num_input_steps, torch.device("cpu"))
            generator = torch.Generator().manual_seed(place)
            # One by one, for what is hidden of a row depends on those before it.
            rows = [{name: value[row : row + 1] for name, value in batch.items()} for row in range(len(starts))]
            hidden = [hidden_batch(row, {kind: share}, patch_cells, generator) for row in rows]
            for name, of_variables in _errors(model, climate, hidden, kind).items():
                errors.setdefault(name, []).append(of_variables)
        found[kind] = {
            name: {
                variable: sum(values) / len(values)
                for variable in dict.fromkeys(each for of in several for each in of)
                if (values := [of[variable] for of in several if variable in of])
            }
            for name, several in errors.items()
        }
    return found


@torch.no_grad()
def filled_state(
    model: Any, climate: ClimateTrajectory, kind: str, share: float, patch_cells: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what is true of a climate's first state, what is left of it, and what a model fills in, each (C, Y, X).

    Arguments as of `reconstruction_figures`, and `hidden_values.hidden_masks`.
    """
    window = model.config.num_input_steps
    batch = batch_of_starts(climate, [window - 1], window, torch.device("cpu"))
    row = hidden_batch(batch, {kind: share}, patch_cells, torch.Generator().manual_seed(0))
    truth, read = (_stacked(row, end) for end in ("labels", "fields"))
    return truth, read, _filled_by(model, row)


def _errors(
    model: Any, climate: ClimateTrajectory, rows: Sequence[Mapping[str, torch.Tensor]], kind: str
) -> dict[str, dict[str, float]]:
    """Errors of one climate over those of its mean, by predictor and variable."""
    grid = sphere_grid(climate.latitude_deg, climate.longitude_deg)
    climatology = stacked_fields(
        *(
            None if fields is None else fields.double().nanmean(1).nan_to_num()
            for fields in (climate.level_fields, climate.surface_fields)
        )
    )
    squares: dict[str, torch.Tensor] = {}
    for row in rows:
        truth, read = (_stacked(row, end) for end in ("labels", "fields"))
        predicted = {"climatology": climatology, "model": _filled_by(model, row)}
        if kind != "variables":
            predicted |= {"nearest": filled_with_nearest(read, grid), "linear": filled_linearly(read, grid)}
        counted = grid.cell_weights * (truth.isfinite() & ~read.isfinite())
        for name, fields in predicted.items():
            # A field without any known value is not interpolated.
            error = torch.where(fields.isfinite(), fields, climatology) - truth.nan_to_num()
            squares[name] = squares.get(name, torch.zeros(())) + (counted * error.square()).sum((-2, -1))
    base = squares.pop("climatology")
    names = field_variables(model.config, len(climate.levels))
    found: dict[str, dict[str, float]] = {}
    for predictor, square in squares.items():
        found[predictor] = {}
        for variable in dict.fromkeys(names):
            places = [place for place, name in enumerate(names) if name == variable and base[place] > 0]
            if places:
                found[predictor][variable] = float((square[places] / base[places]).mean().sqrt())
    return found


def _stacked(row: Mapping[str, torch.Tensor], end: str) -> torch.Tensor:
    """The last state of the `fields`, or the `labels`, of a batch of one row, shape (C, Y, X)."""
    level, surface = (
        None if name not in row else row[name][0, :, -1] if end == "fields" else row[name][0]
        for name in (f"level_{end}", f"surface_{end}")
    )
    return stacked_fields(level, surface).double()


def _filled_by(model: Any, row: Mapping[str, torch.Tensor]) -> torch.Tensor:
    inputs = {name: value.to(model.device) for name, value in row.items() if not name.endswith("labels")}
    found = model(**inputs)
    level = None if found.level_fields is None else found.level_fields[0]
    return stacked_fields(level, None if found.surface_fields is None else found.surface_fields[0]).cpu().double()
