"""TESS: objects of interest, input catalogue, observations, light curves and cutouts of full-frame images."""

import re
from collections.abc import Iterator

import pyarrow as pa

from data_scripts.archives.protocols import cutouts, mast
from data_scripts.archives.protocols.delimited import csv_head, csv_rows
from data_scripts.archives.protocols.mast_time_series import MASHUP_PAGES, light_curves_table, observations_table
from data_scripts.archives.schemas.tic import TIC
from data_scripts.archives.schemas.toi_release import TOI_RELEASE
from data_scripts.harness.archive import Answer, Archive, Column, Option, Request, Selection, Stage, TableConfig
from data_scripts.harness.errors import BadBodyError, BuildError


__all__ = ["ARCHIVE"]

# The release that the TESS Science Office publishes: https://tev.mit.edu/data/collection/193/.
TOI_CSV = "https://tev.mit.edu/data/collection/193/csv/6/"
# https://mast.stsci.edu/tesscut/docs/
SECTORS = "https://mast.stsci.edu/tesscut/api/v0.1/sector"
CUTOUTS = "https://mast.stsci.edu/tesscut/api/v0.1/astrocut"
# A full-frame image is a cube of 1,000 and more cadences: this many pixels are some 50 MB a sector.
LARGEST_SIDE = 99

OPTIONS = {
    "target_name": Option("", "TIC numbers with commas between"),
    "sequence_number": Option("", "sectors with commas between"),
    "provenance_name": Option("SPOC", "pipelines with commas between"),
}

TEXT, REAL, COUNT = pa.string(), pa.float64(), pa.int64()

KEYWORDS = (
    Column("OBJECT", TEXT, "Star: TIC and its number", required=True),
    Column("TICID", COUNT, "Number in the TESS Input Catalog", required=True, minimum=1),
    Column("SECTOR", COUNT, "Sector", required=True, minimum=1),
    Column("CAMERA", COUNT, "Camera", required=True, minimum=1, maximum=4),
    Column("CCD", COUNT, "Chip of the camera", required=True, minimum=1, maximum=4),
    Column("DATA_REL", COUNT, "Data release", minimum=0),
    Column("PROCVER", TEXT, "Version of the pipeline"),
    Column("TICVER", TEXT, "Version of the TESS Input Catalog"),
    Column("TIMEDEL", REAL, "Length of a cadence", unit="d", required=True, minimum=0),
    Column("RA_OBJ", REAL, "Right ascension", unit="deg", required=True, minimum=0, maximum=360),
    Column("DEC_OBJ", REAL, "Declination", unit="deg", required=True, minimum=-90, maximum=90),
    Column("TESSMAG", REAL, "TESS magnitude", unit="mag"),
    Column("TEFF", REAL, "Effective temperature", unit="K", minimum=0),
    Column("LOGG", REAL, "Surface gravity", unit="dex(cm/s2)"),
    Column("MH", REAL, "Metallicity", unit="dex"),
    Column("RADIUS", REAL, "Radius", unit="solRad", minimum=0),
    Column("CROWDSAP", REAL, "Share of the aperture's flux that is the target's"),
    Column("FLFRCSAP", REAL, "Share of the target's flux that is in the aperture"),
)


def first_stars(selection: Selection) -> Iterator[Request]:
    """Ask for the first page of the input catalogue's stars, by number or by brightness."""
    mast.refuse_since(selection.since, "tic", "its rows have no date of change")
    numbers, faintest = selection.options["id"], selection.options["tmag_max"]
    if not re.fullmatch(r"-?\d+(\.\d+)?", faintest):
        raise BuildError(f"tmag_max must be a magnitude; got {faintest!r}. Give one, such as 10.")
    filters = mast.one_of("ID", numbers) or mast.range_of("Tmag", -10.0, float(faintest))
    yield mast.filtered("Mast.Catalogs.Filtered.Tic.Rows", TIC, filters, "stars", mast.page_size(selection.limit))


def first_objects(selection: Selection) -> Iterator[Request]:
    """Ask for the release of objects of interest."""
    mast.refuse_since(selection.since, "toi", "a release is one file of all objects")
    yield Request(TOI_CSV, "objects")


def object_rows(answer: Answer) -> Iterator[pa.Table]:
    """Read a release; lines that begin with # state its day and sectors."""
    yield from csv_rows(answer, comment="#")


def first_positions(selection: Selection) -> Iterator[Request]:
    """Ask for the sectors of the positions that the option names, or for the objects of interest."""
    mast.refuse_since(selection.since, "cutouts", "a cutout has no date of change")
    size = selection.options["size"]
    if not re.fullmatch(r"[1-9]\d?", size):
        raise BuildError(
            f"size must be a number of pixels from 1 to {LARGEST_SIDE}; got {size!r}. Give one, such as 5."
        )
    wanted = (("size", size), ("sectors", selection.options["sectors"]))
    positions = [position.split() for position in selection.options["positions"].split(",") if position.strip()]
    if not positions:
        yield Request(TOI_CSV, "objects", context=wanted)
    for position in positions:
        if len(position) != 2 or not all(re.fullmatch(r"[-+]?\d+(\.\d+)?", part) for part in position):
            text = " ".join(position)
            raise BuildError(f"positions must be 'RA DEC' in degrees, with commas between; got {text!r}. Mend it.")
        yield sectors_of(position[0], position[1], "", wanted)


def sectors_of(ra: str, dec: str, tic: str, context: tuple[tuple[str, str], ...]) -> Request:
    """Ask in which sectors a position was observed; a star's number is passed on to its cutouts."""
    return Request(SECTORS, "sectors", params=(("ra", ra), ("dec", dec)), context=(*context, ("tic", tic)))


def follow_to_sectors(answer: Answer) -> list[Request]:
    """Ask for the sectors of each star of the objects of interest."""
    names = ["TIC Right Ascension", "TIC Declination", "TIC"]
    table = pa.concat_tables(object_rows(answer))
    if missing := [name for name in names if name not in table.column_names]:
        raise BadBodyError(f"the objects of interest lack {', '.join(missing)}")
    positions = dict.fromkeys(zip(*(table[name].to_pylist() for name in names), strict=True))
    return [sectors_of(ra, dec, tic, answer.request.context) for ra, dec, tic in positions]


def follow_to_cutouts(answer: Answer) -> list[Request]:
    """Ask for the cutout of each sector."""
    body = mast.json_body(answer)
    asked, wanted = dict(answer.request.params), dict(answer.request.context)
    if not isinstance(body.get("results"), list):
        raise BadBodyError("an answer about sectors needs results; the body lacks them")
    sectors = [str(result["sector"]) for result in body["results"]]
    chosen = [sector.strip() for sector in wanted["sectors"].split(",") if sector.strip()]
    params = (("ra", asked["ra"]), ("dec", asked["dec"]), ("y", wanted["size"]), ("x", wanted["size"]))
    return [
        Request(CUTOUTS, "cutout", params=(*params, ("sector", sector)), context=(("tic", wanted["tic"]),))
        for sector in dict.fromkeys(sectors)
        if not chosen or sector in chosen
    ]


def recognise_objects(name: str, head: bytes) -> str | None:
    """Return the stage that reads a release of objects of interest."""
    table = csv_head(head, comment="#")
    found = table is not None and {"TIC", "Full TOI ID", "TOI Disposition"} <= set(table.column_names)
    return "objects" if found else None


def recognise_stars(name: str, head: bytes) -> str | None:
    """Return the stage that reads the input catalogue."""
    return "stars" if mast.has_columns(head, "TWOMASS", "Tmag", "TESSflag") else None


def recognise_cutout(name: str, head: bytes) -> str | None:
    """Return the stage that reads cutouts."""
    return "cutout" if cutouts.is_cutout(head) else None


TABLES = (
    TableConfig(
        name="toi",
        description="TESS objects of interest as the TESS Science Office releases them, one row an object.",
        columns=TOI_RELEASE,
        key=("Full TOI ID",),
        objects=("TIC",),
        first=first_objects,
        stages={"objects": Stage("csv", rows=object_rows)},
        recognise=recognise_objects,
    ),
    TableConfig(
        name="tic",
        description="Stars of the TESS Input Catalog, one row a star.",
        columns=TIC,
        key=("ID",),
        objects=("ID", "GAIA", "KIC"),
        first=first_stars,
        stages={"stars": MASHUP_PAGES},
        recognise=recognise_stars,
        options={
            "id": Option("", "TIC numbers with commas between; then tmag_max is not used"),
            "tmag_max": Option("10", "TESS magnitude of the faintest stars"),
        },
    ),
    observations_table("TESS observations with light curves, one row a star and sector.", OPTIONS, "TESS"),
    # Of 120 and 20 s.
    light_curves_table(KEYWORDS, ("TICID", "SECTOR", "TIMEDEL"), ("LC", "FAST-LC"), "TESS", OPTIONS, "TESS"),
    TableConfig(
        name="cutouts",
        description="Cutouts of full-frame images with times, quality bits and mask, one row a position and sector.",
        columns=cutouts.CUTOUT,
        key=("file",),
        objects=("TIC", "position"),
        first=first_positions,
        stages={
            "objects": Stage("csv", follow=follow_to_sectors),
            "sectors": Stage("json", follow=follow_to_cutouts),
            "cutout": Stage("zip", rows=cutouts.cutout_rows),
        },
        recognise=recognise_cutout,
        options={
            "positions": Option("", "'RA DEC' in degrees with commas between; all objects of interest if empty"),
            "size": Option("5", "rows and columns of a cutout, pixels"),
            "sectors": Option("", "sectors with commas between; all if empty"),
        },
        default=False,
    ),
)

ARCHIVE = Archive(
    name="tess",
    title="TESS at MAST and the TESS Science Office",
    homepage="https://archive.stsci.edu/missions-and-data/tess",
    license="other",
    license_name="mast-data-use",
    license_link=mast.DATA_USE,
    acknowledgement=(
        "This work includes data collected with the TESS mission, obtained from the MAST data archive at the Space "
        "Telescope Science Institute (STScI), and the TESS Input Catalog and Candidate Target List. Funding for the "
        "TESS mission is provided by the NASA Explorer Program. STScI is operated by the Association of Universities "
        "for Research in Astronomy, Inc., under NASA contract NAS 5-26555."
    ),
    citation="""@article{2015JATIS...1a4003R,
  author = {Ricker, George R. and Winn, Joshua N. and Vanderspek, Roland and others},
  title = {Transiting Exoplanet Survey Satellite (TESS)},
  journal = {Journal of Astronomical Telescopes, Instruments, and Systems},
  volume = {1},
  pages = {014003},
  year = {2015},
  doi = {10.1117/1.JATIS.1.1.014003}
}
@article{2019AJ....158..138S,
  author = {Stassun, Keivan G. and Oelkers, Ryan J. and Paegert, Martin and others},
  title = {The Revised TESS Input Catalog and Candidate Target List},
  journal = {The Astronomical Journal},
  volume = {158},
  pages = {138},
  year = {2019},
  doi = {10.3847/1538-3881/ab3467}
}
@article{2021ApJS..254...39G,
  author = {Guerrero, Natalia M. and Seager, S. and Huang, Chelsea X. and others},
  title = {The TESS Objects of Interest Catalog from the TESS Prime Mission},
  journal = {The Astrophysical Journal Supplement Series},
  volume = {254},
  pages = {39},
  year = {2021},
  doi = {10.3847/1538-4365/abefe1}
}""",
    tables=TABLES,
    # All of it is public, and a token for MAST is not to reach the other host: there is no credential.
    hosts=("mast.stsci.edu", "tev.mit.edu"),
    requests_per_second=5.0,
    burst=5,
    concurrency=4,
    unverified=("observations", "light_curves"),
    probe=("tic", {"id": "25155310"}),
    size="over 7,000 objects of interest; 1.7 billion sources in the catalogue; light curves of several TB",
)
