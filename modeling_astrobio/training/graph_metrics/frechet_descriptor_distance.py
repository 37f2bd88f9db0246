"""Frechet distance of descriptors and Morgan counts; it is not FCD."""

import numpy as np

from modeling_astrobio.training.graph_metrics.molecule_metric import ReferenceMetric
from modeling_astrobio.training.graph_metrics.molecule_set import MoleculeSet


__all__ = ["FrechetDescriptorDistance", "frechet", "frechet_descriptor_distance"]


def frechet_descriptor_distance(samples: MoleculeSet, reference: MoleculeSet) -> float:
    """Return the squared Frechet distance of normal distributions fitted to samples and reference.

    A molecule is the vector of its descriptors and of log(1 + count) of its folded Morgan environments, each in
    standard deviations of the reference (in its own unit where it is constant there). This is not FCD, whose vector
    is of a trained network (Preuer et al. 2018), and the numbers cannot be compared. It is biased upwards in small
    sets: see `split_half_floor`.

    Raises:
        DataError: If samples or reference have fewer than two valid molecules.
    """
    vectors = []
    for name, molecules in (("samples", samples), ("reference", reference)):
        molecules.require(2, "frechet_descriptor_distance", name)
        vectors.append(np.hstack((molecules.descriptors, np.log1p(molecules.morgan_counts))))
    deviations = vectors[1].std(axis=0)
    vectors = [vector / np.where(deviations > 0, deviations, 1.0) for vector in vectors]
    return frechet(*vectors)


def frechet(first: np.ndarray, second: np.ndarray) -> float:
    """Return the squared Frechet distance of normals fitted to two samples, shapes (N, D) and (M, D).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), Dowson and Landau, J. Multivariate Anal. 12, 450 (1982); the root's
    trace is that of (C1^(1/2) C2 C1^(1/2))^(1/2), which is symmetric.
    """
    covariances = [np.cov(each, rowvar=False) for each in (first, second)]
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    products = np.linalg.eigvalsh(root @ covariances[1] @ root).clip(min=0)
    means = first.mean(axis=0) - second.mean(axis=0)
    traces = np.trace(covariances[0]) + np.trace(covariances[1])
    # Rounding may leave a little below zero where the two are equal.
    return max(float(means @ means + traces - 2 * np.sqrt(products).sum()), 0.0)


class FrechetDescriptorDistance(ReferenceMetric):
    """Frechet distance of RDKit descriptors and folded Morgan counts; not FCD, and not comparable with it."""

    def _measure(self, samples: MoleculeSet, reference: MoleculeSet) -> dict[str, float]:
        return {"frechet_descriptor_distance": frechet_descriptor_distance(samples, reference)}
