"""Cosine similarity of the BRICS fragments of samples and reference."""

from collections import Counter

from modeling_astrobio.training.graph_metrics.count_similarity import count_similarity
from modeling_astrobio.training.graph_metrics.molecule_metric import MOSES_CITATION, ReferenceMetric
from modeling_astrobio.training.graph_metrics.molecule_set import MoleculeSet


__all__ = ["FragmentSimilarity", "fragment_similarity"]


def fragment_similarity(samples: MoleculeSet, reference: MoleculeSet) -> float:
    """Return Frag of MOSES: cosine of how often each BRICS fragment occurs, 0 to 1.

    A molecule without BRICS bonds is one fragment.

    Raises:
        DataError: If no sample is valid, or the reference has none.
    """
    samples.require(1, "fragment_similarity", "samples")
    return count_similarity(_counts(samples), _counts(reference), "fragment_similarity")


def _counts(molecules: MoleculeSet) -> Counter[str]:
    counts: Counter[str] = Counter()
    for fragments in molecules.fragments:
        counts.update(fragments)
    return counts


class FragmentSimilarity(ReferenceMetric):
    """Frag of MOSES: cosine of how often each BRICS fragment occurs, 0 to 1."""

    _cited = MOSES_CITATION

    def _measure(self, samples: MoleculeSet, reference: MoleculeSet) -> dict[str, float]:
        return {"fragment_similarity": fragment_similarity(samples, reference)}
