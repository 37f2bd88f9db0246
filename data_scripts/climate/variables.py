"""Variables that a cube may hold, by the short names of CMIP6 (Griffies et al. 2016, doi:10.5194/gmd-9-3231-2016)."""

from dataclasses import dataclass


__all__ = ["ATMOSPHERE", "SURFACE", "Variable", "variable_named"]


@dataclass(frozen=True)
class Variable:
    """A quantity.

    Attributes:
        name: Short name of CMIP6.
        unit: Unit in the data set.
        standard_names: CF standard names, and those that models write in their place.
        liquid_water_factor: kg m-3 that a rate in m s-1 of liquid water is multiplied by, for the units to agree.
        upward: Those of the standard names that count upward; the data set counts every flux downward.
    """

    name: str
    unit: str
    standard_names: tuple[str, ...]
    liquid_water_factor: float | None = None
    upward: tuple[str, ...] = ()


# Liquid water equivalent is defined with this density, kg m-3.
_LIQUID_WATER = 1000.0

ATMOSPHERE = (
    Variable("ta", "K", ("air_temperature",)),
    Variable("ua", "m s-1", ("eastward_wind",)),
    Variable("va", "m s-1", ("northward_wind",)),
    Variable("hus", "1", ("specific_humidity",)),
    Variable("wap", "Pa s-1", ("lagrangian_tendency_of_air_pressure", "vertical_air_velocity")),
    Variable("zg", "m", ("geopotential_height",)),
    Variable("phi", "m2 s-2", ("geopotential",)),
    Variable("hur", "%", ("relative_humidity",)),
    Variable("clw", "1", ("mass_fraction_of_cloud_liquid_water_in_air", "liquid_water_content")),
    Variable("cl", "1", ("cloud_area_fraction_in_atmosphere_layer", "cloud_area_fraction_in_layer")),
)
SURFACE = (
    Variable("ts", "K", ("surface_temperature",)),
    Variable("tas", "K", ("air_temperature_2m",)),
    Variable("ps", "Pa", ("surface_air_pressure",)),
    Variable("pr", "kg m-2 s-1", ("precipitation_flux", "total_precipitation"), _LIQUID_WATER),
    Variable(
        "evspsbl",
        "kg m-2 s-1",
        ("water_evapotranspiration_flux", "lwe_of_water_evaporation"),
        _LIQUID_WATER,
        upward=("water_evapotranspiration_flux",),
    ),
    Variable("clt", "1", ("cloud_area_fraction",)),
    Variable("prw", "kg m-2", ("atmosphere_mass_content_of_water_vapor", "atmosphere_water_vapor_content")),
    Variable(
        "hfss",
        "W m-2",
        ("surface_upward_sensible_heat_flux", "surface_sensible_heat_flux"),
        upward=("surface_upward_sensible_heat_flux",),
    ),
    Variable(
        "hfls",
        "W m-2",
        ("surface_upward_latent_heat_flux", "surface_latent_heat_flux"),
        upward=("surface_upward_latent_heat_flux",),
    ),
    Variable("rst", "W m-2", ("toa_net_downward_shortwave_flux", "toa_net_shortwave_flux")),
    Variable(
        "rlut",
        "W m-2",
        ("toa_outgoing_longwave_flux", "toa_net_longwave_flux"),
        upward=("toa_outgoing_longwave_flux",),
    ),
    Variable("rsut", "W m-2", ("toa_outgoing_shortwave_flux",), upward=("toa_outgoing_shortwave_flux",)),
    Variable("rss", "W m-2", ("surface_net_downward_shortwave_flux", "surface_net_shortwave_flux")),
    Variable("rls", "W m-2", ("surface_net_downward_longwave_flux", "surface_net_longwave_flux")),
    Variable("alb", "1", ("surface_albedo",)),
    Variable("sic", "1", ("sea_ice_area_fraction", "sea_ice_cover")),
    Variable("sit", "m", ("sea_ice_thickness",)),
    Variable("snd", "m", ("surface_snow_thickness",)),
    Variable("lsm", "1", ("land_binary_mask",)),
    Variable("sg", "m2 s-2", ("surface_geopotential",)),
)
"""Fluxes of heat and evaporation are positive downward: `rlut`, `hfls` and `evspsbl` are negative where they leave."""

_BY_STANDARD_NAME = {
    (standard, has_levels): variable
    for has_levels, variables in ((True, ATMOSPHERE), (False, SURFACE))
    for variable in variables
    for standard in variable.standard_names
}


def variable_named(standard_name: str, *, has_levels: bool) -> Variable | None:
    """Return the variable of a standard name on levels or at the surface, or None."""
    if not has_levels and standard_name == "air_temperature":
        # CMIP6 gives tas this standard name, at a height of 2 m.
        standard_name = "air_temperature_2m"
    return _BY_STANDARD_NAME.get((standard_name, has_levels))
