"""Balances are exact: the null space against enumeration, curated reactions recovered, refusals named."""

import itertools
import random
from fractions import Fraction

import pytest
from metabolic_models import FORMULAS, REACTIONS, stoichiometry

from modeling_astrobio.constraint_balance import (
    CHARGE,
    BalanceError,
    balance_residual,
    balanced_stoichiometry,
    conservation_matrix,
    conserved_amounts,
    integer_null_space,
    parse_formula,
)


AMOUNTS = {f"{name}_c": {**parse_formula(formula), CHARGE: Fraction(q)} for name, (formula, q) in FORMULAS.items()}


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("C6H12O6", {"C": 6, "H": 12, "O": 6}),
        ("CHClFe", {"C": 1, "H": 1, "Cl": 1, "Fe": 1}),
        ("C2H4C3", {"C": 5, "H": 4}),
        ("C0.5H1.25R", {"C": Fraction(1, 2), "H": Fraction(5, 4), "R": 1}),
        ("", None),
        (None, None),
        ("Ferredoxin", None),
        ("C6(H2O)6", None),
        ("Xx2", None),
    ],
)
def test_formulas(text, counts):
    assert parse_formula(text) == counts


def brute_force_null_vectors(matrix, columns, most):
    """All whole-number vectors of small entries that the matrix sends to 0."""
    return {
        vector
        for vector in itertools.product(range(-most, most + 1), repeat=columns)
        if any(vector) and all(sum(a * x for a, x in zip(row, vector, strict=True)) == 0 for row in matrix)
    }


@pytest.mark.parametrize("seed", range(25))
def test_null_space_spans_every_whole_number_solution(seed):
    generator = random.Random(seed)
    columns, rows = generator.choice([(3, 1), (4, 2), (4, 3), (5, 3)])
    matrix = [[generator.randint(-3, 3) for _ in range(columns)] for _ in range(rows)]
    basis = integer_null_space(matrix, columns)
    for vector in basis:
        assert all(sum(a * x for a, x in zip(row, vector, strict=True)) == 0 for row in matrix)
    spanned = {
        tuple(sum(f * vector[place] for f, vector in zip(factors, basis, strict=True)) for place in range(columns))
        for factors in itertools.product(range(-30, 31), repeat=len(basis))
    }
    assert len(basis) <= 3
    assert brute_force_null_vectors(matrix, columns, 3) <= spanned


def test_null_space_of_no_rows_is_everything():
    assert sorted(integer_null_space([], 2)) == [[0, 1], [1, 0]]


def test_null_space_does_not_overflow():
    large = 10**30
    assert integer_null_space([[large, -3 * large + 1]]) in ([[3 * large - 1, large]], [[1 - 3 * large, -large]])


@pytest.mark.parametrize("name", sorted(set(REACTIONS) - {"PPS"}))
def test_curated_reactions_are_recovered_from_their_compounds(name):
    expected = stoichiometry(*REACTIONS[name][:2])
    first = next(iter(expected))
    found = balanced_stoichiometry({compound: AMOUNTS[compound] for compound in expected})
    assert found == {compound: number * (-1 if expected[first] > 0 else 1) for compound, number in expected.items()}
    assert all(isinstance(number, int) for number in found.values())


def test_of_several_reactions_the_smallest_is_taken():
    # PPS and ATP hydrolysis and the adenylate kinase share compounds: the null space has two dimensions.
    names = ["atp_c", "h2o_c", "adp_c", "pi_c", "h_c", "amp_c"]
    amounts = {name: AMOUNTS[name] for name in names}
    assert len(integer_null_space(conservation_matrix(list(amounts.values())))) == 2
    found = balanced_stoichiometry(amounts)
    assert balance_residual(found, amounts) == {}
    assert all(found.values())
    smallest = min(
        sum(map(abs, vector))
        for vector in brute_force_null_vectors(conservation_matrix(list(amounts.values())), 6, 3)
        if all(vector)
    )
    assert sum(map(abs, found.values())) == smallest


def test_fractions_in_formulas_are_exact():
    amounts = {"a": {"C": Fraction(1, 3)}, "b": {"C": Fraction("0.1")}}
    assert balanced_stoichiometry(amounts) == {"a": -3, "b": 10}


def test_thousands_of_random_proposals_have_a_residual_of_exactly_zero():
    generator = random.Random(0)
    names, kept = sorted(AMOUNTS), 0
    for _ in range(4000):
        amounts = {name: AMOUNTS[name] for name in generator.sample(names, generator.randint(2, 7))}
        try:
            found = balanced_stoichiometry(amounts)
        except BalanceError:
            continue
        kept += 1
        assert balance_residual(found, AMOUNTS) == {}
        assert set(found) == set(amounts)
        assert min(found.values()) < 0 < max(found.values())
    assert kept > 50


@pytest.mark.parametrize("names", [["glc_c"], ["glc_c", "pyr_c"], ["atp_c", "adp_c", "glc_c"], []])
def test_compounds_without_a_reaction_are_refused(names):
    with pytest.raises(BalanceError, match=f"got {', '.join(names) or 'none'}, which admit none"):
        balanced_stoichiometry({name: AMOUNTS[name] for name in names})


def test_a_reaction_needs_two_sides():
    with pytest.raises(BalanceError, match="both sides"):
        balanced_stoichiometry({"vacuum": {}})


def test_too_many_independent_reactions_are_refused():
    with pytest.raises(BalanceError, match="at most 4 independent reactions; got 5"):
        balanced_stoichiometry({f"isomer_{place}": {"C": 1} for place in range(6)})


def test_residual_names_what_is_gained():
    numbers = {"atp_c": Fraction(-1), "adp_c": Fraction(1)}
    assert balance_residual(numbers, AMOUNTS) == {"O": -3, "P": -1, CHARGE: 1}
    with pytest.raises(BalanceError, match="compound unknown_c must have amounts"):
        balance_residual({"unknown_c": Fraction(1)}, AMOUNTS)


def test_tenths_do_not_leave_a_rounding():
    # In floats the sum is 5.6e-17.
    numbers = {"a": Fraction("-0.1"), "b": Fraction("-0.2"), "c": Fraction("0.3")}
    assert balance_residual(numbers, {key: {"C": Fraction(1)} for key in "abc"}) == {}


def test_what_is_not_known_cannot_be_balanced():
    with pytest.raises(BalanceError, match="compound x must have a formula"):
        conserved_amounts("x", None, Fraction(0))
    with pytest.raises(BalanceError, match="compound x must have a charge"):
        conserved_amounts("x", {"C": Fraction(1)}, None)
    assert conserved_amounts("x", {"C": Fraction(1)}, None, with_charge=False) == {"C": 1}
