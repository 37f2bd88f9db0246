"""Batches of climates from another meridian, or mirrored at the equator: other climates that obey the same laws.

Shape suffixes: B batch, Y latitudes, X longitudes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..configuration_astro_datacube import AstroDatacubeConfig


__all__ = ["SymmetricCopies", "mirrored", "symmetric_copies", "turned"]

Batch = dict[str, torch.Tensor]

# Variables that change their sign where north and south change places.
_NORTHWARD = ("va", "v")


def _variables(batch: Mapping[str, torch.Tensor], config: AstroDatacubeConfig) -> dict[str, list[str]]:
    """Names of the variables of each input that has fields, which are its second axis."""
    kinds = ("level", "surface", "forcing")
    return {
        f"{kind}_{role}": list(getattr(config, f"{kind}_variables"))
        for kind in kinds
        for role in ("fields", "labels")
        if batch.get(f"{kind}_{role}") is not None
    }


def mirrored(batch: Batch, chosen: torch.Tensor, config: AstroDatacubeConfig) -> Batch:
    """Return a batch with north and south exchanged, ground too, in the rows chosen.

    The laws of motion do not change by it: the axis of rotation is a pseudovector along the normal of the mirror, and
    stays. Seasons change places with it, so that on a planet with an obliquity it is another time of the year.

    Args:
        batch: Arguments of a head of `AstroDatacubeModel`, fields of shape (B, ..., Y, X), on latitudes that the
            equator halves.
        chosen: Bool, shape (B,).
        config: Names the variables.
    """
    found = dict(batch)
    for key, names in _variables(batch, config).items():
        fields = batch[key]
        signs = torch.tensor([-1.0 if name in _NORTHWARD else 1.0 for name in names]).to(fields)
        other = fields.flip(-2) * signs.view(1, -1, *(1,) * (fields.ndim - 2))
        found[key] = torch.where(chosen.to(fields.device).view(-1, *(1,) * (fields.ndim - 1)), other, fields)
    return found


def turned(batch: Batch, columns: torch.Tensor, config: AstroDatacubeConfig) -> Batch:
    """Return a batch whose rows are turned about their axes, ground and star too.

    Args:
        batch: As of `mirrored`, on longitudes that are evenly spaced.
        columns: By how many columns to the west, shape (B,), int64.
        config: Names the variables and the parameters of a planet.
    """
    found, width = dict(batch), batch["longitude_deg"].shape[-1]
    for key in _variables(batch, config):
        fields = batch[key]
        places = (torch.arange(width) + columns[:, None]) % width
        index = places.view(-1, *(1,) * (fields.ndim - 2), width).expand(fields.shape).to(fields.device)
        found[key] = fields.gather(-1, index)
    if "substellar_longitude_deg" in config.planet_parameters:
        place = list(config.planet_parameters).index("substellar_longitude_deg")
        planet = batch["planet"].clone()
        planet[:, place] = (planet[:, place] - columns.to(planet) * (360.0 / width)) % 360.0
        found["planet"] = planet
    return found


def symmetric_copies(batch: Batch, config: AstroDatacubeConfig) -> Batch:
    """Return a batch with every row turned, and half of them mirrored, by torch's own random numbers on the CPU."""
    rows, width = len(batch["planet"]), batch["longitude_deg"].shape[-1]
    columns, chosen = torch.randint(width, (rows,)), torch.rand(rows) < 0.5
    return turned(mirrored(batch, chosen, config), columns, config)


@dataclass(frozen=True)
class SymmetricCopies:
    """The change of training batches to `symmetric_copies`, for `ChangedBatchTrainer`.

    Attributes:
        config: Of the model.
    """

    config: AstroDatacubeConfig

    def __call__(self, batch: Batch, training: bool, generator: torch.Generator | None) -> Batch:
        """Return the copies in training, in evaluation what is given."""
        return symmetric_copies(batch, self.config) if training else batch
