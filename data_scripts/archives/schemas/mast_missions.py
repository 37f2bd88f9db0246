"""Columns of MAST's mission searches of JWST and HST and of its catalogue of Hubble source spectra.

Column lists: https://mast.stsci.edu/search/util/api/v0.1/column_list?mission=jwst (or hst).
"""

import pyarrow as pa

from data_scripts.harness.archive import Column


__all__ = ["HSC_SPECTRA", "HST", "JWST"]

TEXT, REAL, COUNT = pa.string(), pa.float64(), pa.int64()

JWST = (
    Column("fileSetName", TEXT, "Data set: program, observation, visit, exposure", required=True),
    Column("productLevel", TEXT, "Level of processing, such as 2b"),
    Column("program", COUNT, "Number of the program", required=True, minimum=0),
    Column("access", TEXT, "PUBLIC or why not"),
    Column("targprop", TEXT, "Name of the target in the proposal"),
    Column("targ_ra", REAL, "Right ascension of the target", unit="deg", minimum=0, maximum=360),
    Column("targ_dec", REAL, "Declination of the target", unit="deg", minimum=-90, maximum=90),
    Column("targtype", TEXT, "FIXED, MOVING or GENERIC"),
    Column("instrume", TEXT, "Instrument", required=True),
    Column("exp_type", TEXT, "Type of exposure"),
    Column("opticalElements", TEXT, "Filters, gratings and masks"),
    Column("date_obs", TEXT, "Day of the observation"),
    Column("duration", REAL, "Duration of the exposure", unit="s", minimum=0),
    Column("publicReleaseDate", TEXT, "Day from which the data are public"),
)

HST = (
    Column("sci_data_set_name", TEXT, "Data set", required=True),
    Column("sci_targname", TEXT, "Name of the target in the proposal"),
    Column("sci_ra", REAL, "Right ascension", unit="deg", minimum=0, maximum=360),
    Column("sci_dec", REAL, "Declination", unit="deg", minimum=-90, maximum=90),
    Column("sci_refnum", COUNT, "Number of publications", minimum=0),
    Column("sci_start_time", TEXT, "Start of the exposure, UTC"),
    Column("sci_stop_time", TEXT, "End of the exposure, UTC"),
    Column("sci_actual_duration", REAL, "Exposure time", unit="s", minimum=0),
    Column("sci_instrume", TEXT, "Instrument", required=True),
    Column("sci_aper_1234", TEXT, "Apertures"),
    Column("sci_spec_1234", TEXT, "Filters and gratings"),
    Column("sci_central_wavelength", REAL, "Central wavelength", unit="Angstrom", minimum=0),
    Column("sci_pep_id", COUNT, "Number of the proposal", minimum=0),
    Column("sci_release_date", TEXT, "Time from which the data are public"),
    Column("sci_preview_name", TEXT, "Name of the preview"),
    Column("scp_scan_type", TEXT, "Type of spatial scan"),
    Column("sci_hlsp", COUNT, "Number of high-level science products", minimum=0),
    Column("sci_status", TEXT, "PUBLIC or why not", required=True),
)

HSC_SPECTRA = (
    Column("ObjID", COUNT, "Number of the spectrum", required=True, minimum=0),
    Column("DatasetName", TEXT, "Name of the spectrum's file without its ending", required=True),
    Column("MatchID", TEXT, "Source in the Hubble Source Catalog"),
    Column("RA", REAL, "Right ascension", unit="deg", required=True, minimum=0, maximum=360),
    Column("Dec", REAL, "Declination", unit="deg", required=True, minimum=-90, maximum=90),
    Column("TargetName", TEXT, "Name of the target"),
    Column("ObjectType", TEXT, "Type of the object"),
    Column("SpectrumType", COUNT, "Number of the kind of spectrum"),
    Column("Notes", TEXT, "Instrument and grating in words"),
    Column("Detector", TEXT, "Instrument and detector"),
    Column("Aperture", TEXT, "Aperture"),
    Column("SpectralElement", TEXT, "Grating or grism"),
    Column("Wavelength", REAL, "Central wavelength; 0 where the archive states none", unit="Angstrom", minimum=0),
    Column("ExposureTime", REAL, "Exposure time", unit="s", minimum=0),
    Column("PropID", COUNT, "Number of the proposal", minimum=0),
    Column("HSCMatch", TEXT, "Y where the spectrum has a source in the catalogue"),
)
