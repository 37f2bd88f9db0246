"""A training step of a model that completes metabolic networks, for the planner: built without weights or data."""

import functools

import torch
from transformers import AutoModelForMultipleChoice

from modeling_astrobio import AstroGraphVAEConfig

from ..graph_record import GraphRecord, collate_graphs
from ..metabolic_network import Compound
from ..metabolic_tensors import bipartite_record, compound_features, reaction_features
from ..modeling_astro_graph_vae_gap_filling import PRIOR_FEATURES
from .graph_model import graph_config
from .metabolic_questions import QuestionSettings
from .metabolic_recipe import MetabolicRecipe
from .preset_model import random_preset_model, start_name
from .training_step import TrainingStep


__all__ = ["metabolic_step"]

# The most that a neighbourhood has, see `NeighbourhoodIndex`; and the compounds of a network of a whole genome.
_COMPOUNDS, _REACTIONS, _EDGES_OF_COMPOUND = 8, 12, 4
_NETWORK_COMPOUNDS = 2000


def metabolic_step(recipe: MetabolicRecipe) -> TrainingStep:
    """Return the step a recipe trains with, at neighbourhoods of the most nodes.

    Its questions stand in one batch, whose graphs are as many as those of a step's three batches, or a few more.

    Raises:
        RecipeError: If the model cannot be built.
        CheckpointError: If the recipe starts from a checkpoint whose config.json cannot be read.
    """
    config = graph_config(recipe)
    settings = recipe.questions
    graphs = settings.questions * _candidates(settings)
    return TrainingStep.of(
        recipe,
        name=start_name(recipe),
        identity=repr((recipe.model, settings)),
        make_model=functools.partial(random_preset_model, recipe, config, AutoModelForMultipleChoice),
        make_batch=functools.partial(_batch, config, settings),
        micro_batch=1,
        items=graphs,
        item="graph",
    )


def _candidates(settings: QuestionSettings) -> int:
    """Return how many candidates each question has if the graphs of the other questions are dealt out to them."""
    return 1 + settings.wrong_candidates + -(-(settings.directions + settings.pointers) // settings.questions)


def _batch(config: AstroGraphVAEConfig, settings: QuestionSettings) -> dict[str, torch.Tensor]:
    graphs = settings.questions * _candidates(settings)
    row = compound_features(Compound.of("c", "C6H12O6", 0))
    return {
        **collate_graphs([_largest_neighbourhood(config)] * graphs),
        "prior_features": torch.zeros(graphs, len(PRIOR_FEATURES)),
        "candidate_labels": torch.zeros(settings.questions, dtype=torch.long),
        "candidate_offsets": torch.zeros(graphs),
        "direction_prior": torch.zeros(graphs, 3),
        "direction_labels": torch.zeros(graphs, dtype=torch.long),
        "compound_features": torch.from_numpy(row).expand(_NETWORK_COMPOUNDS, -1),
        "compound_degrees": torch.ones(_NETWORK_COMPOUNDS),
        "pointer_labels": torch.zeros(graphs, _NETWORK_COMPOUNDS),
    }


def _largest_neighbourhood(config: AstroGraphVAEConfig) -> GraphRecord:
    """Return a reaction of eight compounds, each in three other reactions."""
    compounds, first = range(1, 1 + _COMPOUNDS), 1 + _COMPOUNDS
    edges = [(at, 0, -1.0) for at in compounds]
    edges += [
        (at, first + (at * (_EDGES_OF_COMPOUND - 1) + turn) % (_REACTIONS - 1), 1.0)
        for at in compounds
        for turn in range(_EDGES_OF_COMPOUND - 1)
    ]
    features = [reaction_features(False, candidate=True)]
    features += [compound_features(Compound.of("c", "C6H12O6", 0)) for _ in compounds]
    features += [reaction_features(False) for _ in range(_REACTIONS - 1)]
    is_reaction = [True, *(False for _ in compounds), *(True for _ in range(_REACTIONS - 1))]
    return bipartite_record(config.atom_types, features, is_reaction, edges)
