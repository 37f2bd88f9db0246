"""Statistics of training data, as `datacube_statistics` reads them.

Shape suffixes: V variables, T states, L levels, Y latitudes, X longitudes, N parameters of a planet.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .sphere_grid import sphere_grid


__all__ = ["fit_statistics"]

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
) -> dict[str, Any]:
    """Return means and scales over area and time.

    Those of winds are about 0, so that they turn round across a pole as winds do.

    Args:
        items: As `AstroDatacubeProcessor.read` gives them, all states of a cube in each; levels may differ.
        names: Variables of `level`, `surface` and `forcing`.
        vector_variables: Those that are components of vectors.
        planet_parameters: Names of the parameters.

    Returns:
        See `datacube_statistics`.
    """
    levels = sorted({float(f"{value:.6g}") for item in items for value in item["levels"].tolist()})
    variables: dict[str, Any] = {}
    for kind, key in _AXES.items():
        for place, name in enumerate(names[kind]):
            cubes = [(item, item[key][place]) for item in items if key in item]
            is_vector = name in vector_variables
            if kind != "level":
                variables[name] = _described(cubes, None, is_vector)
                continue
            # Each cube counts at its own levels.
            found = [_described(cubes, level, is_vector) for level in levels]
            variables[name] = {part: [each[part] for each in found] for part in ("mean", "scale", "difference_scale")}
    planets = torch.asinh(torch.stack([item["planet"] for item in items]).double())
    planet = {}
    for place, name in enumerate(planet_parameters):
        moments = _Moments()
        moments.add(planets[:, place], torch.ones(()), (0,))
        # What does not vary says nothing; by a scale of 1 other planets stay near.
        planet[name] = {"mean": moments.mean().item(), "scale": moments.scale(is_centred=True).item()}
    return {"levels": levels, "variables": variables, "planet": planet}


def _described(
    cubes: list[tuple[Mapping[str, torch.Tensor], torch.Tensor]], level: float | None, is_vector: bool
) -> dict[str, float]:
    """Statistics of one variable, at one level or at the surface."""
    values, changes = _Moments(), _Moments()
    for item, field in cubes:
        if level is not None:
            at = (item["levels"] - level).abs() <= 1e-5 * level
            field = field[:, at]
        weights = sphere_grid(item["latitude_deg"], item["longitude_deg"]).cell_weights
        axes = tuple(range(field.ndim))
        values.add(field, weights, axes)
        if field.ndim > 2 and len(field) > 1:
            changes.add(field.diff(dim=0), weights, axes)
    scale = values.scale(is_centred=not is_vector).item()
    change = changes.scale(is_centred=False).item() if changes.weight > 0 else scale
    return {"mean": 0.0 if is_vector else values.mean().item(), "scale": scale, "difference_scale": change}
