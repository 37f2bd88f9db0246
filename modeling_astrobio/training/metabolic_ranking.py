"""Ranks of reactions that were removed from networks: recall with ties, baselines, intervals over organisms."""

from collections.abc import Mapping, Sequence

import numpy as np

from .metabolic_data import GappedNetwork, PoolReaction, ReactionKey, ReactionPool


__all__ = [
    "RECALL_AT",
    "baseline_scores",
    "candidates_of",
    "filtered_recall",
    "mean_with_interval",
    "prior_features",
]

RECALL_AT = (1, 5, 10)
_LEAST_SHARE = 1e-3


def candidates_of(gapped: GappedNetwork, pool: ReactionPool) -> list[PoolReaction]:
    """Return the reactions of the pool that the network does not have, those that were removed from it included."""
    return [reaction for key, reaction in pool.reactions.items() if key not in gapped.remaining]


def prior_features(
    candidates: Sequence[PoolReaction],
    new_compounds: Sequence[int],
    mended_dead_ends: Sequence[int],
    gapped: GappedNetwork,
    pool: ReactionPool,
) -> np.ndarray:
    """Return the features that need no graph, as `PRIOR_FEATURES`, shape (C, P), float32.

    In the first share all known organisms count alike, in the second by the Jaccard index of their reactions and
    those that are left.

    Args:
        candidates: See `candidates_of`.
        new_compounds: How many compounds of each are not in the network.
        mended_dead_ends: How many compounds of each nothing else makes, or nothing else uses.
        gapped: The network.
        pool: The known organisms.
    """
    similarity = pool.similarities(gapped.remaining)
    total = sum(similarity.values()) or 1.0
    alike = [len(each.species) / len(pool.organisms) for each in candidates]
    weighted = [sum(similarity[name] for name in sorted(each.species)) / total for each in candidates]
    shares = np.log(np.maximum(np.array([alike, weighted]), _LEAST_SHARE))
    return np.stack([*shares, np.asarray(new_compounds), np.asarray(mended_dead_ends)], axis=1).astype(np.float32)


def baseline_scores(
    candidates: Sequence[PoolReaction], new_compounds: Sequence[int], gapped: GappedNetwork, pool: ReactionPool
) -> dict[str, np.ndarray]:
    """Return name to the score of each candidate, shape (C,); equal scores are ties.

    `frequency` counts known organisms; `nearest_organism` is whether the one with the highest Jaccard index has it;
    `nearest_then_frequency` breaks the ties of that; `similar_organisms` weighs all by the index. Unlike these,
    `compounds_present` reads the network: the fewer compounds are new to it the better, then as `similar_organisms`.
    """
    similarity = pool.similarities(gapped.remaining)
    nearest = max(sorted(similarity), key=lambda name: similarity[name])
    frequency = np.array([len(each.species) for each in candidates], dtype=np.float64)
    similar = np.array([sum(similarity[name] for name in sorted(each.species)) for each in candidates])
    near = np.array([nearest in each.species for each in candidates], dtype=np.float64)
    return {
        "frequency": frequency,
        "nearest_organism": near,
        "nearest_then_frequency": near * (len(pool.organisms) + 1) + frequency,
        "similar_organisms": similar,
        "compounds_present": similar / max(sum(similarity.values()), 1.0) - 2.0 * np.asarray(new_compounds),
    }


def filtered_recall(
    scores: np.ndarray, candidates: Sequence[PoolReaction], removed: Sequence[ReactionKey]
) -> dict[int, list[float]]:
    """Return, for each k of `RECALL_AT`, the chance to find each removed reaction of the pool among the first k.

    Each removed reaction is ranked among the candidates without the other removed ones, which would be right too
    ("filtered", Bordes et al. 2013, NeurIPS 26). Of equal scores every order is as likely.

    Args:
        scores: Of the candidates, shape (C,); higher is better.
        candidates: See `candidates_of`.
        removed: Keys of what was removed; those that are not in the pool are left out.
    """
    wanted = set(removed)
    is_removed = np.array([each.key in wanted for each in candidates])
    wrong = np.sort(scores[~is_removed])
    better = len(wrong) - np.searchsorted(wrong, scores[is_removed], side="right")
    tied = len(wrong) - better - np.searchsorted(wrong, scores[is_removed], side="left")
    return {k: np.clip((k - better) / (tied + 1), 0.0, 1.0).tolist() for k in RECALL_AT}


def mean_with_interval(
    by_organism: Mapping[str, Sequence[float]], resamples: int = 2000, seed: int = 0
) -> dict[str, float]:
    """Return the mean of the organisms' means, with the 95 % interval of a bootstrap over organisms and their items.

    Args:
        by_organism: Organism to the values of its items.
        resamples: Of the bootstrap.
        seed: Of its random numbers.
    """
    generator = np.random.default_rng(seed)
    values = [
        np.asarray(by_organism[name], dtype=np.float64) for name in sorted(by_organism) if len(by_organism[name])
    ]
    means = np.stack(
        [each[generator.integers(len(each), size=(resamples, len(each)))].mean(axis=1) for each in values], axis=1
    )
    drawn = generator.integers(len(values), size=means.shape)
    low, high = np.quantile(np.take_along_axis(means, drawn, axis=1).mean(axis=1), [0.025, 0.975])
    return {"mean": float(np.mean([each.mean() for each in values])), "low": float(low), "high": float(high)}
