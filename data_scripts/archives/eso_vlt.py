"""ESO Science Archive: raw observations and data products of the telescopes on Paranal, La Silla and Chajnantor.

Queries go to the TAP service tap_obs (https://archive.eso.org/programmatic/#TAP): reduced data in ivoa.ObsCore, raw
frames in dbo.raw. Its answers hold at most 15 million rows, and a bare query far fewer, so tables are asked for by
windows of time.
"""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass

from data_scripts.archives.protocols.eso_spectra import SPECTRUM, is_eso_spectrum, spectrum_rows
from data_scripts.archives.protocols.exports import Exports
from data_scripts.archives.protocols.tap_windows import TapWindows
from data_scripts.archives.schemas.eso_observations import APEX_QUICKLOOKS, OBSCORE, RAW
from data_scripts.harness.archive import (
    Answer,
    Archive,
    Credential,
    Login,
    Option,
    Request,
    Selection,
    Stage,
    TableConfig,
)
from data_scripts.harness.errors import BuildError


__all__ = ["ARCHIVE"]

TAP = "https://archive.eso.org/tap_obs/sync"
# As ESO's own eso_programmatic.py asks (https://archive.eso.org/programmatic/); the client is everybody's.
LOGIN = Login(
    "https://www.eso.org/sso/oidc/token",
    params=lambda values: {
        "response_type": "id_token token",
        "grant_type": "password",
        "client_id": "clientid",
        "username": values["ESO_USERNAME"],
        "password": values["ESO_PASSWORD"],
    },
    token="id_token",
)
FILES = "https://dataportal.eso.org/dataPortal/file/"
EPOCH = datetime.datetime(1970, 1, 1)
START = int((datetime.datetime(1998, 1, 1) - EPOCH).total_seconds())
STOP = int((datetime.datetime(2100, 1, 1) - EPOCH).total_seconds())
MARKS = {
    "raw": ("dp_id", "dp_cat", "exp_start", "prog_id"),
    "obscore": ("dp_id", "obs_collection", "dataproduct_type", "calib_level"),
    "apex_quicklooks": ("quicklook_id", "instrument", "project_id"),
}
CORE = {
    "raw": ("object", "ra", "dec", "exposure", "dp_type", "dp_tech"),
    "obscore": ("target_name", "s_ra", "s_dec", "instrument_name", "em_min", "em_max", "t_exptime"),
    "apex_quicklooks": ("access_url",),
}


def _time(bound: int) -> str:
    return (EPOCH + datetime.timedelta(seconds=bound)).isoformat(timespec="seconds")


def _mjd(bound: int) -> str:
    return f"{bound / 86_400 + 40_587:.8f}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True)
class Narrowed:
    """Asks for a table, or the part of it that options name.

    Attributes:
        windows: How the table is asked for.
        options: Column that each option's value is compared with, by the option's name.
        changed: Column with the time at which a row was added or changed.
        where: Condition that all rows meet.
        needed: Whether an option must be given.
    """

    windows: TapWindows
    options: tuple[tuple[str, str], ...]
    changed: str
    where: str = ""
    needed: bool = False

    def first(self, selection: Selection) -> Iterator[Request]:
        """First requests.

        Raises:
            BuildError: If an option is needed and none is given.
        """
        given = [(column, selection.options.get(name, "")) for name, column in self.options]
        terms = [f"{column} = {_quoted(value)}" for column, value in given if value]
        if self.needed and not terms:
            names = " or ".join(name for name, _ in self.options)
            raise BuildError(
                f"{names} must be given: the whole table is a million files; got none. Add --set NAME=VALUE."
            )
        if selection.since is not None:
            terms.append(f"{self.changed} >= '{selection.since}'")
        return self.windows.first(selection, " and ".join([*([self.where] if self.where else []), *terms]))


def _windows(exports: Exports, adql_name: str, column: str) -> TapWindows:
    text = column != "t_min"
    return TapWindows(
        TAP,
        adql_name,
        exports.columns,
        column,
        _time if text else _mjd,
        start=START,
        stop=STOP,
        text=text,
        read=exports.queried_rows,
    )


def _table(
    exports: Exports,
    description: str,
    adql_name: str,
    column: str,
    key: tuple[str, ...],
    objects: tuple[str, ...],
    options: dict[str, tuple[str, str]],
    changed: str,
    default: bool = True,
) -> TableConfig:
    windows = _windows(exports, adql_name, column)
    narrowed = tuple((name, compared) for name, (compared, _) in options.items())
    return TableConfig(
        name=exports.table,
        description=description,
        columns=exports.columns,
        key=key,
        objects=objects,
        first=Narrowed(windows, narrowed, changed).first,
        stages={**windows.stages(), **exports.stages()},
        recognise=exports.recognise,
        options={name: Option("", text) for name, (_, text) in options.items()} | windows.options(),
        default=default,
    )


def _files(answer: Answer) -> list[Request]:
    """Ask for the files of a list of spectra."""
    return [
        Request(f"{FILES}{name}", "file", release=answer.request.release)
        for table in LISTED.rows(answer)
        for name in table.column("dp_id").to_pylist()
    ]


def _recognise_spectrum(name: str, head: bytes) -> str | None:
    return "file" if is_eso_spectrum(head) else None


OBSCORE_EXPORTS, RAW_EXPORTS, QUICKLOOK_EXPORTS = (
    Exports(name, columns, MARKS, CORE[name])
    for name, columns in (("obscore", OBSCORE), ("raw", RAW), ("apex_quicklooks", APEX_QUICKLOOKS))
)
LISTED = _windows(OBSCORE_EXPORTS, "ivoa.ObsCore", "t_min")
SPECTRA = TableConfig(
    name="spectra",
    description="One-dimensional spectra with masks, one row a file, of one collection or target.",
    columns=SPECTRUM,
    key=("ARCFILE",),
    objects=("OBJECT",),
    first=Narrowed(
        LISTED,
        (("collection", "obs_collection"), ("target", "target_name")),
        "publication_date",
        "dataproduct_type = 'spectrum'",
        needed=True,
    ).first,
    stages={
        "count": Stage("votable", follow=LISTED.follow),
        "half": Stage("votable", follow=LISTED.follow),
        "window": Stage("votable", follow=_files),
        "file": Stage("fits", rows=spectrum_rows),
    },
    recognise=_recognise_spectrum,
    options={
        "collection": Option("", "Collection of data, such as ESPRESSO"),
        "target": Option("", "Target as the observers named it"),
        **LISTED.options(),
    },
    default=False,
)

ARCHIVE = Archive(
    name="eso_vlt",
    title="ESO Science Archive",
    homepage="https://archive.eso.org",
    license="cc-by-4.0",
    license_link="https://archive.eso.org/cms/eso-data-access-policy.html",
    acknowledgement=(
        "Based on data obtained from the ESO Science Archive Facility. Name the programme identifiers of the data and "
        "the DOIs of the collections."
    ),
    citation="""@misc{eso_science_archive,
  author = {{European Southern Observatory}},
  title = {ESO Science Archive Facility},
  howpublished = {https://archive.eso.org},
  note = {CC BY 4.0}
}""",
    tables=(
        _table(
            OBSCORE_EXPORTS,
            "Data products that are ready for science, one row a product (ivoa.ObsCore).",
            "ivoa.ObsCore",
            "t_min",
            ("dp_id",),
            ("target_name",),
            {
                "collection": ("obs_collection", "Collection of data, such as HARPS; all if empty"),
                "type": ("dataproduct_type", "Kind of product, such as spectrum; all if empty"),
            },
            "publication_date",
        ),
        _table(
            RAW_EXPORTS,
            "Raw frames of all instruments, one row a file (dbo.raw).",
            "dbo.raw",
            "exp_start",
            ("dp_id",),
            ("object",),
            {
                "instrument": ("instrument", "Instrument, such as UVES; all if empty"),
                "category": ("dp_cat", "Category of frames, such as SCIENCE; all if empty"),
            },
            "last_mod_date",
        ),
        _table(
            QUICKLOOK_EXPORTS,
            "Quick-look products of APEX, one row a file.",
            "ist.apex_quicklooks",
            "release_date",
            ("quicklook_id",),
            ("project_id",),
            {},
            "release_date",
            default=False,
        ),
        SPECTRA,
    ),
    hosts=("archive.eso.org", "dataportal.eso.org"),
    requests_per_second=1.0,
    concurrency=2,
    credentials=(
        Credential(
            ("ESO_TOKEN",),
            "files that are still proprietary",
            headers=lambda values: {"Authorization": f"Bearer {values['ESO_TOKEN']}"},
        ),
        Credential(("ESO_USERNAME", "ESO_PASSWORD"), "the same, by asking for a token", login=LOGIN),
    ),
    unverified=("obscore", "spectra"),
    probe=("obscore", {"collection": "ESPRESSO"}),
    size="some 4 million data products and 40 million raw frames; narrow them by options",
)
