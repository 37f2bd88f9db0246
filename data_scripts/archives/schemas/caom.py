"""Columns of the Common Archive Observation Model as MAST's Mashup services give them.

Fields: https://mast.stsci.edu/api/v0/_c_a_o_mfields.html and https://mast.stsci.edu/api/v0/_productsfields.html.
"""

import pyarrow as pa

from data_scripts.harness.archive import Column


__all__ = ["OBSERVATIONS", "PRODUCTS", "TIME_SERIES_OBSERVATIONS"]

TEXT, REAL, COUNT = pa.string(), pa.float64(), pa.int64()

OBSERVATIONS = (
    Column("obsid", TEXT, "Number of the observation in the archive's database", required=True),
    Column("objID", TEXT, "Number of the row in the archive's database"),
    Column("obs_collection", TEXT, "Collection, as a rule the mission", required=True),
    Column("obs_id", TEXT, "Name of the observation, given by the mission", required=True),
    Column("project", TEXT, "Project that processed the data"),
    Column("dataproduct_type", TEXT, "Type of the data: image, spectrum, timeseries, cube, ..."),
    Column("calib_level", COUNT, "Level of calibration; -1 is planned, 0 raw, 4 contributed", minimum=-1, maximum=4),
    Column("target_name", TEXT, "Name of the target"),
    Column("target_classification", TEXT, "Type of the target"),
    Column("s_ra", REAL, "Right ascension", unit="deg", minimum=0, maximum=360),
    Column("s_dec", REAL, "Declination", unit="deg", minimum=-90, maximum=90),
    Column("s_region", TEXT, "Outline on the sky, STC-S"),
    Column("instrument_name", TEXT, "Instrument"),
    Column("filters", TEXT, "Filters"),
    Column("wavelength_region", TEXT, "Energy band"),
    Column("em_min", REAL, "Shortest wavelength", unit="nm", minimum=0),
    Column("em_max", REAL, "Longest wavelength", unit="nm", minimum=0),
    Column("t_min", REAL, "Start, Modified Julian Date", unit="d"),
    Column("t_max", REAL, "End, Modified Julian Date", unit="d"),
    Column("t_exptime", REAL, "Exposure time", unit="s", minimum=0),
    Column("t_obs_release", REAL, "Day from which the data are public, Modified Julian Date", unit="d"),
    Column("obs_title", TEXT, "Title of the observation"),
    Column("proposal_id", TEXT, "Number of the proposal"),
    Column("proposal_pi", TEXT, "Principal investigator"),
    Column("jpegURL", TEXT, "Address of a preview"),
    Column("dataURL", TEXT, "Address of the data"),
)

TIME_SERIES_OBSERVATIONS = (
    *OBSERVATIONS,
    Column("provenance_name", TEXT, "Pipeline that made the data"),
    Column("sequence_number", COUNT, "Quarter, campaign or sector", minimum=0),
)

PRODUCTS = (
    Column("obsID", TEXT, "Number of the observation in the archive's database", required=True),
    Column("obs_collection", TEXT, "Collection, as a rule the mission", required=True),
    Column("dataproduct_type", TEXT, "Type of the data"),
    Column("obs_id", TEXT, "Name of the observation, given by the mission", required=True),
    Column("description", TEXT, "What the file holds"),
    Column("type", TEXT, "S for simple, C for composite observations, D for derived data"),
    Column("dataURI", TEXT, "URI of the file, for the archive's download service", required=True),
    Column("productType", TEXT, "SCIENCE, PREVIEW, AUXILIARY, INFO, ...", required=True),
    Column("productGroupDescription", TEXT, "Group of the file, such as Minimum Recommended Products"),
    Column("productSubGroupDescription", TEXT, "Kind of the file within its group, such as X1D"),
    Column("productDocumentationURL", TEXT, "Address of the documentation"),
    Column("project", TEXT, "Project that processed the data"),
    Column("prvversion", TEXT, "Version of the pipeline"),
    Column("productFilename", TEXT, "Name of the file", required=True),
    Column("size", COUNT, "Size of the file", unit="byte", minimum=0),
)
