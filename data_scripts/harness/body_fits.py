"""Check of FITS files: every header and data unit must be there to its last block.

Sizes follow the FITS Standard 4.0, sections 4.4.1, 6.1 and 7: https://fits.gsfc.nasa.gov/standard40/fits_standard40aa-le.pdf
"""

import math
import re
from typing import BinaryIO

from data_scripts.harness.errors import BadBodyError


__all__ = ["check_fits"]

_BLOCK = 2880  # bytes
_CARD = 80  # bytes
_CHUNK = 1 << 20  # bytes
_MOST_HEADER_BLOCKS = 10_000
_INTEGER = re.compile(rb"(\S+)\s*=\s*([+-]?\d+)\s*(/.*)?", re.S)


def check_fits(file: BinaryIO) -> None:
    """Refuse a FITS file that was cut; reads it to its end.

    Raises:
        BadBodyError: If a header does not end, the data are shorter than it says, or no multiple of 2,880 bytes.
    """
    first = file.read(_BLOCK)
    if not first.startswith(b"SIMPLE  ="):
        raise BadBodyError(f"FITS begins with SIMPLE; this begins with {first[:60]!r}", again=True)
    unit = 0
    while first:
        # Some writers fill the file up with empty blocks.
        if unit and not first.strip(b"\0 "):
            first = file.read(_BLOCK)
            continue
        if unit and not first.startswith(b"XTENSION"):
            raise BadBodyError(f"unit {unit} of the FITS file begins with {first[:60]!r}, not XTENSION", again=True)
        _skip(file, _data_bytes(file, first, unit), unit)
        unit += 1
        first = file.read(_BLOCK)


def _data_bytes(file: BinaryIO, block: bytes, unit: int) -> int:
    """Read a header to its END and return the bytes of data that follow, in whole blocks."""
    cards: dict[bytes, int] = {}
    grouped = False
    for _ in range(_MOST_HEADER_BLOCKS):
        if len(block) < _BLOCK:
            break
        for start in range(0, _BLOCK, _CARD):
            card = block[start : start + _CARD]
            if card.rstrip() == b"END":
                return _padded(cards, grouped=grouped, unit=unit)
            if match := _INTEGER.fullmatch(card.rstrip()):
                cards.setdefault(match[1], int(match[2]))
            grouped |= card.startswith(b"GROUPS  =") and card[10:30].strip() == b"T"
        block = file.read(_BLOCK)
    raise BadBodyError(f"the header of unit {unit} of the FITS file does not end", again=True)


def _padded(cards: dict[bytes, int], *, grouped: bool, unit: int) -> int:
    try:
        axes = [cards[b"NAXIS%d" % axis] for axis in range(1, cards[b"NAXIS"] + 1)]
        bits = abs(cards[b"BITPIX"])
    except KeyError as error:
        raise BadBodyError(f"unit {unit} of the FITS file has no {error.args[0].decode()}", again=True) from error
    if grouped and axes and axes[0] == 0:
        axes = axes[1:]
    elements = math.prod(axes) if axes else 0
    size = bits // 8 * cards.get(b"GCOUNT", 1) * (cards.get(b"PCOUNT", 0) + elements) if axes else 0
    return math.ceil(size / _BLOCK) * _BLOCK


def _skip(file: BinaryIO, size: int, unit: int) -> None:
    # Read, not sought: a seek goes beyond the end without a word, and a gzip file is checked by reading.
    left = size
    while left:
        chunk = file.read(min(left, _CHUNK))
        if not chunk:
            raise BadBodyError(f"unit {unit} of the FITS file lacks {left} of {size} bytes of data", again=True)
        left -= len(chunk)
