"""How far the descriptors of samples lie from those of a reference."""

import numpy as np

from modeling_astrobio.training.graph_metrics.descriptors import DESCRIPTORS
from modeling_astrobio.training.graph_metrics.molecule_metric import ReferenceMetric
from modeling_astrobio.training.graph_metrics.molecule_set import MoleculeSet


__all__ = ["DescriptorDistance", "descriptor_distance", "wasserstein"]


def wasserstein(first: np.ndarray, second: np.ndarray) -> float:
    """Return the 1-Wasserstein distance of samples of a number, shapes (N,) and (M,): the area between the CDFs."""
    values = np.sort(np.concatenate((first, second)))
    shares = [np.searchsorted(np.sort(each), values[:-1], side="right") / len(each) for each in (first, second)]
    return float(np.abs(shares[0] - shares[1]) @ np.diff(values))


def descriptor_distance(samples: MoleculeSet, reference: MoleculeSet) -> dict[str, float]:
    """Return the 1-Wasserstein distance of each descriptor, and their mean, in standard deviations of the reference.

    A descriptor that is constant in the reference is in its own unit.

    Returns:
        `descriptor_distance`, the mean over descriptors, and `descriptor_distance_NAME` of each.

    Raises:
        DataError: If no sample is valid.
    """
    samples.require(1, "descriptor_distance", "samples")
    reference.require(1, "descriptor_distance", "reference")
    deviations = reference.descriptors.std(axis=0)
    deviations = np.where(deviations > 0, deviations, 1.0)
    columns = zip(samples.descriptors.T, reference.descriptors.T, deviations, strict=True)
    distances = [wasserstein(sampled, known) / deviation for sampled, known, deviation in columns]
    named = {f"descriptor_distance_{name}": float(d) for name, d in zip(DESCRIPTORS, distances, strict=True)}
    return {"descriptor_distance": float(np.mean(distances)), **named}


class DescriptorDistance(ReferenceMetric):
    """1-Wasserstein distance of each RDKit descriptor, in standard deviations of the reference, and their mean."""

    def _measure(self, samples: MoleculeSet, reference: MoleculeSet) -> dict[str, float]:
        return descriptor_distance(samples, reference)
