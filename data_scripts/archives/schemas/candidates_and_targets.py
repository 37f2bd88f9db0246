"""Columns of the tables toi, k2candidates and mission_exocat of the NASA Exoplanet Archive.

Names and meanings: https://exoplanetarchive.ipac.caltech.edu/docs/API_TOI_columns.html, API_k2candidates_columns.html
and API_mission_stars.html.
"""

from data_scripts.archives.protocols.nexsci_units import EARTH_FLUX
from data_scripts.archives.schemas.nexsci_columns import flag, measured, number, text


__all__ = ["K2CANDIDATES", "MISSION_EXOCAT", "TOI"]

POSITION = (
    *measured("ra", "Right ascension", "deg", 0, 360, required=True, errors=False),
    *measured("dec", "Declination", "deg", -90, 90, required=True, errors=False),
)

TOI = (
    *text("toi", "TESS object of interest, <star>.<candidate>", required=True),
    *number("toipfx", "TESS object of interest, the star's part", minimum=1),
    *number("tid", "TESS Input Catalog number of the star", required=True, minimum=1),
    *text("ctoi_alias", "Community object of interest"),
    *number("pl_pnum", "Planets of the star"),
    *text("tfopwg_disp", "Disposition by the working group: APC, CP, FA, FP, KP or PC"),
    *POSITION,
    *measured("st_tmag", "TESS magnitude", "mag", limit=True),
    *measured("st_pmra", "Proper motion in right ascension", "mas / yr", limit=True),
    *measured("st_pmdec", "Proper motion in declination", "mas / yr", limit=True),
    *measured("pl_tranmid", "Time of mid-transit, BJD", "d", limit=True),
    *measured("pl_orbper", "Orbital period", "d", 0, limit=True),
    *measured("pl_trandurh", "Transit duration", "h", 0, limit=True),
    *measured("pl_trandep", "Transit depth", "ppm", 0, 1e6, limit=True),
    *measured("pl_rade", "Planet radius", "earthRad", 0, limit=True),
    *measured("pl_insol", "Insolation flux", EARTH_FLUX, 0, limit=True),
    *measured("pl_eqt", "Equilibrium temperature", "K", 0, limit=True),
    *measured("st_dist", "Distance", "pc", 0, limit=True),
    *measured("st_teff", "Stellar effective temperature", "K", 0, limit=True),
    *measured("st_logg", "Stellar surface gravity", "dex(cm / s2)", limit=True),
    *measured("st_rad", "Stellar radius", "solRad", 0, limit=True),
    *text("toi_created", "Time the object was listed", required=True),
    *text("rowupdate", "Time the row was last changed"),
)

K2CANDIDATES = (
    *text("epic_candname", "EPIC designation of the candidate", required=True),
    *text("epic_name", "EPIC designation of the star", required=True),
    *text("tm_name", "2MASS designation of the star"),
    *text("pl_name", "Name of a confirmed planet"),
    *POSITION,
    *text("k2c_disp", "Disposition by the archive", required=True),
    *text("k2c_refdisp", "Disposition by the publication"),
    *text("k2c_reflink", "Link to the publication", required=True),
    *text("k2c_note", "Note"),
    *flag("k2c_recentflag", "The most recent publication of the candidate"),
    *text("k2_campaign_str", "Campaign of K2"),
    *measured("pl_orbper", "Orbital period", "d", 0, limit=True),
    *measured("pl_tranmid", "Time of mid-transit, BJD", "d", limit=True),
    *measured("pl_trandep", "Transit depth", "percent", 0, 100, limit=True),
    *measured("pl_trandur", "Transit duration", "d", 0, limit=True),
    *measured("pl_orbincl", "Inclination of the orbit", "deg", 0, 180, limit=True),
    *measured("pl_imppar", "Impact parameter", None, 0, limit=True),
    *measured("pl_ratdor", "Ratio of the star-planet distance to the stellar radius", None, 0, limit=True),
    *measured("pl_ratror", "Ratio of the planet radius to the stellar radius", None, 0, limit=True),
    *measured("pl_radj", "Planet radius", "jupiterRad", 0, limit=True),
    *measured("pl_rade", "Planet radius", "earthRad", 0, limit=True),
    *measured("pl_eqt", "Equilibrium temperature", "K", 0, limit=True),
    *measured("pl_fppprob", "Probability of a false positive", None, 0, 1, errors=False, limit=True),
    *measured("st_dist", "Distance", "pc", 0, limit=True),
    *measured("st_teff", "Stellar effective temperature", "K", 0, limit=True),
    *measured("st_logg", "Stellar surface gravity", "dex(cm / s2)", limit=True),
    *measured("st_metfe", "Stellar metallicity", "dex", limit=True),
    *text("st_metratio", "Ratio that st_metfe gives, such as [Fe/H]"),
    *measured("st_rad", "Stellar radius", "solRad", 0, limit=True),
    *measured("st_kep", "Kepler magnitude", "mag", errors=False, limit=True),
)

MISSION_EXOCAT = (
    *text("star_name", "Star", required=True),
    *text("hip_name", "Hipparcos designation"),
    *text("hd_name", "Henry Draper designation"),
    *text("gj_name", "Gliese-Jahreiss designation"),
    *text("tm_name", "2MASS designation"),
    *number("st_ppnum", "Planets in the system"),
    *POSITION,
    *measured("st_dist", "Distance", "pc", 0),
    *measured("st_vmag", "V magnitude", "mag", errors=False),
    *measured("st_bmv", "B - V", "mag", errors=False),
    *text("st_spttype", "Spectral type"),
    *text("st_lumclass", "Luminosity class"),
    *measured("st_mbol", "Bolometric magnitude", "mag", errors=False),
    *measured("st_lbol", "Bolometric luminosity", "solLum", 0, errors=False),
    *measured("st_teff", "Effective temperature", "K", 0, errors=False),
    *measured("st_logg", "Surface gravity", "dex(cm / s2)", errors=False),
    *measured("st_metfe", "Metallicity", "dex", errors=False),
    *text("st_metratio", "Ratio that st_metfe gives"),
    *measured("st_rad", "Radius", "solRad", 0, errors=False),
    *measured("st_mass", "Mass", "solMass", 0, errors=False),
    *measured("st_age", "Age", "Gyr", 0, errors=False),
    *measured("st_eeidau", "Distance at which a planet gets the Earth's insolation", "AU", 0, errors=False),
    *measured("st_eeidmas", "The same as an angle on the sky", "mas", 0, errors=False),
)
