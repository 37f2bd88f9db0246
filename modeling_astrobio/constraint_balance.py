"""Conservation of elements and charge in reactions, in exact arithmetic: residuals, and the integer vectors without.

A reaction is balanced if its stoichiometric vector lies in the null space of the matrix with a row for each element
and one for the charge, and a column for each compound. Nothing here is rounded: a residual of 0 is exactly 0.
"""

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction


__all__ = [
    "CHARGE",
    "ELEMENTS",
    "BalanceError",
    "balance_residual",
    "balanced_stoichiometry",
    "conservation_matrix",
    "conserved_amounts",
    "integer_null_space",
    "parse_formula",
]

ELEMENTS = tuple(
    re.findall(
        r"\w+",
        "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr "
        "Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir "
        "Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh "
        "Fl Mc Lv Ts Og",
    )
)
CHARGE = "charge"
# Groups that models leave open, such as the protein of an acyl carrier, are conserved like elements.
_CONSERVED = frozenset((*ELEMENTS, "R", "X", "Z"))
_PART = re.compile(r"([A-Z][a-z]?)([0-9]+(?:\.[0-9]+)?)?")
# Combinations of a basis that are looked through for the smallest coefficients; nets of more reactions are refused.
_MOST_FACTOR, _MOST_DIMENSIONS = 3, 4


class BalanceError(ValueError):
    """A reaction that does not balance, or compounds of which none can be made that does."""


def parse_formula(text: str | None) -> dict[str, Fraction] | None:
    """Read a formula such as `C10H12N5O13P3`.

    Returns:
        Element, or open group R, X or Z, to count; `None` if there is no formula, or the text is none.
    """
    text = (text or "").strip()
    parts = _PART.findall(text)
    if not text or "".join(symbol + count for symbol, count in parts) != text:
        return None
    if not {symbol for symbol, _ in parts} <= _CONSERVED:
        return None
    counts: dict[str, Fraction] = defaultdict(Fraction)
    for symbol, count in parts:
        counts[symbol] += Fraction(count or 1)
    return {symbol: count for symbol, count in counts.items() if count}


def conserved_amounts(
    name: str, elements: Mapping[str, Fraction] | None, charge: Fraction | None, with_charge: bool = True
) -> dict[str, Fraction]:
    """Return what of a compound is conserved: its elements, and its charge under `CHARGE`.

    Args:
        name: Of the compound, for the message.
        elements: Element to count.
        charge: Elementary charges.
        with_charge: Whether the charge counts; without, it need not be known.

    Raises:
        BalanceError: If elements or charge are not known.
    """
    if elements is None:
        raise BalanceError(f"compound {name} must have a formula to be balanced; got none that can be read. Add it.")
    if not with_charge:
        return dict(elements)
    if charge is None:
        raise BalanceError(
            f"compound {name} must have a charge to be balanced; got none. Add it, or balance elements alone."
        )
    return {**elements, CHARGE: charge}


def balance_residual(
    stoichiometry: Mapping[str, Fraction | int], amounts: Mapping[str, Mapping[str, Fraction]]
) -> dict[str, Fraction]:
    """Return what a reaction gains: sum over compounds of coefficient times amount, without those that are 0.

    Args:
        stoichiometry: Compound to coefficient, negative where it is consumed.
        amounts: Compound to element, or `CHARGE`, to amount.

    Raises:
        BalanceError: If a compound has no amounts.
    """
    gains: dict[str, Fraction] = defaultdict(Fraction)
    for compound, coefficient in stoichiometry.items():
        if compound not in amounts:
            raise BalanceError(f"compound {compound} must have amounts to be balanced; got none. Add its formula.")
        for kind, amount in amounts[compound].items():
            gains[kind] += coefficient * amount
    return {kind: gain for kind, gain in gains.items() if gain}


def conservation_matrix(amounts: Sequence[Mapping[str, Fraction | int]]) -> list[list[int]]:
    """Return the matrix with a row for what is conserved and a column for a compound, each row made whole numbers."""
    kinds = list(dict.fromkeys(kind for amount in amounts for kind in amount))
    rows = []
    for kind in kinds:
        row = [Fraction(amount.get(kind, 0)) for amount in amounts]
        scale = math.lcm(*(number.denominator for number in row))
        rows.append([int(number * scale) for number in row])
    return rows


def integer_null_space(matrix: Sequence[Sequence[int]], columns: int | None = None) -> list[list[int]]:
    """Return a basis of the lattice of all whole-number vectors that a matrix of whole numbers sends to 0.

    Columns are reduced by unimodular operations (Cohen 1993, A Course in Computational Algebraic Number Theory,
    algorithm 2.4.10), so that every whole-number solution is a whole-number combination of the basis; then the basis
    is shortened. Python's integers do not overflow.

    Args:
        matrix: Rows of equal length.
        columns: That length; needed where there are no rows.
    """
    count = len(matrix[0]) if columns is None else columns
    # A column holds its part of the matrix, then its part of the transformation.
    state = [
        [*(row[place] for row in matrix), *(int(place == other) for other in range(count))] for place in range(count)
    ]
    first = 0
    for row in range(len(matrix)):
        while True:
            live = sorted((abs(state[place][row]), place) for place in range(first, count) if state[place][row])
            if len(live) < 2:
                break
            pivot = state[live[0][1]]
            for _, place in live[1:]:
                factor = state[place][row] // pivot[row]
                state[place] = [own - factor * other for own, other in zip(state[place], pivot, strict=True)]
        if live:
            place = live[0][1]
            state[first], state[place] = state[place], state[first]
            first += 1
    return _shortened([column[len(matrix) :] for column in state[first:]])


def _shortened(basis: list[list[int]]) -> list[list[int]]:
    """Subtract whole multiples of vectors from one another while that makes one shorter."""
    changed = True
    while changed:
        changed = False
        for one, other in itertools.permutations(range(len(basis)), 2):
            factor = round(Fraction(_dot(basis[one], basis[other]), _dot(basis[other], basis[other])))
            shorter = [own - factor * theirs for own, theirs in zip(basis[one], basis[other], strict=True)]
            if _dot(shorter, shorter) < _dot(basis[one], basis[one]):
                basis[one], changed = shorter, True
    return basis


def _dot(one: Sequence[int], other: Sequence[int]) -> int:
    return sum(first * second for first, second in zip(one, other, strict=True))


def balanced_stoichiometry(amounts: Mapping[str, Mapping[str, Fraction | int]]) -> dict[str, int]:
    """Return the balanced reaction of all given compounds with the smallest whole coefficients.

    It is unique but for its sign where the null space has one dimension. Where it has more, the reaction is a sum of
    several, and the one with the smallest sum of coefficients is taken. The first compound is consumed.

    Args:
        amounts: Compound to what is conserved of it, see `conserved_amounts`.

    Raises:
        BalanceError: If no balanced reaction has all these compounds, some on each side.
    """
    names = list(amounts)
    basis = integer_null_space(conservation_matrix(list(amounts.values())), len(names))
    if len(basis) > _MOST_DIMENSIONS:
        raise BalanceError(
            f"compounds must admit at most {_MOST_DIMENSIONS} independent reactions; got {len(basis)} of "
            f"{', '.join(names)}. Name fewer compounds."
        )
    factors = range(-_MOST_FACTOR, _MOST_FACTOR + 1) if len(basis) > 1 else (1,)
    found: list[int] | None = None
    for combination in itertools.product(factors, repeat=len(basis)) if basis else ():
        vector = [_dot(combination, numbers) for numbers in zip(*basis, strict=True)]
        if not all(vector) or min(vector) > 0 or max(vector) < 0 or math.gcd(*vector) != 1:
            continue
        if found is None or sum(map(abs, vector)) < sum(map(abs, found)):
            found = vector
    if found is None:
        raise BalanceError(
            f"compounds must admit a reaction of all of them that conserves elements and charge, with both sides "
            f"non-empty; got {', '.join(names) or 'none'}, which admit none. Add or leave out a compound."
        )
    sign = -1 if found[0] > 0 else 1
    return {name: sign * number for name, number in zip(names, found, strict=True)}
