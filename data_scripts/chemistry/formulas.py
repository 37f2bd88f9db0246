"""Chemical formulas and stoichiometry as exact numbers, and what a reaction gains or loses."""

import re
from collections import defaultdict
from collections.abc import Mapping
from fractions import Fraction


__all__ = ["balance", "exact", "parse_formula"]

_ELEMENTS = frozenset(
    re.findall(
        r"\w+",
        "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr "
        "Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir "
        "Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh "
        "Fl Mc Lv Ts Og",
    )
)
# Groups that models leave open, such as the protein of an acyl carrier; they are conserved like elements.
_GROUPS = frozenset("RXZ")
_PART = re.compile(r"([A-Z][a-z]?)([0-9]+(?:\.[0-9]+)?)?")


def exact(number: float) -> Fraction:
    """Return the decimal number that a float was written as: the shortest that reads back as it."""
    return Fraction(repr(float(number)))


def parse_formula(text: str | None) -> dict[str, Fraction] | None:
    """Read a formula such as `C10H12N5O13P3`.

    Returns:
        Element, or open group R, X or Z, to count; None if there is no formula, or the text is none.
    """
    text = (text or "").strip()
    parts = _PART.findall(text)
    if not text or "".join(symbol + count for symbol, count in parts) != text:
        return None
    if not {symbol for symbol, _ in parts} <= _ELEMENTS | _GROUPS:
        return None
    counts: dict[str, Fraction] = defaultdict(Fraction)
    for symbol, count in parts:
        counts[symbol] += Fraction(count or 1)
    return dict(counts)


def balance(
    stoichiometry: Mapping[str, Fraction], amounts: Mapping[str, Mapping[str, Fraction] | None]
) -> dict[str, Fraction] | None:
    """Return what a reaction gains of each element: sum over metabolites of coefficient times count.

    Args:
        stoichiometry: Metabolite to coefficient, negative where it is consumed.
        amounts: Metabolite to element to count, None where that is unknown.

    Returns:
        Element to gain, exact, without those whose gain is 0; None if it is unknown for a metabolite.
    """
    gains: dict[str, Fraction] = defaultdict(Fraction)
    for metabolite, coefficient in stoichiometry.items():
        amount = amounts[metabolite]
        if amount is None:
            return None
        for element, count in amount.items():
            gains[element] += coefficient * count
    return {element: gain for element, gain in gains.items() if gain}
