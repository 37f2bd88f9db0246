"""What `conform` must do, one cell at a time, in plain Python."""

import datetime
import json
import math
import re
from decimal import Decimal, InvalidOperation

import pyarrow as pa


__all__ = ["naive_conform"]

NULL, BAD = "null", "bad"
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE)
TIME = re.compile(r"(\d{4}-\d\d-\d\d)([T ](\d\d:\d\d:\d\d)(\.\d+)?)?(Z|[+-]\d\d:\d\d)?")


def naive_conform(table, config):
    """Return published rows, and `row_json` with the columns at fault, of `nasty_config`."""
    good, rejected = [], []
    for row in table.to_pylist():
        published, faults = {}, []
        for column in config.columns:
            outcome, value = _cell(row[column.name], column.dtype)
            if outcome == BAD:
                faults.append(f"{column.name} is not {column.dtype}")
            elif outcome == NULL and column.name in config.key:
                faults.append(f"{column.name} is null and belongs to the key")
            else:
                faults += _outside(value, column)
            published[column.name] = value
        if faults:
            rejected.append((json.dumps(_finite(row), ensure_ascii=False), faults))
        else:
            good.append(published)
    return good, rejected


def _cell(value, dtype):
    if isinstance(value, list):
        cells = [_cell(each, dtype.value_type) for each in value]
        return (BAD, None) if any(outcome == BAD for outcome, _ in cells) else ("fine", [each for _, each in cells])
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NULL, None
    if isinstance(value, float):
        return "fine", value
    if not value.strip():
        return NULL, None
    if pa.types.is_string(dtype):
        return "fine", value
    text = value.strip()
    read = {
        pa.types.is_floating: _number,
        pa.types.is_integer: _integer,
        pa.types.is_boolean: _flag,
        pa.types.is_timestamp: _time,
    }
    return next(reader for test, reader in read.items() if test(dtype))(text)


def _number(text):
    if text.lower() == "nan":
        return NULL, None
    return ("fine", float(text)) if NUMBER.fullmatch(text) else (BAD, None)


def _integer(text):
    if text.lower() == "nan":
        return NULL, None
    try:
        number = Decimal(text)
    except InvalidOperation:
        return BAD, None
    if number != int(number) or not -(2**63) <= number < 2**63:
        return BAD, None
    return "fine", int(number)


def _flag(text):
    word = text.lower()
    if word in {"1", "t", "true", "y", "yes"}:
        return "fine", True
    return ("fine", False) if word in {"0", "f", "false", "n", "no"} else (BAD, None)


def _time(text):
    match = TIME.fullmatch(text)
    if match is None:
        return BAD, None
    day, _, clock, fraction, zone = match.groups()
    digits = (fraction or "").rstrip("0")
    if len(digits) > 7:
        return BAD, None
    try:
        time = datetime.datetime.fromisoformat(f"{day}T{clock or '00:00:00'}{digits if len(digits) > 1 else ''}")
    except ValueError:
        return BAD, None
    offset = zone if zone and zone != "Z" else "+00:00"
    return "fine", time.replace(tzinfo=datetime.datetime.fromisoformat(f"2000-01-01T00:00:00{offset}").tzinfo)


def _outside(value, column):
    cells = value if isinstance(value, list) else [value]
    numbers = [cell for cell in cells if isinstance(cell, int | float) and not isinstance(cell, bool)]
    unit = f" {column.unit}" if column.unit else ""
    faults = []
    if any(math.isinf(number) for number in numbers):
        faults.append(f"{column.name} is infinite")
    if column.minimum is not None and any(number < column.minimum for number in numbers):
        faults.append(f"{column.name} is below {column.minimum:g}{unit}")
    if column.maximum is not None and any(number > column.maximum for number in numbers):
        faults.append(f"{column.name} is above {column.maximum:g}{unit}")
    return faults


def _finite(value):
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
