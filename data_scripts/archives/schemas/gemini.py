"""Columns of the Gemini Observatory Archive's `jsonsummary`.

Meaning: https://archive.gemini.edu/help/api.html; `size`, `md5` (deprecated copies) and `path` (empty) are left out.
"""

import pyarrow as pa

from data_scripts.harness.archive import Column


__all__ = ["COLUMNS"]


def text(name: str, description: str, required: bool = False) -> Column:
    return Column(name, pa.string(), description, required=required)


def flag(name: str, description: str) -> Column:
    return Column(name, pa.bool_(), description)


def number(
    name: str, description: str, unit: str | None = None, minimum: float | None = None, maximum: float | None = None
) -> Column:
    return Column(name, pa.float64(), description, unit, minimum=minimum, maximum=maximum)


def percentile(name: str, description: str) -> Column:
    return Column(name, pa.int64(), f"{description}; 100 is any", "percent", minimum=0, maximum=100)


def size(name: str, description: str, required: bool = False) -> Column:
    return Column(name, pa.int64(), description, "byte", required, minimum=0)


COLUMNS = (
    text("filename", "File name, with the ending of the compression", required=True),
    text("name", "Name of the data set: the file name without the compression", required=True),
    text("data_label", "Gemini data label"),
    text("observation_id", "Gemini observation"),
    text("program_id", "Gemini programme"),
    text("telescope", "Gemini-North or Gemini-South", required=True),
    text("instrument", "Instrument", required=True),
    text("object", "Object's name as the observers entered it; null while its coordinates are proprietary"),
    Column("ut_datetime", pa.timestamp("us"), "Time of the observation, UTC", required=True),
    text("local_time", "Local time of the observation"),
    number("ra", "Right ascension of the target; null while proprietary", "deg", 0, 360),
    number("dec", "Declination of the target; null while proprietary", "deg", -90, 90),
    number("azimuth", "Azimuth of the telescope, which turns further than a circle", "deg"),
    number("elevation", "Elevation of the telescope", "deg", -90, 90),
    number("cass_rotator_pa", "Position angle of the Cassegrain rotator", "deg"),
    number("airmass", "Airmass", minimum=0),
    text("observation_type", "Type of the observation, such as OBJECT, ARC or FLAT", required=True),
    text("observation_class", "Class of the observation, such as science or partnerCal"),
    text("qa_state", "Quality: Pass, Usable, Fail, Undefined or CHECK", required=True),
    text("mode", "imaging, LS, MOS, IFS or spectroscopy"),
    flag("spectroscopy", "Whether the light is dispersed"),
    number("exposure_time", "Exposure of all coadds together", "s", minimum=0),
    number("central_wavelength", "Central wavelength of spectroscopy", "um", minimum=0),
    text("wavelength_band", "Wavelength band"),
    text("filter_name", "Filter"),
    text("disperser", "Grating or grism"),
    text("focal_plane_mask", "Focal plane mask or slit"),
    text("camera", "Camera"),
    text("detector_binning", "Binning of the detector"),
    text("detector_roi_setting", "Region of interest of the detector"),
    text("detector_gain_setting", "Gain setting of the detector"),
    text("detector_readspeed_setting", "Read speed of the detector"),
    text("detector_welldepth_setting", "Well depth of the detector"),
    text("detector_readmode_setting", "Read mode of the detector"),
    flag("adaptive_optics", "Whether adaptive optics was in use"),
    flag("laser_guide_star", "Whether the laser guide star was in use"),
    text("wavefront_sensor", "Wavefront sensors in use"),
    text("gcal_lamp", "Calibration lamp that was observed"),
    percentile("raw_iq", "Delivered image quality"),
    percentile("raw_cc", "Delivered cloud cover"),
    percentile("raw_wv", "Delivered water vapour"),
    percentile("raw_bg", "Delivered sky background"),
    percentile("requested_iq", "Requested image quality"),
    percentile("requested_cc", "Requested cloud cover"),
    percentile("requested_wv", "Requested water vapour"),
    percentile("requested_bg", "Requested sky background"),
    text("reduction", "State of the reduction; RAW for raw data"),
    Column("types", pa.list_(pa.string()), "Tags of the data"),
    flag("phot_standard", "Whether a photometric standard is in the field"),
    flag("engineering", "Whether these are engineering data"),
    flag("science_verification", "Whether these are science verification data"),
    flag("calibration_program", "Whether the programme is for calibration"),
    flag("mdready", "Whether the metadata pass the archive's validation"),
    Column("release", pa.date32(), "Day on which the data become public"),
    Column("lastmod", pa.timestamp("us", tz="UTC"), "Last change of the file", required=True),
    flag("compressed", "Whether the file is compressed"),
    size("file_size", "Size of the file", required=True),
    size("data_size", "Size of the file, decompressed"),
    text("file_md5", "MD5 of the file", required=True),
    text("data_md5", "MD5 of the file, decompressed"),
)
