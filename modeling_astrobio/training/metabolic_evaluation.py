"""What a model that completes metabolic networks is worth on an organism that it has not seen."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from ..modeling_astro_graph_vae_gap_filling import AstroGraphVAEForReactionCompletion
from ..reaction_neighbourhood import NeighbourhoodIndex
from .metabolic_batches import GapQuestions, directed_reactions, direction_batch, on_device
from .metabolic_data import GappedNetwork, Organism, ReactionPool
from .metabolic_ranking import RECALL_AT, baseline_scores, filtered_recall


__all__ = [
    "DirectionScores",
    "RankingScores",
    "base_rate_losses",
    "candidate_scores",
    "score_directions",
    "score_ranking",
]

_BATCH_SIZE = 256


@dataclass
class RankingScores:
    """Recall of removed reactions of an organism.

    Attributes:
        recall: Way of ranking to k to the chance of each removed reaction of the pool to be among the first k.
        removed: Number of reactions that were removed, in all draws.
        in_pool: Of these, those that are in the pool.
        candidates: Number of candidates of each draw.
    """

    recall: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    removed: int = 0
    in_pool: int = 0
    candidates: list[int] = field(default_factory=list)

    def add(self, name: str, found: dict[int, list[float]]) -> None:
        """Add the removed reactions of a draw."""
        kept = self.recall.setdefault(name, {k: [] for k in RECALL_AT})
        for k in RECALL_AT:
            kept[k].extend(found[k])


@torch.no_grad()
def candidate_scores(model: AstroGraphVAEForReactionCompletion, questions: GapQuestions) -> np.ndarray:
    """Return the logits of all candidates, shape (C,); graphs of like size share a batch."""
    order = sorted(range(len(questions.candidates)), key=lambda place: questions.graph(place).size)
    scores = np.zeros(len(order))
    for start in range(0, len(order), _BATCH_SIZE):
        places = order[start : start + _BATCH_SIZE]
        batch = on_device(questions.candidate_batch(places), model.device)
        scores[places] = model(**batch).candidate_logits.double().cpu().numpy()
    return scores


def score_ranking(
    model: AstroGraphVAEForReactionCompletion,
    organism: Organism,
    pool: ReactionPool,
    share: float,
    draws: int,
    prior_weights: np.ndarray | None = None,
    seed: int = 0,
) -> RankingScores:
    """Remove reactions, several times, and rank the candidates by the model and by every baseline.

    Args:
        model: Trained on the organisms of the pool.
        organism: Another one.
        pool: Reactions of the known organisms.
        share: Of its reactions that is removed.
        draws: Number of networks with gaps.
        prior_weights: Of the prior features alone, see `fit_prior_weights`; adds the ranking `priors_alone`.
        seed: Of the draws; they do not depend on the model.
    """
    found = RankingScores()
    for draw in range(draws):
        gapped = GappedNetwork.draw(organism, share, np.random.default_rng((seed, draw)))
        questions = GapQuestions(gapped, pool, model.config)
        rankings = baseline_scores(questions.candidates, questions.new_compounds, gapped, pool)
        if prior_weights is not None:
            rankings["priors_alone"] = questions.priors @ prior_weights
        rankings["model"] = candidate_scores(model, questions)
        for name, scores in rankings.items():
            found.add(name, filtered_recall(scores, questions.candidates, gapped.removed))
        found.removed += len(gapped.removed)
        found.in_pool += int(questions.is_removed.sum())
        found.candidates.append(len(questions.candidates))
    return found


@dataclass
class DirectionScores:
    """Log losses of the directions of an organism's reactions, each an array (R,), nats.

    Attributes:
        base_rates: Of the shares of all known reactions.
        known_reaction: Of the smoothed shares of the same reaction in known organisms.
        model: Of the model.
        is_right: Whether the model's likeliest direction is the stated one.
        is_known: Whether a known organism has the reaction.
    """

    base_rates: np.ndarray
    known_reaction: np.ndarray
    model: np.ndarray
    is_right: np.ndarray
    is_known: np.ndarray


@torch.no_grad()
def score_directions(
    model: AstroGraphVAEForReactionCompletion, organism: Organism, pool: ReactionPool, seed: int = 0
) -> DirectionScores:
    """Ask for the direction of every reaction, a random half of them written with their sides exchanged."""
    index = NeighbourhoodIndex(organism.network, model.config, pool.formulas)
    reactions = directed_reactions(organism)
    flips = (np.random.default_rng(seed).random(len(reactions)) < 0.5).tolist()
    parts: list[Sequence[np.ndarray]] = []
    for start in range(0, len(reactions), _BATCH_SIZE):
        rows = slice(start, start + _BATCH_SIZE)
        batch = direction_batch(index, reactions[rows], pool, flips[rows])
        labels = batch.inputs["direction_labels"][:, None]
        logits = model(**on_device(batch.inputs, model.device)).direction_logits.float().cpu()
        losses = -logits.log_softmax(-1).gather(1, labels)[:, 0]
        prior = batch.inputs["direction_prior"]
        parts.append(
            (
                base_rate_losses(pool, labels[:, 0].numpy()),
                -prior.gather(1, labels)[:, 0].numpy(),
                losses.numpy(),
                (logits.argmax(-1) == labels[:, 0]).numpy(),
                batch.known,
            )
        )
    return DirectionScores(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def base_rate_losses(pool: ReactionPool, labels: np.ndarray) -> np.ndarray:
    """Return minus the logarithm of the shares that the labelled directions have in the pool, shape (R,)."""
    return -np.log(pool.base_rates)[labels]
