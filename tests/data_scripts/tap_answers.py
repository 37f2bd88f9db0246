"""A TAP service over rows in memory: the ADQL that the archives' modules write, answered as VOTable."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape, quoteattr

import pyarrow as pa
from replay import Asked, Reply

from data_scripts.harness.archive import Column


__all__ = ["rename_in_votable", "tap_answers", "tap_error"]

QUERY = re.compile(r"select (?:top (\d+) )?(.+?) from ([\w.]+)(?: where (.+))?")
TERM = re.compile(r"(\w+) (>=|<|=|is) (?:'((?:[^']|'')*)'|(\S+))")
XML_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">\n<RESOURCE type="results">\n'
)
XML_TAIL = "</RESOURCE>\n</VOTABLE>\n"


def tap_answers(
    path: str,
    tables: Mapping[str, tuple[Sequence[Column], Sequence[Mapping[str, Any]]]],
    unit_texts: Mapping[str, str],
) -> Callable[[Asked], Reply]:
    """Return what the service at `path` answers; `unit_texts` says how the archive writes units."""

    def answer(asked: Asked) -> Reply:
        if asked.path != path:
            return Reply(status=404)
        form = {name: values[0] for name, values in parse_qs(asked.body.decode()).items()} or {
            name.upper(): values[0] for name, values in asked.query.items()
        }
        assert form["REQUEST"] == "doQuery"
        assert form["LANG"] == "ADQL"
        assert form["FORMAT"] == "votable"
        found = QUERY.fullmatch(form["QUERY"])
        assert found is not None, form["QUERY"]
        top, selected, name, where = found.groups()
        columns, rows = tables[name]
        rows = [row for row in rows if all(_holds(row, term) for term in (where or "").split(" and ") if term)]
        if counting := re.fullmatch(r"count\(\*\) as (\w+)", selected):
            column = Column(counting[1].upper(), pa.int64(), "")
            return _votable([column], [{column.name: len(rows)}], unit_texts)
        by_name = {column.name: column for column in columns}
        return _votable([by_name[each] for each in selected.split(",")], rows[: int(top) if top else None], unit_texts)

    return answer


def tap_error(message: str) -> Reply:
    """The error of a TAP service, with status 200 as nexsciTAP sends it."""
    body = f'{XML_HEAD}<INFO name="QUERY_STATUS" value="ERROR">\n{escape(message)}\n</INFO>\n{XML_TAIL}'
    return Reply(headers={"content-type": "text/xml"}, body=body.encode())


def rename_in_votable(name: str, other: str) -> Callable[[Reply], Reply]:
    """Return what renames a column of a VOTable."""

    def change(reply: Reply) -> Reply:
        old, new = (f'<FIELD name="{each}" '.encode() for each in (name, other))
        return Reply(reply.status, reply.headers, reply.body.replace(old, new))

    return change


def _holds(row: Mapping[str, Any], term: str) -> bool:
    found = TERM.fullmatch(term)
    assert found is not None, term
    name, sign, text, number = found.groups()
    value = row[name]
    if sign == "is":
        return value is None
    if value is None:
        return False
    bound = text.replace("''", "'") if text is not None else float(number)
    return {">=": value >= bound, "<": value < bound, "=": value == bound}[sign]


def _votable(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], unit_texts: Mapping[str, str]) -> Reply:
    lines = [XML_HEAD, '<INFO name="QUERY_STATUS" value="OK"/>\n<TABLE>\n']
    for column in columns:
        kind = 'datatype="char" arraysize="*"'
        if pa.types.is_floating(column.dtype):
            kind = 'datatype="double"'
        elif pa.types.is_integer(column.dtype):
            kind = 'datatype="long"'
        unit = f" unit={quoteattr(unit_texts.get(column.unit, column.unit))}" if column.unit else ""
        lines.append(f"<FIELD name={quoteattr(column.name)} {kind}{unit}/>\n")
    lines.append("<DATA>\n<TABLEDATA>\n")
    for row in rows:
        cells = ("" if row[column.name] is None else escape(str(row[column.name])) for column in columns)
        lines.append("<TR>" + "".join(f"<TD>{cell}</TD>" for cell in cells) + "</TR>\n")
    lines.append(f"</TABLEDATA>\n</DATA>\n</TABLE>\n{XML_TAIL}")
    return Reply(headers={"content-type": "application/x-votable+xml"}, body="".join(lines).encode())
