"""Share of molecules that come back from their latents as they were."""

from collections.abc import Sequence

from datasets import Value

from modeling_astrobio.training.errors import DataError
from modeling_astrobio.training.graph_metrics.molecule_metric import MoleculeMetric
from modeling_astrobio.training.graph_metrics.molecule_set import MoleculeSet, canonical_smiles


__all__ = ["ReconstructionRate", "reconstruction_rate"]


def reconstruction_rate(decoded: Sequence[str | None], references: Sequence[str]) -> float:
    """Return the share of pairs whose canonical SMILES without stereo are equal, 0 to 1.

    Args:
        decoded: What was decoded; None or an invalid text is a failure.
        references: What was encoded.

    Raises:
        DataError: If the lengths differ, there is none, or a reference is no molecule.
    """
    if len(decoded) != len(references):
        raise DataError(
            f"decoded must have an entry for each of {len(references)} references; got {len(decoded)}. Decode each."
        )
    known = MoleculeSet.known(references, "references").smiles
    return sum(canonical_smiles(one) == other for one, other in zip(decoded, known, strict=True)) / len(known)


class ReconstructionRate(MoleculeMetric):
    """Share of molecules whose decoding is the molecule itself, compared as canonical SMILES without stereo."""

    _columns = {"predictions": Value("string"), "references": Value("string")}

    def _compute(self, *, predictions: Sequence[str | None], references: Sequence[str]) -> dict[str, float]:
        """Compare each of `predictions` with its own of `references`."""
        return {"reconstruction_rate": reconstruction_rate(predictions, references)}
