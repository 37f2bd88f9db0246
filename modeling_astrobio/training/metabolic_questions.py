"""What a step of training asks about known organisms: missing reactions, directions, compounds of new reactions."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.utils.data import Dataset

from ..configuration_astro_graph_vae import AstroGraphVAEConfig
from ..reaction_neighbourhood import NeighbourhoodIndex
from .errors import DataError
from .metabolic_batches import GapQuestions, directed_reactions, direction_batch
from .metabolic_data import GappedNetwork, Organism, ReactionPool


__all__ = ["CompletionBatch", "CompletionQuestions", "CompletionSteps", "QuestionSettings"]

CompletionBatch = dict[str, dict[str, torch.Tensor]]
"""Inputs of the model for each part of a step: "candidate", "direction" and "pointer"; the last two may be absent."""


@dataclass(frozen=True)
class QuestionSettings:
    """What is asked in a step.

    Attributes:
        draws: Networks with gaps that are made of each organism.
        shares: Least and greatest share of reactions that are removed.
        questions: Of gaps, in a step.
        wrong_candidates: Of each.
        directions: Reactions in a step whose direction is asked.
        pointers: Reactions in a step whose compounds are asked.
    """

    draws: int = 4
    shares: list[float] = field(default_factory=lambda: [0.05, 0.2])
    questions: int = 16
    wrong_candidates: int = 23
    directions: int = 32
    pointers: int = 16


class _OrganismQuestions:
    """What is asked about one organism, as if the others alone were known."""

    def __init__(
        self,
        organism: Organism,
        known: Sequence[Organism],
        settings: QuestionSettings,
        config: AstroGraphVAEConfig,
        generator: np.random.Generator,
    ):
        self.pool, self.settings = ReactionPool(known), settings
        least, greatest = settings.shares
        self.gaps = []
        for _ in range(settings.draws):
            gapped = GappedNetwork.draw(organism, generator.uniform(least, greatest), generator)
            self.gaps.append(GapQuestions(gapped, self.pool, config))
            self.gaps[-1].check_askable()
        self.whole = NeighbourhoodIndex(organism.network, config, self.pool.formulas)
        self.directed = directed_reactions(organism)

    def draw(self, generator: np.random.Generator) -> CompletionBatch:
        settings = self.settings
        gap = self.gaps[int(generator.integers(len(self.gaps)))]
        batch = {"candidate": gap.training_batch(settings.questions, settings.wrong_candidates, generator)}
        if settings.directions and self.directed:
            places = generator.integers(len(self.directed), size=settings.directions)
            flips = (generator.random(settings.directions) < 0.5).tolist()
            reactions = [self.directed[place] for place in places]
            batch["direction"] = direction_batch(self.whole, reactions, self.pool, flips).inputs
        if settings.pointers:
            order = generator.permutation(len(gap.gapped.removed))[: settings.pointers]
            pointed = gap.pointer_batch([gap.gapped.removed[place] for place in order], generator)
            if pointed:
                batch["pointer"] = pointed
        return batch


class CompletionQuestions:
    """Questions about organisms, each as if it were not known.

    Args:
        asked: The organisms asked about.
        known: Those whose reactions are the candidates. One that is asked about is left out of its own candidates, so
            that what the model learns of frequencies holds for an organism that it has not seen.
        settings: What is asked.
        config: Codes of the nodes.
        generator: Draws the networks with gaps.

    Raises:
        DataError: If the known ones are fewer than are needed, or none of an organism's reactions can be asked about.
    """

    def __init__(
        self,
        asked: Sequence[Organism],
        known: Sequence[Organism],
        settings: QuestionSettings,
        config: AstroGraphVAEConfig,
        generator: np.random.Generator,
    ):
        others = [[other for other in known if other is not each] for each in asked]
        if not asked or not all(others):
            raise DataError(
                f"organisms must be at least two, one of them asked about; got {len(known)}. Add models of other "
                "species."
            )
        self._about = [
            _OrganismQuestions(each, rest, settings, config, generator)
            for each, rest in zip(asked, others, strict=True)
        ]

    def draw(self, generator: np.random.Generator) -> CompletionBatch:
        """Return the questions of a step, all about one network with gaps."""
        return self._about[int(generator.integers(len(self._about)))].draw(generator)


class CompletionSteps(Dataset):
    """Steps by their number: each depends on the questions, the seed and its number alone, so that resuming is exact.

    Args:
        questions: What can be asked.
        count: Number of steps.
        seed: Of the random numbers.
    """

    def __init__(self, questions: CompletionQuestions, count: int, seed: int):
        self.questions, self.count, self.seed = questions, count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int) -> CompletionBatch:
        if not 0 <= step < self.count:
            raise IndexError(f"step must be from 0 to {self.count - 1}; got {step}.")
        return self.questions.draw(np.random.default_rng((self.seed, step)))
