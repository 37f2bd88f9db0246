"""Train a model that completes metabolic networks, on the networks of known organisms."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from ..configuration_astro_graph_vae import AstroGraphVAEConfig
from ..metabolic_network import NetworkReaction
from ..modeling_astro_graph_vae_gap_filling import PRIOR_FEATURES, AstroGraphVAEForReactionCompletion
from ..reaction_neighbourhood import NeighbourhoodIndex
from .constraint_terms import constraint_loss_terms
from .errors import DataError
from .metabolic_batches import GapQuestions, direction_batch, direction_label
from .metabolic_data import GappedNetwork, Organism, ReactionPool, reaction_key


__all__ = ["CompletionSettings", "completion_config", "directed_reactions", "fit_prior_weights", "train_completion"]


@dataclass(frozen=True)
class CompletionSettings:
    """How a model is trained.

    Attributes:
        config: Fields of the model's config that differ from those of `completion_config`.
        steps: Optimizer steps. Of five times as many the model over-fits a handful of organisms: it then puts what all
            of them have, such as the charging of tRNA, before everything in one whose network leaves it out.
        learning_rate: The highest; it rises over a twentieth of the steps, then falls to 0 along a cosine.
        weight_decay: Of AdamW.
        draws: Networks with gaps that are made of each organism.
        shares: Least and greatest share of reactions that are removed.
        questions: Of gaps, in a step.
        wrong_candidates: Of each.
        directions: Reactions in a step whose direction is asked.
        pointers: Reactions in a step whose compounds are asked.
        pointer_weight: Factor of that loss.
        constraints: Weight of terms of `biochemical_constraints.CONSTRAINTS`, by name.
        seed: Of all random numbers.
    """

    config: Mapping[str, object] = field(default_factory=dict)
    steps: int = 100
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    draws: int = 4
    shares: tuple[float, float] = (0.05, 0.2)
    questions: int = 16
    wrong_candidates: int = 23
    directions: int = 32
    pointers: int = 16
    pointer_weight: float = 0.05
    constraints: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0


def completion_config(**changes) -> AstroGraphVAEConfig:
    """Return the shape of a model that is trained in a minute on a CPU."""
    small = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_encoder_layers": 2,
        "num_edge_token_layers": 0,
        "num_random_walk_steps": 4,
        "max_distance": 4,
        "structural_encodings": ["random_walk", "degree"],
    }
    return AstroGraphVAEConfig.from_preset("tiny", **{**small, **changes})


def directed_reactions(organism: Organism) -> list[NetworkReaction]:
    """Return the reactions of an organism whose bounds allow a direction, without exchanges and sums of growth."""
    return [
        reaction
        for reaction in organism.network.reactions.values()
        if reaction_key(reaction.stoichiometry) is not None and direction_label(reaction) >= 0
    ]


class _Questions:
    """What is asked about one known organism, as if it were not known."""

    def __init__(
        self,
        organism: Organism,
        others: Sequence[Organism],
        settings: CompletionSettings,
        config: AstroGraphVAEConfig,
        generator: np.random.Generator,
    ):
        self.pool = ReactionPool(others)
        self.gaps = []
        for _ in range(settings.draws):
            gapped = GappedNetwork.draw(organism, generator.uniform(*settings.shares), generator)
            self.gaps.append(GapQuestions(gapped, self.pool, config))
        self.whole = NeighbourhoodIndex(organism.network, config, self.pool.formulas)
        self.directed = directed_reactions(organism)


def train_completion(
    organisms: Sequence[Organism],
    settings: CompletionSettings,
    prior_weights: np.ndarray | None = None,
    report: Callable[[int, Mapping[str, float]], None] | None = None,
) -> tuple[AstroGraphVAEForReactionCompletion, dict[str, float]]:
    """Train a model on known organisms.

    Each is asked about with the others as the known ones, so that what the model learns of frequencies holds for an
    organism that it has not seen.

    Args:
        organisms: The known ones, at least two.
        settings: How.
        prior_weights: Factors of the prior features to start from, see `fit_prior_weights`.
        report: Is called with step and losses every fiftieth step.

    Returns:
        The model, for evaluation, and the seconds, parameters and last losses.

    Raises:
        DataError: If there are fewer than two organisms.
    """
    if len(organisms) < 2:
        raise DataError(f"organisms must be at least two, one of them asked about; got {len(organisms)}. Add models.")
    started = time.perf_counter()
    torch.manual_seed(settings.seed)
    generator = np.random.default_rng(settings.seed)
    config = completion_config(**settings.config)
    model = AstroGraphVAEForReactionCompletion(config)
    if prior_weights is not None:
        with torch.no_grad():
            model.prior_weight.copy_(torch.from_numpy(prior_weights))
    asked = [
        _Questions(each, [other for other in organisms if other is not each], settings, config, generator)
        for each in organisms
    ]
    terms = constraint_loss_terms(settings.constraints)
    optimizer = torch.optim.AdamW(model.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
    warmup = max(1, settings.steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warmup, 0.5 + 0.5 * np.cos(np.pi * min(step / settings.steps, 1.0))),
    )
    losses: dict[str, float] = {}
    model.train()
    for step in range(settings.steps):
        about = asked[int(generator.integers(len(asked)))]
        parts = _step_losses(model, about, settings, terms, generator)
        optimizer.zero_grad()
        torch.stack(list(parts.values())).sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        for name, part in parts.items():
            value = part.item()
            losses[name] = value if name not in losses else 0.95 * losses[name] + 0.05 * value
        if report is not None and (step + 1) % 50 == 0:
            report(step + 1, losses)
    count = sum(parameter.numel() for parameter in model.parameters())
    seconds = time.perf_counter() - started
    return model.eval(), {"seconds": seconds, "parameters": count, **{f"loss_{key}": losses[key] for key in losses}}


def _step_losses(model, about: _Questions, settings: CompletionSettings, terms, generator) -> dict[str, torch.Tensor]:
    gap = about.gaps[int(generator.integers(len(about.gaps)))]
    parts = {}
    gap_batch = gap.training_batch(settings.questions, settings.wrong_candidates, generator)
    parts["candidate"] = model(**gap_batch).loss
    if settings.directions and about.directed:
        places = generator.integers(len(about.directed), size=settings.directions)
        flips = (generator.random(settings.directions) < 0.5).tolist()
        batch = direction_batch(about.whole, [about.directed[place] for place in places], about.pool, flips)
        parts["direction"] = model(**batch.inputs).loss
    if settings.pointers:
        order = generator.permutation(len(gap.gapped.removed))[: settings.pointers]
        pointed = gap.pointer_batch([gap.gapped.removed[place] for place in order], generator)
        if pointed:
            output = model(**pointed)
            parts["pointer"] = settings.pointer_weight * output.loss
            for term in terms:
                parts[term.name] = term.weight_at(0) * term.compute(model, pointed, output)
    return parts


def fit_prior_weights(organisms: Sequence[Organism], settings: CompletionSettings) -> np.ndarray:
    """Return the best factors of the prior features alone, shape (P,): the model without its graph.

    They minimise the same cross-entropy over all candidates of one network with gaps of each organism.
    """
    generator = np.random.default_rng(settings.seed)
    weights = torch.zeros(len(PRIOR_FEATURES), dtype=torch.float64, requires_grad=True)
    problems = []
    for organism in organisms:
        pool = ReactionPool([other for other in organisms if other is not organism])
        gapped = GappedNetwork.draw(organism, sum(settings.shares) / 2, generator)
        questions = GapQuestions(gapped, pool, completion_config())
        priors = torch.from_numpy(questions.priors).double()
        is_removed = torch.from_numpy(questions.is_removed)
        problems.append((priors[is_removed], priors[~is_removed]))
    optimizer = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = weights.new_zeros(())
        for right, wrong in problems:
            right_scores, wrong_scores = right @ weights, (wrong @ weights).logsumexp(0)
            loss = loss + (torch.logaddexp(right_scores, wrong_scores) - right_scores).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach().numpy()
