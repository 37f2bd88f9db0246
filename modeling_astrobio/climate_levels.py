"""Vertical coordinates of climate states: sigma or pressure levels, from the top down, with missing levels.

Shape suffixes: B batch, L levels, Y latitudes, X longitudes.
"""

from dataclasses import dataclass

import torch


__all__ = ["VerticalLevels", "layer_mass", "pressure_levels", "sigma_interfaces", "sigma_levels"]


@dataclass(frozen=True)
class VerticalLevels:
    """Levels, made and checked by `sigma_levels` or `pressure_levels`.

    Attributes:
        kind: `sigma` (pressure over surface pressure) or `pressure` (Pa).
        mid: Shape (L,), float64, rising: from the top to the ground.
        interfaces: Shape (L + 1,), float64, rising: the bounds of the layers.
        mask: Boolean, broadcasts with (B, L, Y, X), True where there is a value; None if nowhere is one missing.
    """

    kind: str
    mid: torch.Tensor
    interfaces: torch.Tensor
    mask: torch.Tensor | None = None

    def weights(self, device: torch.device) -> torch.Tensor:
        """Share of a column's mass that each layer has, float64, broadcasts with (B, L, Y, X); they sum to 1 over L.

        Missing levels have 0, and the others their part; a column without levels has 0 everywhere.
        """
        thickness = self.interfaces.diff().to(device).view(1, -1, 1, 1)
        if self.mask is not None:
            thickness = thickness * self.mask.to(device)
        total = thickness.sum(1, keepdim=True)
        return thickness / torch.where(total > 0, total, 1.0)

    def present(self, field: torch.Tensor) -> torch.Tensor:
        """Return a field, shape (B, L, Y, X), with 0 where it is missing, so that NaN there reaches no sum."""
        return field if self.mask is None else torch.where(self.mask.to(field.device), field, 0.0)

    def pressure(self, ps: torch.Tensor) -> torch.Tensor:
        """Return the pressure of mid-levels, float64, Pa, broadcasts with (B, L, Y, X); `ps` is (B, Y, X), Pa."""
        mid = self.mid.to(ps.device).view(1, -1, 1, 1)
        return mid * ps.double()[:, None] if self.kind == "sigma" else mid


def layer_mass(
    ps: torch.Tensor, gravity_m_s2: torch.Tensor, levels: VerticalLevels, cell_weights: torch.Tensor
) -> torch.Tensor:
    """Return the air of each cell and layer, as part of the mean over the planet, kg m-2.

    Area share * dsigma * ps / g: the sum over all but B is the mean mass of air above a square metre of a thin
    hydrostatic atmosphere (Trenberth and Smith 2005, doi:10.1175/JCLI-3299.1).

    Args:
        ps: Surface pressure, shape (B, Y, X), Pa.
        gravity_m_s2: Shape (B,).
        levels: Sigma levels.
        cell_weights: Shape (Y, X), sum 1.

    Returns:
        Shape (B, L, Y, X), float64.

    Raises:
        ValueError: If the levels are no sigma levels.
    """
    if levels.kind != "sigma":
        raise ValueError(
            f"budgets of mass, water and energy need sigma levels, whose layers fill the column; got {levels.kind} "
            "levels. Interpolate axis L to sigma, or switch these constraints off."
        )
    gravity = gravity_m_s2.to(ps.device, torch.float64).view(-1, 1, 1)
    column = ps.double() * cell_weights.to(ps.device, torch.float64) / gravity
    return column[:, None] * levels.weights(ps.device)


def sigma_interfaces(mid: torch.Tensor) -> torch.Tensor:
    """Return the bounds of layers whose mid-levels lie half-way between them, with the ground at 1, shape (L + 1,).

    Such are the levels of PlaSim (Lunkeit et al. 2012, Planet Simulator Reference Manual, section 2.3).

    Args:
        mid: Shape (L,), rising, within 0 to 1.

    Raises:
        ValueError: If no such bounds exist.
    """
    mid = torch.as_tensor(mid).to("cpu", torch.float64)
    edges = [mid.new_tensor(1.0)]
    for level in mid.flip(0):
        edges.append(2.0 * level - edges[-1])
    found = torch.stack(edges).flip(0)
    # Rounding of float32 mid-levels sums up towards the top.
    found[0] = torch.where(found[0].abs() < 1e-4, 0.0, found[0])
    if found[0] < 0 or not bool((found.diff() > 0).all()):
        raise ValueError(
            f"sigma mid-levels on axis L must lie half-way between bounds from 0 to 1; got {mid.tolist()}. Pass the "
            "interfaces of the model."
        )
    return found


def sigma_levels(
    mid: torch.Tensor, interfaces: torch.Tensor | None = None, mask: torch.Tensor | None = None
) -> VerticalLevels:
    """Make sigma levels.

    Args:
        mid: Shape (L,), rising, within 0 to 1.
        interfaces: Shape (L + 1,), rising, last 1; found by `sigma_interfaces` if not given.
        mask: See `VerticalLevels`; shape (L,) too.

    Raises:
        ValueError: If an axis is not that.
    """
    mid = _levels(mid, "sigma mid-levels")
    if mid[0] <= 0 or mid[-1] > 1:
        raise ValueError(
            f"sigma mid-levels on axis L must be above 0 and at most 1; got {mid[0]:g} to {mid[-1]:g}. Use "
            "pressure_levels for pressures, or divide by the surface pressure."
        )
    bounds = sigma_interfaces(mid) if interfaces is None else _levels(interfaces, "sigma interfaces")
    if interfaces is not None and (bounds[0] < 0 or abs(bounds[-1] - 1.0) > 1e-6):
        raise ValueError(
            f"sigma interfaces must be from 0 or more at the top to 1 at the ground; got {bounds[0]:g} to "
            f"{bounds[-1]:g}. Pass the bounds of all layers."
        )
    return VerticalLevels("sigma", mid, _around(bounds, mid), _mask(mask, len(mid)))


def pressure_levels(
    mid_pa: torch.Tensor, interfaces_pa: torch.Tensor | None = None, mask: torch.Tensor | None = None
) -> VerticalLevels:
    """Make levels of constant pressure.

    Args:
        mid_pa: Shape (L,), rising, Pa.
        interfaces_pa: Shape (L + 1,), rising, Pa; half-way between the levels if not given, the outer ones as far
            beyond, and not below 0.
        mask: See `VerticalLevels`; shape (L,) too.

    Raises:
        ValueError: If an axis is not that.
    """
    mid = _levels(mid_pa, "pressure levels")
    if mid[0] <= 0:
        raise ValueError(f"pressure levels on axis L must be above 0 Pa; got {mid[0]:g}. Drop that level.")
    if interfaces_pa is None:
        middle = (mid[1:] + mid[:-1]) / 2
        top = (1.5 * mid[:1] - 0.5 * mid[1:2]).clamp(min=0.0) if len(mid) > 1 else torch.zeros_like(mid)
        bottom = 1.5 * mid[-1:] - 0.5 * mid[-2:-1] if len(mid) > 1 else 2.0 * mid
        bounds = torch.cat([top, middle, bottom])
    else:
        bounds = _levels(interfaces_pa, "pressure interfaces")
    return VerticalLevels("pressure", mid, _around(bounds, mid), _mask(mask, len(mid)))


def _levels(values: torch.Tensor, name: str) -> torch.Tensor:
    values = torch.as_tensor(values).detach().to("cpu", torch.float64)
    if values.ndim != 1 or not len(values) or not bool(values.isfinite().all()):
        raise ValueError(
            f"{name} on axis L must be finite and of shape (L,); got shape {tuple(values.shape)}. Pass the level axis."
        )
    if not bool((values.diff() > 0).all()):
        raise ValueError(
            f"{name} on axis L must rise from the top to the ground; got {[f'{value:g}' for value in values]}. Flip "
            "the level axis of the levels and of every variable."
        )
    return values


def _around(bounds: torch.Tensor, mid: torch.Tensor) -> torch.Tensor:
    if len(bounds) != len(mid) + 1 or not bool(((bounds[:-1] < mid) & (mid <= bounds[1:])).all()):
        raise ValueError(
            f"interfaces must be {len(mid) + 1} bounds with one mid-level between each two; got "
            f"{[f'{value:g}' for value in bounds]}. Pass the bounds of these levels."
        )
    return bounds


def _mask(mask: torch.Tensor | None, levels: int) -> torch.Tensor | None:
    if mask is None:
        return None
    if mask.dtype != torch.bool or mask.ndim not in (1, 4) or mask.shape[0 if mask.ndim == 1 else 1] != levels:
        raise ValueError(
            f"mask must be boolean of shape (L,) or (B, L, Y, X) with L = {levels}, True where there is a value; got "
            f"{mask.dtype} of shape {tuple(mask.shape)}. Pass isfinite() of a variable."
        )
    return mask.view(1, -1, 1, 1) if mask.ndim == 1 else mask
