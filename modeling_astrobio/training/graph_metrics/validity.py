"""Share of samples that are valid molecules."""

from modeling_astrobio.training.graph_metrics.molecule_metric import SampleMetric
from modeling_astrobio.training.graph_metrics.molecule_set import MoleculeSet


__all__ = ["Validity", "validity"]


def validity(samples: MoleculeSet) -> float:
    """Return the share of all samples that `canonical_smiles` holds for valid molecules, 0 to 1."""
    return len(samples.smiles) / samples.size


class Validity(SampleMetric):
    """Share of samples that RDKit sanitises, with atoms, in one piece, without unexpected unpaired electrons."""

    def _measure(self, samples: MoleculeSet) -> dict[str, float]:
        return {"validity": validity(samples)}
