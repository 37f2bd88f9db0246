"""Hydrostatic balance: geopotential rises from level to level as virtual temperature says, exactly after a projection.

Between neighbouring levels, thickness = Rd * mean virtual temperature * ln(pressure below / pressure above), the
hypsometric equation with the trapezoidal rule in ln p (Wallace and Hobbs 2006, Atmospheric Science, eq. 3.29). Where
the geopotential of the ground is given, the lowest level hangs on it by its own virtual temperature. That rule is not
what every model uses, nor do time means obey it, so the constraint is on the geopotential less an offset: the
deviation that the training climate has on average. The balance is linear in temperature and geopotential, a few
numbers a column, so the nearest balanced state is found in closed form: a tridiagonal system for each column.

Shape suffixes: B batch, L levels, Y latitudes, X longitudes; K relations, one for each level: with the level below,
for the lowest one with the ground.
"""

from dataclasses import dataclass

import torch

from .climate_levels import VerticalLevels
from .climate_planet import PlanetParameters


__all__ = [
    "HydrostaticRelations",
    "hydrostatic_geopotential",
    "hydrostatic_offset",
    "hydrostatic_relations",
    "relative_hydrostatic_residual",
]


@dataclass(frozen=True)
class HydrostaticRelations:
    """The relations A (T, phi) = c of every column, see `hydrostatic_relations`; all in float64.

    Attributes:
        order_BLYX: Levels of a column with those that are present first, or None if none is missing.
        is_relation_BKYX: Which relations there are.
        upper_BKYX: m2 s-2 K-1 that a kelvin at a level takes off its relation.
        lower_BKYX: And off the relation of the level above, at [K - 1]; the last has no level below and is 0.
        constant_BKYX: c: offsets, and the geopotential of the ground.
        pair_BKYX: 1 where the relation is to a level, 0 where it is to the ground.
        temperature_variance_BLYX: Squared weight of a change of temperature, K2, over the layer's share of mass.
        geopotential_variance_BLYX: Of a change of geopotential, m4 s-4, likewise.
    """

    order_BLYX: torch.Tensor | None
    is_relation_BKYX: torch.Tensor
    upper_BKYX: torch.Tensor
    lower_BKYX: torch.Tensor
    constant_BKYX: torch.Tensor
    pair_BKYX: torch.Tensor
    temperature_variance_BLYX: torch.Tensor
    geopotential_variance_BLYX: torch.Tensor

    def pack(self, field: torch.Tensor) -> torch.Tensor:
        """Return a field on levels, shape (B, L, Y, X), float64, with the levels in the order of the relations."""
        return field.double() if self.order_BLYX is None else field.double().gather(1, self.order_BLYX)

    def unpack(self, field: torch.Tensor) -> torch.Tensor:
        """Undo `pack`."""
        if self.order_BLYX is None:
            return field
        return torch.zeros_like(field).scatter(1, self.order_BLYX, field)

    def apply(self, ta: torch.Tensor, phi: torch.Tensor) -> torch.Tensor:
        """Return A (T, phi) of packed fields, shape (B, K, Y, X), m2 s-2; 0 where there is no relation."""
        found = phi - self.pair_BKYX * _below(phi) - self.upper_BKYX * ta - self.lower_BKYX * _below(ta)
        return torch.where(self.is_relation_BKYX, found, 0.0)

    def residual(self, ta: torch.Tensor, phi: torch.Tensor) -> torch.Tensor:
        """Return A (T, phi) - c of packed fields, shape (B, K, Y, X), m2 s-2: thickness that is too much."""
        return self.apply(ta, phi) - self.constant_BKYX

    def thickness(self, ta: torch.Tensor) -> torch.Tensor:
        """Return the thickness that packed temperature demands, m2 s-2; 1 where there is no relation."""
        found = self.upper_BKYX * ta + self.lower_BKYX * _below(ta)
        return torch.where(self.is_relation_BKYX, found.abs().clamp(min=1e-6), 1.0)

    def correction(self, amount: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the smallest packed (T, phi) with A (T, phi) = amount: W A' (A W A')^-1 amount.

        W holds the variances. A W A' is tridiagonal and positive definite; the Thomas algorithm needs no pivots
        (Golub and Van Loan 2013, Matrix Computations, section 4.3).
        """
        variance_t, variance_p = self.temperature_variance_BLYX, self.geopotential_variance_BLYX
        below_t, below_p = _below(variance_t), _below(variance_p)
        diagonal = (
            variance_p + self.pair_BKYX * below_p + self.upper_BKYX.square() * variance_t
        ) + self.lower_BKYX.square() * below_t
        diagonal = torch.where(self.is_relation_BKYX, diagonal, 1.0)
        # Of a relation with the next one: they share the level below.
        beside = (self.lower_BKYX * _below(self.upper_BKYX) * below_t - self.pair_BKYX * below_p)[:, :-1]
        beside = torch.where(self.is_relation_BKYX[:, :-1] & self.is_relation_BKYX[:, 1:], beside, 0.0)
        solved = _solve_tridiagonal(diagonal, beside, torch.where(self.is_relation_BKYX, amount, 0.0))
        above = _above(solved * self.lower_BKYX), _above(solved * self.pair_BKYX)
        return -variance_t * (self.upper_BKYX * solved + above[0]), variance_p * (solved - above[1])

    def without(self, ta: torch.Tensor, phi: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the part of a packed change (T, phi) that leaves every relation as it is."""
        change_t, change_p = self.correction(self.apply(ta, phi))
        return ta - change_t, phi - change_p


def hydrostatic_relations(
    hus: torch.Tensor,
    planet: PlanetParameters,
    levels: VerticalLevels,
    *,
    ps: torch.Tensor | None = None,
    surface_geopotential: torch.Tensor | None = None,
    offset: torch.Tensor | None = None,
    temperature_scale_k: float = 1.0,
    geopotential_scale_m2_s2: float = 100.0,
) -> HydrostaticRelations:
    """Build the relations of every column. Across a missing level they go to the next one that is present.

    Args:
        hus: Specific humidity, shape (B, L, Y, X), kg/kg.
        planet: Of shape (B,).
        levels: Sigma or pressure levels.
        ps: Surface pressure, shape (B, Y, X), Pa; needed on pressure levels if `surface_geopotential` is given.
        surface_geopotential: Shape (B, Y, X) or (1, Y, X), m2 s-2; without it the columns hang in the air.
        offset: Mean deviation of the geopotential from balance, broadcasts with (B, L, Y, X), m2 s-2.
        temperature_scale_k: Change of temperature, K, that counts as much as
        geopotential_scale_m2_s2: this change of geopotential: the typical errors of a prediction.

    Raises:
        ValueError: If a scale is not above 0, or the ground's pressure is missing or above the lowest level.
    """
    for name, value in (
        ("temperature_scale_k", temperature_scale_k),
        ("geopotential_scale_m2_s2", geopotential_scale_m2_s2),
    ):
        if not value > 0:
            raise ValueError(f"{name} must be above 0; got {value}. Pass the typical error of a prediction.")
    batch, number, *_ = hus.shape
    device = hus.device
    hus = levels.present(hus)
    logs = levels.mid.log().to(device).view(1, -1, 1, 1).expand(hus.shape)
    weights = levels.weights(device).expand(hus.shape)
    offsets = hus.new_zeros((), dtype=torch.float64) if offset is None else offset.to(device, torch.float64)
    offsets = levels.present(offsets.expand(hus.shape))
    constant = planet.gas_constant_dry_j_kg_k.to(device, torch.float64).view(-1, 1, 1, 1)
    virtual = constant * planet.virtual_factor(hus)
    order = None
    count = torch.full((batch, 1, *hus.shape[2:]), number, device=device)
    if levels.mask is not None:
        mask = levels.mask.to(device).expand(hus.shape)
        order = mask.logical_not().to(torch.uint8).argsort(dim=1, stable=True)
        count = mask.sum(1, keepdim=True)
        logs, weights, offsets, virtual = (part.gather(1, order) for part in (logs, weights, offsets, virtual))
    place = torch.arange(number, device=device).view(1, -1, 1, 1)
    is_pair, is_last = place < count - 1, place == count - 1
    below = _below(logs) - logs
    ground = torch.zeros_like(logs)
    if surface_geopotential is not None:
        if levels.kind == "pressure":
            if ps is None:
                raise ValueError(
                    "ps must be given on pressure levels with surface_geopotential; it is missing. Pass the surface "
                    "pressure, or leave the ground out."
                )
            ground = ps.double().log()[:, None] - logs
            if bool((is_last & (ground < 0)).any()):
                raise ValueError(
                    "levels on axis L must lie above the ground where they are present; the lowest pressure is above "
                    "ps. Mask the levels below the ground in VerticalLevels."
                )
        else:
            ground = -logs
    is_relation = is_pair | is_last if surface_geopotential is not None else is_pair
    half = torch.where(is_pair, below / 2, 0.0)
    upper = virtual * torch.where(is_pair, half, torch.where(is_relation, ground, 0.0))
    lower = _below(virtual) * half
    target = torch.where(is_pair, offsets - _below(offsets), offsets)
    if surface_geopotential is not None:
        target = target + torch.where(is_last, surface_geopotential.to(device, torch.float64)[:, None], 0.0)
    inverse = torch.where(weights > 0, 1.0 / torch.where(weights > 0, weights, 1.0), 0.0) / number
    return HydrostaticRelations(
        order_BLYX=order,
        is_relation_BKYX=is_relation,
        upper_BKYX=upper,
        lower_BKYX=lower,
        constant_BKYX=torch.where(is_relation, target, 0.0),
        pair_BKYX=is_pair.double(),
        temperature_variance_BLYX=temperature_scale_k**2 * inverse,
        geopotential_variance_BLYX=geopotential_scale_m2_s2**2 * inverse,
    )


def hydrostatic_geopotential(
    ta: torch.Tensor,
    hus: torch.Tensor,
    surface_geopotential: torch.Tensor,
    planet: PlanetParameters,
    levels: VerticalLevels,
    ps: torch.Tensor | None = None,
) -> torch.Tensor:
    """Integrate the hypsometric equation up from the ground; what `hydrostatic_relations` holds for balanced.

    Args:
        ta: Temperature, shape (B, L, Y, X), K.
        hus: Specific humidity, same shape, kg/kg.
        surface_geopotential: Shape (B, Y, X) or (1, Y, X), m2 s-2.
        planet: Of shape (B,).
        levels: Sigma or pressure levels; no level may be missing.
        ps: Surface pressure, shape (B, Y, X), Pa; needed on pressure levels.

    Returns:
        Geopotential, shape (B, L, Y, X), float64, m2 s-2.
    """
    if levels.mask is not None:
        raise ValueError(
            "levels must have no mask for the integral upward; got one. Drop the missing levels of axis L."
        )
    relations = hydrostatic_relations(hus, planet, levels, ps=ps, surface_geopotential=surface_geopotential)
    rise = relations.constant_BKYX + relations.upper_BKYX * ta + relations.lower_BKYX * _below(ta.double())
    return rise.flip(1).cumsum(1).flip(1)


def hydrostatic_offset(
    ta: torch.Tensor,
    phi: torch.Tensor,
    hus: torch.Tensor,
    planet: PlanetParameters,
    levels: VerticalLevels,
    *,
    ps: torch.Tensor | None = None,
    surface_geopotential: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the mean deviation of geopotential from balance, the offset of `hydrostatic_relations`.

    Args:
        ta: Temperature, shape (B, L, Y, X), K; B samples of a training climate.
        phi: Geopotential, same shape, m2 s-2.
        hus: Specific humidity, same shape, kg/kg.
        planet: Of shape (B,).
        levels: Sigma or pressure levels; no level may be missing.
        ps: As in `hydrostatic_relations`.
        surface_geopotential: As in `hydrostatic_relations`; without it the lowest level has no deviation.

    Returns:
        Shape (L, Y, X), float64, m2 s-2.
    """
    if levels.mask is not None:
        raise ValueError("levels must have no mask for the mean deviation; got one. Drop missing levels of axis L.")
    relations = hydrostatic_relations(hus, planet, levels, ps=ps, surface_geopotential=surface_geopotential)
    excess = relations.residual(ta.double(), phi.double())
    return excess.flip(1).cumsum(1).flip(1).mean(0)


def relative_hydrostatic_residual(
    relations: HydrostaticRelations, ta: torch.Tensor, phi: torch.Tensor
) -> torch.Tensor:
    """Return the excess of each thickness as a share of it, shape (B, K, Y, X), float64; 0 where no relation is.

    Args:
        relations: Of the columns.
        ta: Temperature, shape (B, L, Y, X), K.
        phi: Geopotential, same shape, m2 s-2.
    """
    packed_t, packed_p = relations.pack(ta), relations.pack(phi)
    return relations.residual(packed_t, packed_p) / relations.thickness(packed_t)


def _below(field: torch.Tensor) -> torch.Tensor:
    """Return at each level the value of the level below, 0 at the lowest; shape (B, L, Y, X)."""
    return torch.cat([field[:, 1:], torch.zeros_like(field[:, :1])], dim=1)


def _above(field: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.zeros_like(field[:, :1]), field[:, :-1]], dim=1)


def _solve_tridiagonal(diagonal: torch.Tensor, beside: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Solve symmetric tridiagonal systems along axis 1: diagonal (B, K, ...), beside (B, K - 1, ...)."""
    number = diagonal.shape[1]
    pivots, values = [diagonal[:, 0]], [right[:, 0]]
    for row in range(1, number):
        factor = beside[:, row - 1] / pivots[-1]
        pivots.append(diagonal[:, row] - factor * beside[:, row - 1])
        values.append(right[:, row] - factor * values[-1])
    solved = [values[-1] / pivots[-1]]
    for row in range(number - 2, -1, -1):
        solved.append((values[row] - beside[:, row] * solved[-1]) / pivots[row])
    return torch.stack(solved[::-1], dim=1)
