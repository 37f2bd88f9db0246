"""What the metrics of generated molecules have in common as `evaluate` modules."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import evaluate
from datasets import Features, Value

from modeling_astrobio.training.graph_metrics.molecule_set import MoleculeSet


__all__ = ["MOSES_CITATION", "MoleculeMetric", "ReferenceMetric", "SampleMetric"]

MOSES_CITATION = (
    "Polykovskiy et al., Molecular Sets (MOSES): A Benchmarking Platform for Molecular Generation Models, "
    "Frontiers in Pharmacology 11, 565644 (2020)"
)


# `evaluate.load` takes the first class of a file that is not abstract.
class MoleculeMetric(evaluate.Metric, ABC):
    """A metric whose predictions are SMILES, None or an empty text for what is no molecule."""

    _cited = ""
    _columns = {"predictions": Value("string")}

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=type(self).__doc__ or "",
            citation=self._cited,
            inputs_description=self._compute.__doc__ or "",
            features=Features(self._columns),
        )

    def _enforce_nested_string_type(self, schema: Any, obj: Any) -> None:
        # None is a sample that is no molecule; the column may begin with one.
        if obj is not None:
            super()._enforce_nested_string_type(schema, obj)

    @abstractmethod
    def _compute(self, *args: Any, **inputs: Any) -> dict[str, float]:
        """Return the values by name."""


class SampleMetric(MoleculeMetric):
    """A metric of samples alone."""

    @abstractmethod
    def _measure(self, samples: MoleculeSet) -> dict[str, float]:
        """Return the values by name."""

    def _compute(
        self, *, predictions: Sequence[str | None], atom_types: Sequence[Sequence[int]] = ()
    ) -> dict[str, float]:
        """Compute from `predictions`; `atom_types` are those of the model's configuration."""
        return self._measure(MoleculeSet.generated(predictions, atom_types))


class ReferenceMetric(MoleculeMetric):
    """A metric of samples and a set to compare them with, of any length."""

    @abstractmethod
    def _measure(self, samples: MoleculeSet, reference: MoleculeSet) -> dict[str, float]:
        """Return the values by name."""

    def _compute(
        self,
        *,
        predictions: Sequence[str | None],
        reference_set: Sequence[str] | MoleculeSet,
        atom_types: Sequence[Sequence[int]] = (),
    ) -> dict[str, float]:
        """Compute from `predictions` and `reference_set`, SMILES; `atom_types` are those of the configuration."""
        samples = MoleculeSet.generated(predictions, atom_types)
        return self._measure(samples, MoleculeSet.known(reference_set, "reference_set"))
