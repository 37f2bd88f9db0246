"""Read metabolic models, SBML or cobra's JSON, as plain data with exact balances."""

import gzip
import hashlib
import io
import json
import logging
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cobra
from cobra.util.solver import linear_reaction_coefficients

from data_scripts.chemistry.formulas import balance, exact, parse_formula
from data_scripts.harness.errors import BuildError


__all__ = ["MetabolicModel", "Metabolite", "Reaction", "model_files", "read_model"]

_SUFFIXES = (".json", ".sbml", ".xml")
# The solver behind cobra ends the process at a longer name, or at one with a control character.
_LONGEST_NAME = 250
_CHARGE = "charge"
_FLUX_BALANCE = "http://www.sbml.org/sbml/level3/version1/fbc/"


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


def model_files(folder: Path) -> list[Path]:
    """Return the models of a folder, sorted by name.

    Raises:
        BuildError: If there is none.
    """
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [path for path in paths if path.is_file() and _plain_name(path).endswith(_SUFFIXES)]
    if not found:
        raise BuildError(
            f"models must be a folder with {', '.join(_SUFFIXES)}, plain or .gz; {folder} holds none. "
            "Put SBML files or cobra's JSON there."
        )
    return found


def read_model(path: Path) -> MetabolicModel:
    """Read a model with cobra.

    Raises:
        BuildError: If the file is damaged or no model that cobra reads, or has a number that is none.
    """
    body = path.read_bytes()
    try:
        text = (gzip.decompress(body) if path.suffix.lower() == ".gz" else body).decode("utf-8-sig")
        with _quiet():
            model = _from_json(text) if _plain_name(path).endswith(".json") else _from_sbml(text)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise BuildError(f"{path.name} must be a whole file in UTF-8; got {error}. Fetch it again.") from error
    # cobra raises what its libraries do, of many types, on a file that is not as they expect.
    except Exception as error:
        reason = " ".join(str(error.__cause__ or error.__context__ or error).split())[:300]
        raise BuildError(
            f"{path.name} must be a model that cobra reads; got {type(error).__name__}: {reason}. "
            "See cobra.io.validate_sbml_model, and leave the file out or correct it."
        ) from error
    metabolites = _metabolites(model)
    elements = {metabolite.id: metabolite.elements for metabolite in metabolites}
    charges = {
        metabolite.id: None if metabolite.charge is None else {_CHARGE: metabolite.charge}
        for metabolite in metabolites
    }
    objective = {reaction.id: float(number) for reaction, number in linear_reaction_coefficients(model).items()}
    reactions = tuple(_reaction(reaction, elements, charges, objective, path.name) for reaction in model.reactions)
    if not any(reaction.stoichiometry for reaction in reactions):
        raise BuildError(f"{path.name} must hold reactions of metabolites; it holds none. Leave the file out.")
    taxa = [taxon for taxon in _annotated(model, "taxonomy") if taxon.isdecimal()]
    return MetabolicModel(
        id=model.id or path.name.partition(".")[0],
        name=model.name or "",
        taxon_id=int(taxa[0]) if taxa else None,
        compartments={str(key): str(name or "") for key, name in sorted(model.compartments.items())},
        genes=tuple(gene.id for gene in model.genes),
        metabolites=metabolites,
        reactions=reactions,
        sha256=hashlib.sha256(body).hexdigest(),
    )


def _plain_name(path: Path) -> str:
    return path.name.lower().removesuffix(".gz")


@contextmanager
def _quiet() -> Iterator[None]:
    """What cobra remarks about legacy files, thousands of lines a model, is not for who builds a data set."""
    logger = logging.getLogger("cobra")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _from_sbml(text: str) -> cobra.Model:
    replace = {
        f"F_{kind}": lambda sid, prefix=prefix: _plain_id(sid, prefix)
        for kind, prefix in (("GENE", "G_"), ("SPECIE", "M_"), ("REACTION", "R_"), ("GROUP", "G_"))
    }
    model = cobra.io.read_sbml_model(io.StringIO(text), f_replace=replace)
    for metabolite in _without_charge(text):
        model.metabolites.get_by_id(metabolite).charge = None
    return model


def _without_charge(text: str) -> list[str]:
    """Metabolites whose charge the file leaves out; where the package `fbc` is used, cobra reads 0 for them."""
    if _FLUX_BALANCE not in text:
        return []
    species = []
    for _, element in ElementTree.iterparse(io.BytesIO(text.encode())):
        tag = element.tag.rpartition("}")[2]
        if tag == "species" and not any(
            name.startswith(f"{{{_FLUX_BALANCE}") and name.endswith("}charge") for name in element.attrib
        ):
            species.append(_plain_id(element.attrib["id"], "M_"))
        if tag in ("species", "reaction"):
            element.clear()
    return species


def _plain_id(sid: str, prefix: str) -> str:
    """Undo how SBML identifiers are spelled, as cobra does, but for codes that no writer makes of a character.

    Old files have `__4__` where cobra would read the control character 4, which ends the process.
    """
    sid = sid.replace("__SBML_DOT__", ".") if prefix == "G_" else sid
    sid = re.sub(
        r"__(\d+)__", lambda found: chr(int(found[1])) if 32 <= int(found[1]) < 127 else found[0], sid
    ).removeprefix(prefix)
    return _checked_name(sid)


def _from_json(text: str) -> cobra.Model:
    content = json.loads(text)
    for kind in ("metabolites", "reactions"):
        for item in content[kind]:
            _checked_name(item["id"])
    return cobra.io.from_json(text)


def _checked_name(name: str) -> str:
    if not name.isprintable() or not 0 < len(name.encode()) <= _LONGEST_NAME:
        raise ValueError(f"an identifier must be 1 to {_LONGEST_NAME} printable characters; got {name[:300]!r}")
    return name


def _metabolites(model: cobra.Model) -> tuple[Metabolite, ...]:
    # A file that charges nothing states no charges: its writer had to put a number.
    charged = any(metabolite.charge for metabolite in model.metabolites)
    return tuple(
        Metabolite(
            id=metabolite.id,
            name=metabolite.name or "",
            formula=metabolite.formula or "",
            elements=parse_formula(metabolite.formula),
            charge=exact(metabolite.charge) if charged and metabolite.charge is not None else None,
            compartment=metabolite.compartment or "",
            chebi_ids=tuple(f"CHEBI:{key.removeprefix('CHEBI:')}" for key in _annotated(metabolite, "chebi")),
        )
        for metabolite in model.metabolites
    )


def _reaction(
    reaction: cobra.Reaction,
    elements: Mapping[str, Mapping[str, Fraction] | None],
    charges: Mapping[str, Mapping[str, Fraction] | None],
    objective: Mapping[str, float],
    file: str,
) -> Reaction:
    numbers = [*reaction.bounds, *reaction.metabolites.values()]
    if any(math.isnan(number) for number in numbers) or any(math.isinf(number) for number in numbers[2:]):
        raise BuildError(
            f"reaction {reaction.id} of {file} must have bounds and finite coefficients; got {numbers}. Correct it."
        )
    stoichiometry = {metabolite.id: exact(number) for metabolite, number in reaction.metabolites.items()}
    charge = balance(stoichiometry, charges)
    return Reaction(
        id=reaction.id,
        name=reaction.name or "",
        stoichiometry=stoichiometry,
        lower_bound=float(reaction.lower_bound),
        upper_bound=float(reaction.upper_bound),
        objective=objective.get(reaction.id, 0.0),
        gene_rule=reaction.gene_reaction_rule or "",
        subsystem=reaction.subsystem or "",
        boundary=reaction.boundary,
        element_gains=balance(stoichiometry, elements),
        charge_gain=None if charge is None else charge.get(_CHARGE, Fraction()),
        rhea_ids=tuple(f"RHEA:{key.removeprefix('RHEA:')}" for key in _annotated(reaction, "rhea")),
        ec_numbers=tuple(_annotated(reaction, "ec-code")),
    )


def _annotated(item: Any, key: str) -> list[str]:
    """Annotations of one kind, whether the file has one, several, or pairs of a qualifier and one."""
    found = (item.annotation or {}).get(key, [])
    texts = [found] if isinstance(found, str) else [text if isinstance(text, str) else text[-1] for text in found]
    return list(dict.fromkeys(texts))
