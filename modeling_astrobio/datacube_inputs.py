"""Checks of what an AstroDatacube is given: shapes, named by their axes.

Shape suffixes: B batch, V variables on levels, S at the surface, F forcing variables, T states read, L levels, Y
latitudes, X longitudes, N parameters of a planet.
"""

from collections.abc import Mapping
from typing import Any

import torch

from .configuration_astro_datacube import AstroDatacubeConfig
from .datacube_grid import has_values


__all__ = ["check_cube_inputs"]

_AXES = {
    "level_fields": ("batch", "variable", "time", "level", "latitude", "longitude"),
    "surface_fields": ("batch", "variable", "time", "latitude", "longitude"),
    "forcing_fields": ("batch", "variable", "latitude", "longitude"),
    "levels": ("batch", "level"),
    "latitude_deg": ("batch", "latitude"),
    "longitude_deg": ("batch", "longitude"),
    "planet": ("batch", "parameter"),
}
_NEEDED = ("latitude_deg", "longitude_deg", "planet")


def check_cube_inputs(
    config: AstroDatacubeConfig, told: Mapping[str, torch.Tensor | None], **inputs: Any
) -> dict[str, Any]:
    """Return the inputs, with what may be left out filled in as missing.

    Args:
        config: Names of the variables and parameters, and the number of states that are read.
        told: The numbers of `config.conditioned_on`.
        **inputs: Those of `AstroDatacubeModel.forward`.

    Raises:
        ValueError: If one is missing or its shape does not fit; names its axes.
    """
    for name in _NEEDED:
        if inputs[name] is None:
            raise ValueError(f"{name} must be given, with axes ({', '.join(_AXES[name])}); got None.")
    planet = inputs["planet"]
    if not len(planet):
        raise ValueError("planet must hold at least one planet; got a batch of none.")
    if bool(config.level_variables) != (inputs["levels"] is not None and inputs["levels"].shape[-1] > 0):
        wanted = f"the levels of {', '.join(config.level_variables)}" if config.level_variables else "no level"
        got = None if inputs["levels"] is None else tuple(inputs["levels"].shape)
        raise ValueError(f"levels must hold {wanted}; got {got}.")
    if inputs["levels"] is None:
        inputs["levels"] = planet.new_zeros(len(planet), 0)
    sizes = {
        "batch": len(planet),
        "time": config.num_read_steps,
        "level": inputs["levels"].shape[-1],
        "latitude": inputs["latitude_deg"].shape[-1],
        "longitude": inputs["longitude_deg"].shape[-1],
        "parameter": len(config.planet_parameters),
    }
    variables = {
        "level_fields": config.level_variables,
        "surface_fields": config.surface_variables,
        "forcing_fields": config.forcing_variables,
    }
    for name, value in inputs.items():
        wanted = [len(variables[name]) if axis == "variable" else sizes[axis] for axis in _AXES[name]]
        is_read = config.num_read_steps > 0 or "time" not in _AXES[name]
        if value is None and variables[name] and is_read:
            inputs[name] = planet.new_full(wanted, float("nan"))
        elif value is not None and list(value.shape) != wanted:
            described = ", ".join(f"{axis} {size}" for axis, size in zip(_AXES[name], wanted, strict=True))
            raise ValueError(f"{name} must have the axes ({described}); got shape {tuple(value.shape)}.")
    for name, value in told.items():
        if value is None or tuple(value.shape) != (len(planet),):
            got = None if value is None else f"shape {tuple(value.shape)}"
            raise ValueError(f"{name} must be given, with axes (batch {len(planet)}); got {got}.")
    if has_values(planet):
        _check_values(inputs, told)
    return inputs


@torch.compiler.disable
def _check_values(inputs: dict[str, Any], told: Mapping[str, Any]) -> None:
    for name, value in told.items():
        if not bool((value.isfinite() & (value >= 0)).all()):
            raise ValueError(f"{name} must be finite and at least 0; got {value.tolist()}.")
    for name in ("latitude_deg", "longitude_deg"):
        axis = inputs[name]
        if not torch.equal(axis, axis[:1].expand_as(axis)):
            raise ValueError(f"{name} must be the same for the whole batch; got different rows. Batch cubes by grid.")
    levels = inputs["levels"]
    if not bool((levels.isfinite() & (levels > 0)).all()):
        raise ValueError(
            f"levels must be finite and above 0, pressure over nominal surface pressure; got {levels.tolist()}."
        )
