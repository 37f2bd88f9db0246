"""Kepler and K2: observations and light curves at MAST, time series and DR25 objects of interest at NExScI."""

from collections.abc import Iterator

import pyarrow as pa

from data_scripts.archives.protocols import mast
from data_scripts.archives.protocols.ipac import ipac_head, ipac_rows
from data_scripts.archives.protocols.mast_time_series import light_curves_table, observations_table
from data_scripts.archives.protocols.nexsci_tables import NSTED
from data_scripts.archives.schemas.kepler_objects import KOI
from data_scripts.archives.schemas.kepler_time_series import KEPLER_TIME_SERIES
from data_scripts.harness.archive import Answer, Archive, Column, Option, Request, Selection, Stage, TableConfig
from data_scripts.harness.errors import BadBodyError


__all__ = ["ARCHIVE"]

DR25 = "q1_q17_dr25_koi"

OPTIONS = {
    "collection": Option("Kepler,K2", "collections with a comma between"),
    "target_name": Option("", "targets as the archive writes them, such as kplr008462852, with commas between"),
    "sequence_number": Option("", "quarters or campaigns with commas between"),
}

TEXT, REAL, COUNT = pa.string(), pa.float64(), pa.int64()

KEYWORDS = (
    Column("OBJECT", TEXT, "Star: KIC or EPIC and its number", required=True),
    Column("MISSION", TEXT, "Kepler or K2"),
    Column("QUARTER", COUNT, "Quarter of Kepler; null for K2", minimum=0),
    Column("CAMPAIGN", COUNT, "Campaign of K2; null for Kepler", minimum=0),
    Column("OBSMODE", TEXT, "long cadence or short cadence", required=True),
    Column("CHANNEL", COUNT, "CCD channel", minimum=1, maximum=84),
    Column("DATA_REL", COUNT, "Data release", minimum=0),
    Column("PROCVER", TEXT, "Version of the pipeline"),
    Column("TIMEDEL", REAL, "Length of a cadence", unit="d", minimum=0),
    Column("RA_OBJ", REAL, "Right ascension", unit="deg", required=True, minimum=0, maximum=360),
    Column("DEC_OBJ", REAL, "Declination", unit="deg", required=True, minimum=-90, maximum=90),
    Column("KEPMAG", REAL, "Kepler magnitude", unit="mag"),
    Column("TEFF", REAL, "Effective temperature", unit="K", minimum=0),
    Column("LOGG", REAL, "Surface gravity", unit="dex(cm/s2)"),
    Column("FEH", REAL, "Metallicity", unit="dex"),
    Column("RADIUS", REAL, "Radius", unit="solRad", minimum=0),
    Column("CROWDSAP", REAL, "Share of the aperture's flux that is the target's"),
    Column("FLFRCSAP", REAL, "Share of the target's flux that is in the aperture"),
)


def nsted(table: str, columns: tuple[Column, ...] | str, stage: str, **where: str) -> Request:
    """Ask the old interface of the NASA Exoplanet Archive for a table."""
    names = columns if isinstance(columns, str) else ",".join(column.name for column in columns)
    params = (("table", table), ("select", names), ("format", "ipac"), *sorted(where.items()))
    return Request(NSTED, stage, params=params)


def first_objects(selection: Selection) -> Iterator[Request]:
    """Ask for the objects of interest."""
    mast.refuse_since(selection.since, "koi_dr25", "the delivery of 2017 does not change")
    yield nsted(DR25, KOI, "objects")


def first_time_series(selection: Selection) -> Iterator[Request]:
    """Ask for the time series of the stars that the option names, or for the stars of the objects of interest."""
    mast.refuse_since(selection.since, "time_series", "the mission has ended")
    stars = [star.strip() for star in selection.options["kepid"].split(",") if star.strip()]
    if not stars:
        yield nsted(DR25, "kepid", "stars")
    for star in stars:
        yield nsted("keplertimeseries", KEPLER_TIME_SERIES, "time_series", kepid=star)


def time_series_rows(answer: Answer) -> Iterator[pa.Table]:
    """Read the time series of a star; those of another star than was asked for are refused."""
    asked = dict(answer.request.params).get("kepid")
    for table in ipac_rows(answer):
        stars = set(table["star_id"].to_pylist()) if "star_id" in table.column_names else set()
        if asked and stars - {asked, None}:
            raise BadBodyError(f"the archive sent time series of {', '.join(sorted(stars))} for {asked}", again=True)
        yield table


def follow_to_time_series(answer: Answer) -> list[Request]:
    """Ask for the time series of each star of the objects of interest."""
    [table] = ipac_rows(answer)
    if "kepid" not in table.column_names:
        raise BadBodyError(f"the list of stars needs kepid; it has {', '.join(table.column_names)}")
    stars = sorted({int(star) for star in table["kepid"].to_pylist() if star})
    return [nsted("keplertimeseries", KEPLER_TIME_SERIES, "time_series", kepid=str(star)) for star in stars]


def recognise_objects(name: str, head: bytes) -> str | None:
    """Return the stage that reads the DR25 objects of interest."""
    table = ipac_head(head)
    if table is None or not {"kepoi_name", "koi_delivname"} <= set(table.column_names):
        return None
    return "objects" if set(table["koi_delivname"].to_pylist()) == {DR25} else None


def recognise_time_series(name: str, head: bytes) -> str | None:
    """Return the stage that reads the list of time series."""
    table = ipac_head(head)
    found = table is not None and {"star_id", "quarter", "targettype", "pdcmethod"} <= set(table.column_names)
    return "time_series" if found else None


TABLES = (
    observations_table(
        "Kepler and K2 observations with light curves, one row a star and cadence, quarter or campaign.", OPTIONS
    ),
    TableConfig(
        name="koi_dr25",
        description="Kepler objects of interest of the last uniform delivery (Q1-Q17 DR25), one row an object.",
        columns=KOI,
        key=("kepoi_name",),
        objects=("kepid",),
        first=first_objects,
        stages={"objects": Stage("ipac", rows=ipac_rows)},
        recognise=recognise_objects,
    ),
    TableConfig(
        name="time_series",
        description="Kepler time series at the NASA Exoplanet Archive, one row a star, quarter and cadence.",
        columns=KEPLER_TIME_SERIES,
        key=("star_id", "quarter", "targettype", "start_time"),
        objects=("star_id",),
        first=first_time_series,
        stages={
            "stars": Stage("ipac", follow=follow_to_time_series),
            "time_series": Stage("ipac", rows=time_series_rows),
        },
        recognise=recognise_time_series,
        options={"kepid": Option("", "Kepler Input Catalog numbers with commas between; all DR25 stars if empty")},
        default=False,
    ),
    # Of long and short cadence.
    light_curves_table(KEYWORDS, ("OBJECT", "OBSMODE", "cadence_start"), ("LLC", "SLC"), "Kepler", OPTIONS),
)

ARCHIVE = Archive(
    name="kepler_k2",
    title="Kepler and K2 at MAST and the NASA Exoplanet Archive",
    homepage="https://archive.stsci.edu/missions-and-data/kepler",
    license="other",
    license_name="mast-data-use",
    license_link=mast.DATA_USE,
    acknowledgement=(
        "This work includes data collected by the Kepler mission and obtained from the MAST data archive at the Space "
        "Telescope Science Institute (STScI). Funding for the Kepler mission is provided by the NASA Science Mission "
        "Directorate. STScI is operated by the Association of Universities for Research in Astronomy, Inc., under "
        "NASA contract NAS 5-26555. This research has made use of the NASA Exoplanet Archive, which is operated by "
        "the California Institute of Technology, under contract with the National Aeronautics and Space "
        "Administration under the Exoplanet Exploration Program."
    ),
    citation="""@article{2010Sci...327..977B,
  author = {Borucki, William J. and Koch, David and Basri, Gibor and others},
  title = {Kepler Planet-Detection Mission: Introduction and First Results},
  journal = {Science},
  volume = {327},
  pages = {977},
  year = {2010},
  doi = {10.1126/science.1185402}
}
@article{2014PASP..126..398H,
  author = {Howell, Steve B. and Sobeck, Charlie and Haas, Michael and others},
  title = {The K2 Mission: Characterization and Early Results},
  journal = {Publications of the Astronomical Society of the Pacific},
  volume = {126},
  pages = {398},
  year = {2014},
  doi = {10.1086/676406}
}""",
    tables=TABLES,
    # All of it is public, and a token for MAST is not to reach the other host: there is no credential.
    hosts=("mast.stsci.edu", "exoplanetarchive.ipac.caltech.edu"),
    requests_per_second=3.0,
    burst=3,
    concurrency=4,
    unverified=("observations", "light_curves"),
    probe=("time_series", {"kepid": "8561063"}),
    size="8,054 objects of interest of DR25; light curves of some 200,000 Kepler and 400,000 K2 targets, several TB",
)
