"""The figures of a model that completes metabolic networks on one organism: what is measured, and its short form."""

from dataclasses import asdict
from typing import Any

import numpy as np

from ..modeling_astro_graph_vae_gap_filling import AstroGraphVAEForReactionCompletion
from .metabolic_batches import GapQuestions
from .metabolic_data import GappedNetwork, Organism, ReactionPool
from .metabolic_evaluation import candidate_scores, score_directions, score_ranking
from .metabolic_generation import complete_network, score_proposals


__all__ = ["organism_figures", "short_figures"]

_DIRECTION_WAYS = ("base_rates", "known_reaction", "model")


def organism_figures(
    model: AstroGraphVAEForReactionCompletion,
    organism: Organism,
    pool: ReactionPool,
    prior_weights: np.ndarray,
    *,
    share: float,
    draws: int,
    proposals: int,
    completions: int,
) -> dict[str, Any]:
    """Return everything that is measured on an organism, reaction by reaction.

    Args:
        model: In evaluation mode.
        organism: The organism asked about.
        pool: Of the known organisms, of which it is none.
        prior_weights: The linear fit without a graph that the model is compared with.
        share: Of its reactions that is removed.
        draws: Networks with gaps in which candidates are ranked.
        proposals: Most removed reactions that are composed of compounds.
        completions: Reactions that are added to a network.

    Returns:
        `ranking`, `directions`, `proposals` and `completed_network`: fields of `RankingScores`, `DirectionScores`,
        `ProposalScores`, and what `complete_network` returns.
    """
    ranking = score_ranking(model, organism, pool, share, draws, prior_weights)
    directions = score_directions(model, organism, pool)
    gapped = GappedNetwork.draw(organism, share, np.random.default_rng((0, 0)))
    questions = GapQuestions(gapped, pool, model.config)
    return {
        "ranking": asdict(ranking),
        "directions": {name: values.tolist() for name, values in asdict(directions).items()},
        "proposals": asdict(score_proposals(model, questions, proposals)),
        "completed_network": complete_network(questions, candidate_scores(model, questions), completions),
    }


def short_figures(figures: dict[str, Any]) -> dict[str, Any]:
    """Return figures with means in place of the numbers of each reaction; a mean of nothing is `None`."""
    directions = figures["directions"]
    known = np.array(directions["is_known"])
    return {
        **figures,
        **{
            part: {
                **figures[part],
                "recall": {
                    way: {f"top_{k}": float(np.mean(values)) if values else None for k, values in found.items()}
                    for way, found in figures[part]["recall"].items()
                },
            }
            for part in ("ranking", "proposals")
        },
        "directions": {
            "reactions": len(known),
            "known": int(known.sum()),
            "share_right": float(np.mean(directions["is_right"])),
            "log_loss": {way: float(np.mean(directions[way])) for way in _DIRECTION_WAYS},
        },
    }
