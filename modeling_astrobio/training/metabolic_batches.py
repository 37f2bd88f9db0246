"""Batches of questions about networks with gaps: which reaction is missing, which way it runs, what it is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..configuration_astro_graph_vae import AstroGraphVAEConfig
from ..graph_record import GraphRecord, collate_graphs
from ..metabolic_network import NetworkReaction
from ..metabolic_tensors import drawn_stoichiometry
from ..modeling_astro_graph_vae_gap_filling import DIRECTIONS
from ..reaction_neighbourhood import NeighbourhoodIndex
from .errors import DataError
from .metabolic_data import GappedNetwork, Organism, PoolReaction, ReactionKey, ReactionPool, reaction_key
from .metabolic_ranking import candidates_of, prior_features


__all__ = [
    "GapQuestions",
    "direction_batch",
    "direction_label",
    "direction_prior",
    "directed_reactions",
    "on_device",
    "placed_stoichiometry",
]


def on_device(batch: Mapping[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    """Return the tensors of a batch on a device."""
    return {name: value.to(device) for name, value in batch.items()}


def placed_stoichiometry(candidate: PoolReaction, index: NeighbourhoodIndex) -> dict[str, float]:
    """Return a candidate's stoichiometry over the compounds of a network.

    A reaction within one compartment is put where the network has most of its compounds; of several such
    compartments, where it is in the organism it comes from, then by name.
    """
    numbers = drawn_stoichiometry(candidate.reaction)
    own = {name[name.rindex("[") :] for name in numbers}
    if len(own) > 1:
        return numbers
    places = sorted({*index.compartments, *own})
    plain = {name[: name.rindex("[")]: number for name, number in numbers.items()}
    best = max(places, key=lambda place: (sum(index.degree(name + place) > 0 for name in plain), place in own))
    return {name + best: number for name, number in plain.items()}


class GapQuestions:
    """Everything that can be asked about one network with gaps; graphs are kept once they are made.

    Args:
        gapped: The network.
        pool: Reactions of organisms other than its own.
        config: Codes of the nodes.
    """

    def __init__(self, gapped: GappedNetwork, pool: ReactionPool, config: AstroGraphVAEConfig):
        self.gapped, self.pool = gapped, pool
        self.index = NeighbourhoodIndex(gapped.network, config, pool.formulas)
        self.candidates = candidates_of(gapped, pool)
        self.placed = [placed_stoichiometry(each, self.index) for each in self.candidates]
        self.new_compounds = [sum(not self.index.degree(name) for name in numbers) for numbers in self.placed]
        mended = [
            self.index.mended_dead_ends(numbers, candidate.reaction.reversible)
            for numbers, candidate in zip(self.placed, self.candidates, strict=True)
        ]
        self.priors = prior_features(self.candidates, self.new_compounds, mended, gapped, pool)
        removed = set(gapped.removed)
        self.is_removed = np.array([each.key in removed for each in self.candidates])
        self._graphs: dict[int, GraphRecord] = {}
        names = list(gapped.network.compounds)
        self.compounds = {name: place for place, name in enumerate(names)}
        self.compound_features = torch.from_numpy(np.stack([self.index.features_of(name) for name in names]))
        self.compound_degrees = torch.tensor([float(self.index.degree(name)) for name in names])

    def graph(self, place: int) -> GraphRecord:
        """Return the graph around a candidate."""
        if place not in self._graphs:
            reversible = self.candidates[place].reaction.reversible
            self._graphs[place] = self.index.record(self.placed[place], reversible)
        return self._graphs[place]

    def candidate_batch(self, places: Sequence[int]) -> dict[str, torch.Tensor]:
        """Return the graphs of candidates and their prior features."""
        batch = collate_graphs([self.graph(place) for place in places])
        return {**batch, "prior_features": torch.from_numpy(self.priors[list(places)])}

    def check_askable(self) -> None:
        """Refuse a network about which `training_batch` can ask nothing.

        Raises:
            DataError: If there is no removed reaction in the pool, or no wrong one.
        """
        right = int(self.is_removed.sum())
        wrong = len(self.candidates) - right
        if not right or not wrong:
            raise DataError(
                f"network {self.gapped.network.id} must lack reactions of other organisms, some removed from it and "
                f"some it never had; got {right} and {wrong}. Name more organisms, or remove more."
            )

    def training_batch(self, questions: int, wrong: int, generator: np.random.Generator) -> dict[str, torch.Tensor]:
        """Return questions of one removed reaction among wrong candidates.

        Half of these are drawn evenly, half as the hard ones, which similar organisms have and whose compounds are in
        the network; `candidate_offsets` say how often each was to be expected.

        Args:
            questions: Most questions.
            wrong: Wrong candidates of each.
            generator: Of the random numbers.

        Raises:
            DataError: As `check_askable`.
        """
        self.check_askable()
        right, others = np.flatnonzero(self.is_removed), np.flatnonzero(~self.is_removed)
        right = generator.choice(right, min(questions, len(right)), replace=False)
        weights = np.exp(self.priors[others, 1].astype(np.float64) - 3.0 * self.priors[others, 2])
        rates = 0.5 * weights / weights.sum() + 0.5 / len(others)
        drawn = generator.choice(len(others), (len(right), wrong), p=rates)
        places = np.concatenate([right[:, None], others[drawn]], axis=1).ravel().tolist()
        offsets = np.pad(-np.log(wrong * rates[drawn]), ((0, 0), (1, 0)))
        return {
            **self.candidate_batch(places),
            "candidate_labels": torch.zeros(len(right), dtype=torch.long),
            "candidate_offsets": torch.from_numpy(offsets.ravel().astype(np.float32)),
        }

    def pointer_batch(self, keys: Sequence[ReactionKey], generator: np.random.Generator) -> dict[str, torch.Tensor]:
        """Return questions of a removed reaction of which one compound is known.

        Args:
            keys: Of removed reactions; those without two compounds left in the network are left out.
            generator: Draws the known compound, evenly among those of the fewest reactions and one other.
        """
        graphs, labels = [], []
        for key in keys:
            numbers = drawn_stoichiometry(self.removed_reaction(key))
            known = sorted((name for name in numbers if name in self.compounds), key=self.index.degree)
            if len(known) < 2:
                continue
            seed = known[int(generator.integers(2))]
            row = torch.zeros(len(self.compounds))
            for name in known:
                row[self.compounds[name]] = numbers[name] if name != seed else 0.0
            graphs.append(self.index.record({seed: numbers[seed]}))
            labels.append(row)
        if not graphs:
            return {}
        return {
            **collate_graphs(graphs),
            "compound_features": self.compound_features,
            "compound_degrees": self.compound_degrees,
            "pointer_labels": torch.stack(labels),
        }

    def removed_reaction(self, key: ReactionKey) -> NetworkReaction:
        """Return the first of the reactions that were removed with a key."""
        organism = self.gapped.organism
        return organism.network.reactions[organism.reactions[key][0]]


def direction_label(reaction: NetworkReaction) -> int:
    """Return the place in `DIRECTIONS` that the bounds of a reaction allow, or -100 if they allow none."""
    if reaction.reversible:
        return DIRECTIONS.index("reversible")
    if not reaction.direction:
        return -100
    return DIRECTIONS.index("forward" if reaction.direction > 0 else "backward")


def directed_reactions(organism: Organism) -> list[NetworkReaction]:
    """Return the reactions of an organism whose bounds allow a direction, without exchanges and sums of growth."""
    return [
        reaction
        for reaction in organism.network.reactions.values()
        if reaction_key(reaction.stoichiometry) is not None and direction_label(reaction) >= 0
    ]


def direction_prior(key: ReactionKey, first_number: float, pool: ReactionPool) -> tuple[np.ndarray, bool]:
    """Return log-probabilities of the directions of a reaction in known organisms, shape (3,), and if any has it.

    One is added to the count of each direction, in the shares that all known reactions have, forward and backward
    alike. Forward is as the asker writes the reaction.

    Args:
        key: Of the reaction.
        first_number: Coefficient, in the asker's writing, of the first compound of the key.
        pool: The known organisms.
    """
    counts = pool.base_rates.copy()
    known = 0
    for organism in pool.organisms:
        example = organism.examples.get(key)
        label = -100 if example is None else direction_label(example)
        if example is None or label < 0:
            continue
        known += 1
        first = min(example.stoichiometry, key=lambda name: _plain_order(name, example.stoichiometry))
        same = (float(example.stoichiometry[first]) > 0) == (first_number > 0)
        counts[label if same else 2 - label] += 1
    return np.log(counts / counts.sum()).astype(np.float32), known > 0


def _plain_order(name: str, stoichiometry: Mapping[str, object]) -> str:
    places = {each[each.rindex("[") :] for each in stoichiometry}
    return name if len(places) > 1 else name[: name.rindex("[")]


@dataclass(frozen=True)
class DirectionBatch:
    """Questions of the direction of reactions.

    Attributes:
        inputs: For the model, with `direction_labels`.
        known: Whether a known organism has the reaction, shape (B,).
    """

    inputs: dict[str, torch.Tensor]
    known: np.ndarray


def direction_batch(
    index: NeighbourhoodIndex, reactions: Sequence[NetworkReaction], pool: ReactionPool, flips: Sequence[bool]
) -> DirectionBatch:
    """Return questions of the direction of reactions, each hidden in its network.

    Args:
        index: Of the whole network.
        reactions: Of it.
        pool: Organisms other than its own.
        flips: Whether each is asked about with its sides exchanged, since how a model writes a reaction tells which
            way it runs.
    """
    graphs, labels, priors, known = [], [], [], []
    for reaction, flip in zip(reactions, flips, strict=True):
        sign = -1.0 if flip else 1.0
        written = {name: sign * float(number) for name, number in reaction.stoichiometry.items()}
        key = reaction_key(reaction.stoichiometry)
        first = min(written, key=lambda name: _plain_order(name, written))
        prior, is_known = direction_prior(key, written[first], pool) if key else (np.log(pool.base_rates), False)
        label = direction_label(reaction)
        graphs.append(index.record(written, hidden=(reaction.id,)))
        labels.append(2 - label if flip and label >= 0 else label)
        priors.append(prior)
        known.append(is_known)
    inputs = {
        **collate_graphs(graphs),
        "direction_labels": torch.tensor(labels),
        "direction_prior": torch.from_numpy(np.stack(priors).astype(np.float32)),
    }
    return DirectionBatch(inputs, np.array(known))
