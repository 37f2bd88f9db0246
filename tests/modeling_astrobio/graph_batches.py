"""Small molecules of different sizes as a batch, and the tiny preset that reads them."""

import torch

from modeling_astrobio.configuration_astro_graph_vae import AstroGraphVAEConfig
from modeling_astrobio.graph_record import GraphRecord, collate_graphs
from modeling_astrobio.molecule_tensors import molecule_record


SMILES = ("CCO", "c1ccccc1O", "C", "CC(=O)NC", "C1CC1C#N", "O=C1CCCN1", "CC(C)(C)OC=O")


def tiny_records(smiles=SMILES) -> list[GraphRecord]:
    """Graphs of the molecules."""
    config = AstroGraphVAEConfig.from_preset("tiny")
    return [molecule_record(each, config.atom_types, config.max_nodes) for each in smiles]


def tiny_batch(smiles=SMILES, dtype=torch.float32) -> dict[str, torch.Tensor]:
    """The molecules as the model reads them."""
    batch = collate_graphs(tiny_records(smiles))
    return {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in batch.items()}
