"""Columns of SMOKA's observation logs and of the headers of Subaru's frames.

Logs: the column names that a log's first line states; the columns of Suprime-Cam are known in full, of the other
instruments those that they share with it. Headers: keywords of the Subaru FITS dictionary,
https://subarutelescope.org/DATA/fits/.
"""

import pyarrow as pa

from data_scripts.harness.archive import Column


__all__ = ["FRAMES", "OBSERVATIONS", "SUPRIME_CAM"]


def text(name: str, description: str, required: bool = False) -> Column:
    return Column(name, pa.string(), description, required=required)


def number(
    name: str, description: str, unit: str | None = None, minimum: float | None = None, maximum: float | None = None
) -> Column:
    return Column(name, pa.float64(), description, unit, minimum=minimum, maximum=maximum)


FRAME = text("FRAME_ID", "Frame or exposure; X and Y stand for the digit of the detector", required=True)
DATE = Column("DATE_OBS", pa.date32(), "Day of the observation, UTC", required=True)
RA = text("RA2000", "Right ascension of the pointing, J2000, sexagesimal hours")
DEC = text("DEC2000", "Declination of the pointing, J2000, sexagesimal degrees")
START = text("UT_STR", "Start of the exposure, UTC")
EXPOSURE = number("EXPTIME", "Exposure time", "s", minimum=0)
DATA_TYPE = text("DATA_TYP", "Type of the data, such as OBJECT, BIAS or DOMEFLAT", required=True)
MODE = text("OBS_MOD", "Mode of the observation, such as IMAG or SPEC")
OBJECT = text("OBJECT2", "Object's name as the observers entered it")

OBSERVATIONS = (FRAME, DATE, RA, DEC, START, EXPOSURE, DATA_TYPE, MODE, OBJECT)

SUPRIME_CAM = (
    FRAME,
    DATE,
    number("FITS_SIZE[MB]", "Size of the files", "Mbyte", minimum=0),
    text("WCS", "State of the astrometric calibration"),
    text("FILTER", "Filter"),
    RA,
    DEC,
    number("GALLONG", "Galactic longitude", "deg", 0, 360),
    number("GALLAT", "Galactic latitude", "deg", -90, 90),
    number("ECLLONG", "Ecliptic longitude", "deg", 0, 360),
    number("ECLLAT", "Ecliptic latitude", "deg", -90, 90),
    number("X_2000", "First component of the unit vector to the pointing, J2000", None, -1, 1),
    number("Y_2000", "Second component of the unit vector to the pointing, J2000", None, -1, 1),
    number("Z_2000", "Third component of the unit vector to the pointing, J2000", None, -1, 1),
    START,
    EXPOSURE,
    number("ALTITUDE", "Altitude of the telescope", "deg", -90, 90),
    DATA_TYPE,
    MODE,
    OBJECT,
    number("PSF_SIGMA", "Width of the point spread function as SMOKA measured it", minimum=0),
    number("PSF_ELLIP", "Ellipticity of the point spread function as SMOKA measured it", None, 0, 1),
    number("SKY_LEVEL", "Sky level as SMOKA measured it"),
)

FRAMES = (
    text("FRAMEID", "Number of the frame", required=True),
    text("EXP-ID", "Exposure that the frame is of"),
    text("INSTRUME", "Instrument", required=True),
    text("DETECTOR", "Detector"),
    Column("DET-ID", pa.int64(), "Number of the detector"),
    text("OBJECT", "Object's name as the observers entered it"),
    text("DATA-TYP", "Type of the data"),
    text("OBS-MOD", "Mode of the observation"),
    text("OBS-ALOC", "Allocation of the time"),
    text("PROP-ID", "Proposal"),
    Column("DATE-OBS", pa.date32(), "Day of the observation, UTC", required=True),
    text("UT", "Typical time of the exposure, UTC"),
    text("UT-STR", "Start of the exposure, UTC"),
    text("UT-END", "End of the exposure, UTC"),
    text("TIMESYS", "Time scale"),
    number("MJD", "Typical modified Julian day of the exposure", "d", minimum=0),
    number("MJD-STR", "Modified Julian day at the start of the exposure", "d", minimum=0),
    number("MJD-END", "Modified Julian day at the end of the exposure", "d", minimum=0),
    number("EXPTIME", "Exposure time", "s", minimum=0),
    text("FILTER01", "First filter"),
    text("FILTER02", "Second filter"),
    text("FILTER03", "Third filter"),
    text("DISPERSR", "Disperser"),
    text("RA2000", "Right ascension of the pointing, J2000, sexagesimal hours"),
    text("DEC2000", "Declination of the pointing, J2000, sexagesimal degrees"),
    number("EQUINOX", "Equinox of the coordinates", "yr"),
    text("RADECSYS", "Coordinate system; RADESYS in newer headers"),
    number("AIRMASS", "Mean airmass of the exposure", minimum=0),
    number("AZIMUTH", "Azimuth of the pointing, north 0, east 90", "deg"),
    number("ALTITUDE", "Altitude of the pointing", "deg", -90, 90),
    text("WEATHER", "Weather"),
    number("SEEING", "Full width at half maximum of stars at the focus", "arcsec"),
    text("TELESCOP", "Telescope"),
    text("FOC-POS", "Focus"),
    text("BUNIT", "Unit of the pixels"),
    number("GAIN", "Conversion factor", "electron / adu"),
    Column("BIN-FCT1", pa.int64(), "Binning of axis 1", minimum=1),
    Column("BIN-FCT2", pa.int64(), "Binning of axis 2", minimum=1),
    text("CTYPE1", "World coordinate of axis 1"),
    text("CTYPE2", "World coordinate of axis 2"),
    number("CRVAL1", "World coordinate 1 at the reference pixel, in CUNIT1 or degrees"),
    number("CRVAL2", "World coordinate 2 at the reference pixel, in CUNIT2 or degrees"),
    number("CRPIX1", "Reference pixel on axis 1", "pix"),
    number("CRPIX2", "Reference pixel on axis 2", "pix"),
    number("CDELT1", "Scale of axis 1 in CUNIT1 or degrees a pixel"),
    number("CDELT2", "Scale of axis 2 in CUNIT2 or degrees a pixel"),
)
