"""A training step of the graph VAE, for the planner: built from a recipe without weights or data."""

import functools

import numpy as np
import torch

from modeling_astrobio import AstroGraphVAEConfig
from modeling_astrobio.graph_features import NODE_FEATURES
from modeling_astrobio.graph_record import GraphRecord, collate_graphs

from .graph_model import graph_config
from .graph_recipe import GraphRecipe
from .preset_model import random_preset_model, start_name
from .training_step import TrainingStep


__all__ = ["graph_step"]


def graph_step(recipe: GraphRecipe) -> TrainingStep:
    """Return the step a recipe trains with, at graphs of `max_nodes` atoms.

    Raises:
        RecipeError: If the model cannot be built.
        CheckpointError: If the recipe starts from a checkpoint whose config.json cannot be read.
    """
    config = graph_config(recipe)
    graphs = max(1, recipe.data.batch_nodes // config.max_nodes)
    return TrainingStep.of(
        recipe,
        name=start_name(recipe),
        identity=repr((recipe.model, graphs)),
        make_model=functools.partial(random_preset_model, recipe, config),
        make_batch=functools.partial(_batch, config, graphs),
        micro_batch=graphs,
        items=graphs,
        item="graph",
    )


def _batch(config: AstroGraphVAEConfig, graphs: int) -> dict[str, torch.Tensor]:
    """Return chains of carbon with as many rings as molecules have, one bond in ten atoms, and motifs of six atoms."""
    nodes = config.max_nodes
    carbon = next((code for code, kind in enumerate(config.atom_types, 1) if kind[:3] == [6, 0, 0]), 1)
    rings = [(last, last - 5) for last in range(5, nodes, 10)]
    bonds = [(last, last - 1) for last in range(1, nodes)] + rings
    motifs = max(1, nodes // 6)
    record = GraphRecord(
        node_types=np.full(nodes, carbon, dtype=np.int64),
        node_features=np.zeros((nodes, len(NODE_FEATURES)), dtype=np.float32),
        edge_index=np.array(bonds, dtype=np.int64).reshape(-1, 2).T,
        edge_types=np.ones(len(bonds), dtype=np.int64),
        edge_features=np.ones((len(bonds), 1), dtype=np.float32),
        motif_types=np.ones(motifs, dtype=np.int64),
        motif_nodes=np.arange(nodes) // 6 == np.arange(motifs)[:, None],
    )
    return collate_graphs([record] * graphs)
