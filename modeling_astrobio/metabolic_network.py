"""Metabolic networks as records with exact stoichiometry."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from .constraint_balance import BalanceError, balance_residual, conserved_amounts, parse_formula
from .graph_record import GraphError


__all__ = [
    "Compound",
    "MetabolicNetwork",
    "NetworkError",
    "NetworkReaction",
    "check_balance",
    "exact_number",
    "has_charges",
]


class NetworkError(GraphError):
    """A metabolic network that cannot be read, or that holds what no network can."""


@dataclass(frozen=True)
class Compound:
    """A compound in a compartment.

    Attributes:
        id: Identifier in the network.
        formula: Formula as the file has it, empty if it has none.
        elements: Element, or open group R, X or Z, to count; `None` if the formula is missing or none.
        charge: Elementary charges; `None` if unknown.
        compartment: Identifier of the compartment.
    """

    id: str
    formula: str = ""
    elements: Mapping[str, Fraction] | None = None
    charge: Fraction | None = None
    compartment: str = "c"

    @classmethod
    def of(cls, id: str, formula: str = "", charge: float | None = None, compartment: str = "c") -> "Compound":
        """Make a compound of a formula and a charge; a charge that is NaN is unknown."""
        known = None if charge is None or math.isnan(charge) else exact_number(charge)
        return cls(id, formula, parse_formula(formula), known, compartment)


@dataclass(frozen=True)
class NetworkReaction:
    """A reaction.

    Attributes:
        id: Identifier in the network.
        stoichiometry: Compound to coefficient, negative where it is consumed.
        lower_bound: Least flux, mmol per gram dry weight and hour.
        upper_bound: Greatest flux, the same.
        subsystem: Pathway, empty if the model names none.
    """

    id: str
    stoichiometry: Mapping[str, Fraction]
    lower_bound: float = 0.0
    upper_bound: float = 1000.0
    subsystem: str = ""

    @property
    def boundary(self) -> bool:
        """Whether it exchanges one compound with what is not modelled; such a reaction cannot balance."""
        return len(self.stoichiometry) == 1

    @property
    def direction(self) -> int:
        """1 if the bounds allow forward flux alone, -1 if backward alone, 0 if both or none."""
        return (self.upper_bound > 0) - (self.lower_bound < 0)

    @property
    def reversible(self) -> bool:
        """Whether the bounds allow flux both ways."""
        return self.lower_bound < 0 < self.upper_bound


@dataclass(frozen=True)
class MetabolicNetwork:
    """A metabolic network; making one checks it.

    Attributes:
        id: Identifier.
        compounds: Identifier to compound.
        reactions: Identifier to reaction.
        objective: Reaction to its coefficient in what growth is measured by.

    Raises:
        NetworkError: If there are no reactions, a reaction has no compound, one that is not in the network, or a
            number that is no number.
    """

    id: str
    compounds: Mapping[str, Compound]
    reactions: Mapping[str, NetworkReaction]
    objective: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self):
        if not self.reactions:
            raise NetworkError(f"network {self.id} must hold reactions; it holds none. Leave it out.")
        for reaction in self.reactions.values():
            where = f"network {self.id}: reaction {reaction.id}"
            if not reaction.stoichiometry:
                raise NetworkError(f"{where} must have compounds; it has none. Remove it.")
            for compound, number in reaction.stoichiometry.items():
                if compound not in self.compounds:
                    raise NetworkError(f"{where} must be of compounds of the network; got {compound}. Add it.")
                if not math.isfinite(number) or not number:
                    raise NetworkError(
                        f"{where} must have coefficients that are finite and not 0; got {number} for {compound}. "
                        "Correct it."
                    )
            if math.isnan(reaction.lower_bound) or math.isnan(reaction.upper_bound):
                raise NetworkError(
                    f"{where} must have bounds that are numbers; got {reaction.lower_bound} and "
                    f"{reaction.upper_bound}. Correct them."
                )

    def without(self, reaction_ids: Iterable[str]) -> "MetabolicNetwork":
        """Return the network without these reactions, and without the compounds that no other reaction has."""
        removed = set(reaction_ids)
        unknown = removed - set(self.reactions)
        if unknown:
            raise NetworkError(f"network {self.id} must hold what is removed; got {', '.join(sorted(unknown))}.")
        reactions = {name: reaction for name, reaction in self.reactions.items() if name not in removed}
        used = {compound for reaction in reactions.values() for compound in reaction.stoichiometry}
        return replace(
            self,
            reactions=reactions,
            compounds={name: compound for name, compound in self.compounds.items() if name in used},
            objective={name: weight for name, weight in self.objective.items() if name not in removed},
        )

    def with_reactions(
        self, reactions: Iterable[NetworkReaction], compounds: Iterable[Compound] = ()
    ) -> "MetabolicNetwork":
        """Return the network with further reactions, each balanced exactly, and compounds that they bring.

        Raises:
            NetworkError: If a reaction is there already.
            BalanceError: If one does not balance; the message names it and what it gains.
        """
        added = {reaction.id: reaction for reaction in reactions}
        known = set(added) & set(self.reactions)
        if known:
            raise NetworkError(f"network {self.id} must not hold what is added; got {', '.join(sorted(known))}.")
        brought = {compound.id: compound for compound in compounds}
        whole = replace(self, reactions={**self.reactions, **added}, compounds={**brought, **self.compounds})
        for reaction in added.values():
            check_balance(whole, reaction)
        return whole


def check_balance(network: MetabolicNetwork, reaction: NetworkReaction) -> None:
    """Refuse a reaction that does not conserve elements and, where the network has charges, charge.

    Raises:
        BalanceError: If it gains or loses something, or a formula is missing; the message names it.
    """
    with_charge = has_charges(network)
    amounts = {}
    for name in reaction.stoichiometry:
        compound = network.compounds[name]
        amounts[name] = conserved_amounts(name, compound.elements, compound.charge, with_charge)
    residual = balance_residual(reaction.stoichiometry, amounts)
    if residual:
        gains = ", ".join(f"{gain} {kind}" for kind, gain in residual.items())
        raise BalanceError(
            f"reaction {reaction.id} of network {network.id} must conserve elements and charge; it gains {gains}. "
            "Correct its stoichiometry."
        )


def has_charges(network: MetabolicNetwork) -> bool:
    """Return whether any compound of a network has a known charge."""
    return any(compound.charge is not None for compound in network.compounds.values())


def exact_number(number: float) -> Fraction:
    """Return the decimal number that a float was written as: the shortest that reads back as it."""
    return Fraction(repr(float(number)))
