"""The distribution of few-shot tasks: properties and roles of groups in molecules, whole families held out.

Shape suffixes: N molecules, P properties, B tasks, S support and Q query molecules of a task.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike

from .errors import DataError
from .property_table import PROPERTY_FAMILIES


__all__ = ["FEW_SHOT_FAMILIES", "FewShotTasks", "TaskBatch", "family_properties", "nearest_training_property"]

# What is computed in a like way stands in one family, and a family in one split. Properties of different families can
# still go together: `nearest_training_property` says how closely.
FEW_SHOT_FAMILIES: dict[str, tuple[str, ...]] = {
    "train": ("composition", "lipophilicity", "polarity", "rings", "flexibility", "functional_groups"),
    "validation": ("charges",),
    "test": ("topology", "electrotopology", "burden_eigenvalues", "druglikeness"),
}
_MOST_MIXED = 3
_MOST_DRAWS = 100


def family_properties(split: str) -> dict[str, str]:
    """Return the family of each property of "train", "validation" or "test"."""
    return {name: family for family in FEW_SHOT_FAMILIES[split] for name in PROPERTY_FAMILIES[family]}


class TaskBatch(NamedTuple):
    """Tasks of one size.

    Attributes:
        support: Places of molecules, int64, shape (B, S).
        query: Places of other molecules, int64, shape (B, Q).
        support_labels: Shape (B, S).
        query_labels: Shape (B, Q).
    """

    support: torch.Tensor
    query: torch.Tensor
    support_labels: torch.Tensor
    query_labels: torch.Tensor


class FewShotTasks:
    """Draws tasks.

    A task is a family, then one of its properties; or, as often, a sum of two or three properties of any families,
    each standardised, with standard normal weights. Support and query are drawn without replacement from the molecules
    that have the label, until the support labels are not all alike.

    Args:
        labels: Shape (N, P); NaN is unknown.
        families: Of each property, P.
        mixed: Share of tasks that are sums.
        seed: Of all draws.

    Raises:
        DataError: If shapes differ, or a property does not vary.
    """

    def __init__(self, labels: ArrayLike, families: Sequence[str], mixed: float = 0.5, seed: int = 0):
        label_NP = np.asarray(labels, dtype=np.float64)
        if label_NP.ndim != 2 or label_NP.shape[1] != len(families) or not label_NP.size:
            raise DataError(f"labels must have the shape (N, {len(families)}); got {label_NP.shape}.")
        if not 0 <= mixed <= 1:
            raise DataError(f"mixed must be from 0 to 1; got {mixed}.")
        known = [column[~np.isnan(column)] for column in label_NP.T]
        varies = [len(column) > 0 and np.ptp(column) > 0 for column in known]
        if not all(varies):
            raise DataError(f"each property must vary; property {varies.index(False)} does not. Leave it out.")
        spread = np.array([column.std() for column in known])
        self.standard_NP = (label_NP - np.nanmean(label_NP, axis=0)) / spread
        self.members = [np.flatnonzero(np.array(list(families)) == family) for family in dict.fromkeys(families)]
        self.mixed = mixed
        self.rng = np.random.default_rng(seed)

    def draw(self, tasks: int, support: int, query: int) -> TaskBatch:
        """Draw tasks; labels are standardised over the molecules.

        Raises:
            DataError: If too few molecules have a label, or its support stays alike in many draws.
        """
        drawn = [self._draw_task(support, query) for _ in range(tasks)]
        places = torch.from_numpy(np.stack([place for place, _ in drawn]))
        labels = torch.from_numpy(np.stack([label for _, label in drawn])).float()
        return TaskBatch(places[:, :support], places[:, support:], labels[:, :support], labels[:, support:])

    def _draw_task(self, support: int, query: int) -> tuple[np.ndarray, np.ndarray]:
        for _ in range(_MOST_DRAWS):
            label_N = self._draw_label()
            known = np.flatnonzero(~np.isnan(label_N))
            if len(known) < support + query:
                raise DataError(
                    f"a task needs {support} + {query} molecules with a label; got {len(known)}. Draw smaller tasks."
                )
            places = self.rng.choice(known, support + query, replace=False)
            if np.ptp(label_N[places[:support]]) > 0:
                return places, label_N[places]
        raise DataError(f"support labels were alike in {_MOST_DRAWS} draws of {support} molecules. Draw larger tasks.")

    def _draw_label(self) -> np.ndarray:
        if self.rng.random() >= self.mixed:
            family = self.members[self.rng.integers(len(self.members))]
            return self.standard_NP[:, self.rng.choice(family)]
        count = min(int(self.rng.integers(2, _MOST_MIXED + 1)), self.standard_NP.shape[1])
        chosen = self.rng.choice(self.standard_NP.shape[1], count, replace=False)
        return self.standard_NP[:, chosen] @ self.rng.standard_normal(count)


def nearest_training_property(labels: ArrayLike, training_labels: ArrayLike) -> list[tuple[int, float]]:
    """Return for each property the training property most correlated with it, and that |Pearson correlation|.

    Args:
        labels: Shape (N, P); rows with NaN are left out.
        training_labels: Of the same molecules, shape (N, another P).
    """
    label_NP, training_NP = np.asarray(labels, dtype=np.float64), np.asarray(training_labels, dtype=np.float64)
    known = ~(np.isnan(label_NP).any(1) | np.isnan(training_NP).any(1))
    across = np.corrcoef(label_NP[known], training_NP[known], rowvar=False)
    similar = np.abs(across[: label_NP.shape[1], label_NP.shape[1] :])
    return [(int(row.argmax()), float(row.max())) for row in similar]
