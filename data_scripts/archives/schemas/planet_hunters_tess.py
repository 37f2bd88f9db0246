"""Columns of the candidates of Planet Hunters TESS, under the names of the published list (Eisner et al. 2021).

Most columns are those of the ExoFOP-TESS export of community candidates, the last five are the authors' fits.
"""

import pyarrow as pa

from data_scripts.harness.archive import Column


__all__ = ["COLUMNS"]

# A transit found in one sector is not longer than the sector.
SECTOR_HOURS = 27.4 * 24


def number(
    name: str,
    description: str,
    unit: str | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    required: bool = False,
) -> Column:
    return Column(name, pa.float64(), description, unit, required, minimum, maximum)


COLUMNS = (
    Column(
        "candidate", pa.string(), "TIC ID and number of the candidate among the star's different rows", required=True
    ),
    Column("TIC ID", pa.int64(), "Number in the TESS Input Catalog", required=True, minimum=1),
    Column("CTOI", pa.string(), "Number as a community TESS object of interest", required=True),
    Column("Promoted to TOI", pa.string(), "Number as a TESS object of interest, where it became one"),
    number("TESS Mag", "TESS magnitude", "mag", required=True),
    number("TESS Mag err", "TESS magnitude, uncertainty", "mag"),
    number("RA", "Right ascension, J2000", "deg", minimum=0, maximum=360, required=True),
    number("Dec", "Declination, J2000", "deg", minimum=-90, maximum=90, required=True),
    number("PM RA (mas/yr)", "Proper motion in right ascension", "mas / yr"),
    number("PM RA err (mas/yr)", "Proper motion in right ascension, uncertainty", "mas / yr"),
    number("PM Dec (mas/yr)", "Proper motion in declination", "mas / yr"),
    number(
        "PM RA (mas/yr).1",
        "Proper motion in declination, uncertainty, by place; the list's header misnames it",
        "mas / yr",
    ),
    number("Transit Epoch (BJD)", "Middle of a transit, BJD", "d", minimum=0, required=True),
    number("Transit Epoch (BJD) err", "Middle of a transit, uncertainty", "d"),
    number("Period (days)", "Period on ExoFOP; 0 where one transit was seen", "d", minimum=0),
    number("Period (days) Error", "Period on ExoFOP, uncertainty", "d"),
    number("Depth mmag", "Transit depth", "mmag"),
    number("Depth mmag Error", "Transit depth, uncertainty", "mmag"),
    number("Depth ppm", "Transit depth as a fraction", "1e-6", maximum=1e6),
    number("Depth ppm Error", "Transit depth as a fraction, uncertainty", "1e-6"),
    number("Duration (hrs)", "Transit duration", "h", minimum=0, maximum=SECTOR_HOURS),
    number("Radius (R_Earth)", "Planet radius on ExoFOP", "earthRad", minimum=0),
    number("Radius (R_Earth) Error", "Planet radius on ExoFOP, uncertainty", "earthRad"),
    number("Stellar Distance (pc)", "Distance of the star", "pc", minimum=0),
    number("Stellar Distance (pc) err", "Distance of the star, uncertainty", "pc"),
    number("Stellar Eff Temp (K)", "Effective temperature of the star", "K", minimum=0),
    number("Stellar Eff Temp (K) err", "Effective temperature of the star, uncertainty", "K"),
    number("Stellar log(g) (cm/s^2)", "Decimal logarithm of the star's surface gravity", "dex(cm / s2)"),
    number(
        "Stellar log(g) (cm/s^2) err", "Decimal logarithm of the star's surface gravity, uncertainty", "dex(cm / s2)"
    ),
    number("Stellar Radius (R_Sun)", "Radius of the star", "solRad", minimum=0),
    number("Stellar Radius (R_Sun) err", "Radius of the star, uncertainty", "solRad"),
    Column(
        "depth_cells_moved",
        pa.bool_(),
        "Whether duration and depths stood one column aside in the list and were put right; null if they do not tell",
    ),
    Column("cTOI author", pa.string(), "Who reported it first: PHT or other", required=True),
    number("period_PHT", "Period from the authors' transit fit", "d", minimum=0),
    number("period err neg", "Period from the fit, lower uncertainty", "d"),
    number("period err pos", "Period from the fit, upper uncertainty", "d"),
    number("depth_PHT", "Transit depth from the fit, as a fraction", "1e-6", maximum=1e6),
    number("planet_radius", "Planet radius from the fit", "earthRad", minimum=0),
)
