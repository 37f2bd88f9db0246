"""Statistics of training data, as `datacube_statistics` reads them.

Shape suffixes: V variables, T states, L levels, Y latitudes, X longitudes, N parameters of a planet.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .cube_errors import CubeError
from .sphere_grid import sphere_grid


__all__ = ["fit_statistics"]

# Of the logarithm of a level: such a factor between the first and the last of a pool.
_LEVEL_POOL = 0.05
_AXES = {"level": "level_fields", "surface": "surface_fields", "forcing": "forcing_fields"}


class _Moments:
    """Weighted mean and standard deviation of what is known, added up cube by cube."""

    def __init__(self) -> None:
        self.weight = self.total = self.square = torch.zeros((), dtype=torch.float64)

    def add(self, values: torch.Tensor, weights: torch.Tensor, axes: tuple[int, ...]) -> None:
        """Add values; NaN does not count. `weights` broadcasts with them."""
        known = values.isfinite()
        weighted = weights * known
        wide = torch.where(known, values, 0.0).double()
        self.weight = self.weight + weighted.sum(axes)
        self.total = self.total + (weighted * wide).sum(axes)
        self.square = self.square + (weighted * wide.square()).sum(axes)

    def mean(self) -> torch.Tensor:
        return self.total / torch.where(self.weight > 0, self.weight, 1.0)

    def scale(self, is_centred: bool) -> torch.Tensor:
        """Standard deviation, about 0 if not centred; 1 where nothing varies."""
        share = self.square / torch.where(self.weight > 0, self.weight, 1.0)
        variance = share - self.mean().square() if is_centred else share
        # Rounding of a constant is no variance.
        is_constant = variance <= 1e-12 * share
        return torch.where(is_constant, 1.0, variance.clamp(min=0.0).sqrt())


def fit_statistics(
    items: Sequence[Mapping[str, torch.Tensor]],
    names: Mapping[str, Sequence[str]],
    vector_variables: Sequence[str],
    planet_parameters: Sequence[str],
    units: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return means and scales over area and time.

    Those of winds are about 0, so that they turn round across a pole as winds do.

    Args:
        items: As `AstroDatacubeProcessor.read` gives them, all states of a cube in each; levels may differ.
        names: Variables of `level`, `surface` and `forcing`.
        vector_variables: Those that are components of vectors.
        planet_parameters: Names of the parameters.
        units: Of the variables, kept with the statistics.

    Returns:
        See `datacube_statistics`.

    Raises:
        CubeError: If a variable on levels is nowhere known.
    """
    levels = _pooled_levels([value for item in items for value in item["levels"].tolist()])
    variables: dict[str, Any] = {}
    for kind, key in _AXES.items():
        for place, name in enumerate(names[kind]):
            cubes = [(item, item[key][place]) for item in items if key in item]
            is_vector = name in vector_variables
            if kind != "level":
                found = _described(cubes, None, is_vector)
                # What is nowhere known stays as it is.
                variables[name] = found or {"mean": 0.0, "scale": 1.0, "difference_scale": 1.0}
                continue
            variables[name] = _at_levels(
                name, [_described(cubes, (pool, levels), is_vector) for pool in range(len(levels))], levels
            )
    planets = torch.asinh(torch.stack([item["planet"] for item in items]).double())
    planet = {}
    for place, name in enumerate(planet_parameters):
        moments = _Moments()
        moments.add(planets[:, place], torch.ones(()), (0,))
        # What does not vary says nothing; by a scale of 1 other planets stay near.
        planet[name] = {"mean": moments.mean().item(), "scale": moments.scale(is_centred=True).item()}
    return {"levels": levels, "variables": variables, "planet": planet, "units": dict(units or {})}


def _pooled_levels(levels: list[float]) -> list[float]:
    """Return levels, those near one another as one, so that planets of unlike pressure share their statistics."""
    pools: list[list[float]] = []
    for level in sorted(levels):
        if pools and math.log(level / pools[-1][0]) < _LEVEL_POOL:
            pools[-1].append(level)
        else:
            pools.append([level])
    return [sum(each) / len(each) for each in pools]


def _nearest(level: float, levels: list[float]) -> int:
    return min(range(len(levels)), key=lambda place: abs(math.log(level / levels[place])))


def _at_levels(name: str, found: list[dict[str, float]], levels: list[float]) -> dict[str, list[float]]:
    """Statistics at all levels: where a variable is not known, those of the levels about, linear in the logarithm."""
    known = [place for place, each in enumerate(found) if each]
    if not known:
        raise CubeError(f"{name} must have a value at some level of the training data; it has none. Leave it out.")
    heights = np.log(levels)
    return {
        part: np.interp(heights, heights[known], [found[place][part] for place in known]).tolist()
        for part in ("mean", "scale", "difference_scale")
    }


def _described(
    cubes: list[tuple[Mapping[str, torch.Tensor], torch.Tensor]],
    pool: tuple[int, list[float]] | None,
    is_vector: bool,
) -> dict[str, float]:
    """Statistics of one variable, at the levels of one pool or at the surface; none where nothing is known."""
    values, changes = _Moments(), _Moments()
    for item, field in cubes:
        if pool is not None:
            field = field[:, [_nearest(each, pool[1]) == pool[0] for each in item["levels"].tolist()]]
        weights = sphere_grid(item["latitude_deg"], item["longitude_deg"]).cell_weights
        axes = tuple(range(field.ndim))
        values.add(field, weights, axes)
        if field.ndim > 2 and len(field) > 1:
            changes.add(field.diff(dim=0), weights, axes)
    if not values.weight > 0:
        return {}
    scale = values.scale(is_centred=not is_vector).item()
    has_changes = bool(changes.weight > 0) and bool(changes.square > 0)
    return {
        "mean": 0.0 if is_vector else values.mean().item(),
        "scale": scale,
        # What does not change, or is known at one time alone, has no scale of changes of its own.
        "difference_scale": changes.scale(is_centred=False).item() if has_changes else scale,
    }
