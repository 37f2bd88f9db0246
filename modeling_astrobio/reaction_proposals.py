"""New reactions of a network's compounds: a model says which belong together, exact arithmetic in what numbers."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from .constraint_balance import BalanceError, balance_residual, balanced_stoichiometry, conserved_amounts
from .metabolic_network import Compound


__all__ = ["ProposedReaction", "propose_reactions"]


@dataclass(frozen=True)
class ProposedReaction:
    """A balanced reaction.

    Attributes:
        stoichiometry: Compound to whole coefficient, negative where it is consumed.
        score: Sum of the logits of its compounds: the logarithm of its odds, up to a constant.
        residual: What it gains, of elements and charge; empty, since that is exactly 0.
    """

    stoichiometry: Mapping[str, int]
    score: float
    residual: Mapping[str, Fraction]


def propose_reactions(
    seed: str,
    compounds: Mapping[str, Compound],
    logits: Mapping[str, float],
    consumed: bool = True,
    with_charge: bool = True,
    count: int = 10,
    considered: int = 16,
    max_compounds: int = 5,
) -> list[ProposedReaction]:
    """Return balanced reactions of a compound, those of the likeliest compounds first.

    Tried are all sets of the `considered` likeliest compounds beside the seed, with the numbers of the null space, up
    to three others; and all reactions that turn the seed into any one compound of the network with up to three of the
    likeliest, one of each.

    Args:
        seed: The compound.
        compounds: Compounds of the network; those whose formula or charge is not known are not proposed.
        logits: Compound to the logit that it belongs to the reaction.
        consumed: Whether the seed is consumed.
        with_charge: Whether the charge is balanced too.
        count: Most reactions.
        considered: Compounds beside the seed that sets are made of, those with the highest logits.
        max_compounds: Most compounds of a reaction, the seed included.

    Raises:
        BalanceError: If the seed has no known formula or charge.
    """
    known = compounds[seed]
    amounts = {seed: conserved_amounts(seed, known.elements, known.charge, with_charge)}
    for name in sorted(logits, key=lambda each: (-logits[each], each)):
        compound = compounds[name]
        if name != seed and compound.elements is not None and (compound.charge is not None or not with_charge):
            amounts[name] = conserved_amounts(name, compound.elements, compound.charge, with_charge)
    likely = [name for name in amounts if name != seed][:considered]
    found: dict[frozenset[str], dict[str, int]] = {}
    for numbers in _transformations(seed, likely, amounts, min(3, max_compounds - 2)):
        found.setdefault(frozenset(numbers), numbers)
    for size in range(1, min(3, max_compounds - 1) + 1):
        for others in itertools.combinations(likely, size):
            names = (seed, *others)
            if frozenset(names) in found:
                continue
            try:
                found[frozenset(names)] = balanced_stoichiometry({name: amounts[name] for name in names})
            except BalanceError:
                continue
    proposals = []
    for numbers in found.values():
        signed = numbers if consumed == (numbers[seed] < 0) else {name: -number for name, number in numbers.items()}
        score = sum(logits[name] for name in signed if name != seed)
        proposals.append(ProposedReaction(signed, score, balance_residual(signed, amounts)))
    proposals.sort(key=lambda each: (-each.score, sorted(each.stoichiometry)))
    return proposals[:count]


def _transformations(
    seed: str, likely: Sequence[str], amounts: Mapping[str, Mapping[str, Fraction]], most: int
) -> Iterator[dict[str, int]]:
    """Yield reactions of one seed into one compound that the network has, with up to `most` others, one of each."""
    kinds = sorted({kind for amount in amounts.values() for kind in amount})
    vectors = {name: tuple(amount.get(kind, 0) for kind in kinds) for name, amount in amounts.items()}
    named: dict[tuple, list[str]] = {}
    for name, vector in vectors.items():
        named.setdefault(vector, []).append(name)
    for size in range(most + 1):
        for others in itertools.combinations(likely, size):
            for signs in itertools.product((-1, 1), repeat=size):
                product = list(vectors[seed])
                for name, sign in zip(others, signs, strict=True):
                    product = [own - sign * other for own, other in zip(product, vectors[name], strict=True)]
                for name in named.get(tuple(product), ()):
                    if name != seed and name not in others:
                        yield {seed: -1, **dict(zip(others, signs, strict=True)), name: 1}
