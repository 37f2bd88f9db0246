"""Few-shot methods side by side: the same support and query molecules for all, several draws, intervals over them.

Shape suffixes: N molecules, P properties, S support and Q query molecules.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..graph_few_shot import GraphFewShotAdapter
from .errors import DataError
from .few_shot_baselines import forest_predictions, ridge_predictions
from .graph_metrics.interval_coverage import interval_coverage


try:
    from scipy import stats
except ImportError:
    stats = None


__all__ = [
    "FewShotMethod",
    "adapter_method",
    "evaluate_few_shot",
    "forest_method",
    "mean_interval",
    "ridge_method",
    "summarise_few_shot",
]

FewShotMethod: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray | None]]
"""From support places (S,), labels (S, P), query places (Q,) and a seed: means (P, Q), and variances or None."""

_MOST_DRAWS = 100
_REACH_90 = 1.6448536269514722


def adapter_method(adapter: GraphFewShotAdapter, tokens: torch.Tensor) -> FewShotMethod:
    """Return the method of an adapter on the tokens of all molecules, shape (N, T, D)."""

    @torch.no_grad()
    def predict(support: np.ndarray, labels: np.ndarray, query: np.ndarray, seed: int):
        tasks = labels.shape[1]
        of_support, of_query = (tokens[places].expand(tasks, -1, -1, -1) for places in (support, query))
        mean, variance = adapter(of_support, torch.from_numpy(labels.T.copy()).to(tokens.dtype), of_query)
        return mean.double().numpy(), variance.double().numpy()

    return predict


def ridge_method(features: np.ndarray) -> FewShotMethod:
    """Return ridge regression, its penalty chosen for each task, on features of all molecules, shape (N, F)."""

    def predict(support: np.ndarray, labels: np.ndarray, query: np.ndarray, seed: int):
        return np.stack([ridge_predictions(features[support], y, features[query]) for y in labels.T]), None

    return predict


def forest_method(fingerprints: np.ndarray) -> FewShotMethod:
    """Return a random forest on fingerprint bits of all molecules, shape (N, bits)."""

    def predict(support: np.ndarray, labels: np.ndarray, query: np.ndarray, seed: int):
        bits = fingerprints[support]
        return np.stack([forest_predictions(bits, y, fingerprints[query], seed) for y in labels.T]), None

    return predict


def evaluate_few_shot(
    methods: Mapping[str, FewShotMethod],
    names: Sequence[str],
    labels: ArrayLike,
    *,
    support_sizes: Sequence[int],
    draws: int,
    query_size: int,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Run all methods on the same draws.

    Args:
        methods: By name.
        names: Of the properties.
        labels: Of all molecules, shape (N, P), without NaN.
        support_sizes: To draw.
        draws: Of each size.
        query_size: Molecules to predict, none of the support.
        seed: Of the draws.

    Returns:
        A row for each size, draw, method and property: `r2`, 1 - squared error / variance of the query labels;
        `scaled_error`, mean absolute error / their standard deviation; and `coverage_90`, how many lie within the 90 %
        interval of a method that gives a variance.

    Raises:
        DataError: If a label is not finite, there are too few molecules, or a property does not vary.
    """
    label_NP = np.asarray(labels, dtype=np.float64)
    if label_NP.ndim != 2 or label_NP.shape[1] != len(names) or not np.isfinite(label_NP).all():
        raise DataError(f"labels must be finite, of shape (N, {len(names)}); got {label_NP.shape}. Leave NaN out.")
    rows = []
    for size in support_sizes:
        for draw in range(draws):
            rng = np.random.default_rng((seed, size, draw))
            support, query = _places(label_NP, size, query_size, rng)
            truth_PQ = label_NP[query].T
            for method, predict in methods.items():
                means, variances = predict(support, label_NP[support], query, draw)
                for place, name in enumerate(names):
                    found = _scores(means[place], None if variances is None else variances[place], truth_PQ[place])
                    rows.append({"support": size, "draw": draw, "method": method, "property": name, **found})
    return rows


def _places(label_NP: np.ndarray, support: int, query: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    if len(label_NP) < support + query:
        raise DataError(f"{support} + {query} molecules are needed; got {len(label_NP)}. Give more.")
    for _ in range(_MOST_DRAWS):
        places = rng.choice(len(label_NP), support + query, replace=False)
        if (np.ptp(label_NP[places[:support]], axis=0) > 0).all() and np.ptp(label_NP[places[support:]], axis=0).all():
            return places[:support], places[support:]
    raise DataError(f"in {_MOST_DRAWS} draws of {support} molecules a property never varied. Leave it out.")


def _scores(mean_Q: np.ndarray, variance_Q: np.ndarray | None, truth_Q: np.ndarray) -> dict[str, float]:
    found = {
        "r2": float(1 - np.square(truth_Q - mean_Q).mean() / truth_Q.var()),
        "scaled_error": float(np.abs(truth_Q - mean_Q).mean() / truth_Q.std()),
    }
    if variance_Q is not None:
        reach_Q = _REACH_90 * np.sqrt(variance_Q)
        found["coverage_90"] = interval_coverage(mean_Q - reach_Q, mean_Q + reach_Q, truth_Q)["coverage"]
    return found


def mean_interval(values: Sequence[float], level: float = 0.95) -> dict[str, float]:
    """Return mean and the ends of Student's t interval of it, over draws.

    Raises:
        DataError: If there are fewer than two values, or SciPy is not installed.
    """
    if stats is None:
        raise DataError("an interval over draws needs SciPy. Install it: pip install scipy.")
    if len(values) < 2:
        raise DataError(f"an interval needs at least 2 draws; got {len(values)}.")
    number = np.asarray(values, dtype=np.float64)
    reach = stats.t.ppf(0.5 + level / 2, len(number) - 1) * number.std(ddof=1) / np.sqrt(len(number))
    return {"mean": float(number.mean()), "lower": float(number.mean() - reach), "upper": float(number.mean() + reach)}


def summarise_few_shot(rows: Sequence[Mapping[str, Any]], score: str, reference: str) -> dict[str, Any]:
    """Return, for each support size, the mean over properties of a score with its interval over draws.

    Args:
        rows: Of `evaluate_few_shot`.
        score: Which of their scores; methods that lack it are left out.
        reference: Method from which the others' scores are subtracted, draw by draw.

    Returns:
        By size and method: the interval of `mean_interval`, that of reference - method as `reference_minus`, and in
        how many properties the mean of the reference is higher, `reference_higher_in`.
    """
    found: dict[str, Any] = {}
    for size in dict.fromkeys(row["support"] for row in rows):
        of_size = [row for row in rows if row["support"] == size and score in row]
        tables = {
            method: _table([row for row in of_size if row["method"] == method], score)
            for method in dict.fromkeys(row["method"] for row in of_size)
        }
        found[str(size)] = {
            method: {
                **mean_interval(table.mean(axis=1).tolist()),
                "reference_minus": mean_interval((tables[reference] - table).mean(axis=1).tolist()),
                "reference_higher_in": int((tables[reference].mean(axis=0) > table.mean(axis=0)).sum()),
                "properties": table.shape[1],
            }
            for method, table in tables.items()
        }
    return found


def _table(rows: Sequence[Mapping[str, Any]], score: str) -> np.ndarray:
    draws = list(dict.fromkeys(row["draw"] for row in rows))
    return np.array([[row[score] for row in rows if row["draw"] == draw] for draw in draws])
