"""Columns of the tables ivoa.ObsCore, dbo.raw and ist.apex_quicklooks of the ESO archive.

Names, units and meanings: TAP_SCHEMA.columns of http://archive.eso.org/tap_obs, and for ObsCore its standard,
https://www.ivoa.net/documents/ObsCore/.
"""

import pyarrow as pa

from data_scripts.harness.archive import Column


__all__ = ["APEX_QUICKLOOKS", "OBSCORE", "RAW"]


def text(name: str, description: str, required: bool = False) -> Column:
    return Column(name, pa.string(), description, required=required)


def real(
    name: str,
    description: str,
    unit: str | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    required: bool = False,
) -> Column:
    return Column(name, pa.float64(), description, unit, required, minimum, maximum)


def whole(name: str, description: str, unit: str | None = None, minimum: float | None = None) -> Column:
    return Column(name, pa.int64(), description, unit, False, minimum)


OBSCORE = (
    text("dp_id", "ESO's identifier of the main file", required=True),
    text("obs_publisher_did", "IVO identifier", required=True),
    text("obs_collection", "Collection of data", required=True),
    text("obs_id", "Observation"),
    text("dataproduct_type", "image, spectrum, cube, measurements, visibility or others", required=True),
    text("dataproduct_subtype", "Kind of product within a collection"),
    Column(
        "calib_level",
        pa.int64(),
        "0 and 1: raw, 2: without the instrument's signature, 3: processed further, 4: derived from several",
        required=True,
        minimum=-1,
        maximum=4,
    ),
    text("target_name", "Target"),
    real("s_ra", "Right ascension, ICRS", "deg", 0, 360),
    real("s_dec", "Declination, ICRS", "deg", -90, 90),
    real("s_fov", "Diameter of the field", "deg", 0),
    text("s_region", "Outline on the sky"),
    real("s_resolution", "Spatial resolution", "arcsec", 0),
    real("s_pixel_scale", "Size of a pixel", "arcsec", 0),
    real("t_min", "Start of the observation, MJD", "d", 0),
    real("t_max", "End of the observation, MJD", "d", 0),
    real("t_exptime", "Exposure time", "s", 0),
    real("t_resolution", "Temporal resolution", "s", 0),
    real("em_min", "Shortest wavelength, in vacuum", "m", 0),
    real("em_max", "Longest wavelength, in vacuum", "m", 0),
    real("em_res_power", "Resolving power", None, 0),
    text("o_ucd", "Kind of quantity observed"),
    text("o_calib_status", "Calibration of the fluxes"),
    text("pol_states", "Polarisation states"),
    text("facility_name", "Telescope"),
    text("instrument_name", "Instrument"),
    text("filter", "Filter"),
    text("obstech", "Technique"),
    text("multi_ob", "M: exposures of several visits combined, S: of one visit"),
    text("p3orig", "IDP: produced by ESO, EDP: by the observers"),
    real("snr", "Signal-to-noise ratio, of one-dimensional spectra"),
    real("abmaglim", "Limiting AB magnitude of a point source, 5 sigma", "mag"),
    whole("n_obs", "Frames combined", minimum=0),
    text("proposal_id", "Programme"),
    text("obs_creator_name", "Principal investigator"),
    text("obs_release_date", "Time of release to the public"),
    text("publication_date", "Time of publication in the archive"),
    text("bib_reference", "Publication"),
    text("release_description", "Address of the collection's description"),
    text("access_url", "Address of the DataLink document"),
    text("access_format", "Media type of that document"),
    whole("access_estsize", "Size of the file", "kbyte", minimum=0),
)

RAW = (
    text("dp_id", "Identifier of the file", required=True),
    text("instrument", "Instrument", required=True),
    text("telescope", "Telescope"),
    text("dp_cat", "SCIENCE, CALIB, ACQUISITION or others", required=True),
    text("dp_type", "Kind of observation"),
    text("dp_tech", "Technique"),
    text("object", "Object, as the observer named it"),
    text("target", "Target"),
    real("ra", "Right ascension of the telescope, J2000", "deg", 0, 360),
    real("dec", "Declination of the telescope, J2000", "deg", -90, 90),
    real("gal_lon", "Galactic longitude", "deg", 0, 360),
    real("gal_lat", "Galactic latitude", "deg", -90, 90),
    real("ecl_lon", "Ecliptic longitude", "deg", 0, 360),
    real("ecl_lat", "Ecliptic latitude", "deg", -90, 90),
    text("exp_start", "Start of the exposure, UT", required=True),
    text("date_obs", "Start of the exposure as in the file's header"),
    real("mjd_obs", "Start of the exposure, MJD", "d", 0),
    real("exposure", "Exposure time", "s", 0),
    real("det_dit", "Integration time of a detector's readout", "s", 0),
    whole("det_ndit", "Readouts averaged", minimum=0),
    text("ins_mode", "Mode of the instrument"),
    text("filter_path", "Filters"),
    text("grat_path", "Gratings"),
    text("gris_path", "Grisms"),
    text("slit_path", "Slits"),
    real("lambda_min", "Shortest wavelength, as the archive states it", None, 0),
    real("lambda_max", "Longest wavelength, as the archive states it", None, 0),
    text("obs_mode", "v: visitor, s: service"),
    text("prog_id", "Programme", required=True),
    text("prog_title", "Title of the programme"),
    text("prog_type", "Kind of programme"),
    text("period", "Observing period"),
    text("pi_coi", "Investigators"),
    whole("ob_id", "Observation block"),
    text("ob_name", "Name of the observation block"),
    text("tpl_id", "Template"),
    text("tpl_start", "Start of the template, UT"),
    whole("tpl_expno", "Number of the exposure in the template", minimum=0),
    whole("tpl_nexp", "Exposures of the template", minimum=0),
    real("tel_airm_start", "Airmass at the start"),
    real("tel_airm_end", "Airmass at the end"),
    real("tel_alt", "Altitude of the telescope", "deg", -90, 90),
    real("tel_az", "Azimuth of the telescope", "deg"),
    real("tel_ambi_fwhm_start", "Seeing at the start; -1 where it was not measured", "arcsec"),
    real("tel_ambi_fwhm_end", "Seeing at the end; -1 where it was not measured", "arcsec"),
    real("tel_ambi_pres_start", "Air pressure at the start; -1 where it was not measured", "mbar"),
    real("tel_ambi_rhum", "Relative humidity; -1 where it was not measured", "percent"),
    text("release_date", "Time of release to the public"),
    text("last_mod_date", "Time of the row's last change"),
    text("origfile", "Name that the instrument gave the file"),
    text("access_url", "Address of the file"),
    text("datalink_url", "Address of the DataLink document"),
    whole("access_estsize", "Size of the file", "kbyte", minimum=0),
)

APEX_QUICKLOOKS = (
    text("quicklook_id", "Identifier of the file", required=True),
    text("instrument", "Instrument", required=True),
    text("instrument_type", "Kind of instrument"),
    text("partner", "Partner whose time it was"),
    text("project_id", "Project", required=True),
    text("prog_id", "Programme", required=True),
    text("prog_title", "Title of the programme"),
    text("prog_type", "Kind of programme"),
    text("pi_coi", "Investigators"),
    text("release_date", "Time of release to the public", required=True),
    text("access_url", "Address of the file"),
    whole("access_estsize", "Size of the file", "kbyte", minimum=0),
)
