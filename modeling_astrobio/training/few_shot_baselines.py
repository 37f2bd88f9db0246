"""What a few-shot adapter is measured against: ridge regression on the embedding, a random forest on fingerprints."""

import numpy as np

from .errors import DataError


try:
    from sklearn.ensemble import RandomForestRegressor
except ImportError:
    RandomForestRegressor = None


__all__ = ["forest_predictions", "ridge_predictions"]

_PENALTIES = np.logspace(-3, 3, 25)


def ridge_predictions(
    support: np.ndarray, labels: np.ndarray, query: np.ndarray, penalties: np.ndarray = _PENALTIES
) -> np.ndarray:
    """Return ridge predictions with the penalty of the least leave-one-out error.

    Features are centred on the support, and so are the labels. The errors of all penalties come from one
    decomposition: of label i, e_i = (G^-1 y)_i / (G^-1)_ii with G = X X^T / F + penalty.

    Args:
        support: Features of the support, shape (S, F), of like scale.
        labels: Shape (S,).
        query: Features of the query, shape (Q, F).
        penalties: To choose from, shape (L,).

    Raises:
        DataError: If shapes differ or a number is not finite.
    """
    support, labels, query = (np.asarray(table, dtype=np.float64) for table in (support, labels, query))
    if support.ndim != 2 or labels.shape != support.shape[:1] or query.shape[1:] != support.shape[1:]:
        raise DataError(
            "support, labels and query must have the shapes (S, F), (S,) and (Q, F); got "
            f"{support.shape}, {labels.shape} and {query.shape}."
        )
    if not all(np.isfinite(table).all() for table in (support, labels, query)):
        raise DataError("support, labels and query must be finite; got NaN or infinity. Leave such rows out.")
    centre, middle = support.mean(axis=0), labels.mean()
    features, target = support - centre, labels - middle
    values, vectors = np.linalg.eigh(features @ features.T / features.shape[1])
    weights = 1.0 / (np.maximum(values, 0.0) + penalties[:, None])
    solved = (weights * (vectors.T @ target)) @ vectors.T
    precision = weights @ np.square(vectors).T
    best = int(np.argmin(np.square(solved / precision).mean(axis=1)))
    across = (query - centre) @ features.T / features.shape[1]
    predictions: np.ndarray = across @ solved[best] + middle
    return predictions


def forest_predictions(support: np.ndarray, labels: np.ndarray, query: np.ndarray, seed: int) -> np.ndarray:
    """Return predictions of a random forest of 200 trees that looks at a third of the bits in a split.

    Args:
        support: Fingerprint bits, shape (S, bits).
        labels: Shape (S,).
        query: Shape (Q, bits).
        seed: Of the trees.

    Raises:
        DataError: If scikit-learn is not installed.
    """
    if RandomForestRegressor is None:
        raise DataError("a random forest needs scikit-learn. Install it: pip install scikit-learn.")
    forest = RandomForestRegressor(n_estimators=200, max_features=1 / 3, n_jobs=1, random_state=seed)
    predictions: np.ndarray = forest.fit(support, labels).predict(query)
    return predictions
