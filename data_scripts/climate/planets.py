"""The planet of a cube: what a run was set up with."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from data_scripts.harness.errors import BuildError


__all__ = ["EARTH", "Planet", "planet_from_exoplasim"]


# g/mol: CIAAW standard atomic weights, abridged (Prohaska et al. 2022, doi:10.1515/pac-2019-0603).
_MOLAR_MASS = {
    "pN2": 28.014,
    "pO2": 31.998,
    "pCO2": 44.009,
    "pCH4": 16.043,
    "pAr": 39.95,
    "pH2": 2.016,
    "pHe": 4.0026,
    "pNe": 20.180,
    "pKr": 83.798,
}
_BAR = 1e5
# A partial pressure: `pN2`, and no `physicsfilter`.
_GAS = re.compile(r"p[A-Z]\w*")
# Parameters that may be 0; all others must be above.
_RANGES = {
    "stellar_flux_w_m2": (0.0, math.inf),
    "obliquity_deg": (0.0, 180.0),
    "eccentricity": (0.0, 1.0),
    "co2_partial_pressure_pa": (0.0, math.inf),
}
_EARTH_RADIUS_M = 6_371_220.0
# ExoPlaSim's own defaults (exoplasim.Model.configure, version 3.4), which hold where a run did not set them.
_DEFAULTS = {
    "flux": 1367.0,
    "startemp": 5772.0,
    "gravity": 9.80665,
    "radius": 1.0,
    "rotationperiod": 1.0,
    "obliquity": 23.441,
    "eccentricity": 0.016715,
}


@dataclass(frozen=True)
class Planet:
    """Parameters of a simulated planet.

    Attributes:
        stellar_flux_w_m2: At the top of the atmosphere, at the planet's distance.
        stellar_temperature_k: Effective temperature of the star's spectrum.
        radius_m: Of the solid planet.
        gravity_m_s2: At the surface.
        rotation_period_days: Sidereal, in days of 86,400 s.
        synchronous: Whether one side always faces the star.
        obliquity_deg: Of the axis.
        eccentricity: Of the orbit.
        dry_surface_pressure_pa: Sum of the partial pressures without water vapour.
        co2_partial_pressure_pa: Of carbon dioxide.
        dry_air_molar_mass_g_mol: Mean over the gases, by their partial pressures.
        ocean_planet: Whether there is no land; None if the file does not say.
    """

    stellar_flux_w_m2: float
    stellar_temperature_k: float
    radius_m: float
    gravity_m_s2: float
    rotation_period_days: float
    synchronous: bool
    obliquity_deg: float
    eccentricity: float
    dry_surface_pressure_pa: float
    co2_partial_pressure_pa: float
    dry_air_molar_mass_g_mol: float
    ocean_planet: bool | None

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], where: str) -> "Planet":
        """Read the content of a `planet.json`.

        Raises:
            BuildError: If a parameter is missing, unknown or no number.
        """
        names = set(cls.__dataclass_fields__)
        if set(values) != names:
            missing, unknown = sorted(names - set(values)), sorted(set(values) - names)
            raise BuildError(f"{where} must have exactly {sorted(names)}; missing {missing}, unknown {unknown}.")
        for name, value in values.items():
            if name in ("synchronous", "ocean_planet"):
                if not (isinstance(value, bool) or (value is None and name == "ocean_planet")):
                    raise BuildError(f"{name} in {where} must be a boolean; got {value!r}.")
                continue
            least, most = _RANGES.get(name, (0.0, math.inf))
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not (is_number and math.isfinite(value) and least <= value <= most and (value or name in _RANGES)):
                allowed = f"from {least:g} to {most:g}" if name in _RANGES else "above 0"
                raise BuildError(f"{name} in {where} must be a number {allowed}; got {value!r}.")
        return cls(**values)

    @property
    def key(self) -> str:
        """The same text for the same planet: what cubes are split by."""
        return "planet " + json.dumps(asdict(self), sort_keys=True)


EARTH = Planet(
    stellar_flux_w_m2=1361.0,
    stellar_temperature_k=5772.0,
    radius_m=6_371_220.0,
    gravity_m_s2=9.80665,
    rotation_period_days=0.99726957,
    synchronous=False,
    obliquity_deg=23.44,
    eccentricity=0.0167,
    dry_surface_pressure_pa=98_050.0,
    co2_partial_pressure_pa=38.0,
    dry_air_molar_mass_g_mol=28.9655,
    ocean_planet=False,
)
"""Earth about 2000: solar constant of Kopp and Lean 2011 (doi:10.1029/2010GL045777), dry pressure of Trenberth
and Smith 2005 (doi:10.1175/JCLI-3299.1), the rest IAU and NIST values."""


def planet_from_exoplasim(settings: Mapping[str, Any], where: str) -> Planet:
    """Read the planet from the arguments of ExoPlaSim's `configure`.

    Args:
        settings: Arguments; pressures in bar, flux in W m-2, rotation period in days, radius in Earth radii.
        where: Name of the file, for errors.

    Raises:
        BuildError: If no gas is set, so that the atmosphere is not known, or a setting cannot be.
    """
    gases = {name: value for name, value in settings.items() if _GAS.fullmatch(name) and value is not None}
    unknown = sorted(set(gases) - set(_MOLAR_MASS))
    if unknown or not any(gases.values()):
        raise BuildError(
            f"settings of {where} must give partial pressures such as pN2 and pCO2, of "
            f"{', '.join(_MOLAR_MASS)} alone; got {', '.join(unknown) or 'none above 0'}."
        )
    numbers = {**_DEFAULTS, **{name: settings[name] for name in _DEFAULTS if settings.get(name) is not None}, **gases}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise BuildError(f"{name} in the settings of {where} must be a number of at least 0; got {value!r}.")
    total = sum(gases.values())
    stated = settings.get("pressure")
    if stated is not None and not math.isclose(stated, total, rel_tol=0.01):
        raise BuildError(
            f"pressure in the settings of {where} must be the sum of the gases, {total:g}; got {stated!r}."
        )
    values = {
        "stellar_flux_w_m2": float(numbers["flux"]),
        "stellar_temperature_k": float(numbers["startemp"]),
        "radius_m": float(numbers["radius"]) * _EARTH_RADIUS_M,
        "gravity_m_s2": float(numbers["gravity"]),
        "rotation_period_days": float(numbers["rotationperiod"]),
        "synchronous": bool(settings.get("synchronous", False)),
        "obliquity_deg": float(numbers["obliquity"]),
        "eccentricity": float(numbers["eccentricity"]),
        "dry_surface_pressure_pa": total * _BAR,
        "co2_partial_pressure_pa": gases.get("pCO2", 0.0) * _BAR,
        "dry_air_molar_mass_g_mol": sum(_MOLAR_MASS[gas] * bar for gas, bar in gases.items()) / total,
        "ocean_planet": bool(settings.get("aquaplanet", False)),
    }
    return Planet.from_mapping(values, f"the settings of {where}")
