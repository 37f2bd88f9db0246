"""Keck Observatory Archive: raw frames, one table for each instrument.

Queries go to the TAP service of the NASA Exoplanet Science Institute
(https://koa.ipac.caltech.edu/UserGuide/PyKOA/TAPClients.html; its server: https://github.com/Caltech-IPAC/nexsciTAP).
An anonymous query sees public frames only. The tables have no time column in common: `date_obs` cannot be compared
with text, and only some have `mjd`; so they are asked for by windows of right ascension. MAXREC is not used, since the
server then states an overflow for whole answers too.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from data_scripts.archives.protocols.exports import Exports
from data_scripts.archives.protocols.nexsci_units import nexsci_unit
from data_scripts.archives.protocols.tap_windows import TapWindows
from data_scripts.archives.schemas.keck_instruments import INSTRUMENTS
from data_scripts.harness.archive import Archive, Option, Request, Selection, TableConfig
from data_scripts.harness.errors import BuildError


__all__ = ["ARCHIVE"]

TAP = "https://koa.ipac.caltech.edu/TAP/sync"
# Columns that tell the instruments apart, beside the path of the file; the narrowest table first.
MARKS = {
    "kpf": ("koaid", "koaimtyp", "date_beg"),
    "hires": ("koaid", "koaimtyp", "deckname"),
    "kcwi": ("koaid", "koaimtyp", "ifunam"),
    "osiris": ("koaid", "koaimtyp", "sscale"),
    "nirc2": ("koaid", "koaimtyp", "camname"),
    "deimos": ("koaid", "koaimtyp", "dwfilval"),
    "nirspec": ("koaid", "koaimtyp", "echlpos"),
}
DEFAULTS = ("hires", "nirspec", "kpf")


@dataclass(frozen=True)
class InstrumentTable:
    """Asks for an instrument's frames, of one kind if the option names one."""

    windows: TapWindows

    def first(self, selection: Selection) -> Iterator[Request]:
        """First requests.

        Raises:
            BuildError: If only recent changes are asked for.
        """
        if selection.since is not None:
            raise BuildError(
                f"since must be absent for {self.windows.table}; got {selection.since}. Its rows carry no date of "
                "change: build the whole table."
            )
        kind = selection.options.get("type", "").replace("'", "''")
        return self.windows.first(selection, f"koaimtyp = '{kind}'" if kind else "")


def _millidegrees(bound: int) -> str:
    return f"{bound / 1e3:.3f}"


def _table(instrument: str) -> TableConfig:
    title, columns = INSTRUMENTS[instrument]
    exports = Exports(instrument, columns, MARKS, ("targname", "ra", "dec"), nexsci_unit)
    windows = TapWindows(
        TAP,
        f"koa_{instrument}",
        columns,
        "ra",
        _millidegrees,
        start=0,
        stop=360_000,
        read=exports.queried_rows,
    )
    return TableConfig(
        name=instrument,
        description=f"Raw frames of the {title}, one row a file.",
        columns=columns,
        key=("koaid",),
        objects=("targname",),
        first=InstrumentTable(windows).first,
        stages={**windows.stages(), **exports.stages()},
        recognise=exports.recognise,
        options={
            "type": Option("object", "Kind of frame (koaimtyp); all kinds, calibrations too, if empty"),
            **windows.options(),
        },
        default=instrument in DEFAULTS,
    )


ARCHIVE = Archive(
    name="keck_koa",
    title="Keck Observatory Archive",
    homepage="https://koa.ipac.caltech.edu",
    license="other",
    license_name="keck-observatory-archive",
    license_link="https://koa.ipac.caltech.edu/UserGuide/policy.html",
    acknowledgement=(
        "This research has made use of the Keck Observatory Archive (KOA), which is operated by the W. M. Keck "
        "Observatory and the NASA Exoplanet Science Institute (NExScI), under contract with the National Aeronautics "
        "and Space Administration. Name the principal investigators of the data."
    ),
    citation="""@misc{keck_observatory_archive,
  author = {{W. M. Keck Observatory} and {NASA Exoplanet Science Institute}},
  title = {Keck Observatory Archive},
  howpublished = {https://koa.ipac.caltech.edu}
}""",
    tables=tuple(_table(instrument) for instrument in INSTRUMENTS),
    hosts=("koa.ipac.caltech.edu",),
    requests_per_second=1.0,
    concurrency=2,
    probe=("hires", {}),
    unverified=tuple(INSTRUMENTS),
    size="some millions of frames of eleven instruments, under 2 GB of tables",
)
