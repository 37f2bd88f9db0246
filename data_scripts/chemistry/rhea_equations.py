"""Read reactions as UniProt and Rhea write them: `ATP + H2O = ADP + phosphate + H(+)`."""

import math
import re


__all__ = ["parse_equation"]

_COUNTED = re.compile(r"(?P<count>\d+) (?P<name>\S.*)")
# Polymers have a count of n, 2n or (n+1) monomers.
_COUNTED_BY_LETTER = re.compile(r"(?:\d*[mn]|\(\d*[mn][+-]\d+\)) (?P<name>\S.*)")


def parse_equation(text: str) -> list[tuple[str, float]]:
    """Read the participants of a reaction.

    Returns:
        Name and coefficient of each participant of each side, left before right, negative on the left, NaN where it
        is a letter; a participant of both sides is there twice. Empty if the text is no equation: old entries of
        enzymes describe what they do in words.
    """
    sides = text.strip().rstrip(".").split(" = ")
    if len(sides) != 2:
        return []
    found = []
    for sign, side in zip((-1.0, 1.0), sides, strict=True):
        for part in f" {side} ".split(" + "):
            name, count = part.strip(), 1.0
            if counted := _COUNTED.fullmatch(name):
                name, count = counted["name"], float(counted["count"])
            elif counted := _COUNTED_BY_LETTER.fullmatch(name):
                name, count = counted["name"], math.nan
            if not name:
                return []
            found.append((name, sign * count))
    return found
