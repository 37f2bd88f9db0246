"""The configuration of a model that predicts properties: their names, and the scale of their training labels."""

import copy
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..configuration_astro_graph_vae import AstroGraphVAEConfig
from .errors import DataError


__all__ = ["with_properties"]


def with_properties(config: AstroGraphVAEConfig, names: Sequence[str], labels: ArrayLike) -> AstroGraphVAEConfig:
    """Return a copy of a configuration that names properties and has the mean and deviation of their labels.

    Args:
        config: Of a model that may have been trained without labels.
        names: Of the properties.
        labels: Of the training molecules, shape (N, P), in the units that the model shall answer in; NaN is unknown.

    Raises:
        DataError: If the labels have another number of columns, are infinite, or a property is unknown or alike in all
            molecules.
    """
    label_NP = np.asarray(labels, dtype=np.float64)
    if label_NP.ndim != 2 or label_NP.shape[1] != len(names) or not len(names):
        raise DataError(f"labels must have the shape (N, {len(names)}) and names one entry; got {label_NP.shape}.")
    if np.isinf(label_NP).any():
        raise DataError("labels must be finite, or NaN where unknown; got an infinite one. Mark it as NaN.")
    means, deviations = [], []
    for name, column in zip(names, label_NP.T, strict=True):
        known = column[~np.isnan(column)]
        if not len(known) or (known == known[0]).all():
            kind = f"{known[0]} in all {len(known)} molecules that have it" if len(known) else "no known label"
            raise DataError(f"{name} must vary over the training molecules; got {kind}. Leave it out.")
        means.append(float(known.mean()))
        deviations.append(float(known.std()))
    named = copy.deepcopy(config)
    named.id2label = dict(enumerate(names))
    named.label2id = {name: place for place, name in enumerate(names)}
    named.label_means, named.label_scales = means, deviations
    return named
