"""Batches of steady climates, changed into other climates: mirrored, between two planets, or turned about the axis.

Shape suffixes: B batch, N parameters of a planet.
"""

import torch

from ..configuration_astro_datacube import AstroDatacubeConfig
from .sphere_symmetries import mirrored, turned


__all__ = ["changed_at_random", "mixed"]

Batch = dict[str, torch.Tensor]


def mixed(batch: Batch, partners: torch.Tensor, shares: torch.Tensor, facing: int | None) -> Batch:
    """Return climates between those of two planets, whose parameters lie between theirs (mixup, arXiv:1710.09412).

    Parameters are mixed as a network reads them, by their inverse hyperbolic sine, so that large ones are mixed by
    their logarithm. Only planets of the same ground are mixed, and none that faces its star with one that does not.

    Args:
        batch: Of `SteadyRows`.
        partners: Row that each is mixed with, shape (B,).
        shares: Of the partner, 0 to 1, shape (B,).
        facing: Place of the parameter `synchronous`, or `None`.
    """
    planet = batch["planet"]
    is_alike = torch.ones_like(shares, dtype=torch.bool)
    if facing is not None:
        is_alike &= planet[:, facing].nan_to_num() == planet[partners, facing].nan_to_num()
    if "forcing_fields" in batch:
        ground = batch["forcing_fields"].nan_to_num().flatten(1)
        is_alike &= (ground == ground[partners]).all(1)
    shares = torch.where(is_alike, shares, 0.0)

    def between(values: torch.Tensor) -> torch.Tensor:
        share = shares.to(values).view(-1, *(1,) * (values.ndim - 1))
        return torch.where(share > 0, torch.lerp(values, values[partners], share), values)

    found = {**batch, "planet": between(planet.double().asinh()).sinh().to(planet.dtype)}
    return found | {name: between(batch[name]) for name in ("level_labels", "surface_labels") if name in batch}


def changed_at_random(
    batch: Batch, config: AstroDatacubeConfig, mirror: float, mixing: float, turning: float
) -> Batch:
    """Return a batch of which some rows are changed, by torch's own random numbers.

    Args:
        batch: Of `SteadyRows`.
        config: Of the model.
        mirror: Share of the rows to mirror.
        mixing: Share of the rows to mix, evenly, with a row of the batch.
        turning: Share of the rows to turn about the axis, evenly, ground and star too: what differs along a parallel
            of a planet without ground that turns under its star is weather, and no climate. A planet that faces its
            star stays where `substellar_longitude_deg` is not told.
    """
    rows, width = len(batch["planet"]), batch["longitude_deg"].shape[-1]
    # Drawn whether used or not, so that a change of one share leaves what the others draw.
    draws, partners, columns = torch.rand(4, rows), torch.randperm(rows), torch.randint(width, (rows,))
    device, names = batch["planet"].device, list(config.planet_parameters)
    batch = mirrored(batch, (draws[0] < mirror).to(device), config)
    facing = names.index("synchronous") if "synchronous" in names else None
    if mixing:
        shares = torch.where(draws[1] < mixing, draws[2], 0.0)
        batch = mixed(batch, partners.to(device), shares.to(device), facing)
    if not turning:
        return batch
    stays = draws[3] >= turning
    if facing is not None and "substellar_longitude_deg" not in names:
        stays |= batch["planet"][:, facing].nan_to_num().cpu() > 0
    return turned(batch, columns.masked_fill(stays, 0), config)
