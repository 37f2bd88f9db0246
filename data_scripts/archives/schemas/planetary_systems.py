"""Columns of the tables ps, pscomppars and k2pandc of the NASA Exoplanet Archive.

Names and meanings: https://exoplanetarchive.ipac.caltech.edu/docs/API_PS_columns.html, API_PSCompPars_columns.html and
API_k2pandc_columns.html.
"""

from data_scripts.archives.protocols.nexsci_units import EARTH_FLUX
from data_scripts.archives.schemas.nexsci_columns import flag, measured, number, text
from data_scripts.harness.archive import Column


__all__ = ["K2PANDC", "PS", "PSCOMPPARS"]

STAR_NAMES = (
    *text("hd_name", "Henry Draper designation of the star"),
    *text("hip_name", "Hipparcos designation of the star"),
    *text("tic_id", "TESS Input Catalog designation of the star"),
)
DISCOVERY = (
    *number("sy_snum", "Stars in the system", required=True, minimum=1),
    *number("sy_pnum", "Planets in the system", required=True),
    *text("discoverymethod", "Method of discovery", required=True),
    *number("disc_year", "Year of discovery", required=True, minimum=1900, maximum=2200),
    *text("disc_facility", "Facility of discovery"),
    *flag("pl_controv_flag", "The planet's existence is disputed"),
)


def orbit_and_size() -> tuple[Column, ...]:
    return (
        *measured("pl_orbper", "Orbital period", "d", 0, limit=True),
        *measured("pl_orbsmax", "Semi-major axis of the orbit", "AU", 0, limit=True),
        *measured("pl_rade", "Planet radius", "earthRad", 0, limit=True),
        *measured("pl_radj", "Planet radius", "jupiterRad", 0, limit=True),
        *measured("pl_bmasse", "Planet mass, or mass times sine of the inclination", "earthMass", 0, limit=True),
        *measured("pl_bmassj", "Planet mass, or mass times sine of the inclination", "jupiterMass", 0, limit=True),
        *text("pl_bmassprov", "What pl_bmasse and pl_bmassj are: Mass, Msini, Msin(i)/sin(i), M-R relationship"),
        *measured("pl_dens", "Planet density", "g / cm3", 0, limit=True),
        *measured("pl_orbeccen", "Eccentricity of the orbit", None, 0, 1, limit=True),
        *measured("pl_insol", "Insolation flux", EARTH_FLUX, 0, limit=True),
        *measured("pl_eqt", "Equilibrium temperature", "K", 0, limit=True),
        *measured("pl_orbincl", "Inclination of the orbit", "deg", 0, 180, limit=True),
        *measured("pl_tranmid", "Time of mid-transit", "d", limit=True),
        *measured("pl_trandep", "Transit depth", "percent", 0, 100, limit=True),
        *measured("pl_trandur", "Transit duration", "h", 0, limit=True),
        *measured("pl_ratdor", "Ratio of the semi-major axis to the stellar radius", None, 0, limit=True),
        *measured("pl_ratror", "Ratio of the planet radius to the stellar radius", None, 0, limit=True),
        *measured("pl_rvamp", "Radial-velocity amplitude of the star", "m / s", 0, limit=True),
        *flag("ttv_flag", "The data show transit timing variations"),
    )


def star() -> tuple[Column, ...]:
    return (
        *text("st_spectype", "Spectral type"),
        *measured("st_teff", "Stellar effective temperature", "K", 0, limit=True),
        *measured("st_rad", "Stellar radius", "solRad", 0, limit=True),
        *measured("st_mass", "Stellar mass", "solMass", 0, limit=True),
        *measured("st_met", "Stellar metallicity", "dex", limit=True),
        *text("st_metratio", "Ratio that st_met gives, such as [Fe/H]"),
        *measured("st_logg", "Stellar surface gravity", "dex(cm / s2)", limit=True),
        *measured("st_age", "Stellar age", "Gyr", 0, limit=True),
    )


SYSTEM = (
    *text("rastr", "Right ascension, sexagesimal"),
    *measured("ra", "Right ascension", "deg", 0, 360, required=True, errors=False),
    *text("decstr", "Declination, sexagesimal"),
    *measured("dec", "Declination", "deg", -90, 90, required=True, errors=False),
    *measured("sy_dist", "Distance", "pc", 0),
    *measured("sy_vmag", "V magnitude (Johnson)", "mag"),
    *measured("sy_kmag", "Ks magnitude (2MASS)", "mag"),
    *measured("sy_gaiamag", "Gaia magnitude", "mag"),
)
PUBLICATION = (
    *text("pl_refname", "Publication of the planet's parameters", required=True),
    *text("st_refname", "Publication of the star's parameters"),
    *text("pl_pubdate", "Date of that publication"),
    *text("rowupdate", "Day the archive last changed the row"),
    *text("releasedate", "Day the archive released the row"),
)

PSCOMPPARS = (
    *text("pl_name", "Planet", required=True),
    *text("hostname", "Host star", required=True),
    *STAR_NAMES,
    *DISCOVERY,
    *orbit_and_size(),
    *star(),
    *SYSTEM,
)
PS = (
    *text("pl_name", "Planet", required=True),
    *text("hostname", "Host star", required=True),
    *STAR_NAMES,
    *flag("default_flag", "This set of parameters is the archive's default for the planet", required=True),
    *DISCOVERY,
    *text("soltype", "Kind of solution", required=True),
    *orbit_and_size(),
    *star(),
    *SYSTEM,
    *PUBLICATION,
)
K2PANDC = (
    *text("pl_name", "Planet or candidate", required=True),
    *text("hostname", "Host star", required=True),
    *text("epic_hostname", "EPIC designation of the star"),
    *text("epic_candname", "EPIC designation of the candidate"),
    *text("k2_name", "K2 designation of the planet"),
    *STAR_NAMES,
    *flag("default_flag", "This set of parameters is the archive's default for the planet", required=True),
    *text("disposition", "Disposition by the archive", required=True),
    *text("disp_refname", "Publication of the disposition"),
    *DISCOVERY,
    *text("soltype", "Kind of solution", required=True),
    *orbit_and_size(),
    *star(),
    *SYSTEM,
    *text("k2_campaigns", "Campaigns of K2 that observed the star"),
    *PUBLICATION,
)
