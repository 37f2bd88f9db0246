"""Columns of the TESS Input Catalog as MAST gives them.

Fields: https://mast.stsci.edu/api/v0/_t_i_cfields.html and Stassun et al. 2019, AJ 158, 138, appendix A.
"""

import pyarrow as pa

from data_scripts.harness.archive import Column


__all__ = ["TIC"]

TEXT, REAL, COUNT = pa.string(), pa.float64(), pa.int64()


def measured(name: str, description: str, unit: str | None, least: float | None, most: float | None) -> list[Column]:
    """A value and its uncertainty."""
    return [
        Column(name, REAL, description, unit, minimum=least, maximum=most),
        Column(f"e_{name}", REAL, f"Uncertainty of {name}", unit, minimum=0),
    ]


def magnitudes(*bands: tuple[str, str]) -> list[Column]:
    """Magnitudes and their uncertainties, from names of bands and what they are."""
    return [column for band, text in bands for column in measured(band, f"{text} magnitude", "mag", -30, 40)]


TIC = (
    Column("ID", TEXT, "TIC identifier", required=True),
    Column("version", TEXT, "Day of the catalogue's version"),
    Column("HIP", TEXT, "Hipparcos identifier"),
    Column("TYC", TEXT, "Tycho-2 identifier"),
    Column("UCAC", TEXT, "UCAC4 identifier"),
    Column("TWOMASS", TEXT, "2MASS identifier"),
    Column("SDSS", TEXT, "SDSS DR9 identifier"),
    Column("ALLWISE", TEXT, "ALLWISE identifier"),
    Column("GAIA", TEXT, "Gaia identifier; of DR2 from version 8 of the catalogue on"),
    Column("APASS", TEXT, "APASS DR9 identifier"),
    Column("KIC", TEXT, "Kepler Input Catalog identifier"),
    Column("objType", TEXT, "STAR or EXTENDED", required=True),
    Column("typeSrc", TEXT, "Catalogue that decided objType"),
    Column("ra", REAL, "Right ascension, J2000, epoch 2000", unit="deg", required=True, minimum=0, maximum=360),
    Column("dec", REAL, "Declination, J2000, epoch 2000", unit="deg", required=True, minimum=-90, maximum=90),
    Column("POSflag", TEXT, "Catalogue of the position"),
    *measured("pmRA", "Proper motion in right ascension times cos(dec)", "mas/yr", None, None),
    *measured("pmDEC", "Proper motion in declination", "mas/yr", None, None),
    Column("PMflag", TEXT, "Catalogue of the proper motion"),
    *measured("plx", "Parallax", "mas", None, None),
    Column("PARflag", TEXT, "Catalogue of the parallax"),
    Column("gallong", REAL, "Galactic longitude", unit="deg", minimum=0, maximum=360),
    Column("gallat", REAL, "Galactic latitude", unit="deg", minimum=-90, maximum=90),
    Column("eclong", REAL, "Ecliptic longitude", unit="deg", minimum=0, maximum=360),
    Column("eclat", REAL, "Ecliptic latitude", unit="deg", minimum=-90, maximum=90),
    *magnitudes(
        ("Bmag", "Johnson B"),
        ("Vmag", "Johnson V"),
        ("umag", "SDSS u"),
        ("gmag", "SDSS g"),
        ("rmag", "SDSS r"),
        ("imag", "SDSS i"),
        ("zmag", "SDSS z"),
        ("Jmag", "2MASS J"),
        ("Hmag", "2MASS H"),
        ("Kmag", "2MASS K"),
    ),
    Column("TWOMflag", TEXT, "Quality flags of 2MASS"),
    Column("prox", REAL, "Distance to the nearest 2MASS source", unit="arcsec", minimum=0),
    *magnitudes(
        ("w1mag", "WISE W1"),
        ("w2mag", "WISE W2"),
        ("w3mag", "WISE W3"),
        ("w4mag", "WISE W4"),
        ("GAIAmag", "Gaia G"),
        ("Tmag", "TESS"),
    ),
    Column("TESSflag", TEXT, "How Tmag was made"),
    Column("SPFlag", TEXT, "How the stellar properties were made"),
    *measured("Teff", "Effective temperature", "K", 0, None),
    *measured("logg", "Surface gravity", "dex(cm/s2)", -2, 10),
    *measured("MH", "Metallicity", "dex", -10, 5),
    *measured("rad", "Radius", "solRad", 0, None),
    *measured("mass", "Mass", "solMass", 0, None),
    *measured("rho", "Mean density in those of the Sun", None, 0, None),
    Column("lumclass", TEXT, "DWARF, SUBGIANT or GIANT"),
    *measured("lum", "Luminosity", "solLum", 0, None),
    *measured("d", "Distance", "pc", 0, None),
    *measured("ebv", "Reddening E(B-V)", "mag", None, None),
    Column("numcont", COUNT, "Sources that contaminate the aperture", minimum=0),
    Column("contratio", REAL, "Flux of the contaminating sources over that of the star", minimum=0),
    Column("disposition", TEXT, "DUPLICATE, SPLIT, ARTIFACT or null"),
    Column("duplicate_id", TEXT, "TIC identifier of the entry that this one repeats"),
    Column("priority", REAL, "Priority in the candidate target list", minimum=0),
    Column("objID", TEXT, "Number of the row in the archive's database"),
)
