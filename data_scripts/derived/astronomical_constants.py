"""Exact constants for unit conversion and comparison, as decimals.

Sources: IAU 2012 Resolution B2 (astronomical unit), IAU 2015 Resolution B2 (parsec), IAU 2015 Resolution B3 (nominal
solar and planetary values), BIPM SI brochure, 9th edition (speed of light, zero of the Celsius scale). The masses are
ratios of the nominal mass parameters GM: the ratio is exact where the masses themselves carry the uncertainty of G.
"""

from decimal import Decimal


__all__ = [
    "ASTRONOMICAL_UNIT_KM",
    "EARTH_RADIUS_KM",
    "HOURS_PER_DAY",
    "JULIAN_YEAR_DAYS",
    "JUPITER_MASS_EARTH_MASSES",
    "JUPITER_RADIUS_EARTH_RADII",
    "JUPITER_RADIUS_KM",
    "LIGHT_YEARS_PER_PARSEC",
    "SUN_EFFECTIVE_TEMPERATURE_K",
    "ZERO_CELSIUS_K",
]

HOURS_PER_DAY = Decimal(24)
JULIAN_YEAR_DAYS = Decimal("365.25")
ASTRONOMICAL_UNIT_KM = Decimal("149597870.7")
SUN_EFFECTIVE_TEMPERATURE_K = Decimal(5772)
ZERO_CELSIUS_K = Decimal("273.15")

# Nominal equatorial radii.
EARTH_RADIUS_KM = Decimal("6378.1")
JUPITER_RADIUS_KM = Decimal(71492)
JUPITER_RADIUS_EARTH_RADII = JUPITER_RADIUS_KM / EARTH_RADIUS_KM

EARTH_MASS_PARAMETER_M3_S2 = Decimal("3.986004e14")
JUPITER_MASS_PARAMETER_M3_S2 = Decimal("1.2668653e17")
JUPITER_MASS_EARTH_MASSES = JUPITER_MASS_PARAMETER_M3_S2 / EARTH_MASS_PARAMETER_M3_S2

# A parsec is 648000 / pi astronomical units; a light-year is what light travels in a Julian year.
PI = Decimal("3.141592653589793238462643383")
SPEED_OF_LIGHT_KM_S = Decimal("299792.458")
SECONDS_PER_DAY = Decimal(86400)
PARSEC_KM = Decimal(648000) / PI * ASTRONOMICAL_UNIT_KM
LIGHT_YEARS_PER_PARSEC = PARSEC_KM / (SPEED_OF_LIGHT_KM_S * SECONDS_PER_DAY * JULIAN_YEAR_DAYS)
