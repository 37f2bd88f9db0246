"""Planet Hunters TESS candidates, and the threshold crossing events of Kepler that volunteers and pipelines vet."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from data_scripts.archives.protocols.delimited import csv_head, csv_rows
from data_scripts.archives.protocols.ipac import ipac_rows
from data_scripts.archives.protocols.nexsci_tables import NSTED, Exports
from data_scripts.archives.schemas import kepler_tce, planet_hunters_tess
from data_scripts.harness.archive import NO_LICENSE, Answer, Archive, Identity, Request, Selection, Stage, TableConfig
from data_scripts.harness.errors import BadBodyError


__all__ = ["ARCHIVE"]

CANDIDATES_URL = "https://raw.githubusercontent.com/noraeisner/PHT_exoplanet_candidates/main/PHT_candidates_info.csv"

# Numbers of the Kepler Input Catalog end at 13,161,029.
KEPIDS = 13_161_030
KEPID_STEP = 1_000_000
DR25 = "q1_q17_dr25_tce"

MOVED = ("Depth mmag", "Depth mmag Error", "Depth ppm", "Depth ppm Error", "Duration (hrs)")
RIGHT = ("Duration (hrs)", "Depth mmag", "Depth mmag Error", "Depth ppm", "Depth ppm Error")


def first_candidates(selection: Selection) -> Iterator[Request]:
    """Ask for the list, where its authors published it."""
    yield Request(CANDIDATES_URL, stage="list")


def candidates_rows(answer: Answer) -> Iterator[pa.Table]:
    """Read the list, put moved cells right and number each star's different rows.

    The list joins two exports of ExoFOP. In one the duration stands before the depths, under a header that has it
    behind them; what stands under `MOVED` is then that of `RIGHT`. Some stars have one CTOI in more than one row.
    """
    table = pa.concat_tables(csv_rows(answer))
    vanished = sorted({"TIC ID", *MOVED} - set(table.column_names))
    if vanished:
        raise BadBodyError(f"the list of candidates has no column {', '.join(vanished)}")
    seen: dict[tuple[str, ...], str] = {}
    of_star: Counter[str] = Counter()
    rows = table.to_pylist()
    for row in rows:
        cells, star = tuple(row.values()), row["TIC ID"]
        if cells not in seen:
            of_star[star] += 1
            seen[cells] = f"{star}-{of_star[star]}" if star else ""
        row["candidate"] = seen[cells]
        row["depth_cells_moved"] = _moved(row)
        if row["depth_cells_moved"]:
            row.update(zip(RIGHT, [row[name] for name in MOVED], strict=True))
    columns = [*table.column_names, "candidate", "depth_cells_moved"]
    types = [pa.bool_() if name == "depth_cells_moved" else pa.string() for name in columns]
    yield pa.Table.from_pylist(rows, schema=pa.schema(list(zip(columns, types, strict=True))))


def _moved(row: dict[str, str]) -> bool | None:
    """Whether the depths of a row agree only after moving; None where they do not tell."""
    here = _same_depth(row["Depth mmag"], row["Depth ppm"])
    moved = _same_depth(row["Depth mmag Error"], row["Depth ppm Error"])
    if here:
        return False
    return True if moved else None


def _same_depth(magnitude: str, fraction: str) -> bool:
    """Whether a depth in millimagnitudes is a depth in millionths, to 1%."""
    try:
        lost = float(fraction) * 1e-6
        return 0 < lost < 1 and math.isclose(float(magnitude), -2500 * math.log10(1 - lost), rel_tol=0.01)
    except ValueError:
        return False


def same_depths(table: pa.Table) -> pa.ChunkedArray:
    """Whether "Depth mmag" is "Depth ppm" in magnitudes, to 1%; null where one is missing or no depth."""
    lost = pc.multiply(table["Depth ppm"], 1e-6)
    lost = pc.if_else(pc.and_(pc.greater(lost, 0.0), pc.less(lost, 1.0)), lost, None)
    magnitude = pc.multiply(pc.log10(pc.subtract(1.0, lost)), -2500.0)
    return pc.less_equal(pc.abs(pc.subtract(pc.divide(table["Depth mmag"], magnitude), 1.0)), 0.01)


def recognise_candidates(name: str, head: bytes) -> str | None:
    """Return the stage that reads the list of candidates."""
    rows = csv_head(head)
    wanted = {"TIC ID", "CTOI", "cTOI author", "period_PHT"}
    return "list" if rows is not None and wanted <= set(rows.column_names) else None


def first_events(table: str) -> Callable[[Selection], Iterator[Request]]:
    """First requests of a table of nstedAPI: ranges of stars, so that a build goes on where it was stopped."""

    def first(selection: Selection) -> Iterator[Request]:
        columns = ",".join(column.name for column in kepler_tce.COLUMNS)
        for low in range(0, KEPIDS, KEPID_STEP):
            high = low + KEPID_STEP
            params = (
                ("table", table),
                ("select", columns),
                ("where", f"kepid>={low} and kepid<{high}"),
                ("format", "ipac"),
            )
            yield Request(NSTED, stage="events", params=params, context=(("low", str(low)), ("high", str(high))))

    return first


def event_rows(answer: Answer) -> Iterator[pa.Table]:
    """Read an answer and hold its rows to the range of stars that was asked for."""
    low, high = (int(dict(answer.request.context)[name]) for name in ("low", "high"))
    for table in ipac_rows(answer):
        if "kepid" in table.column_names:
            stars = [int(star) for star in table["kepid"].to_pylist() if star is not None and star.isdecimal()]
            others = [star for star in stars if not low <= star < high]
            if others:
                raise BadBodyError(f"the answer for stars {low} to {high - 1} has star {others[0]}")
        yield table


def recognise_events(table: str, exports: Exports) -> Callable[[str, bytes], str | None]:
    """Recogniser of downloaded files of events: those of the last delivery alone, or any others."""

    def recognise(name: str, head: bytes) -> str | None:
        stage = exports.recognise(name, head)
        if stage is None:
            return None
        of_last_delivery = set(re.findall(rb"\bq\d+_q\d+\w*_tce\b", head)) == {DR25.encode()}
        return stage if of_last_delivery == (table == DR25) else None

    return recognise


CANDIDATES = TableConfig(
    name="candidates",
    description="Planet candidates that volunteers of Planet Hunters TESS found, with the authors' transit fits.",
    columns=planet_hunters_tess.COLUMNS,
    key=("candidate",),
    objects=("TIC ID",),
    first=first_candidates,
    stages={"list": Stage("csv", rows=candidates_rows)},
    recognise=recognise_candidates,
    identities=(Identity("transit depth", same_depths, "Depth mmag = -2500 log10(1 - 1e-6 Depth ppm), to 1%"),),
)


def events(name: str, table: str, description: str, default: bool) -> TableConfig:
    exports = Exports("tce", kepler_tce.COLUMNS, {"tce": ("kepid", "tce_plnt_num", "tce_delivname")}, core=())
    return TableConfig(
        name=name,
        description=description,
        columns=kepler_tce.COLUMNS,
        key=("tce_delivname", "kepid", "tce_plnt_num"),
        objects=("kepid",),
        first=first_events(table),
        stages={"events": Stage("ipac", rows=event_rows), **exports.stages()},
        recognise=recognise_events(table, exports),
        default=default,
    )


ARCHIVE = Archive(
    name="planet_hunters",
    title="Planet Hunters TESS and Kepler threshold crossing events",
    homepage="https://www.zooniverse.org/projects/nora-dot-eisner/planet-hunters-tess",
    license="other",
    license_name=NO_LICENSE,
    license_link="https://github.com/noraeisner/PHT_exoplanet_candidates",
    license_note=(
        "The repository of the candidate list states no licence: you may read and cite it, but leave to publish "
        "copies is the authors' to give. Ask them before you publish `candidates`; `push` uploads it to private "
        "repositories alone. The threshold crossing events are the NASA Exoplanet Archive's, free to use with its "
        "acknowledgement."
    ),
    acknowledgement=(
        "This research has made use of candidates found by the volunteers of Planet Hunters TESS on the Zooniverse "
        "(Eisner et al. 2021), and of the NASA Exoplanet Archive, which is operated by the California Institute of "
        "Technology, under contract with the National Aeronautics and Space Administration under the Exoplanet "
        "Exploration Program."
    ),
    citation="""@article{2021MNRAS.501.4669E,
  author = {Eisner, N. L. and Barrag{\\'a}n, O. and Lintott, C. and Aigrain, S. and Nicholson, B. and others},
  title = {Planet Hunters TESS II: findings from the first two years of TESS},
  journal = {Monthly Notices of the Royal Astronomical Society},
  volume = {501},
  pages = {4669},
  year = {2021},
  doi = {10.1093/mnras/staa3739}
}
@article{2016AJ....152..158T,
  author = {Twicken, J. D. and Jenkins, J. M. and Seader, S. E. and Tenenbaum, P. and Smith, J. C. and others},
  title = {Detection of Potential Transit Signals in 17 Quarters of Kepler Data},
  journal = {The Astronomical Journal},
  volume = {152},
  pages = {158},
  year = {2016},
  doi = {10.3847/0004-6256/152/6/158}
}""",
    tables=(
        CANDIDATES,
        events(
            "tce_dr25",
            DR25,
            "Threshold crossing events of Kepler's last delivery (Q1-Q17 DR25), one row an event.",
            default=True,
        ),
        events("tce", "tce", "Threshold crossing events of all Kepler deliveries, one row an event.", default=False),
    ),
    hosts=("raw.githubusercontent.com", "exoplanetarchive.ipac.caltech.edu"),
    requests_per_second=1.0,
    concurrency=2,
    probe=("candidates", {}),
    size="138 candidates, 34,032 events of DR25, about 60 MB; all deliveries a few times that",
)
