"""Organisms with their metabolic models, from a folder, or from what the package cobra ships."""

from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path

from data_scripts.chemistry.model_files import model_files
from data_scripts.chemistry.model_species import SPECIES_FILE, model_species, read_species_file
from data_scripts.harness.errors import BuildError
from modeling_astrobio.metabolic_files import read_network
from modeling_astrobio.metabolic_network import NetworkError
from modeling_astrobio.training.metabolic_data import Organism


__all__ = ["packaged_organisms", "read_organisms"]

# Whole networks; the others that cobra ships are parts of that of Escherichia coli.
_PACKAGED = ("iJO1366.xml.gz", "salmonella.xml.gz")


def read_organisms(folder: Path) -> tuple[list[Organism], dict[str, str]]:
    """Read the models of a folder, SBML or cobra's JSON, plain or .gz; `species.csv` may name their species.

    Returns:
        The organisms by name, and the files that could not be read with the reason.

    Raises:
        BuildError: If the folder holds no model, one in a form that is not read, none that can be read, or a
            `species.csv` that is wrong.
        ImportError: If cobra is not installed.
    """
    organisms, errors = _organisms(model_files(folder), read_species_file(folder))
    if not organisms:
        name, reason = next(iter(errors.items()))
        raise BuildError(f"{folder} must hold a model that can be read, of a known species; of {name}: {reason}")
    return organisms, errors


def packaged_organisms() -> tuple[list[Organism], dict[str, str]]:
    """Return Escherichia coli and Salmonella enterica, of the models that the package cobra ships, as above."""
    with as_file(files("cobra") / "data") as folder:
        return _organisms([folder / name for name in _PACKAGED], {})


def _organisms(paths: Sequence[Path], stated: dict[str, str]) -> tuple[list[Organism], dict[str, str]]:
    networks, errors = [], {}
    for path in paths:
        try:
            network = read_network(path)
        except NetworkError as error:
            errors[path.name] = str(error)
            continue
        species = model_species(path.name, network.id, "", False, stated)
        if species is None:
            errors[path.name] = f"its species is not known; name it in {SPECIES_FILE}"
        else:
            networks.append((species, network))
    return Organism.group(networks), errors
