"""How much samples differ from one another."""

from modeling_astrobio.training.graph_metrics.molecule_metric import MOSES_CITATION, SampleMetric
from modeling_astrobio.training.graph_metrics.molecule_set import MoleculeSet
from modeling_astrobio.training.graph_metrics.tanimoto import tanimoto_rows


__all__ = ["InternalDiversity", "internal_diversity"]


def internal_diversity(molecules: MoleculeSet) -> float:
    """Return IntDiv1 of MOSES: 1 less the mean Tanimoto similarity of all ordered pairs, each with itself too, 0 to 1.

    Fingerprints are Morgan bits of radius 2, 1024 bits.

    Raises:
        DataError: If no molecule is valid.
    """
    molecules.require(1, "internal_diversity", "molecules")
    bits = molecules.fingerprints
    total = sum(float(block.sum(dtype="float64")) for block in tanimoto_rows(bits, bits))
    return 1 - total / len(bits) ** 2


class InternalDiversity(SampleMetric):
    """IntDiv1 of MOSES: 1 less the mean Tanimoto similarity of all pairs of valid samples."""

    _cited = MOSES_CITATION

    def _measure(self, samples: MoleculeSet) -> dict[str, float]:
        return {"internal_diversity": internal_diversity(samples)}
