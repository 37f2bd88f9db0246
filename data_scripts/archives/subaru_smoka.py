"""SMOKA, the public archive of Subaru: yearly observation logs by instrument, and headers of frames.

A log lies at https://smoka.nao.ac.jp/status/obslog/<instrument>_<year>.txt. Its first line has "#" and the column
names, the second rules the columns with hyphens, "---" stands for no value: so the Canadian Astronomy Data Centre's
collection of Subaru reads them. No recorded log was at hand; the reader of logs is made from that.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from astropy.io import fits

from data_scripts.archives.schemas.smoka import FRAMES, OBSERVATIONS, SUPRIME_CAM
from data_scripts.harness.archive import (
    Answer,
    Archive,
    Column,
    Identity,
    Option,
    Request,
    Selection,
    Stage,
    TableConfig,
)
from data_scripts.harness.errors import BadBodyError, BuildError


__all__ = ["ARCHIVE"]

URL = "https://smoka.nao.ac.jp/status/obslog"
INSTRUMENTS = ("CAC", "CIA", "COM", "FCS", "FMS", "HDS", "HIC", "HSC", "IRC", "K3D", "MCS", "MIR", "OHS", "SUP")

# What stands in a header in place of a value: https://subarutelescope.org/DATA/fits/ja/header/queue_keywords.html.
NO_VALUE = ("", "N/A", -9999.99)


def first_logs(selection: Selection) -> Iterator[Request]:
    """Ask for the log of each instrument and year."""
    years = re.fullmatch(r"(\d{4})(?:-(\d{4}))?", selection.options["years"])
    if not years or int(years[2] or years[1]) < int(years[1]):
        raise BuildError(f"years must be a year or two as 2014-2016; got {selection.options['years']!r}.")
    for instrument in selection.options.get("instruments", "SUP").split(","):
        if instrument not in INSTRUMENTS:
            raise BuildError(f"instruments must be of {', '.join(INSTRUMENTS)}; got {instrument!r}.")
        for year in range(int(years[1]), int(years[2] or years[1]) + 1):
            yield Request(f"{URL}/{instrument}_{year}.txt", stage="log", context=(("instrument", instrument),))


def log_rows(answer: Answer) -> Iterator[pa.Table]:
    """Read a log; every column is text, null where the cell is empty or hyphens.

    The boundary between two columns is the last place between their names that is blank in the ruling line, or, in a
    log without one, in all lines: numbers stand flush right below their names and have no blanks, texts flush left.
    """
    lines = [line.rstrip() for line in answer.text.splitlines() if line.strip()]
    if not lines or not lines[0].startswith("#"):
        raise BadBodyError("the first line of a log must be # and the column names")
    names = list(re.finditer(r"\S+", " " + lines[0][1:]))
    ruled = len(lines) > 1 and re.fullmatch(r"[#\s-]*--[#\s-]*", lines[1]) is not None
    rows = [line for line in lines[1 + ruled :] if not line.startswith("#")]
    guides = [lines[0], lines[1]] if ruled else [lines[0], *rows]
    boundaries = [0]
    for name, following in itertools.pairwise(names):
        places = range(following.start() - 1, name.end() - 1, -1)
        boundary = next(
            (place for place in places if not any(line[place : place + 1].strip() for line in guides)), None
        )
        if boundary is None:
            raise BadBodyError(f"columns {name[0]} and {following[0]} of the log run into one another")
        boundaries.append(boundary)
    for number, row in enumerate(rows, start=1):
        if any(row[boundary : boundary + 1].strip() for boundary in boundaries[1:]):
            raise BadBodyError(f"row {number} of the log does not fit the columns of its header")
    columns: dict[str, pa.Array] = {}
    for name, start, end in zip(names, boundaries, [*boundaries[1:], None], strict=True):
        if name[0] in columns:
            raise BadBodyError(f"the log names column {name[0]} twice")
        cells = (row[start:end].strip() for row in rows)
        columns[name[0]] = pa.array([None if re.fullmatch("-*", cell) else cell for cell in cells], pa.string())
    instrument = dict(answer.request.context).get("instrument", "")
    frames = columns["FRAME_ID"].to_pylist() if "FRAME_ID" in columns else []
    others = [frame for frame in frames if frame is not None and not frame.startswith(instrument)]
    if others:
        raise BadBodyError(f"the log of {instrument} has frame {others[0]}")
    yield pa.table(columns)


def recognise_log(columns: Iterable[Column], others: Iterable[Column] = ()) -> Callable[[str, bytes], str | None]:
    """Recogniser of logs that have all of `columns`, but not all of `others`."""
    wanted, unwanted = {column.name for column in columns}, {column.name for column in others}

    def recognise(name: str, head: bytes) -> str | None:
        names = set(head.decode("utf-8-sig", errors="replace").partition("\n")[0].removeprefix("#").split())
        refused = not wanted <= names or (unwanted and unwanted <= names)
        return None if refused or not head.lstrip(b"\xef\xbb\xbf").startswith(b"#") else "log"

    return recognise


def first_frames(selection: Selection) -> Iterator[Request]:
    """Refuse: SMOKA sends frames to registered persons who ask for them, not by address."""
    raise BuildError(
        "frames of subaru_smoka are read from files, SMOKA sends them to registered persons only; got no file. "
        "Request frames at https://smoka.nao.ac.jp and pass them with --from FILE..."
    )


def header_rows(answer: Answer) -> Iterator[pa.Table]:
    """Read a header that is kept as text, one card a line, as a table of one row."""
    yield _frame(fits.Header.fromstring(answer.text.replace("\r\n", "\n"), sep="\n"))


def fits_rows(answer: Answer) -> Iterator[pa.Table]:
    """Read the header of a frame; its pixels are left alone."""
    with fits.open(answer.path, memmap=True) as units:
        header = next((unit.header for unit in units if "FRAMEID" in unit.header), units[0].header)
    yield _frame(header)


def recognise_frame(name: str, head: bytes) -> str | None:
    """Return the stage that reads a Subaru frame or its header."""
    if b"FRAMEID =" not in head and b"FRAMEID=" not in head:
        return None
    if head.startswith(b"SIMPLE  =") and b"\n" not in head[:2880]:
        return "fits"
    return "header" if re.match(rb"[A-Z0-9_-]{1,8} *=", head) else None


def _frame(header: fits.Header) -> pa.Table:
    values: dict[str, Any] = {}
    for column in FRAMES:
        keyword = "RADESYS" if column.name == "RADECSYS" and "RADECSYS" not in header else column.name
        try:
            value = header.get(keyword)
        except fits.VerifyError as error:
            raise BadBodyError(f"the header's card {keyword} does not parse: {error}") from error
        if isinstance(value, str):
            value = value.strip()
        values[column.name] = None if value in NO_VALUE or isinstance(value, fits.card.Undefined) else value
    if values["FRAMEID"] is None:
        raise BadBodyError("the header has no FRAMEID: it is not of a Subaru frame")
    return pa.table({name: pa.array([value if value is None else str(value)]) for name, value in values.items()})


def unit_vector(table: pa.Table) -> pa.ChunkedArray:
    """Whether (X_2000, Y_2000, Z_2000) has length 1, as far as six decimals tell."""
    squares = [pc.multiply(table[name], table[name]) for name in ("X_2000", "Y_2000", "Z_2000")]
    return pc.less(pc.abs(pc.subtract(pc.add(pc.add(squares[0], squares[1]), squares[2]), 1.0)), 1e-5)


def logs(
    name: str, description: str, columns: tuple[Column, ...], options: dict[str, Option], **rest: Any
) -> TableConfig:
    return TableConfig(
        name=name,
        description=description,
        columns=columns,
        key=("FRAME_ID",),
        objects=("OBJECT2", "FRAME_ID"),
        first=first_logs,
        stages={"log": Stage("text", rows=log_rows)},
        options=options,
        **rest,
    )


ARCHIVE = Archive(
    name="subaru_smoka",
    title="SMOKA Science Archive: Subaru Telescope",
    homepage="https://smoka.nao.ac.jp",
    license="other",
    license_name="smoka-terms-of-use",
    license_link="https://smoka.nao.ac.jp",
    acknowledgement=(
        "Based in part on data collected at Subaru Telescope and obtained from the SMOKA, which is operated by the "
        "Astronomy Data Center, National Astronomical Observatory of Japan."
    ),
    citation="""@inproceedings{2002ASPC..281..298B,
  author = {Baba, H. and Yasuda, N. and Ichikawa, S. and Yagi, M. and Iwamoto, N. and others},
  title = {Development of the Subaru-Mitaka-Okayama-Kiso Archive System},
  booktitle = {Astronomical Data Analysis Software and Systems XI},
  series = {ASP Conference Series},
  volume = {281},
  pages = {298},
  year = {2002}
}""",
    tables=(
        logs(
            "suprime_cam",
            "Exposures of Suprime-Cam, one row an exposure, from the yearly observation logs.",
            SUPRIME_CAM,
            {"years": Option("2001-2017", "first and last year of the logs, or one year")},
            recognise=recognise_log(SUPRIME_CAM),
            identities=(
                Identity("unit vector", unit_vector, "X_2000^2 + Y_2000^2 + Z_2000^2 = 1 to the log's decimals"),
            ),
        ),
        logs(
            "observations",
            "Exposures of any instrument, with what all observation logs have.",
            OBSERVATIONS,
            {
                "instruments": Option("HSC", f"three-letter codes joined by commas, of {', '.join(INSTRUMENTS)}"),
                "years": Option("2014-2016", "first and last year of the logs, or one year"),
            },
            recognise=recognise_log(OBSERVATIONS, others=SUPRIME_CAM),
        ),
        TableConfig(
            name="frames",
            description="Headers of frames, one row a frame, from files that were requested from SMOKA.",
            columns=FRAMES,
            key=("FRAMEID",),
            objects=("OBJECT", "FRAMEID"),
            first=first_frames,
            stages={"header": Stage("text", rows=header_rows), "fits": Stage("fits", rows=fits_rows)},
            recognise=recognise_frame,
            default=False,
        ),
    ),
    hosts=("smoka.nao.ac.jp",),
    requests_per_second=0.5,
    concurrency=1,
    probe=("suprime_cam", {"years": "2002"}),
    unverified=("suprime_cam", "observations"),
    size="one log of exposures for each of 14 instruments and each year",
)
