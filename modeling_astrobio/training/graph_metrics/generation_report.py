"""All metrics of generated molecules at once, and what they are for two halves of one set."""

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from modeling_astrobio.training.errors import DataError
from modeling_astrobio.training.graph_metrics.descriptor_distance import descriptor_distance
from modeling_astrobio.training.graph_metrics.descriptor_kl import descriptor_kl
from modeling_astrobio.training.graph_metrics.fragment_similarity import fragment_similarity
from modeling_astrobio.training.graph_metrics.frechet_descriptor_distance import frechet_descriptor_distance
from modeling_astrobio.training.graph_metrics.internal_diversity import internal_diversity
from modeling_astrobio.training.graph_metrics.molecule_set import MoleculeSet
from modeling_astrobio.training.graph_metrics.nearest_similarity import nearest_similarity
from modeling_astrobio.training.graph_metrics.novelty import novelty
from modeling_astrobio.training.graph_metrics.scaffold_similarity import scaffold_similarity
from modeling_astrobio.training.graph_metrics.uniqueness import uniqueness
from modeling_astrobio.training.graph_metrics.validity import validity


__all__ = ["generation_report", "split_half_floor"]

_logger = logging.getLogger(__name__)

_DISTANCES: dict[str, Callable[[MoleculeSet, MoleculeSet], float | Mapping[str, float]]] = {
    "descriptor_distance": descriptor_distance,
    "descriptor_kl": lambda samples, reference: descriptor_kl(samples, reference)["descriptor_kl"],
    "frechet_descriptor_distance": frechet_descriptor_distance,
    "fragment_similarity": fragment_similarity,
    "scaffold_similarity": scaffold_similarity,
    "nearest_similarity": nearest_similarity,
    "internal_diversity": lambda samples, reference: internal_diversity(samples),
}


def generation_report(
    samples: Sequence[str | None] | MoleculeSet,
    training: Sequence[str] | MoleculeSet,
    reference: Sequence[str] | MoleculeSet,
    *,
    atom_types: Sequence[Sequence[int]] = (),
) -> dict[str, float]:
    """Return every metric of samples by name.

    A metric that these samples have no value of, such as uniqueness where none is valid, is absent, and a warning
    says why. Distances and similarities are of the valid samples, equal ones as often as they came, as in MOSES.

    Args:
        samples: SMILES; None or an empty text for what is no molecule.
        training: SMILES that the model was trained on, for novelty.
        reference: Held-out SMILES to compare distributions with; time grows with their number. Pass
            `MoleculeSet.known(...)` to compare with one set many times.
        atom_types: `config.atom_types`; unpaired electrons of other kinds of atoms are invalid, by default all are.

    Raises:
        DataError: If a set is empty, or `training` or `reference` has what is no molecule.
    """
    drawn = MoleculeSet.generated(samples, atom_types)
    trained = MoleculeSet.known(training, "training")
    known = MoleculeSet.known(reference, "reference")
    report: dict[str, float] = {
        "samples": drawn.size,
        "valid_samples": len(drawn.smiles),
        "validity": validity(drawn),
    }
    report |= _defined("uniqueness", partial(uniqueness, drawn))
    report |= _defined("novelty", partial(novelty, drawn, trained))
    return report | _distances(drawn, known)


def split_half_floor(reference: Sequence[str] | MoleculeSet, seed: int = 0) -> dict[str, float]:
    """Return the distances and similarities of one random half of a set, as samples, from the other half.

    Two draws of one distribution differ by this much; a distance of samples that is near it cannot be told from it.
    It falls as the set grows: give it twice as many molecules as samples are drawn.

    Args:
        reference: SMILES, at least four.
        seed: Chooses the halves.

    Raises:
        DataError: If there are fewer than four, or one is no molecule.
    """
    known = MoleculeSet.known(reference, "reference")
    known.require(4, "split_half_floor", "reference")
    places = np.random.default_rng(seed).permutation(len(known.smiles))
    half = len(places) // 2
    return _distances(known.take(places[:half]), known.take(places[half:]))


def _distances(samples: MoleculeSet, reference: MoleculeSet) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, distance in _DISTANCES.items():
        found |= _defined(name, partial(distance, samples, reference))
    return found


def _defined(name: str, compute: Callable[[], float | Mapping[str, float]]) -> dict[str, float]:
    try:
        value = compute()
    except DataError as error:
        _logger.warning("%s is left out: %s", name, error)
        return {}
    return dict(value) if isinstance(value, Mapping) else {name: value}
