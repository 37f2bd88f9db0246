"""Columns of the Kepler Objects of Interest and of the Kepler stars in the NASA Exoplanet Archive.

Names and meanings: https://exoplanetarchive.ipac.caltech.edu/docs/API_kepcandidate_columns.html and
API_keplerstellar_columns.html.
"""

from data_scripts.archives.protocols.nexsci_units import EARTH_FLUX
from data_scripts.archives.schemas.nexsci_columns import flag, measured, number, text
from data_scripts.harness.archive import Column


__all__ = ["CUMULATIVE", "KEPLER_STELLAR", "KOI"]


def koi(
    name: str,
    description: str,
    unit: str | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    *,
    required: bool = False,
    errors: bool = True,
) -> tuple[Column, ...]:
    """A value of the Kepler tables, with its uncertainties."""
    return measured(f"koi_{name}", description, unit, minimum, maximum, required=required, infix="_", errors=errors)


IDENTIFIERS = (
    *number("kepid", "Kepler Input Catalog number of the star", required=True, minimum=1),
    *text("kepoi_name", "Name of the object of interest", required=True),
    *text("kepler_name", "Kepler name of a confirmed planet"),
    *measured("ra", "Right ascension", "deg", 0, 360, required=True, errors=False),
    *measured("dec", "Declination", "deg", -90, 90, required=True, errors=False),
)
DISPOSITION = (
    *text(
        "koi_disposition",
        "Disposition by the archive: CANDIDATE, FALSE POSITIVE, NOT DISPOSITIONED or CONFIRMED",
        required=True,
    ),
    *text("koi_pdisposition", "Disposition by Kepler data alone"),
    *koi("score", "Confidence in the disposition", None, 0, 1, errors=False),
    *flag("koi_fpflag_nt", "False positive: not transit-like"),
    *flag("koi_fpflag_ss", "False positive: stellar eclipse"),
    *flag("koi_fpflag_co", "False positive: centroid offset"),
    *flag("koi_fpflag_ec", "False positive: same ephemeris as another object"),
    *text("koi_disp_prov", "Provenance of the disposition"),
    *text("koi_comment", "Comment on the disposition"),
    *text("koi_vet_stat", "Status of the vetting"),
    *text("koi_vet_date", "Day of the vetting"),
)
TRANSIT_FIT = (
    *koi("period", "Orbital period", "d", 0, required=True),
    *koi("time0bk", "Time of the first transit, BJD - 2454833", "d"),
    *koi("time0", "Time of the first transit, BJD", "d"),
    *koi("eccen", "Eccentricity of the orbit", None, 0, 1),
    *koi("longp", "Longitude of periastron", "deg"),
    *koi("impact", "Impact parameter", None, 0),
    *koi("duration", "Transit duration", "h", 0, required=True),
    *koi("ingress", "Duration of the ingress", "h", 0),
    *koi("depth", "Transit depth", "ppm", 0, 1e6),
    *koi("ror", "Ratio of the planet radius to the stellar radius", None, 0),
    *koi("srho", "Fitted stellar density", "g / cm3", 0),
    *koi("prad", "Planet radius", "earthRad", 0),
    *koi("sma", "Semi-major axis of the orbit", "AU", 0),
    *koi("incl", "Inclination of the orbit", "deg", 0, 180),
    *koi("teq", "Equilibrium temperature", "K", 0),
    *koi("insol", "Insolation flux", EARTH_FLUX, 0),
    *koi("dor", "Ratio of the star-planet distance to the stellar radius", None, 0),
    *text("koi_fittype", "Kind of fit"),
    *text("koi_limbdark_mod", "Model of limb darkening"),
    *koi("ldm_coeff1", "Limb-darkening coefficient 1", errors=False),
    *koi("ldm_coeff2", "Limb-darkening coefficient 2", errors=False),
    *koi("ldm_coeff3", "Limb-darkening coefficient 3", errors=False),
    *koi("ldm_coeff4", "Limb-darkening coefficient 4", errors=False),
    *text("koi_parm_prov", "Provenance of the parameters"),
    *koi("max_sngle_ev", "Greatest single-event statistic", errors=False),
    *koi("max_mult_ev", "Greatest multiple-event statistic", errors=False),
    *koi("model_snr", "Signal-to-noise ratio of the transit", None, 0, errors=False),
    *number("koi_count", "Objects of interest of the star"),
    *number("koi_num_transits", "Transits observed"),
    *number("koi_tce_plnt_num", "Number of the threshold-crossing event"),
    *text("koi_tce_delivname", "Delivery of the threshold-crossing event"),
    *text("koi_quarters", "Quarters with data, one digit each"),
    *text("koi_trans_mod", "Transit model"),
)
STAR = (
    *koi("steff", "Stellar effective temperature", "K", 0),
    *koi("slogg", "Stellar surface gravity", "dex(cm / s2)"),
    *koi("smet", "Stellar metallicity", "dex"),
    *koi("srad", "Stellar radius", "solRad", 0),
    *koi("smass", "Stellar mass", "solMass", 0),
    *text("koi_sparprov", "Provenance of the stellar parameters"),
    *koi("kepmag", "Kepler magnitude", "mag", errors=False),
    *koi("gmag", "g magnitude", "mag", errors=False),
    *koi("rmag", "r magnitude", "mag", errors=False),
    *koi("imag", "i magnitude", "mag", errors=False),
    *koi("zmag", "z magnitude", "mag", errors=False),
    *koi("jmag", "J magnitude (2MASS)", "mag", errors=False),
    *koi("hmag", "H magnitude (2MASS)", "mag", errors=False),
    *koi("kmag", "Ks magnitude (2MASS)", "mag", errors=False),
)
CENTROIDS = (
    *koi("fwm_stat_sig", "Significance of the centroid's motion", errors=False),
    *koi("dicco_msky", "Offset of the difference image from the out-of-transit centroid", "arcsec", errors=False),
    *koi("dikco_msky", "Offset of the difference image from the catalogue's position", "arcsec", errors=False),
)

CUMULATIVE = (*IDENTIFIERS, *DISPOSITION, *TRANSIT_FIT, *STAR, *CENTROIDS)
KOI = (*CUMULATIVE, *text("koi_delivname", "Delivery of the table", required=True))


KEPLER_STELLAR = (
    *number("kepid", "Kepler Input Catalog number of the star", required=True, minimum=1),
    *text("st_delivname", "Delivery of the table", required=True),
    *text("tm_designation", "2MASS designation of the star"),
    *measured("ra", "Right ascension", "deg", 0, 360, required=True, errors=False),
    *measured("dec", "Declination", "deg", -90, 90, required=True, errors=False),
    *measured("teff", "Effective temperature", "K", 0, infix="_"),
    *measured("logg", "Surface gravity", "dex(cm / s2)", infix="_"),
    *measured("feh", "Metallicity", "dex", infix="_"),
    *measured("mass", "Mass", "solMass", 0, infix="_"),
    *measured("radius", "Radius", "solRad", 0, infix="_"),
    *measured("dens", "Density", "g / cm3", 0, infix="_"),
    *measured("dist", "Distance", "pc", 0, infix="_"),
    *measured("kepmag", "Kepler magnitude", "mag", errors=False),
    *number("nconfp", "Confirmed planets of the star"),
    *number("nkoi", "Objects of interest of the star"),
    *number("ntce", "Threshold-crossing events of the star"),
    *text("st_quarters", "Quarters with data, one digit each"),
    *measured("dutycycle", "Share of cadences with data", None, 0, 1, errors=False),
    *measured("dataspan", "Time from the first to the last datum", "d", 0, errors=False),
    *text("teff_prov", "Provenance of the effective temperature"),
    *text("logg_prov", "Provenance of the surface gravity"),
    *text("feh_prov", "Provenance of the metallicity"),
)
