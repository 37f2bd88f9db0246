"""Train a model that completes metabolic networks, on the networks of known organisms."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from ..configuration_astro_graph_vae import AstroGraphVAEConfig
from ..modeling_astro_graph_vae_gap_filling import PRIOR_FEATURES, AstroGraphVAEForReactionCompletion
from .constraint_terms import constraint_loss_terms
from .metabolic_batches import GapQuestions
from .metabolic_data import GappedNetwork, Organism, ReactionPool
from .metabolic_losses import completion_losses
from .metabolic_questions import CompletionQuestions, QuestionSettings


__all__ = ["CompletionSettings", "completion_config", "fit_prior_weights", "train_completion"]


@dataclass(frozen=True)
class CompletionSettings(QuestionSettings):
    """How a model is trained; what it is asked is that of `QuestionSettings`.

    Attributes:
        config: Fields of the model's config that differ from those of `completion_config`.
        steps: Optimizer steps. Of five times as many the model over-fits a handful of organisms: it then puts what all
            of them have, such as the charging of tRNA, before everything in one whose network leaves it out.
        learning_rate: The highest; it rises over a twentieth of the steps, then falls to 0 along a cosine.
        weight_decay: Of AdamW.
        pointer_weight: Factor of the loss of compounds.
        constraints: Weight of terms of `biochemical_constraints.CONSTRAINTS`, by name.
        seed: Of all random numbers.
    """

    config: Mapping[str, object] = field(default_factory=dict)
    steps: int = 100
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
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
        "num_random_walk_steps": 4,
        "max_distance": 4,
        "structural_encodings": ["random_walk", "degree"],
        # What the graph says starts small beside the fit that training starts from.
        "initializer_range": 0.02,
    }
    return AstroGraphVAEConfig.from_preset("tiny", **{**small, **changes})


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
    started = time.perf_counter()
    torch.manual_seed(settings.seed)
    generator = np.random.default_rng(settings.seed)
    config = completion_config(**settings.config)
    model = AstroGraphVAEForReactionCompletion(config)
    if prior_weights is not None:
        with torch.no_grad():
            model.prior_weight.copy_(torch.from_numpy(prior_weights))
    questions = CompletionQuestions(organisms, organisms, settings, config, generator)
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
        parts = completion_losses(model, questions.draw(generator), settings.pointer_weight, terms, step)
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


def fit_prior_weights(organisms: Sequence[Organism], settings: QuestionSettings, seed: int = 0) -> np.ndarray:
    """Return the best factors of the prior features alone, shape (P,): the model without its graph.

    They minimise the same cross-entropy over all candidates of one network with gaps of each organism.

    Args:
        organisms: The known ones, at least two.
        settings: Say which share of reactions is removed.
        seed: Of the networks with gaps.
    """
    generator = np.random.default_rng(seed)
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
