"""How near samples lie to the nearest molecule of a reference."""

import numpy as np

from modeling_astrobio.training.graph_metrics.molecule_metric import MOSES_CITATION, ReferenceMetric
from modeling_astrobio.training.graph_metrics.molecule_set import MoleculeSet
from modeling_astrobio.training.graph_metrics.tanimoto import tanimoto_rows


__all__ = ["NearestSimilarity", "nearest_similarity"]


def nearest_similarity(samples: MoleculeSet, reference: MoleculeSet) -> float:
    """Return SNN of MOSES: the Tanimoto similarity with the nearest of the reference, mean over valid samples, 0 to 1.

    Fingerprints are Morgan bits of radius 2, 1024 bits.

    Raises:
        DataError: If no sample is valid.
    """
    samples.require(1, "nearest_similarity", "samples")
    reference.require(1, "nearest_similarity", "reference")
    blocks = tanimoto_rows(samples.fingerprints, reference.fingerprints)
    return float(np.concatenate([block.max(axis=1) for block in blocks]).mean(dtype=np.float64))


class NearestSimilarity(ReferenceMetric):
    """SNN of MOSES: Tanimoto similarity with the nearest molecule of the reference, mean over valid samples."""

    _cited = MOSES_CITATION

    def _measure(self, samples: MoleculeSet, reference: MoleculeSet) -> dict[str, float]:
        return {"nearest_similarity": nearest_similarity(samples, reference)}
