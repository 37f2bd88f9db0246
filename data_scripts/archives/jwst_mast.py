"""JWST at MAST: observations and their files, the mission's own metadata, spectra; the same of HST on request."""

from collections.abc import Iterator, Mapping
from functools import partial

import pyarrow as pa

from data_scripts.archives.protocols import jwst_spectra, mast, mast_missions
from data_scripts.archives.schemas import caom
from data_scripts.archives.schemas import mast_missions as missions
from data_scripts.harness.archive import Answer, Archive, Column, Option, Request, Selection, Stage, TableConfig
from data_scripts.harness.errors import BadBodyError, BuildError


__all__ = ["ARCHIVE"]

CAOM_OPTIONS = {
    "collection": Option("JWST", "collections: JWST, HST, HLA, ... with commas between"),
    "proposal_id": Option("", "numbers of proposals with commas between"),
    "target_name": Option("", "names of targets as the proposals write them, with commas between"),
    "instrument_name": Option("", "instruments such as NIRSPEC/SLIT, with commas between"),
    "dataproduct_type": Option("", "types of data such as spectrum, with commas between"),
    "calib_level": Option("", "levels of calibration from -1 to 4, with commas between"),
}
FILE_OPTIONS = {
    **CAOM_OPTIONS,
    "dataproduct_type": Option("spectrum", "types of data such as spectrum, with commas between"),
    "calib_level": Option("3", "levels of calibration from -1 to 4, with commas between"),
}
MISSION_OPTIONS = {
    "program": Option("", "numbers of programs with commas between"),
    "instrument": Option("", "instruments with commas between"),
}

TEXT, REAL = pa.string(), pa.float64()

SPECTRUM_KEYWORDS = (
    Column("FILENAME", TEXT, "Name of the file", required=True),
    Column("PROGRAM", TEXT, "Number of the program", required=True),
    Column("TARGPROP", TEXT, "Name of the target in the proposal"),
    Column("TARGNAME", TEXT, "Standard name of the target"),
    Column("SOURCEID", pa.int64(), "Number of the source in the field"),
    Column("TARG_RA", REAL, "Right ascension of the target", unit="deg", minimum=0, maximum=360),
    Column("TARG_DEC", REAL, "Declination of the target", unit="deg", minimum=-90, maximum=90),
    Column("INSTRUME", TEXT, "Instrument", required=True),
    Column("DETECTOR", TEXT, "Detector"),
    Column("FILTER", TEXT, "Filter"),
    Column("GRATING", TEXT, "Grating"),
    Column("SPORDER", pa.int64(), "Spectral order"),
    Column("EXP_TYPE", TEXT, "Type of exposure"),
    Column("SRCTYPE", TEXT, "POINT or EXTENDED"),
    Column("DATE-BEG", TEXT, "Start of the exposure, UTC"),
    Column("EFFEXPTM", REAL, "Effective exposure time", unit="s", minimum=0),
    Column("CAL_VER", TEXT, "Version of the pipeline"),
    Column("CRDS_CTX", TEXT, "Version of the reference files"),
)


def caom_request(selection: Selection, stage: str) -> Request:
    """Ask for the observations that the options name."""
    filters = [
        *mast.one_of("obs_collection", selection.options["collection"]),
        *(
            condition
            for name, values in selection.options.items()
            if name != "collection"
            for condition in mast.one_of(name, values)
        ),
        *mast.released_since(selection.since),
    ]
    size = mast.page_size(selection.limit)
    return mast.filtered("Mast.Caom.Filtered", caom.OBSERVATIONS, filters, stage, size)


def first_observations(selection: Selection) -> Iterator[Request]:
    """Ask for the first page of observations, or, for tables of files, what leads to them."""
    yield caom_request(selection, "observations")


def first_data_sets(selection: Selection, mission: str, stage: str) -> Iterator[Request]:
    """Ask for the first data sets of a mission."""
    columns = {"jwst": missions.JWST, "hst": missions.HST}[mission]
    program, instrument, release = {
        "jwst": ("program", "instrume", "publicReleaseDate"),
        "hst": ("sci_pep_id", "sci_instrume", "sci_release_date"),
    }[mission]
    conditions = {
        program: selection.options["program"],
        instrument: selection.options["instrument"],
        release: f">={selection.since}" if selection.since else "",
    }
    order = columns[0].name
    yield mast_missions.mission_search(mission, columns, conditions, order, stage, selection.limit)


def first_jwst(selection: Selection) -> Iterator[Request]:
    """Ask for the first data sets of JWST."""
    yield from first_data_sets(selection, "jwst", "data_sets")


def first_hst(selection: Selection) -> Iterator[Request]:
    """Ask for the first data sets of HST."""
    yield from first_data_sets(selection, "hst", "data_sets")


def first_data_sets_of_files(selection: Selection) -> Iterator[Request]:
    """Ask for the first data sets of the mission that the option names."""
    mission = selection.options["mission"].lower()
    if mission not in ("jwst", "hst"):
        raise BuildError(f"mission must be jwst or hst; got {mission!r}. Choose one of them.")
    yield from first_data_sets(selection, mission, "data_sets")


def follow_to_files(answer: Answer) -> list[Request]:
    """Ask for the files of the data sets of this answer, then for the next data sets."""
    mission = answer.request.url.split("/search/")[1].split("/")[0]
    [table] = mast_missions.mission_rows(answer)
    name = missions.JWST[0].name if mission == "jwst" else missions.HST[0].name
    if name not in table.column_names:
        raise BadBodyError(f"the data sets lack {name}; they have {', '.join(table.column_names)[:500]}")
    data_sets = [data_set for data_set in table[name].to_pylist() if data_set]
    return [*mast_missions.mission_products(mission, data_sets, "products"), *mast_missions.next_rows(answer)]


def first_hsc_spectra(selection: Selection) -> Iterator[Request]:
    """Ask for the first page of the list of Hubble spectra."""
    mast.refuse_since(selection.since, "hsc_spectra", "its rows have no date")
    yield mast.invoke("Mast.HscSpectra.Db.All", {}, "spectra", mast.page_size(selection.limit))


def recognise_observations(name: str, head: bytes) -> str | None:
    """Return the stage that reads observations."""
    return "observations" if mast.has_columns(head, "obs_collection", "s_region", "t_obs_release") else None


def recognise_products(name: str, head: bytes) -> str | None:
    """Return the stage that reads lists of files."""
    return "products" if mast.has_columns(head, "dataURI", "productFilename") else None


def recognise_hsc_spectra(name: str, head: bytes) -> str | None:
    """Return the stage that reads the list of Hubble spectra."""
    return "spectra" if mast.has_columns(head, "DatasetName", "SpectrumType", "HSCMatch") else None


def recognise_jwst(name: str, head: bytes) -> str | None:
    """Return the stage that reads data sets of JWST."""
    return "data_sets" if mast_missions.is_search_of(head, "fileSetName") else None


def recognise_hst(name: str, head: bytes) -> str | None:
    """Return the stage that reads data sets of HST."""
    return "data_sets" if mast_missions.is_search_of(head, "sci_data_set_name") else None


def recognise_files(name: str, head: bytes) -> str | None:
    """Return the stage that reads lists of a mission's files."""
    return "products" if mast_missions.is_product_list(head) else None


def recognise_spectrum(name: str, head: bytes) -> str | None:
    """Return the stage that reads extracted spectra."""
    return "spectrum" if jwst_spectra.is_x1d(head) else None


OBSERVATION_PAGES = Stage("json", rows=mast.mashup_rows, follow=mast.next_page, total=mast.mashup_total)
DATA_SET_PAGES = Stage(
    "json", rows=mast_missions.mission_rows, follow=mast_missions.next_rows, total=mast_missions.mission_total
)


def data_sets(name: str, telescope: str, columns: tuple[Column, ...], target: str, **given: object) -> TableConfig:
    """Table of a mission's data sets."""
    return TableConfig(
        name=name,
        description=f"Data sets of {telescope} with the mission's own metadata, one row a data set.",
        columns=columns,
        key=(columns[0].name,),
        objects=(target,),
        stages={"data_sets": DATA_SET_PAGES},
        options=MISSION_OPTIONS,
        **given,  # type: ignore[arg-type]
    )


TABLES = (
    TableConfig(
        name="observations",
        description="Observations in the Common Archive Observation Model, one row an observation.",
        columns=caom.OBSERVATIONS,
        key=("obsid",),
        objects=("target_name",),
        first=first_observations,
        stages={"observations": OBSERVATION_PAGES},
        recognise=recognise_observations,
        options=CAOM_OPTIONS,
    ),
    TableConfig(
        name="products",
        description="Files of observations in the Common Archive Observation Model, one row a file and observation.",
        columns=caom.PRODUCTS,
        key=("obsID", "dataURI"),
        objects=("obs_id",),
        first=first_observations,
        stages={
            "observations": Stage("json", follow=mast.follow_to_products),
            "products": Stage("json", rows=mast.product_rows, follow=mast.next_page, total=mast.mashup_total),
        },
        recognise=recognise_products,
        options=FILE_OPTIONS,
    ),
    data_sets("jwst_data_sets", "JWST", missions.JWST, "targprop", first=first_jwst, recognise=recognise_jwst),
    data_sets(
        "hst_data_sets", "HST", missions.HST, "sci_targname", first=first_hst, recognise=recognise_hst, default=False
    ),
    TableConfig(
        name="data_set_products",
        description="Files of a mission's data sets, one row a file.",
        columns=mast_missions.PRODUCTS,
        key=("product_key",),
        objects=("dataset",),
        first=first_data_sets_of_files,
        stages={
            "data_sets": Stage("json", follow=follow_to_files),
            "products": Stage("json", rows=mast_missions.product_rows),
        },
        recognise=recognise_files,
        options={**MISSION_OPTIONS, "mission": Option("jwst", "mission: jwst or hst")},
        default=False,
    ),
    TableConfig(
        name="hsc_spectra",
        description="Spectra of sources of the Hubble Source Catalog, one row a spectrum, without the spectra.",
        columns=missions.HSC_SPECTRA,
        key=("ObjID",),
        objects=("TargetName",),
        first=first_hsc_spectra,
        stages={"spectra": OBSERVATION_PAGES},
        recognise=recognise_hsc_spectra,
        default=False,
    ),
    TableConfig(
        name="spectra",
        description="Extracted spectra of JWST (x1d and c1d files), one row a spectrum, with quality bits and mask.",
        columns=jwst_spectra.spectrum_columns(SPECTRUM_KEYWORDS),
        key=("FILENAME", "table", "integration"),
        objects=("TARGPROP",),
        first=first_observations,
        stages={
            "observations": Stage("json", follow=mast.follow_to_products),
            # Extracted spectra.
            "products": Stage("json", follow=partial(mast.follow_to_files, kinds=("X1D", "C1D"), stage="spectrum")),
            "spectrum": Stage("fits", rows=partial(jwst_spectra.spectrum_rows, keywords=SPECTRUM_KEYWORDS)),
        },
        recognise=recognise_spectrum,
        options=FILE_OPTIONS,
        default=False,
    ),
)

PROBE: Mapping[str, str] = {"program": "1366", "instrument": "NIRSPEC"}

ARCHIVE = Archive(
    name="jwst_mast",
    title="James Webb Space Telescope at MAST",
    homepage="https://mast.stsci.edu",
    license="other",
    license_name="mast-data-use",
    license_link=mast.DATA_USE,
    acknowledgement=(
        "This work is based on observations made with the NASA/ESA/CSA James Webb Space Telescope. The data were "
        "obtained from the Mikulski Archive for Space Telescopes at the Space Telescope Science Institute, which is "
        "operated by the Association of Universities for Research in Astronomy, Inc., under NASA contract "
        "NAS 5-03127 for JWST."
    ),
    citation="""@article{2006SSRv..123..485G,
  author = {Gardner, Jonathan P. and Mather, John C. and Clampin, Mark and others},
  title = {The James Webb Space Telescope},
  journal = {Space Science Reviews},
  volume = {123},
  pages = {485},
  year = {2006},
  doi = {10.1007/s11214-006-8315-7}
}""",
    tables=TABLES,
    hosts=("mast.stsci.edu",),
    requests_per_second=5.0,
    burst=5,
    concurrency=4,
    credentials=(mast.CREDENTIAL,),
    unverified=("jwst_data_sets", "spectra"),
    probe=("jwst_data_sets", PROBE),
    size="hundreds of thousands of observations and data sets, each with tens of files",
)
