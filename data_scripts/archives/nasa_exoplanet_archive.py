"""NASA Exoplanet Archive: planets, candidates and their stars.

Queries go to its TAP service (https://exoplanetarchive.ipac.caltech.edu/docs/TAP/usingTAP.html), for the frozen tables
to nstedAPI (https://exoplanetarchive.ipac.caltech.edu/docs/program_interfaces.html). Downloaded files are read too:
exports of the interactive tables (CSV with comment lines), answers of TAP (CSV, VOTable) and of nstedAPI (IPAC).
"""

from data_scripts.archives.protocols.exports import Exports
from data_scripts.archives.protocols.nexsci_tables import KoiExports, NstedTable, TapTable
from data_scripts.archives.protocols.nexsci_units import nexsci_unit
from data_scripts.archives.protocols.tap_windows import TapWindows
from data_scripts.archives.schemas.candidates_and_targets import K2CANDIDATES, MISSION_EXOCAT, TOI
from data_scripts.archives.schemas.kepler_objects import CUMULATIVE, KEPLER_STELLAR, KOI
from data_scripts.archives.schemas.planet_identities import composite_identities, kepler_identities
from data_scripts.archives.schemas.planetary_systems import K2PANDC, PS, PSCOMPPARS
from data_scripts.harness.archive import Archive, Column, Identity, TableConfig


__all__ = ["ARCHIVE"]

HOST = "exoplanetarchive.ipac.caltech.edu"
TAP = f"https://{HOST}/TAP/sync"
ROWS_PER_ANSWER = 4000

# Columns by which a table is told from the others, the narrowest first; an export must have all of them.
MARKS = {
    "koi": ("kepid", "kepoi_name", "koi_disposition", "koi_period", "koi_duration", "koi_delivname"),
    "cumulative": ("kepid", "kepoi_name", "koi_disposition", "koi_period", "koi_duration"),
    "k2candidates": ("epic_name", "epic_candname", "k2c_disp", "k2c_reflink"),
    "toi": ("tid", "toi", "tfopwg_disp"),
    "k2pandc": ("pl_name", "hostname", "default_flag", "disposition"),
    "ps": ("pl_name", "hostname", "default_flag"),
    "pscomppars": ("pl_name", "hostname"),
    "mission_exocat": ("star_name", "st_ppnum"),
    "kepler_stellar": ("kepid", "teff", "logg", "radius", "st_delivname"),
}
# Columns that every export has had, beside those that every row must have.
CORE = {
    "koi": (
        "koi_period",
        "koi_time0bk",
        "koi_duration",
        "koi_depth",
        "koi_prad",
        "koi_steff",
        "koi_srad",
        "ra",
        "dec",
    ),
    "cumulative": ("koi_time0bk", "koi_depth", "koi_prad", "koi_teq", "koi_steff", "koi_slogg", "koi_srad"),
    "k2candidates": ("pl_orbper", "pl_rade", "st_teff", "st_rad"),
    "toi": ("pl_orbper", "pl_trandep", "pl_rade", "st_teff", "st_rad"),
    "k2pandc": ("pl_orbper", "pl_rade", "st_teff", "st_rad", "st_mass"),
    "ps": ("pl_orbper", "pl_orbsmax", "pl_rade", "pl_bmasse", "st_teff", "st_rad", "st_mass", "sy_dist"),
    "pscomppars": ("pl_orbper", "pl_orbsmax", "pl_rade", "pl_bmasse", "st_teff", "st_rad", "st_mass", "sy_dist"),
    "mission_exocat": ("st_dist", "st_teff", "st_rad", "st_mass"),
    "kepler_stellar": ("teff", "logg", "radius", "mass"),
}


def _exports(name: str, columns: tuple[Column, ...]) -> Exports:
    kind = KoiExports if name in ("koi", "cumulative") else Exports
    return kind(name, columns, MARKS, CORE[name], nexsci_unit)


def _millidegrees(bound: int) -> str:
    return f"{bound / 1e3:.3f}"


def _windows(table: str, exports: Exports) -> TapWindows:
    column, literal, stop = ("kepid", str, 14_000_000) if table == "cumulative" else ("ra", _millidegrees, 360_000)
    return TapWindows(
        TAP,
        table,
        exports.columns,
        column,
        literal,
        start=0,
        stop=stop,
        cap=ROWS_PER_ANSWER,
        read=exports.queried_rows,
    )


def _tap_table(
    name: str,
    description: str,
    columns: tuple[Column, ...],
    key: tuple[str, ...],
    objects: tuple[str, ...],
    identities: tuple[Identity, ...] = (),
    dated: bool = False,
) -> TableConfig:
    exports = _exports(name, columns)
    windows = _windows(name, exports)
    return TableConfig(
        name=name,
        description=description,
        columns=columns,
        key=key,
        objects=objects,
        first=TapTable(windows, dated).first,
        stages={**windows.stages(), **exports.stages()},
        recognise=exports.recognise,
        options=windows.options(),
        identities=identities,
    )


def _nsted_table(
    name: str,
    description: str,
    columns: tuple[Column, ...],
    key: tuple[str, ...],
    objects: tuple[str, ...],
    archive_name: str,
    identities: tuple[Identity, ...] = (),
    by_kepid: bool = False,
) -> TableConfig:
    exports = _exports(name, columns)
    edges = range(0, 14_000_000, 500_000)
    ranges = tuple((low, low + 500_000) for low in edges) if by_kepid else ()
    return TableConfig(
        name=name,
        description=description,
        columns=columns,
        key=key,
        objects=objects,
        first=NstedTable(archive_name, columns, ranges).first,
        stages=exports.stages(),
        recognise=exports.recognise,
        identities=identities,
        default=False,
    )


ARCHIVE = Archive(
    name="nasa_exoplanet_archive",
    title="NASA Exoplanet Archive",
    homepage="https://exoplanetarchive.ipac.caltech.edu",
    license="other",
    license_name="nasa-exoplanet-archive",
    license_link="https://exoplanetarchive.ipac.caltech.edu/docs/acknowledge.html",
    acknowledgement=(
        "This research has made use of the NASA Exoplanet Archive, which is operated by the California Institute of "
        "Technology, under contract with the National Aeronautics and Space Administration under the Exoplanet "
        "Exploration Program."
    ),
    citation="""@article{akeson2013,
  author = {Akeson, R. L. and Chen, X. and Ciardi, D. and others},
  title = {The NASA Exoplanet Archive: Data and Tools for Exoplanet Research},
  journal = {Publications of the Astronomical Society of the Pacific},
  volume = {125}, number = {930}, pages = {989}, year = {2013}, doi = {10.1086/672273}
}""",
    tables=(
        _tap_table(
            "pscomppars",
            "Confirmed planets, one row each, with parameters from several publications (DOI 10.26133/NEA13).",
            PSCOMPPARS,
            ("pl_name",),
            ("hostname", "tic_id", "hip_name", "hd_name"),
            composite_identities(),
        ),
        _tap_table(
            "ps",
            "Confirmed planets, one row for each planet and publication (DOI 10.26133/NEA12).",
            PS,
            ("pl_name", "pl_refname"),
            ("hostname", "tic_id", "hip_name", "hd_name"),
            composite_identities(),
            dated=True,
        ),
        _tap_table(
            "cumulative",
            "Kepler objects of interest, one row each, from the latest delivery that has it (DOI 10.26133/NEA4).",
            CUMULATIVE,
            ("kepoi_name",),
            ("kepid",),
            kepler_identities(),
        ),
        _tap_table(
            "toi",
            "Objects of interest of TESS (DOI 10.26134/ExoFOP5).",
            TOI,
            ("toi",),
            ("tid",),
            dated=True,
        ),
        _tap_table(
            "k2pandc",
            "Planets and candidates of K2, one row for each object and publication (DOI 10.26133/NEA19).",
            K2PANDC,
            ("pl_name", "pl_refname"),
            ("epic_hostname", "hostname", "tic_id", "hip_name", "hd_name"),
            composite_identities(),
            dated=True,
        ),
        _nsted_table(
            "koi",
            "Kepler objects of interest in every delivery, the cumulative one too.",
            KOI,
            ("kepoi_name", "koi_delivname"),
            ("kepid",),
            "koi",
            kepler_identities(),
            by_kepid=True,
        ),
        _nsted_table(
            "kepler_stellar",
            "Stars of Kepler's last delivery, with or without objects of interest.",
            KEPLER_STELLAR,
            ("kepid", "st_delivname"),
            ("kepid",),
            "q1_q17_dr25_stellar",
            by_kepid=True,
        ),
        _nsted_table(
            "k2candidates",
            "Candidates of K2 in the retired table, one row for each object and publication.",
            K2CANDIDATES,
            ("epic_candname", "k2c_reflink"),
            ("epic_name",),
            "k2candidates",
        ),
        _nsted_table(
            "mission_exocat",
            "Nearby stars that missions to image planets consider.",
            MISSION_EXOCAT,
            ("star_name",),
            ("star_name", "hip_name", "hd_name", "gj_name"),
            "mission_exocat",
        ),
    ),
    hosts=(HOST,),
    requests_per_second=1.0,
    concurrency=2,
    unverified=("ps", "k2pandc"),
    probe=("pscomppars", {}),
    size="some 6,000 planets, 40,000 solutions, 9,600 Kepler and 7,700 TESS objects of interest; under 100 MB",
)
