"""Share of different valid samples that training did not have."""

from modeling_astrobio.training.graph_metrics.molecule_metric import ReferenceMetric
from modeling_astrobio.training.graph_metrics.molecule_set import MoleculeSet


__all__ = ["Novelty", "novelty"]


def novelty(samples: MoleculeSet, training: MoleculeSet) -> float:
    """Return the share of different valid samples that are not in training, compared without stereo, 0 to 1.

    Raises:
        DataError: If no sample is valid.
    """
    samples.require(1, "novelty", "samples")
    different = set(samples.smiles)
    return len(different - set(training.smiles)) / len(different)


class Novelty(ReferenceMetric):
    """Share of the different valid samples that are not in the training set, which `reference_set` is."""

    def _measure(self, samples: MoleculeSet, reference: MoleculeSet) -> dict[str, float]:
        return {"novelty": novelty(samples, reference)}
