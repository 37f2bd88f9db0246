"""Columns of the Kepler time series in the NASA Exoplanet Archive: one row a star, quarter and cadence.

Names and meanings: https://exoplanetarchive.ipac.caltech.edu/docs/API_keplertimeseries_columns.html.
"""

import pyarrow as pa

from data_scripts.archives.schemas.nexsci_columns import number, text
from data_scripts.harness.archive import Column


__all__ = ["KEPLER_TIME_SERIES"]


def real(
    name: str,
    description: str,
    unit: str | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    required: bool = False,
) -> tuple[Column, ...]:
    """A column of numbers."""
    return (Column(name, pa.float64(), description, unit, required, minimum, maximum),)


def magnitude(name: str, band: str) -> tuple[Column, ...]:
    """A column of magnitudes."""
    return real(name, f"{band} magnitude", "mag", -30, 40)


def goodness(name: str, description: str) -> tuple[Column, ...]:
    """A goodness of the systematic error correction and its percentile among the stars of the quarter."""
    return real(name, description, None, 0, 1) + real(f"{name}p", f"Percentile of {name}", None, 0, 100)


KEPLER_TIME_SERIES = (
    *number("star_id", "Kepler Input Catalog number of the star", required=True, minimum=1),
    *text("targettype", "Long or short cadence", required=True),
    *text("field", "Field of the sky"),
    *number("quarter", "Quarter of the mission", required=True),
    *real("ra", "Right ascension", "deg", 0, 360, required=True),
    *real("dec", "Declination", "deg", -90, 90, required=True),
    *real("pm_ra", "Proper motion in right ascension", "arcsec/yr"),
    *real("pm_dec", "Proper motion in declination", "arcsec/yr"),
    *real("pm_total", "Total proper motion", "arcsec/yr", 0),
    *real("gal_lat", "Galactic latitude", "deg", -90, 90),
    *real("gal_lon", "Galactic longitude", "deg", 0, 360),
    *real("start_time", "Time of the first cadence, BJD - 2454833", "d", required=True),
    *real("end_time", "Time of the last cadence, BJD - 2454833", "d", required=True),
    *magnitude("umag", "u"),
    *magnitude("gmag", "g"),
    *magnitude("rmag", "r"),
    *magnitude("imag", "i"),
    *magnitude("zmag", "z"),
    *magnitude("gredmag", "GRed"),
    *magnitude("d51mag", "D51"),
    *magnitude("jmag", "2MASS J"),
    *magnitude("hmag", "2MASS H"),
    *magnitude("kmag", "2MASS Ks"),
    *magnitude("kepmag", "Kepler"),
    *text("filter", "Band pass"),
    *number("npts", "Cadences of the time series", required=True),
    *real("gkcolor", "g - Ks", "mag"),
    *real("grcolor", "g - r", "mag"),
    *real("jkcolor", "J - Ks", "mag"),
    *real("reddening", "Reddening E(B-V)", "mag"),
    *real("extinction", "Extinction in V", "mag"),
    *real("eff_temp", "Effective temperature", "K", 0),
    *real("surface_gravity", "Surface gravity", "dex(cm/s2)"),
    *real("metallicity", "Metallicity", "dex"),
    *real("radius", "Radius", "solRad", 0),
    *number("object_status", "1 for a star whose time series were searched for transits", minimum=None),
    *text("file_version", "Version of the file"),
    *number("data_release", "Data release"),
    *real("exposure", "Time on the source", "d", 0),
    *real("livetime", "Time on the source, times the share of live time", "d", 0),
    *real("cdpp3_0", "Combined differential photometric precision over 3 h, parts per million", None, 0),
    *real("cdpp6_0", "Combined differential photometric precision over 6 h, parts per million", None, 0),
    *real("cdpp12_0", "Combined differential photometric precision over 12 h, parts per million", None, 0),
    *real("crowdsap", "Share of the aperture's flux that is the target's", None, 0, 1),
    *real("flfrcsap", "Share of the target's flux that is in the aperture", None, 0, 1),
    *text("pdcmethod", "Method of the systematic error correction"),
    *real("pdcvar", "Variability of the target", None, 0),
    *goodness("pdc_tot", "Goodness of the systematic error correction"),
    *goodness("pdc_cor", "Goodness of the correction of correlations"),
    *goodness("pdc_var", "Goodness of keeping the variability"),
    *goodness("pdc_noi", "Goodness of adding no noise"),
    *goodness("pdc_ept", "Goodness of removing earth-point signals"),
)
