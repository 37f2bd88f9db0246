"""Means and scales of climate variables, so that a network sees numbers near one and a caller sees SI units.

A configuration keeps them as plain numbers:

    {"levels": [0.1, 0.5, 0.9],
     "variables": {"ta": {"mean": [...], "scale": [...], "difference_scale": [...]}, "ps": {"mean": 1e5, ...}},
     "planet": {"gravity_m_s2": {"mean": 3.0, "scale": 0.2}},
     "units": {"ta": "K", "ps": "Pa"}}

A variable on levels has one number for each of `levels`, pressure over nominal surface pressure; other levels are
between them, linearly in its logarithm. `difference_scale` is the standard deviation of what a step of the training
data changes or, of winds that a reconstruction starts from the geostrophic wind, that of their departure from it.
Ensembles about a forecast have `departure_share` too: the size of its errors as a share of what it changes. A
parameter of a planet is described by its inverse hyperbolic sine, which is its logarithm where it is large, and 0
where it is 0.

Shape suffixes: B batch, V variables, L levels, R levels of the statistics, P parameters.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch


__all__ = ["check_departure_shares", "check_statistics", "described_planet", "level_statistic", "surface_statistic"]

_KINDS = ("mean", "scale", "difference_scale")
_DEFAULTS = {"mean": 0.0, "scale": 1.0, "difference_scale": 1.0, "departure_share": 1.0}


def _interpolation(known_R: torch.Tensor, wanted_BL: torch.Tensor) -> torch.Tensor:
    """Return the weight of each known level in each wanted one, shape (B, L, R); beyond the ends the end's value."""
    if len(known_R) < 2:
        return wanted_BL.new_ones(*wanted_BL.shape, len(known_R))
    inner_BL = wanted_BL.clamp(known_R[0], known_R[-1]).contiguous()
    upper_BL = torch.searchsorted(known_R, inner_BL).clamp(1, len(known_R) - 1)
    below, above = known_R[upper_BL - 1], known_R[upper_BL]
    share_BL = (inner_BL - below) / (above - below)
    weights_BLR = wanted_BL.new_zeros(*wanted_BL.shape, len(known_R))
    weights_BLR.scatter_(-1, (upper_BL - 1)[..., None], (1 - share_BL)[..., None])
    return weights_BLR.scatter_(-1, upper_BL[..., None], share_BL[..., None])


def level_statistic(
    statistics: Mapping[str, Any] | None, names: Sequence[str], kind: str, levels: torch.Tensor
) -> torch.Tensor:
    """Return a statistic of variables at levels, shape (B, V, L), float32.

    Args:
        statistics: Of a configuration.
        names: Of the variables.
        kind: `mean`, `scale`, `difference_scale` or `departure_share`.
        levels: Pressure over nominal surface pressure, shape (B, L), above 0.

    Raises:
        KeyError: If there are statistics, but not of a variable.
    """
    if statistics is None:
        return levels.new_full((len(levels), len(names), levels.shape[1]), _DEFAULTS[kind], dtype=torch.float32)
    known = torch.tensor(statistics["levels"], dtype=torch.float64, device=levels.device).log()
    weights_BLR = _interpolation(known, levels.double().log())
    rows = [statistics["variables"][name][kind] for name in names]
    table_VR = torch.tensor(rows, dtype=torch.float64, device=levels.device).view(len(names), len(known))
    return torch.einsum("blr,vr->bvl", weights_BLR, table_VR).float()


def surface_statistic(
    statistics: Mapping[str, Any] | None, names: Sequence[str], kind: str, device: torch.device
) -> torch.Tensor:
    """Return a statistic of variables at the surface, shape (V,), float32; arguments as of `level_statistic`."""
    if statistics is None:
        return torch.full((len(names),), _DEFAULTS[kind], device=device)
    rows = [statistics["variables"][name][kind] for name in names]
    return torch.tensor(rows, dtype=torch.float32, device=device)


def described_planet(
    statistics: Mapping[str, Any] | None, names: Sequence[str], planet: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what a network reads of planets, and where it is known, each (B, P), float32.

    Args:
        statistics: Of a configuration.
        names: Of the parameters.
        planet: Shape (B, P), in the parameters' units; NaN where one is not known.
    """
    known = planet.isfinite()
    values = torch.asinh(torch.where(known, planet, 0.0).float())
    if statistics is not None:
        rows = [[statistics["planet"][name][kind] for name in names] for kind in ("mean", "scale")]
        mean, scale = torch.tensor(rows, dtype=torch.float32, device=planet.device).view(2, len(names))
        values = (values - mean) / scale
    return values * known, known.float()


def check_statistics(
    statistics: Mapping[str, Any],
    level_variables: Sequence[str],
    variables: Sequence[str],
    planet_parameters: Sequence[str],
) -> None:
    """Check that statistics are complete.

    Raises:
        ValueError: If a variable or parameter is missing, or levels do not rise; names it.
    """
    levels = list(statistics.get("levels", []))
    if any(later <= sooner for sooner, later in itertools.pairwise(levels)):
        raise ValueError(f"statistics must have levels that rise; got {levels}.")
    for kind, names in (("variables", variables), ("planet", planet_parameters)):
        missing = [name for name in names if name not in (statistics.get(kind) or {})]
        if missing:
            raise ValueError(f"statistics must hold all {kind}; {', '.join(missing)} is missing.")
    for name in level_variables:
        for kind in _KINDS:
            if len(statistics["variables"][name][kind]) != len(levels):
                raise ValueError(
                    f"statistics of {name} must have {len(levels)} numbers for {kind}, one for each level."
                )


def check_departure_shares(
    statistics: Mapping[str, Any], level_variables: Sequence[str], surface_variables: Sequence[str]
) -> None:
    """Check that statistics say how far a forecast errs.

    Raises:
        ValueError: If `departure_share` of a variable is missing, or not of every level; names it.
    """
    levels = len(statistics["levels"])
    for name in (*level_variables, *surface_variables):
        share = statistics["variables"][name].get("departure_share")
        if share is None or (name in level_variables and len(share) != levels):
            wanted = f"{levels} numbers, one for each level," if name in level_variables else "a number"
            raise ValueError(f"statistics of {name} must have {wanted} for departure_share; got {share}.")
