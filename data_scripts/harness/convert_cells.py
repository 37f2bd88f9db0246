"""Turn the cells of an archive's column into a published type, exactly or not at all."""

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_scripts.harness.errors import BadBodyError


__all__ = ["convert_cells"]

Attempt = Callable[[pa.Array], pa.Array]

TRUE_WORDS = pa.array(["1", "t", "true", "y", "yes"])
FALSE_WORDS = pa.array(["0", "f", "false", "n", "no"])

# What follows the seconds' fraction of a time.
ZONE = r"([Zz]|[+-]\d\d:?\d\d)?$"


def convert_cells(values: pa.Array, dtype: pa.DataType, name: str) -> tuple[pa.Array, pa.Array | None]:
    """Convert a column; blank text and NaN become null, also inside lists.

    A number read from text is what the text says: no rounding to an integer, no hexadecimal, no digits of a time
    dropped. A list keeps its length. Binary floating point is rounded to the nearest value of `dtype`.

    Args:
        values: Cells as the archive gave them.
        dtype: Type of the published column.
        name: Column, for the message.

    Returns:
        The converted cells, and a mask of those that state something that does not convert (they are null in the
        first); None in place of a mask without any.

    Raises:
        BadBodyError: If cells of this type are never cells of `dtype`: the column changed its type.
    """
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind, wanted = _kind(values.type), _kind(dtype)
    if kind == "list" and wanted == "list":
        return _convert_lists(values, dtype, name)
    values = _blank_to_null(values, kind)
    if values.null_count == len(values):
        return pa.nulls(len(values), dtype), None
    attempts = [lambda cells: cells] if values.type == dtype else _attempts(kind, wanted, dtype)
    if not attempts:
        raise BadBodyError(f"column {name} must hold {dtype}; the body has {values.type}: its type changed")
    try:
        converted = attempts[0](values)
    except pa.ArrowInvalid:
        # A word that does not convert often fills half a column: each word is tried once.
        encoded = values.dictionary_encode()
        converted = _convert_each(encoded.dictionary, attempts, dtype).take(encoded.indices)
    if wanted == "floating" and kind == "text":
        # Text may say NaN, which states nothing.
        nan = pc.is_nan(converted)
        if pc.any(nan).as_py():
            nan = pc.fill_null(nan, False)
            converted, values = _null_where(nan, converted), _null_where(nan, values)
    elif wanted == "integer" and kind == "text" and converted.null_count > values.null_count:
        values = _null_where(_is_nan_word(values), values)
    if converted.null_count == values.null_count:
        return converted, None
    return converted, pc.and_(pc.is_null(converted), pc.is_valid(values))


def _kind(dtype: pa.DataType) -> str:
    types = pa.types
    tests = {
        "null": types.is_null,
        "text": lambda t: types.is_string(t) or types.is_large_string(t) or types.is_string_view(t),
        "integer": types.is_integer,
        "floating": types.is_floating,
        "boolean": types.is_boolean,
        "timestamp": types.is_timestamp,
        "date": types.is_date,
        "list": lambda t: types.is_list(t) or types.is_large_list(t) or types.is_fixed_size_list(t),
        "binary": lambda t: types.is_binary(t) or types.is_large_binary(t),
    }
    return next((kind for kind, test in tests.items() if test(dtype)), str(dtype))


def _blank_to_null(values: pa.Array, kind: str) -> pa.Array:
    if kind == "text":
        lengths = pc.binary_length(values)
        blank = pc.or_(pc.equal(lengths, pa.scalar(0, lengths.type)), pc.utf8_is_space(values))
    elif kind == "floating":
        blank = pc.is_nan(values)
    else:
        return values
    return _null_where(pc.fill_null(blank, False), values) if pc.any(blank).as_py() else values


def _null_where(mask: pa.Array, values: pa.Array) -> pa.Array:
    return pc.if_else(mask, pa.scalar(None, values.type), values)


def _is_nan_word(values: pa.Array) -> pa.Array:
    return pc.fill_null(pc.equal(pc.utf8_lower(pc.utf8_trim_whitespace(values)), "nan"), False)


def _attempts(kind: str, wanted: str, dtype: pa.DataType) -> Sequence[Attempt]:
    """Ways to convert, the fastest first; a later one sees what the earlier did not convert. Empty: there is none."""

    def cast(cells: pa.Array) -> pa.Array:
        return pc.cast(cells, dtype)

    def trimmed(cells: pa.Array) -> pa.Array:
        return cast(pc.utf8_trim_whitespace(cells))

    if kind == "text":
        by_target: dict[str, list[Attempt]] = {
            "text": [cast],
            "floating": [cast, trimmed],
            "integer": [
                lambda cells: cast(_without_hexadecimal(cells)),
                lambda cells: cast(pc.cast(pc.utf8_trim_whitespace(cells), pa.decimal128(38, 0))),
            ],
            "boolean": [_from_words],
            "timestamp": [cast, *_zone_attempts(dtype)],
            "date": [cast, lambda cells: cast(_at_midnight(_plain_time(cells, pa.timestamp("us"))))],
        }
        return by_target.get(wanted, [])
    if (kind, wanted) in {("integer", "boolean"), ("floating", "boolean")}:
        return [lambda cells: cast(_zero_or_one(cells))]
    if (kind, wanted) == ("timestamp", "date"):
        return [lambda cells: cast(_at_midnight(cells))]
    same = kind == wanted and kind in {"integer", "floating", "boolean", "timestamp", "date", "binary"}
    other = {
        ("integer", "floating"),
        ("integer", "text"),
        ("floating", "integer"),
        ("boolean", "integer"),
        ("date", "timestamp"),
    }
    return [cast] if same or (kind, wanted) in other else []


def _convert_each(words: pa.Array, attempts: Sequence[Attempt], dtype: pa.DataType) -> pa.Array:
    converted = pa.nulls(len(words), dtype)
    for attempt in attempts:
        left = _null_where(pc.is_valid(converted), words)
        converted = pc.coalesce(converted, _by_halves(left, attempt, dtype))
    return converted


def _by_halves(words: pa.Array, attempt: Attempt, dtype: pa.DataType) -> pa.Array:
    """Convert what converts: Arrow refuses an array whole, so that one bad word among n costs log n tries."""
    try:
        return attempt(words)
    except pa.ArrowInvalid:
        if len(words) == 1:
            return pa.nulls(1, dtype)
    half = len(words) // 2
    return pa.concat_arrays([_by_halves(words[:half], attempt, dtype), _by_halves(words[half:], attempt, dtype)])


def _without_hexadecimal(cells: pa.Array) -> pa.Array:
    # Arrow reads "0x10" as 16; a table that has such a cell does not mean that.
    if pc.any(pc.match_substring(cells, "x", ignore_case=True)).as_py():
        raise pa.ArrowInvalid("hexadecimal")
    return cells


def _from_words(cells: pa.Array) -> pa.Array:
    words = pc.utf8_lower(pc.utf8_trim_whitespace(cells))
    false_or_null = pc.if_else(pc.is_in(words, FALSE_WORDS), pa.scalar(False), pa.scalar(None, pa.bool_()))
    return pc.if_else(pc.is_in(words, TRUE_WORDS), pa.scalar(True), false_or_null)


def _zero_or_one(cells: pa.Array) -> pa.Array:
    if not pc.all(pc.or_(pc.equal(cells, 0), pc.equal(cells, 1))).as_py():
        raise pa.ArrowInvalid("neither 0 nor 1")
    return cells


def _at_midnight(cells: pa.Array) -> pa.Array:
    if not pc.all(pc.equal(cells, pc.floor_temporal(cells, unit="day"))).as_py():
        raise pa.ArrowInvalid("not at midnight")
    return cells


def _plain_time(cells: pa.Array, dtype: pa.DataType) -> pa.Array:
    """Read times after white space and the zeros that end a fraction are taken away."""
    cells = pc.replace_substring_regex(pc.utf8_trim_whitespace(cells), rf"(\.\d*?)0+{ZONE}", r"\1\2")
    return pc.cast(pc.replace_substring_regex(cells, rf"\.{ZONE}", r"\1"), dtype)


def _zone_attempts(dtype: pa.DataType) -> list[Attempt]:
    """Times without zone for a column with one, and the reverse: what states no zone is in UTC."""

    def through(zone: str | None) -> Attempt:
        return lambda cells: pc.cast(_plain_time(cells, pa.timestamp(dtype.unit, zone)), dtype)

    return [through(None), through("UTC")]


def _convert_lists(values: pa.Array, dtype: pa.DataType, name: str) -> tuple[pa.Array, pa.Array | None]:
    lengths = pc.cast(pc.fill_null(pc.list_value_length(values), 0), pa.int64())
    flat, failed_cells = convert_cells(pc.list_flatten(values), dtype.value_type, name)
    offsets = pa.concat_arrays([pa.array([0], pa.int64()), pc.cumulative_sum(lengths)])
    large = pa.LargeListArray.from_arrays(offsets, flat, mask=pc.is_null(values))
    failed = pa.array(np.zeros(len(values), bool))
    if failed_cells is not None:
        rows = pc.filter(pc.list_parent_indices(large), failed_cells)
        failed = pc.is_in(pa.array(np.arange(len(values))), rows)
    if pa.types.is_fixed_size_list(dtype):
        wrong = pc.fill_null(pc.not_equal(pc.list_value_length(values), dtype.list_size), False)
        failed = pc.or_(failed, wrong)
    if not pc.any(failed).as_py():
        return pc.cast(large, dtype), None
    # A list type has no null scalar in if_else for every layout; taking a null index has the same effect.
    kept = pc.if_else(failed, pa.scalar(None, pa.int64()), pa.array(np.arange(len(values))))
    return pc.cast(large.take(kept), dtype), failed
