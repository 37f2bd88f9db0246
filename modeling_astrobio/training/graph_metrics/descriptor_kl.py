"""Divergence of the discretised descriptors of samples from those of a reference."""

import numpy as np

from modeling_astrobio.training.graph_metrics.descriptors import DESCRIPTORS
from modeling_astrobio.training.graph_metrics.molecule_metric import ReferenceMetric
from modeling_astrobio.training.graph_metrics.molecule_set import MoleculeSet


__all__ = ["DescriptorKL", "descriptor_kl"]

_QUANTILES = 10
_ADDED = 0.5


def descriptor_kl(samples: MoleculeSet, reference: MoleculeSet) -> dict[str, float]:
    """Return the divergence of each descriptor, KL(reference || samples), and their mean, in nats.

    The bins of a descriptor begin at the deciles of the reference, with one more below the least and one above the
    greatest value; each count has 1/2 added, so that an empty bin is no infinity.

    Returns:
        `descriptor_kl`, the mean over descriptors, and `descriptor_kl_NAME` of each.

    Raises:
        DataError: If no sample is valid.
    """
    samples.require(1, "descriptor_kl", "samples")
    reference.require(1, "descriptor_kl", "reference")
    columns = zip(samples.descriptors.T, reference.descriptors.T, strict=True)
    divergences = [_divergence(sampled, known) for sampled, known in columns]
    named = {f"descriptor_kl_{name}": value for name, value in zip(DESCRIPTORS, divergences, strict=True)}
    return {"descriptor_kl": float(np.mean(divergences)), **named}


def _divergence(sampled: np.ndarray, known: np.ndarray) -> float:
    deciles = np.unique(np.quantile(known, np.linspace(0, 1, _QUANTILES + 1), method="lower"))
    edges = np.append(deciles, np.nextafter(deciles[-1], np.inf))
    shares = []
    for values in (known, sampled):
        counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
        shares.append((counts + _ADDED) / (len(values) + _ADDED * len(counts)))
    return float(shares[0] @ np.log(shares[0] / shares[1]))


class DescriptorKL(ReferenceMetric):
    """Divergence of each discretised RDKit descriptor, KL(reference || samples), and their mean, in nats."""

    def _measure(self, samples: MoleculeSet, reference: MoleculeSet) -> dict[str, float]:
        return descriptor_kl(samples, reference)
