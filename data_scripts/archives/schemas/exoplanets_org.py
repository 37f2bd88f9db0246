"""Columns of the Exoplanet Orbit Database.

Names: header of its file. Meaning and units: the database's own column guide (Wright et al. 2011, Han et al. 2014) and
its table of units, which states none for dimensionless and logarithmic columns.
"""

import pyarrow as pa

from data_scripts.harness.archive import Column


__all__ = ["COLUMNS"]


def measured(
    name: str, description: str, unit: str | None = None, minimum: float | None = None, maximum: float | None = None
) -> tuple[Column, ...]:
    """A quantity with its uncertainties and where it is from."""
    return (
        Column(name, pa.float64(), description, unit, minimum=minimum, maximum=maximum),
        Column(f"{name}UPPER", pa.float64(), f"Upper uncertainty of {name}", unit),
        Column(f"{name}LOWER", pa.float64(), f"Lower uncertainty of {name}", unit),
        Column(f"U{name}", pa.float64(), f"Mean of the upper and lower uncertainty of {name}", unit),
        *reference(name),
    )


def reference(name: str) -> tuple[Column, ...]:
    return (
        Column(f"{name}REF", pa.string(), f"Reference of {name}"),
        Column(f"{name}URL", pa.string(), f"Address of the reference of {name}"),
    )


def number(
    name: str, description: str, unit: str | None = None, minimum: float | None = None, maximum: float | None = None
) -> Column:
    return Column(name, pa.float64(), description, unit, minimum=minimum, maximum=maximum)


def text(name: str, description: str, required: bool = False) -> Column:
    return Column(name, pa.string(), description, required=required)


def flag(name: str, description: str, required: bool = False) -> Column:
    return Column(name, pa.bool_(), description, required=required)


ECLIPSE_DEPTHS = (
    ("J", "the J band"),
    ("H", "the H band"),
    ("KS", "the Ks band"),
    ("KP", "the Kepler band"),
    ("36", "3.6 micrometres"),
    ("45", "4.5 micrometres"),
    ("58", "5.8 micrometres"),
    ("80", "8.0 micrometres"),
)

COLUMNS = (
    text("NAME", "Name of the planet", required=True),
    text("STAR", "Name of the star", required=True),
    text("COMP", "Letter of the planet", required=True),
    text("OTHERNAME", "Another common name of the star"),
    text("SIMBADNAME", "Name that SIMBAD resolves"),
    text("SIMBADURL", "Address of the star in SIMBAD"),
    text("JSNAME", "Name in the Extrasolar Planets Encyclopaedia"),
    text("EPEURL", "Address in the Extrasolar Planets Encyclopaedia"),
    text("EANAME", "Name in the NASA Exoplanet Archive"),
    text("EAURL", "Address in the NASA Exoplanet Archive"),
    text("ETDNAME", "Name in the Exoplanet Transit Database"),
    text("ETDURL", "Address in the Exoplanet Transit Database"),
    text("HD", "Number in the Henry Draper catalogue"),
    text("HIPP", "Number in the Hipparcos catalogue"),
    text("HR", "Number in the Bright Star Catalogue"),
    text("GL", "Number in the Gliese catalogue"),
    text("SAO", "Number in the SAO catalogue"),
    text("KOI", "Number of the Kepler object of interest"),
    text("KEPID", "Number in the Kepler Input Catalog"),
    flag("EOD", "In the Exoplanet Orbit Database: a good orbit in a refereed paper", required=True),
    flag("KDE", "A Kepler candidate", required=True),
    text("PLANETDISCMETH", "Method by which the planet was found"),
    text("STARDISCMETH", "Method by which the star's first planet was found"),
    Column("DATE", pa.int64(), "Year of the publication", "yr", minimum=1900),
    text("FIRSTREF", "First refereed paper on the planet"),
    text("FIRSTURL", "Address of that paper"),
    text("ORBREF", "Reference of the orbit"),
    text("ORBURL", "Address of the reference of the orbit"),
    flag("TRANSIT", "Known to transit"),
    *reference("TRANSIT"),
    flag("MICROLENSING", "Found by microlensing"),
    flag("IMAGING", "Found by imaging"),
    flag("TIMING", "Found by timing"),
    flag("ASTROMETRY", "Found by astrometry"),
    flag("SE", "A secondary eclipse was seen"),
    *reference("SE"),
    flag("TREND", "The orbit's fit has a linear trend"),
    flag("FREEZE_ECC", "Eccentricity kept fixed in the fit"),
    flag("MULT", "More than one planet around the star"),
    Column("NCOMP", pa.int64(), "Planets known around the star", minimum=1),
    flag("BINARY", "The star has a stellar companion"),
    *reference("BINARY"),
    Column("NOBS", pa.int64(), "Observations in the orbit's fit", minimum=0),
    number("CHI2", "Reduced chi-squared of the orbit's fit; its root in older rows", minimum=0),
    number("RMS", "Root mean square of the fit's residuals", minimum=0),
    *measured("A", "Semi-major axis", "AU", minimum=0),
    *measured("PER", "Orbital period", "d", minimum=0),
    *measured("ECC", "Eccentricity", minimum=0, maximum=1),
    *measured("OM", "Argument of periastron of the star", "deg"),
    *measured("BIGOM", "Longitude of the ascending node", "deg"),
    *measured("I", "Inclination of the orbit", "deg", minimum=0, maximum=180),
    *measured("T0", "Julian day of periastron", "d", minimum=0),
    *measured("TT", "Julian day of the transit's middle", "d", minimum=0),
    *measured("SET", "Julian day of the secondary eclipse's middle", minimum=0),
    *measured("K", "Semi-amplitude of the star's velocity", "m/s", minimum=0),
    *measured("DVDT", "Linear trend of the velocity", "m/(s d)"),
    *measured("MSINI", "Mass times the sine of the inclination", "M_jup", minimum=0),
    *measured("MASS", "Mass, or MSINI where the inclination is not known", "M_jup", minimum=0),
    *measured("R", "Radius of the planet", "R_jup", minimum=0),
    *measured("DENSITY", "Density of the planet", "g/cm3", minimum=0),
    *measured("GRAVITY", "Decimal logarithm of the planet's surface gravity in cm/s2"),
    *measured("SEP", "Separation of star and planet", "AU", minimum=0),
    *measured("LAMBDA", "Projected angle between spin and orbit", "deg"),
    *measured("DEPTH", "Depth of the transit as a fraction", minimum=0, maximum=1),
    *measured("RR", "Ratio of the planet's radius to the star's", minimum=0),
    *measured("AR", "Ratio of the semi-major axis to the star's radius", minimum=0),
    *measured("DR", "Distance during transit in stellar radii", minimum=0),
    *measured("B", "Impact parameter of the transit"),
    *measured("T14", "Duration of the transit from first to last contact", "d", minimum=0),
    *(
        column
        for band, where in ECLIPSE_DEPTHS
        for column in measured(f"SEDEPTH{band}", f"Depth of the secondary eclipse in {where}, as a fraction")
    ),
    number("RA", "Right ascension, J2000", "hourangle", minimum=0, maximum=24),
    text("RA_STRING", "Right ascension, J2000, sexagesimal hours"),
    number("DEC", "Declination, J2000", "deg", minimum=-90, maximum=90),
    text("DEC_STRING", "Declination, J2000, sexagesimal degrees"),
    *measured("DIST", "Distance", "pc", minimum=0),
    *measured("PAR", "Parallax", "mas")[:4],
    number("V", "V magnitude", "mag"),
    *reference("V"),
    number("BMV", "B - V colour", "mag"),
    number("J", "J magnitude", "mag"),
    number("H", "H magnitude", "mag"),
    number("KS", "Ks magnitude", "mag"),
    number("KP", "Kepler magnitude", "mag"),
    *measured("GAMMA", "Systemic radial velocity", "km/s"),
    *measured("MSTAR", "Mass of the star", "M_sun", minimum=0),
    *measured("RSTAR", "Radius of the star", "R_sun", minimum=0),
    *measured("RHOSTAR", "Density of the star", "g/cm3", minimum=0),
    *measured("TEFF", "Effective temperature of the star", "K", minimum=0),
    *measured("LOGG", "Decimal logarithm of the star's surface gravity in cm/s2", "dex"),
    *measured("FE", "Iron abundance of the star, [Fe/H]"),
    *measured("VSINI", "Projected rotation velocity of the star", "km/s", minimum=0),
    number("SHK", "Chromospheric activity index S_HK"),
    number("RHK", "Chromospheric activity index log R'_HK"),
    text("SPECREF", "Reference of the spectroscopy"),
    text("SPECURL", "Address of the reference of the spectroscopy"),
)
