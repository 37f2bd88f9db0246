"""Metabolic networks from SBML, cobra's JSON, or a cobra model, and back to one."""

import gzip
import io
import json
import logging
import math
import warnings
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any, Union

from .metabolic_network import Compound, MetabolicNetwork, NetworkError, NetworkReaction, exact_number


try:
    import cobra
    from cobra.util.solver import linear_reaction_coefficients
except ImportError:
    cobra = None


__all__ = ["network_from_cobra", "network_to_cobra", "read_network", "read_networks"]


def read_network(source: Union[str, PathLike, "cobra.Model"]) -> MetabolicNetwork:
    """Read a network from SBML (`.xml`, `.sbml`), cobra's JSON, either plain or `.gz`, or from a cobra model.

    Raises:
        ImportError: If cobra is not installed.
        NetworkError: If the file is damaged or no model, or holds what no network can.
    """
    if cobra is None:
        raise ImportError("metabolic networks need the package cobra; it is not installed. Run pip install cobra.")
    if isinstance(source, cobra.Model):
        return network_from_cobra(source)
    path = Path(source)
    plain = path.name.lower().removesuffix(".gz")
    try:
        body = path.read_bytes()
        text = (gzip.decompress(body) if path.suffix.lower() == ".gz" else body).decode("utf-8-sig")
        with _quiet():
            if plain.endswith((".xml", ".sbml")):
                model = cobra.io.read_sbml_model(io.StringIO(text))
            elif plain.endswith(".json"):
                model = cobra.io.model_from_dict(json.loads(text))
            else:
                raise ValueError("another kind of file")
    except (OSError, EOFError, zlib.error) as error:
        raise NetworkError(f"{path.name} must be a whole file; got {error}. Fetch it again.") from error
    # cobra raises what its libraries do, of many types, on a file that is not as they expect.
    except Exception as error:
        reason = " ".join(str(error.__cause__ or error).split())[:300]
        raise NetworkError(
            f"{path.name} must be SBML or cobra's JSON, plain or .gz; got {type(error).__name__}: {reason}."
        ) from error
    return network_from_cobra(model, plain.rpartition(".")[0])


def read_networks(sources: Iterable[Any]) -> tuple[list[MetabolicNetwork], dict[str, str]]:
    """Read networks, one after another.

    Args:
        sources: Of each, see `read_network`.

    Returns:
        Those that could be read, and for each other one its name and what is wrong with it.
    """
    found, errors = [], {}
    for place, source in enumerate(sources):
        try:
            found.append(read_network(source))
        except NetworkError as error:
            name = source if isinstance(source, str | PathLike) else f"{place}: {getattr(source, 'id', source)}"
            errors[str(name)] = str(error)
    return found, errors


@contextmanager
def _quiet() -> Iterator[None]:
    """cobra remarks on thousands of lines of an old model."""
    logger = logging.getLogger("cobra")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            yield
    finally:
        logger.setLevel(level)


def network_from_cobra(model: "cobra.Model", name: str = "network") -> MetabolicNetwork:
    """Return the record of a cobra model.

    cobra reads a charge of 0 where an SBML file states none, so a model that charges nothing counts as one whose
    charges are unknown. In a file that states some of its charges, those that are missing count as 0.

    Raises:
        NetworkError: If it holds what no network can.
    """
    charged = any(metabolite.charge for metabolite in model.metabolites)
    compounds = {
        metabolite.id: Compound.of(
            metabolite.id,
            metabolite.formula or "",
            metabolite.charge if charged else None,
            metabolite.compartment or "",
        )
        for metabolite in model.metabolites
    }
    where = model.id or name
    reactions = {}
    for reaction in model.reactions:
        numbers = {}
        for metabolite, number in reaction.metabolites.items():
            if not math.isfinite(number):
                raise NetworkError(
                    f"network {where}: reaction {reaction.id} must have coefficients that are finite and not 0; got "
                    f"{number} for {metabolite.id}. Correct it."
                )
            numbers[metabolite.id] = exact_number(number)
        subsystem = reaction.subsystem or ""
        reactions[reaction.id] = NetworkReaction(
            reaction.id, numbers, float(reaction.lower_bound), float(reaction.upper_bound), str(subsystem)
        )
    objective = {reaction.id: float(weight) for reaction, weight in linear_reaction_coefficients(model).items()}
    return MetabolicNetwork(where, compounds, reactions, objective)


def network_to_cobra(network: MetabolicNetwork) -> "cobra.Model":
    """Return the cobra model of a record, which cobra can write as SBML or JSON and whose fluxes it can find.

    Raises:
        ImportError: If cobra is not installed.
    """
    if cobra is None:
        raise ImportError("metabolic networks need the package cobra; it is not installed. Run pip install cobra.")
    model = cobra.Model(network.id)
    metabolites = {}
    for compound in network.compounds.values():
        charge = None if compound.charge is None else float(compound.charge)
        metabolites[compound.id] = cobra.Metabolite(
            compound.id,
            formula=compound.formula or None,
            charge=int(charge) if charge is not None and charge.is_integer() else charge,
            compartment=compound.compartment or None,
        )
    model.add_metabolites(list(metabolites.values()))
    made = []
    for reaction in network.reactions.values():
        one = cobra.Reaction(
            reaction.id,
            subsystem=reaction.subsystem,
            lower_bound=reaction.lower_bound,
            upper_bound=reaction.upper_bound,
        )
        one.add_metabolites({metabolites[name]: _number(value) for name, value in reaction.stoichiometry.items()})
        made.append(one)
    model.add_reactions(made)
    model.objective = {model.reactions.get_by_id(name): weight for name, weight in network.objective.items()}
    return model


def _number(value: Fraction) -> float | int:
    return int(value) if Fraction(value).denominator == 1 else float(value)
