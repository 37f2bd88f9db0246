"""What climate constraints must know of a planet. Nothing here has a default: no planet is taken for granted."""

from typing import NamedTuple

import torch


__all__ = ["PlanetParameters"]

# J mol-1 K-1, exact in the SI of 2019.
_MOLAR_GAS_CONSTANT = 8.31446261815324


class PlanetParameters(NamedTuple):
    """Parameters of a batch of planets, each of shape (B,).

    Attributes:
        gravity_m_s2: At the surface; the atmosphere is thin beside the radius.
        gas_constant_dry_j_kg_k: Specific gas constant of the air without what condenses.
        gas_constant_vapour_j_kg_k: Of the vapour that condenses; water on most planets.
        heat_capacity_dry_j_kg_k: At constant pressure, of the dry air.
        heat_capacity_vapour_j_kg_k: At constant pressure, of the vapour.
        latent_heat_j_kg: Of the change between vapour and what falls out.
        surface_pressure_pa: Nominal; what units of `ps` are checked against.
    """

    gravity_m_s2: torch.Tensor
    gas_constant_dry_j_kg_k: torch.Tensor
    gas_constant_vapour_j_kg_k: torch.Tensor
    heat_capacity_dry_j_kg_k: torch.Tensor
    heat_capacity_vapour_j_kg_k: torch.Tensor
    latent_heat_j_kg: torch.Tensor
    surface_pressure_pa: torch.Tensor

    def checked(self) -> "PlanetParameters":
        """Return the same in float64.

        Raises:
            ValueError: If a parameter is not of shape (B,), finite and above 0; the latent heat and the vapour's heat
                capacity may be 0.
        """
        batch = self.gravity_m_s2.shape
        for name, value in self._asdict().items():
            may_be_zero = name in ("latent_heat_j_kg", "heat_capacity_vapour_j_kg_k")
            is_right = value.isfinite() & ((value >= 0) if may_be_zero else (value > 0))
            if value.ndim != 1 or value.shape != batch or not bool(is_right.all()):
                raise ValueError(
                    f"{name} must be finite, {'at least' if may_be_zero else 'above'} 0 and of shape (B,) = "
                    f"{tuple(batch)}; got shape {tuple(value.shape)}, {value.flatten()[:3].tolist()}. Pass a value "
                    "for each planet of the batch."
                )
        return PlanetParameters(*(value.double() for value in self))

    @classmethod
    def from_molar_masses(
        cls, *, dry_air_molar_mass_g_mol: torch.Tensor, vapour_molar_mass_g_mol: torch.Tensor, **others: torch.Tensor
    ) -> "PlanetParameters":
        """Make the gas constants of molar masses: R / M, M in g/mol."""
        return cls(
            gas_constant_dry_j_kg_k=_MOLAR_GAS_CONSTANT * 1e3 / dry_air_molar_mass_g_mol,
            gas_constant_vapour_j_kg_k=_MOLAR_GAS_CONSTANT * 1e3 / vapour_molar_mass_g_mol,
            **others,
        )

    def virtual_factor(self, hus: torch.Tensor) -> torch.Tensor:
        """Return virtual temperature over temperature, 1 + (Rv / Rd - 1) q, in float64.

        The gas constant of moist air is Rd (1 - q) + Rv q (Wallace and Hobbs 2006, Atmospheric Science, eq. 3.16,
        exact in the specific humidity).

        Args:
            hus: Specific humidity, shape (B, L, Y, X), kg/kg.
        """
        ratio = self.gas_constant_vapour_j_kg_k.double() / self.gas_constant_dry_j_kg_k.double()
        return 1.0 + (ratio.to(hus.device) - 1.0).view(-1, 1, 1, 1) * hus.double()

    def heat_capacity(self, hus: torch.Tensor) -> torch.Tensor:
        """Return that of moist air at constant pressure, cpd (1 - q) + cpv q, in float64, J/(kg K)."""
        dry, vapour = (
            value.to(hus.device, torch.float64).view(-1, 1, 1, 1)
            for value in (self.heat_capacity_dry_j_kg_k, self.heat_capacity_vapour_j_kg_k)
        )
        return dry + (vapour - dry) * hus.double()
