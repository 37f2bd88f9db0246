"""Share of valid samples that differ from one another."""

from modeling_astrobio.training.graph_metrics.molecule_metric import SampleMetric
from modeling_astrobio.training.graph_metrics.molecule_set import MoleculeSet


__all__ = ["Uniqueness", "uniqueness"]


def uniqueness(samples: MoleculeSet) -> float:
    """Return different canonical SMILES without stereo, divided by valid samples, 0 to 1; it falls with their number.

    Raises:
        DataError: If no sample is valid.
    """
    samples.require(1, "uniqueness", "samples")
    return len(set(samples.smiles)) / len(samples.smiles)


class Uniqueness(SampleMetric):
    """Different molecules, without stereo, divided by valid samples."""

    def _measure(self, samples: MoleculeSet) -> dict[str, float]:
        return {"uniqueness": uniqueness(samples)}
