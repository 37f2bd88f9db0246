"""Units as the archives of the NASA Exoplanet Science Institute write them, in the words of `astropy.units`."""

import re


__all__ = ["EARTH_FLUX", "nexsci_unit", "unit_in_brackets"]

# The Sun's light at the Earth: one solar luminosity over 4 pi square astronomical units.
EARTH_FLUX = "0.07957747154594767 solLum / AU2"
# "earth" and "solar" stand for radii in one column and for masses or fluxes in the next.
NOT_A_UNIT = {
    "",
    "--",
    "Earth",
    "earth",
    "BJD",
    "BKJD",
    "HJD",
    "JD",
    "MJD",
    "Fe/H",
    "M/H",
    "sexagesimal",
    "solar",
    "Solar",
}
ASTROPY_TEXT = {
    "%": "percent",
    "AU": "AU",
    "arc-sec/year": "arcsec / yr",
    "au": "AU",
    "cm/s**2": "dex(cm / s2)",
    "day": "d",
    "days": "d",
    "decimal degrees": "deg",
    "deg": "deg",
    "degree": "deg",
    "degrees": "deg",
    "dex": "dex",
    "dexincgs": "dex(cm / s2)",
    "Earth Flux": EARTH_FLUX,
    "Earth Mass": "earthMass",
    "Earth Radius": "earthRad",
    "Earth flux": EARTH_FLUX,
    "Earth mass": "earthMass",
    "Earth radii": "earthRad",
    "Earth radius": "earthRad",
    "Fearth": EARTH_FLUX,
    "g/cm**3": "g / cm3",
    "hour": "h",
    "hours": "h",
    "hrs": "h",
    "Jupiter Mass": "jupiterMass",
    "Jupiter Radius": "jupiterRad",
    "Jupiter mass": "jupiterMass",
    "Jupiter radii": "jupiterRad",
    "Jupiter radius": "jupiterRad",
    "Kelvin": "K",
    "kelvin": "K",
    "log(Lsun)": "dex(solLum)",
    "log(Solar)": "dex(solLum)",
    "log(cm/s**2)": "dex(cm / s2)",
    "log10(Solar)": "dex(solLum)",
    "log10(cm/s**2)": "dex(cm / s2)",
    "logLsun": "dex(solLum)",
    "Lsun": "solLum",
    "M_E": "earthMass",
    "M_J": "jupiterMass",
    "M_Sun": "solMass",
    "mags": "mag",
    "Mearth": "earthMass",
    "microns": "micron",
    "Mjup": "jupiterMass",
    "Mjupiter": "jupiterMass",
    "Msun": "solMass",
    "perc": "percent",
    "percentage": "percent",
    "Rearth": "earthRad",
    "Rjup": "jupiterRad",
    "Rjupiter": "jupiterRad",
    "Rsun": "solRad",
    "Rstar": "solRad",
    "R_E": "earthRad",
    "R_Earth": "earthRad",
    "R_J": "jupiterRad",
    "R_Sun": "solRad",
    "Searth": EARTH_FLUX,
    "seconds": "s",
    "Solar Mass": "solMass",
    "Solar Radius": "solRad",
    "Solar mass": "solMass",
    "Solar radii": "solRad",
    "Solar radius": "solRad",
    "solarradius": "solRad",
    "year": "yr",
    "years": "yr",
}


def nexsci_unit(text: str) -> str | None:
    """Unit for `astropy.units`; None for a time scale, the name of a ratio or no unit; any other text as it is."""
    text = text.strip()
    return None if text in NOT_A_UNIT else ASTROPY_TEXT.get(text, text)


def unit_in_brackets(label: str) -> str | None:
    """Unit of a column's label such as `Orbital Period Upper Unc. [days]`."""
    found = re.search(r"\[([^\]]*)\]", label)
    return nexsci_unit(found[1]) if found else None
