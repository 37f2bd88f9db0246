"""Networks that are completed by a model: exact balances of what is added, and whether it can carry flux."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from ..constraint_balance import BalanceError, balanced_stoichiometry, conserved_amounts
from ..constraint_flux import flux_report
from ..graph_record import collate_graphs
from ..metabolic_network import Compound, MetabolicNetwork, NetworkReaction, check_balance, has_charges
from ..metabolic_tensors import drawn_stoichiometry
from ..modeling_astro_graph_vae_gap_filling import AstroGraphVAEForReactionCompletion
from ..reaction_proposals import propose_reactions
from .metabolic_batches import GapQuestions, on_device
from .metabolic_data import reaction_key
from .metabolic_ranking import RECALL_AT


__all__ = ["ProposalScores", "balanced_candidate", "complete_network", "score_proposals", "with_formulas"]


def with_formulas(network: MetabolicNetwork, formulas: Mapping[str, Compound]) -> MetabolicNetwork:
    """Return a network in which compounds without formula have that of other organisms, and its charge."""
    filled = {}
    for name, compound in network.compounds.items():
        other = formulas.get(name)
        if compound.elements is None and other is not None and other.elements is not None:
            compound = replace(compound, formula=other.formula, elements=other.elements, charge=other.charge)
        filled[name] = compound
    return replace(network, compounds=filled)


def balanced_candidate(network: MetabolicNetwork, reaction: NetworkReaction, proton: str) -> NetworkReaction:
    """Return a reaction that conserves elements and charge with the network's formulas, in whole or given numbers.

    Where it does not as it is, models differ in the protons of a compound: the numbers are then those of the null
    space of its compounds, or of these and the proton.

    Args:
        network: Has all its compounds.
        reaction: The candidate.
        proton: Compound of the network that may be added.

    Raises:
        BalanceError: If none of these conserves them; the message names the reaction.
    """
    try:
        check_balance(network, reaction)
    except BalanceError as error:
        problem = error
    else:
        return reaction
    with_charge = has_charges(network)
    named = list(reaction.stoichiometry)
    for names in (named, [*named, proton] if proton in network.compounds and proton not in named else []):
        amounts = {}
        try:
            for name in names:
                compound = network.compounds[name]
                amounts[name] = conserved_amounts(name, compound.elements, compound.charge, with_charge)
            numbers = balanced_stoichiometry(amounts)
        except BalanceError:
            continue
        sign = 1 if (numbers[named[0]] > 0) == (reaction.stoichiometry[named[0]] > 0) else -1
        if all((sign * numbers[name] > 0) == (reaction.stoichiometry[name] > 0) for name in named):
            return replace(reaction, stoichiometry={name: Fraction(sign * numbers[name]) for name in names})
    raise problem


def complete_network(questions: GapQuestions, scores: np.ndarray, count: int) -> dict[str, Any]:
    """Add the best candidates to a network with gaps, and check balances and fluxes.

    Args:
        questions: Of the network.
        scores: Of its candidates, shape (C,).
        count: Candidates that are added; those that cannot be balanced are refused and the next one is taken.

    Returns:
        Numbers of added, rebalanced and refused reactions, the share of the added ones that can carry flux, and the
        optimum of the objective of the whole network, with gaps, and completed.
    """
    pool = questions.pool
    network = with_formulas(questions.gapped.network, pool.formulas)
    added: list[NetworkReaction] = []
    rebalanced = refused = 0
    for place in np.argsort(-scores, kind="stable"):
        candidate = questions.candidates[int(place)]
        numbers = {name: Fraction(repr(number)) for name, number in questions.placed[int(place)].items()}
        low = -1000.0 if candidate.reaction.reversible else 0.0
        wanted = NetworkReaction(f"added_{len(added)}", numbers, low, 1000.0)
        brought = {name: pool.formulas.get(name, Compound(name)) for name in numbers if name not in network.compounds}
        whole = replace(network, compounds={**network.compounds, **brought})
        try:
            one = balanced_candidate(whole, wanted, f"h{next(iter(numbers))[-3:]}")
            network = network.with_reactions([one], brought.values())
        except BalanceError:
            refused += 1
            continue
        rebalanced += one.stoichiometry != wanted.stoichiometry
        added.append(one)
        if len(added) == count:
            break
    names = [each.id for each in added]
    report = flux_report(network, names)
    return {
        "added": len(added),
        "rebalanced": rebalanced,
        "refused_unbalanced": refused,
        "share_that_can_carry_flux": float(np.mean([report.carries(name) for name in names])) if names else 0.0,
        "optimum_whole": flux_report(questions.gapped.organism.network, []).optimum,
        "optimum_with_gaps": flux_report(questions.gapped.network, []).optimum,
        "optimum_completed": report.optimum,
        "status": report.status,
    }


@dataclass
class ProposalScores:
    """Reactions made of compounds, without a pool.

    Attributes:
        recall: Way of scoring compounds to k to whether each removed reaction was among the first k proposals.
        proposed: Number of proposals.
        unbalanced: Of these, those with a residual that is not exactly 0.
        asked: Removed reactions that were asked about.
    """

    recall: dict[str, dict[int, list[float]]]
    proposed: int
    unbalanced: int
    asked: int


@torch.no_grad()
def score_proposals(
    model: AstroGraphVAEForReactionCompletion, questions: GapQuestions, most: int, max_compounds: int = 5
) -> ProposalScores:
    """Ask for removed reactions of which one compound, that of the fewest reactions, and its side are known.

    Asked are those of at most `max_compounds` compounds, all in the network with formulas, that balance there, at most
    `most` of them in the order of their keys. The baseline scores compounds by their number of reactions alone.
    """
    network = with_formulas(questions.gapped.network, questions.pool.formulas)
    with_charge = has_charges(network)
    names = list(network.compounds)
    scores = ProposalScores({name: {k: [] for k in RECALL_AT} for name in ("model", "degree")}, 0, 0, 0)
    by_degree = dict(zip(names, questions.compound_degrees.log1p().tolist(), strict=True))
    for key in questions.gapped.removed:
        numbers = drawn_stoichiometry(questions.removed_reaction(key))
        if scores.asked == most or not _is_askable(network, questions.removed_reaction(key), max_compounds):
            continue
        scores.asked += 1
        seed = min(numbers, key=lambda name: (questions.index.degree(name), name))
        batch = {
            **collate_graphs([questions.index.record({seed: numbers[seed]})]),
            "compound_features": questions.compound_features,
            "compound_degrees": questions.compound_degrees,
        }
        logits = dict(zip(names, model(**on_device(batch, model.device)).pointer_logits[0].tolist(), strict=True))
        for way, of_compound in (("model", logits), ("degree", by_degree)):
            proposals = propose_reactions(
                seed, network.compounds, of_compound, numbers[seed] < 0, with_charge, max_compounds=max_compounds
            )
            scores.proposed += len(proposals)
            scores.unbalanced += sum(bool(each.residual) for each in proposals)
            found = [reaction_key({n: Fraction(v) for n, v in each.stoichiometry.items()}) for each in proposals]
            for k in RECALL_AT:
                scores.recall[way][k].append(float(key in found[:k]))
    return scores


def _is_askable(network: MetabolicNetwork, reaction: NetworkReaction, max_compounds: int) -> bool:
    known: Sequence[str] = [name for name in reaction.stoichiometry if name in network.compounds]
    if len(known) < len(reaction.stoichiometry) or len(known) > max_compounds:
        return False
    try:
        check_balance(network, reaction)
    except BalanceError:
        return False
    return True
