"""Cosine similarity of the Murcko scaffolds of samples and reference."""

from collections import Counter

from modeling_astrobio.training.graph_metrics.count_similarity import count_similarity
from modeling_astrobio.training.graph_metrics.molecule_metric import MOSES_CITATION, ReferenceMetric
from modeling_astrobio.training.graph_metrics.molecule_set import MoleculeSet


__all__ = ["ScaffoldSimilarity", "scaffold_similarity"]


def scaffold_similarity(samples: MoleculeSet, reference: MoleculeSet) -> float:
    """Return Scaf of MOSES: cosine of how often each Murcko scaffold of two rings or more occurs, 0 to 1.

    A scaffold has at least two rings.

    Raises:
        DataError: If no sample is valid, or the reference has none.
    """
    samples.require(1, "scaffold_similarity", "samples")
    return count_similarity(_counts(samples), _counts(reference), "scaffold_similarity")


def _counts(molecules: MoleculeSet) -> Counter[str]:
    return Counter(scaffold for scaffold in molecules.scaffolds if scaffold is not None)


class ScaffoldSimilarity(ReferenceMetric):
    """Scaf of MOSES: cosine of how often each Murcko scaffold of two rings or more occurs, 0 to 1."""

    _cited = MOSES_CITATION

    def _measure(self, samples: MoleculeSet, reference: MoleculeSet) -> dict[str, float]:
        return {"scaffold_similarity": scaffold_similarity(samples, reference)}
