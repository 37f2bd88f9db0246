"""Gemini Observatory Archive: what was observed, by `jsonsummary`, in ranges of days below its result limit."""

import ast
import datetime
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from data_scripts.archives.schemas.gemini import COLUMNS
from data_scripts.harness.archive import Answer, Archive, Credential, Option, Request, Selection, Stage, TableConfig
from data_scripts.harness.errors import BadBodyError, BuildError


__all__ = ["ARCHIVE"]

URL = "https://archive.gemini.edu/jsonsummary"
FIRST_DAYS = 7
TELESCOPES = ("Gemini-North", "Gemini-South")

# The archive cuts a result without a word at `fits_closed_result_limit`, a selection that it takes for open at
# `fits_open_result_limit` (fits_storage.conf in github.com/GeminiDRSoftware/FitsStorage); either may be a cut one.
RESULT_LIMIT = 2000
OPEN_RESULT_LIMIT = 500


def first(selection: Selection) -> Iterator[Request]:
    """Ask for ranges of `FIRST_DAYS` days from the first to the last."""
    start, end = (_day(selection.options[name], name) for name in ("start", "end"))
    if end < start:
        raise BuildError(f"end must not be before start ({start}); got {end}. Pass --set end=YYYY-MM-DD.")
    terms = selection.options["selection"].strip("/")
    if selection.since is not None:
        # Days of the archive's records end before 2100.
        terms += f"/entrytimedaterange={selection.since:%Y%m%d}-20991231"
    while start <= end:
        last = min(start + datetime.timedelta(days=FIRST_DAYS - 1), end)
        yield _request(terms, start, last)
        start = last + datetime.timedelta(days=1)


def rows(answer: Answer) -> Iterator[pa.Table]:
    """Read observations; a body that the limit may have cut has none: the ranges that follow it have them all."""
    records = _records(answer)
    if _is_cut(answer, records):
        return
    for record in records:
        missing = [column.name for column in COLUMNS if column.name not in record]
        if missing:
            raise BadBodyError(f"an entry of the summary lacks {', '.join(missing)}")
    yield pa.table({column.name: _cells(column.name, column.dtype, records) for column in COLUMNS})


def follow(answer: Answer) -> Sequence[Request]:
    """Ask for both halves of a range whose body the limit may have cut; a single day is halved by telescope."""
    if not _is_cut(answer, _records(answer)):
        return ()
    context = dict(answer.request.context)
    start, end = (datetime.date.fromisoformat(context[name]) for name in ("start", "end"))
    if start < end:
        middle = start + (end - start) // 2
        return (
            _request(context["terms"], start, middle),
            _request(context["terms"], middle + datetime.timedelta(days=1), end),
        )
    if context["telescope"]:
        raise BadBodyError(
            f"{context['telescope']} has more files on {start} than the archive lists at once; narrow the selection, "
            f"for example --set selection={context['terms']}/OBJECT"
        )
    return tuple(_request(context["terms"], start, end, telescope) for telescope in TELESCOPES)


def recognise(name: str, head: bytes) -> str | None:
    """Return the stage that reads a summary; a plain list of files lacks the telescope."""
    fields = {b'"data_label"', b'"observation_class"', b'"telescope"', b'"ut_datetime"'}
    return "summary" if head.lstrip().startswith(b"[") and all(field in head for field in fields) else None


def _request(terms: str, start: datetime.date, end: datetime.date, telescope: str = "") -> Request:
    parts = [URL, "canonical", terms, telescope, f"{start:%Y%m%d}-{end:%Y%m%d}"]
    return Request(
        "/".join(part for part in parts if part),
        stage="summary",
        context=(("start", str(start)), ("end", str(end)), ("telescope", telescope), ("terms", terms)),
    )


def _records(answer: Answer) -> list[dict[str, Any]]:
    try:
        records = json.loads(answer.text)
    except json.JSONDecodeError as error:
        raise BadBodyError(f"the summary is not JSON: {error}", again=True) from error
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise BadBodyError("the summary is not a list of objects")
    context = dict(answer.request.context)
    for record in records if "start" in context else ():
        day = str(record.get("ut_datetime"))[:10]
        if not context["start"] <= day <= context["end"] or context["telescope"] not in ("", record.get("telescope")):
            raise BadBodyError(
                f"the summary of {context['start']} to {context['end']} has a file of {record.get('telescope')} "
                f"of {day}"
            )
    return records


def _is_cut(answer: Answer, records: list[dict[str, Any]]) -> bool:
    """Whether rows may be missing; a file that a person brought is taken as it is."""
    if "start" not in dict(answer.request.context):
        return False
    told = bool(records) and bool(records[-1].get("results_truncated"))
    return told or len(records) == OPEN_RESULT_LIMIT or len(records) >= RESULT_LIMIT


def _cells(name: str, dtype: pa.DataType, records: list[dict[str, Any]]) -> pa.Array:
    values = [record[name] for record in records]
    if pa.types.is_list(dtype):
        return pa.array([_tags(value) for value in values], dtype)
    if any(isinstance(value, str) for value in values):
        return pa.array([value if value is None else str(value) for value in values], pa.string())
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise BadBodyError(f"{name} changes its type within the summary: {error}") from error


def _tags(value: object) -> list[str] | None:
    """Tags of the data, which the archive writes as the text of a Python list or set."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value) if value.strip() else None
        except (ValueError, SyntaxError) as error:
            raise BadBodyError(f"types is not a list of tags: {value!r}") from error
    if value is None:
        return None
    if not isinstance(value, list | tuple | set):
        raise BadBodyError(f"types is not a list of tags: {value!r}")
    tags = [str(tag) for tag in value]
    return sorted(tags) if isinstance(value, set) else tags


def _day(text: str, option: str) -> datetime.date:
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        raise BuildError(f"{option} must be a day as YYYY-MM-DD; got {text!r}. Pass --set {option}=2020-01-31.")
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise BuildError(f"{option} must be a day of the calendar; got {text!r}. Correct --set {option}.") from error


OBSERVATIONS = TableConfig(
    name="observations",
    description="Files of the Gemini telescopes, one row a file, with target, instrument, conditions and checksums.",
    columns=COLUMNS,
    key=("filename",),
    objects=("object", "observation_id", "filename"),
    first=first,
    stages={"summary": Stage("json", rows=rows, follow=follow)},
    recognise=recognise,
    options={
        "start": Option("2000-01-01", "first UT day of observation"),
        "end": Option("2025-12-31", "last UT day of observation"),
        "selection": Option(
            "notengineering/NotFail/not_site_monitoring",
            "terms of the archive's URLs, joined by slashes, see https://archive.gemini.edu/help/api.html",
        ),
    },
)

ARCHIVE = Archive(
    name="gemini",
    title="Gemini Observatory Archive",
    homepage="https://archive.gemini.edu",
    license="other",
    license_name="gemini-observatory-archive-terms",
    license_link="https://archive.gemini.edu/help/about.html",
    acknowledgement=(
        "Based on observations obtained at the international Gemini Observatory, a program of NSF NOIRLab, acquired "
        "through the Gemini Observatory Archive at NSF NOIRLab."
    ),
    citation="""@inproceedings{2016SPIE.9913E..1EH,
  author = {Hirst, Paul and Cardenes, Ricardo},
  title = {The new Gemini Observatory archive: a fast and low cost observatory data archive running in the cloud},
  booktitle = {Software and Cyberinfrastructure for Astronomy IV},
  series = {Proceedings of the SPIE},
  volume = {9913},
  pages = {99131E},
  year = {2016},
  doi = {10.1117/12.2231833}
}""",
    tables=(OBSERVATIONS,),
    hosts=("archive.gemini.edu",),
    requests_per_second=1.0,
    concurrency=2,
    credentials=(
        Credential(
            variables=("GEMINI_ARCHIVE_SESSION",),
            purpose="coordinates and names of the account's own proprietary data",
            headers=lambda values: {"Cookie": f"gemini_archive_session={values['GEMINI_ARCHIVE_SESSION']}"},
        ),
    ),
    probe=("observations", {"start": "2010-12-31", "end": "2010-12-31", "selection": "OBJECT/GMOS-N"}),
    size="millions of files, 2 kB of summary each",
)
