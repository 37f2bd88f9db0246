"""Water is not negative: a hard or smooth clamp of specific humidity that says, or gives back, what it adds.

Shape suffixes: B batch, L levels, Y latitudes, X longitudes.
"""

import torch

from .constraint_totals import scale_to_total, store_dtype, weighted_total


__all__ = ["negative_water", "positive_water", "smooth_clamp"]


def smooth_clamp(values: torch.Tensor, scale: float) -> torch.Tensor:
    """Return (x + sqrt(x^2 + scale^2)) / 2 in float64, above 0 everywhere and smooth.

    Squareplus (Barron 2021, arXiv:2112.11687): scale / 2 at 0, close to x far above it; its gradient falls off as
    (scale / x)^2 below 0, so that negative values still learn.
    """
    wide = values.double()
    root = (wide.square() + scale**2).sqrt()
    # Below 0 the sum cancels; the other form of the same number does not.
    return torch.where(wide >= 0, (wide + root) / 2, scale**2 / (2 * (root - wide.clamp(max=0.0))))


def negative_water(hus: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
    """Return the negative part of the water as a share of all water, 0 or more, float64, shape (B,).

    Args:
        hus: Specific humidity, shape (B, L, Y, X), kg/kg.
        mass: Of air, same shape, see `climate_levels.layer_mass`; 0 where a level is missing.
    """
    lacking = weighted_total((-hus.double()).clamp(min=0.0), mass)
    return lacking / (weighted_total(hus.double().abs(), mass) + torch.finfo(torch.float64).tiny)


def positive_water(
    hus: torch.Tensor, mass: torch.Tensor, *, smooth_scale: float | None = None, conserve: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Make specific humidity 0 or more.

    Args:
        hus: Specific humidity, shape (B, L, Y, X), kg/kg, finite.
        mass: Of air, same shape, see `climate_levels.layer_mass`; 0 where a level is missing.
        smooth_scale: kg/kg; clamps smoothly, see `smooth_clamp`, for training; `None` cuts at 0, for inference.
        conserve: Whether what is added is taken off again, from every value by the same factor, down to 0.

    Returns:
        Humidity, of at least float32, bit for bit the same where an item has no negative value and the clamp is hard;
        and the mean mass that the clamp added, before any was taken off, float64, kg m-2, shape (B,).
    """
    if smooth_scale is not None and not smooth_scale > 0:
        raise ValueError(f"smooth_scale must be above 0 kg/kg; got {smooth_scale}. Pass None for a hard clamp.")
    before = weighted_total(hus, mass)
    if smooth_scale is None:
        clamped = torch.where(hus < 0, 0.0, hus).to(store_dtype(hus))
    else:
        clamped = smooth_clamp(hus, smooth_scale)
    added = weighted_total(clamped, mass) - before
    if conserve:
        clamped = scale_to_total(clamped, mass, before, exact_store=smooth_scale is None)
    return clamped.to(store_dtype(hus)), added
