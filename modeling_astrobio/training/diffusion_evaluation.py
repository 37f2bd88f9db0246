"""How good ensembles of held-out climates are: scores of probability, spread beside error, and what is conserved.

Shape suffixes: M members, B starts, S variables, K steps ahead, Y latitudes, X longitudes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..modeling_astro_datacube_diffusion import Pair
from ..modeling_astro_datacube_heads import next_window
from ..sphere_grid import area_mean, sphere_grid
from .climate_metrics.fair_crps import fair_crps
from .datacube_baselines import climatology
from .datacube_data import ClimateTrajectory, batch_of_starts
from .datacube_evaluation import model_forecasts, starts_of


__all__ = ["draw_ensemble", "ensemble_figures"]


@torch.no_grad()
def draw_ensemble(
    model: Any,
    scheduler: Any,
    climate: ClimateTrajectory,
    starts: Sequence[int],
    steps: int,
    members: int,
    seed: int = 0,
    noise_correlation: Mapping[str, float] | None = None,
    **sampling: Any,
) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
    """Draw state after state, each member from its own.

    Args:
        model: An `AstroDatacubeForDiffusion`.
        scheduler: Of `sampling_scheduler`.
        climate: That the starts are of.
        starts: Places of the last states read.
        steps: K.
        members: M.
        seed: Of the random numbers.
        noise_correlation: By variable, 0 by default: of the noise that a member begins a step with, and that of its
            step before. Errors of a model persist; red noise is that of stochastic parametrisations (Palmer et al.
            2009, ECMWF Technical Memorandum 598). The noise of each step alone is standard normal.
        **sampling: `num_inference_steps`, `guidance_scale`.

    Returns:
        Shape (M, B, S, K, Y, X), and the greatest residual of each constraint, of shape (K,).
    """
    batch = batch_of_starts(climate, starts, model.config.num_input_steps, model.device)
    # Rows of a member one after another.
    batch = {name: value.repeat(members, *(1,) * (value.ndim - 1)) for name, value in batch.items()}
    generator = torch.Generator().manual_seed(seed)
    window = (batch.pop("level_fields", None), batch.pop("surface_fields", None))
    correlations = [
        torch.tensor([(noise_correlation or {}).get(name, 0.0) for name in names], device=model.device)
        for names in (model.config.level_variables, model.config.surface_variables)
    ]
    states, residuals = [], []
    noise: Pair | None = None
    ledger = None
    for _ in range(steps):
        fields = {"level_fields": window[0], "surface_fields": window[1]}
        read = {name: value for name, value in fields.items() if value is not None}
        fresh = model.noise(tuple(None if each is None else each[:, :, -1] for each in window), generator)
        noise = fresh if noise is None else _red(noise, fresh, correlations)
        drawn = model.sample(scheduler, noise=noise, ledger=ledger, **read, **batch, **sampling)
        ledger = drawn.ledger
        states.append(drawn.surface_fields.cpu())
        residuals.append({name: value.max().item() for name, value in (drawn.residuals or {}).items()})
        window = next_window(window, drawn)
    found = torch.stack(states, dim=2).unflatten(0, (members, len(starts)))
    return found, {name: torch.tensor([each[name] for each in residuals]) for name in residuals[0]}


def _red(before: Pair, fresh: Pair, correlations: Sequence[torch.Tensor]) -> Pair:
    """The next noise of a first-order autoregressive process of each variable."""
    found: list[torch.Tensor | None] = []
    for old, new, correlation in zip(before, fresh, correlations, strict=True):
        if old is None or new is None:
            found.append(None)
            continue
        share = correlation.view(-1, *(1,) * (new.ndim - 2))
        found.append(share * old + (1 - share.square()).sqrt() * new)
    return found[0], found[1]


def best_noise_correlation(
    model: Any,
    scheduler: Any,
    climates: Sequence[ClimateTrajectory],
    steps: int,
    starts: int,
    members: int,
    candidates: Sequence[float],
    **sampling: Any,
) -> dict[str, float]:
    """Return of each variable the correlation with which spread is most like error, in the mean of the leads.

    Args:
        model: An `AstroDatacubeForDiffusion`.
        scheduler: Of `sampling_scheduler`.
        climates: For validation.
        steps: As of `ensemble_figures`.
        starts: As there.
        members: As there.
        candidates: Among which to choose; all variables have the same at a time.
        **sampling: As there.
    """
    names = [*model.config.level_variables, *model.config.surface_variables]
    if len(candidates) == 1:
        return dict.fromkeys(names, candidates[0])
    misses: dict[float, dict[str, float]] = {}
    for candidate in candidates:
        of_all = dict.fromkeys(names, candidate)
        figures = ensemble_figures(
            model, scheduler, climates, steps, starts, members, noise_correlation=of_all, **sampling
        )
        misses[candidate] = {
            name: sum(abs(math.log(ratio)) if ratio > 0 else math.inf for ratio in ratios)
            for name, ratios in figures["spread_skill_ratio"].items()
        }
    # Variables on levels are not scored yet, and have the first.
    return {name: min(candidates, key=lambda each: misses[each].get(name, 0.0)) for name in names}


def ensemble_figures(
    model: Any,
    scheduler: Any,
    climates: Sequence[ClimateTrajectory],
    steps: int,
    starts: int,
    members: int,
    deterministic: Any = None,
    **sampling: Any,
) -> dict[str, Any]:
    """Return scores of ensembles of held-out climates, and the errors of a deterministic forecast beside them.

    Scores are divided by the mean absolute error of climatology on the same states, so that planets whose winds are
    strong do not count more; the mean of the planets, for each variable and lead.

    Returns:
        `fair_crps`, `mae_of_mean` of the ensemble's mean, `mae_deterministic` where there is such a model,
        `spread_skill_ratio` over all planets, and `residuals`, the greatest of each constraint at each lead.
    """
    names = list(model.config.surface_variables)
    scores: dict[str, list[torch.Tensor]] = {}
    variances, errors, residuals = [], [], []
    for climate in climates:
        places = starts_of(climate, model.config.num_input_steps, steps, starts)
        truth = torch.stack([climate.surface_fields[:, place + 1 : place + 1 + steps] for place in places])
        weights = sphere_grid(climate.latitude_deg, climate.longitude_deg).cell_weights
        ensemble, kept = draw_ensemble(model, scheduler, climate, places, steps, members, **sampling)
        scale = area_mean((climatology(climate, 0, steps) - truth).abs(), weights).mean((0, 2))[:, None]
        found = {
            "fair_crps": fair_crps(ensemble, truth, weights),
            "mae_of_mean": area_mean((ensemble.mean(0) - truth).abs(), weights),
        }
        if deterministic is not None:
            forecast, _ = model_forecasts(deterministic, climate, places, steps)
            found["mae_deterministic"] = area_mean((forecast - truth).abs(), weights)
        for name, values in found.items():
            scores.setdefault(name, []).append(values.mean(0) / scale)
        variances.append(area_mean(ensemble.double().var(0), weights).mean(0) / scale.square())
        errors.append(area_mean((ensemble.double().mean(0) - truth).square(), weights).mean(0) / scale.square())
        residuals.append(kept)
    inflation = (members + 1) / members
    ratio = (inflation * torch.stack(variances).mean(0) / torch.stack(errors).mean(0)).sqrt()
    return {
        "variables": names,
        "planets": len(climates),
        "members": members,
        **{
            score: {name: torch.stack(values).mean(0)[place].tolist() for place, name in enumerate(names)}
            for score, values in scores.items()
        },
        "spread_skill_ratio": {name: ratio[place].tolist() for place, name in enumerate(names)},
        "residuals": {
            name: torch.stack([each[name] for each in residuals]).max(0).values.tolist() for name in residuals[0]
        },
    }
