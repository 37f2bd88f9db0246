"""Metabolic models as plain data with exact balances."""

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cobra
from cobra.util.solver import linear_reaction_coefficients

from data_scripts.chemistry.formulas import balance, exact, parse_formula
from data_scripts.chemistry.model_files import read_cobra_model
from data_scripts.harness.errors import BuildError


__all__ = ["MetabolicModel", "Metabolite", "Reaction", "read_model"]

_CHARGE = "charge"


@dataclass(frozen=True)
class Metabolite:
    """A metabolite in a compartment.

    Attributes:
        id: Identifier in the model.
        name: Name.
        formula: Formula, as the file has it; empty if it has none.
        elements: Element to count, or None if the formula is unknown.
        charge: Elementary charges, or None if unknown.
        compartment: Identifier of the compartment.
        chebi_ids: Entries of ChEBI that the file annotates.
    """

    id: str
    name: str
    formula: str
    elements: Mapping[str, Fraction] | None
    charge: Fraction | None
    compartment: str
    chebi_ids: tuple[str, ...]


@dataclass(frozen=True)
class Reaction:
    """A reaction.

    Attributes:
        id: Identifier in the model.
        name: Name.
        stoichiometry: Metabolite to coefficient, negative where it is consumed.
        lower_bound: Least flux, mmol per gram dry weight and hour.
        upper_bound: Greatest flux, the same.
        objective: Coefficient in the model's objective.
        gene_rule: Genes, joined by `and` and `or`.
        subsystem: Pathway.
        boundary: Whether it exchanges a metabolite with what is not modelled.
        element_gains: Element to what the reaction gains, without zeros; None if a formula is unknown.
        charge_gain: Charge that it gains; None if a charge is unknown.
        rhea_ids: Entries of Rhea that the file annotates.
        ec_numbers: Enzyme Commission numbers that the file annotates.
    """

    id: str
    name: str
    stoichiometry: Mapping[str, Fraction]
    lower_bound: float
    upper_bound: float
    objective: float
    gene_rule: str
    subsystem: str
    boundary: bool
    element_gains: Mapping[str, Fraction] | None
    charge_gain: Fraction | None
    rhea_ids: tuple[str, ...]
    ec_numbers: tuple[str, ...]


@dataclass(frozen=True)
class MetabolicModel:
    """A metabolic model.

    Attributes:
        id: Identifier, or the file's name without suffix.
        name: Name, empty if it has none.
        taxon_id: NCBI taxon that the file annotates, or None.
        compartments: Identifier to name.
        genes: Identifiers.
        metabolites: In the order of the file.
        reactions: In the order of the file.
        sha256: SHA-256 of the file.
    """

    id: str
    name: str
    taxon_id: int | None
    compartments: Mapping[str, str]
    genes: tuple[str, ...]
    metabolites: tuple[Metabolite, ...]
    reactions: tuple[Reaction, ...]
    sha256: str


def read_model(path: Path) -> MetabolicModel:
    """Read a model with cobra.

    Raises:
        BuildError: If the file is damaged or no model that cobra reads, or has a number that is none.
    """
    body = path.read_bytes()
    model = read_cobra_model(path, body)
    try:
        found = _model(model, path.name.partition(".")[0], hashlib.sha256(body).hexdigest())
    # cobra does not look at what JSON and YAML have for names, formulas, charges and annotations.
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
        raise BuildError(f"{path.name} must be a model with numbers and names in their places; {error}.") from error
    if not any(reaction.stoichiometry for reaction in found.reactions):
        raise BuildError(f"{path.name} must hold reactions of metabolites; it holds none. Leave the file out.")
    return found


def _model(model: cobra.Model, file_stem: str, sha256: str) -> MetabolicModel:
    metabolites = _metabolites(model)
    elements = {metabolite.id: metabolite.elements for metabolite in metabolites}
    charges = {
        metabolite.id: None if metabolite.charge is None else {_CHARGE: metabolite.charge}
        for metabolite in metabolites
    }
    objective = {reaction.id: float(number) for reaction, number in linear_reaction_coefficients(model).items()}
    taxa = [int(taxon) for taxon in _annotated(model, "taxonomy") if re.fullmatch("[0-9]{1,10}", taxon)]
    return MetabolicModel(
        id=model.id or file_stem,
        name=_text(model.name),
        taxon_id=taxa[0] if taxa else None,
        compartments={str(key): _text(name) for key, name in model.compartments.items()},
        genes=tuple(gene.id for gene in model.genes),
        metabolites=metabolites,
        reactions=tuple(_reaction(reaction, elements, charges, objective) for reaction in model.reactions),
        sha256=sha256,
    )


def _metabolites(model: cobra.Model) -> tuple[Metabolite, ...]:
    charges = [_charge(metabolite) for metabolite in model.metabolites]
    # A file that charges nothing states no charges: its writer had to put a number.
    charged = any(charges)
    return tuple(
        Metabolite(
            id=metabolite.id,
            name=_text(metabolite.name),
            formula=_text(metabolite.formula),
            elements=parse_formula(_text(metabolite.formula)),
            charge=charge if charged else None,
            compartment=_text(metabolite.compartment),
            chebi_ids=tuple(f"CHEBI:{key.removeprefix('CHEBI:')}" for key in _annotated(metabolite, "chebi")),
        )
        for metabolite, charge in zip(model.metabolites, charges, strict=True)
    )


def _charge(metabolite: cobra.Metabolite) -> Fraction | None:
    if metabolite.charge is None or math.isnan(float(metabolite.charge)):
        return None
    return exact(metabolite.charge)


def _reaction(
    reaction: cobra.Reaction,
    elements: Mapping[str, Mapping[str, Fraction] | None],
    charges: Mapping[str, Mapping[str, Fraction] | None],
    objective: Mapping[str, float],
) -> Reaction:
    coefficients = [*reaction.metabolites.values(), objective.get(reaction.id, 0.0)]
    if any(math.isnan(bound) for bound in reaction.bounds) or not all(map(math.isfinite, coefficients)):
        raise ValueError(
            f"reaction {reaction.id} must have bounds and finite coefficients; got {list(reaction.bounds)} and "
            f"{coefficients}. Correct it"
        )
    stoichiometry = {metabolite.id: exact(number) for metabolite, number in reaction.metabolites.items()}
    charge = balance(stoichiometry, charges)
    return Reaction(
        id=reaction.id,
        name=_text(reaction.name),
        stoichiometry=stoichiometry,
        lower_bound=float(reaction.lower_bound),
        upper_bound=float(reaction.upper_bound),
        objective=objective.get(reaction.id, 0.0),
        gene_rule=_text(reaction.gene_reaction_rule),
        subsystem=_text(reaction.subsystem),
        boundary=reaction.boundary,
        element_gains=balance(stoichiometry, elements),
        charge_gain=None if charge is None else charge.get(_CHARGE, Fraction()),
        rhea_ids=tuple(f"RHEA:{key.removeprefix('RHEA:')}" for key in _annotated(reaction, "rhea")),
        ec_numbers=tuple(_annotated(reaction, "ec-code")),
    )


def _text(value: Any) -> str:
    """A text, whether the file has one, none, or several, as YAML may have of pathways."""
    return "; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value or "")


def _annotated(item: Any, key: str) -> list[str]:
    """Annotations of one kind, whether the file has one, several, or pairs of a qualifier and one."""
    found = (item.annotation or {}).get(key) or []
    several = found if isinstance(found, list | tuple) else [found]
    return list(dict.fromkeys(str(each[-1] if isinstance(each, list | tuple) else each) for each in several))
