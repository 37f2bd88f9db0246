"""AstroGraphVAE's encoder against PyTorch Geometric's GPSConv of equal parameters, forward and backward.

    python recipes/benchmarks/compare_with_gps.py [--rounds 15] [--hidden-size 128] [--smiles FILE]

One thread, float32. A step of either begins with the structural encodings, which PyTorch Geometric computes for each
molecule with AddRandomWalkPE; a third rival is given them. Without a file of SMILES, molecules are put together at
random from rings and chains, once as small as those of QM9 and once of 20 to 40 atoms.

Writes recipes/benchmarks/results/compare_with_gps_cpu.json.
"""

import argparse
import gzip
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch_geometric
from interleaved import compare, write_benchmark
from rdkit import Chem
from torch import nn
from torch_geometric.data import Data
from torch_geometric.nn import GINEConv, GPSConv
from torch_geometric.transforms import AddRandomWalkPE

from modeling_astrobio.attention_graph_bias import AttentionPairs
from modeling_astrobio.configuration_astro_graph_vae import AstroGraphVAEConfig
from modeling_astrobio.graph_encoder import GraphEncoder, GraphEncoderLayer
from modeling_astrobio.graph_features import EDGE_TYPES
from modeling_astrobio.graph_record import GraphRecord, collate_graphs
from modeling_astrobio.molecule_tensors import molecule_record
from modeling_astrobio.training.loading import size_batches


PIECES = ("c1ccccc1", "c1ccncc1", "C1CCCC1", "c1ccoc1", "C1CC1", "C1CNC1", "CC", "CO", "CN", "CCO", "CC(=O)N", "C=C")
# Fewest and most atoms of a molecule, molecules to draw, and nodes of a batch with its padding.
CASES = {"qm9_size": (9, 9, 2000, 1152), "zinc_size": (20, 40, 2000, 1600)}


def random_molecule(atoms: int, generator: random.Random) -> Chem.Mol:
    """Join pieces by single bonds between atoms that have hydrogens, until no further one fits."""
    molecule = Chem.MolFromSmiles(generator.choice(PIECES))
    while molecule.GetNumAtoms() < atoms:
        rest = atoms - molecule.GetNumAtoms()
        fitting = [each for each in (*PIECES, "C") if Chem.MolFromSmiles(each).GetNumAtoms() <= rest]
        piece = Chem.MolFromSmiles(generator.choice(fitting))
        joined = Chem.RWMol(Chem.CombineMols(molecule, piece))
        size = molecule.GetNumAtoms()
        free = [atom.GetIdx() for atom in joined.GetAtoms() if atom.GetTotalNumHs()]
        first = [place for place in free if place < size]
        second = [place for place in free if place >= size]
        joined.AddBond(generator.choice(first), generator.choice(second), Chem.BondType.SINGLE)
        molecule = Chem.MolFromSmiles(Chem.MolToSmiles(joined))
    return molecule


def read_molecules(case: str, smiles: Path | None, config: AstroGraphVAEConfig) -> list[GraphRecord]:
    least, most, count, _ = CASES[case]
    generator = random.Random(0)
    if smiles is not None and case == "qm9_size":
        text = gzip.decompress(smiles.read_bytes()) if smiles.suffix == ".gz" else smiles.read_bytes()
        molecules: list = generator.sample(text.decode().split("\n")[:-1], 5 * count)
    else:
        molecules = [random_molecule(generator.randint(least, most), generator) for _ in range(count)]
    return [molecule_record(molecule, config.atom_types, config.max_nodes) for molecule in molecules]


class GPSStack(nn.Module):
    """Embeddings, then GPSConv around GINEConv, as in PyTorch Geometric's example of GraphGPS."""

    def __init__(self, config: AstroGraphVAEConfig):
        super().__init__()
        width = config.hidden_size
        self.node_embedding = nn.Embedding(config.num_node_types, width)
        self.node_proj = nn.Linear(config.num_node_features, width)
        self.encoding_norm = nn.BatchNorm1d(config.num_random_walk_steps)
        self.encoding_proj = nn.Linear(config.num_random_walk_steps, width)
        self.edge_embedding = nn.Embedding(len(EDGE_TYPES), width)
        self.layers = nn.ModuleList(gps_layer(config) for _ in range(config.num_encoder_layers))
        self.walk = AddRandomWalkPE(config.num_random_walk_steps)

    def forward(self, graphs: list[Data], whole: dict[str, torch.Tensor], encodings: torch.Tensor | None):
        if encodings is None:
            encodings = torch.cat([self.walk(Data(edge_index=g.edge_index, num_nodes=g.num_nodes)).random_walk_pe
                                   for g in graphs])  # fmt: skip
        states = self.node_embedding(whole["node_types"]) + self.node_proj(whole["node_features"])
        states = states + self.encoding_proj(self.encoding_norm(encodings))
        edges = self.edge_embedding(whole["edge_types"])
        for layer in self.layers:
            states = layer(states, whole["edge_index"], whole["batch"], edge_attr=edges)
        return states


def gps_layer(config: AstroGraphVAEConfig) -> GPSConv:
    width = config.hidden_size
    local = GINEConv(nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)))
    return GPSConv(width, local, heads=config.num_attention_heads, attn_type="multihead")


def gps_batch(records: list[GraphRecord]) -> tuple[list[Data], dict[str, torch.Tensor]]:
    """The molecules alone, for the transform, and all as one graph, as PyTorch Geometric batches them."""
    graphs, parts, start = [], [], 0
    for row, record in enumerate(records):
        index = torch.from_numpy(record.edge_index)
        both = torch.cat((index, index.flip(0)), dim=1)
        graphs.append(Data(edge_index=both, num_nodes=record.size))
        parts.append(
            {
                "node_types": torch.from_numpy(record.node_types),
                "node_features": torch.from_numpy(record.node_features),
                "edge_index": both + start,
                "edge_types": torch.from_numpy(record.edge_types).repeat(2),
                "batch": torch.full((record.size,), row),
            }
        )
        start += record.size
    axis = {"edge_index": 1}
    return graphs, {name: torch.cat([part[name] for part in parts], axis.get(name, 0)) for name in parts[0]}


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def equal_size(make: Callable[[int], nn.Module], wanted: int) -> nn.Module:
    """The module whose number of parameters, linear in its intermediate size, is nearest to the one wanted."""
    base, slope = num_parameters(make(8)), num_parameters(make(9)) - num_parameters(make(8))
    return make(8 + round((wanted - base) / slope))


def backward(states: torch.Tensor, sent_back: torch.Tensor, module: nn.Module) -> None:
    """Gradients are dropped, as at the end of an optimizer step."""
    states.backward(sent_back)
    module.zero_grad(set_to_none=True)


def layer_inputs(encoder: GraphEncoder, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, AttentionPairs]:
    """States and pairs that reach the last layer."""
    seen: list[tuple] = []
    hook = encoder.layers[-1].register_forward_pre_hook(lambda _, arguments: seen.append(arguments))
    with torch.no_grad():
        encoder(**batch)
    hook.remove()
    return seen[0]


def layer_step(layer: nn.Module, states: torch.Tensor, *others: Any, **named: Any) -> Callable[[], None]:
    states = states.detach().clone().requires_grad_()
    sent_back = torch.randn_like(states)

    def step() -> None:
        backward(layer(states, *others, **named), sent_back, layer)
        states.grad = None

    return step


def run_batch(records: list[GraphRecord], config: AstroGraphVAEConfig, rounds: int) -> dict[str, Any]:
    """Time both encoders and both layers on one batch."""
    torch.manual_seed(0)
    stack = GPSStack(config).train()

    def make_encoder(size: int) -> GraphEncoder:
        return GraphEncoder(AstroGraphVAEConfig(**{**config.to_dict(), "intermediate_size": size}))

    encoder = equal_size(make_encoder, num_parameters(stack)).train()
    batch = collate_graphs(records)
    graphs, whole = gps_batch(records)
    encodings = torch.cat([graph.random_walk_pe for graph in map(stack.walk, (graph.clone() for graph in graphs))])
    sent_back = {"gps": torch.randn(len(whole["batch"]), config.hidden_size)}
    sent_back["astro"] = torch.randn_like(encoder(**batch).token_states)
    rivals = {
        "gps": lambda: backward(stack(graphs, whole, None), sent_back["gps"], stack),
        "gps_given_encodings": lambda: backward(stack(graphs, whole, encodings), sent_back["gps"], stack),
        "astro": lambda: backward(encoder(**batch).token_states, sent_back["astro"], encoder),
    }
    step = compare(rivals, rounds, "gps")

    gps = gps_layer(config).train()

    def make_layer(size: int) -> GraphEncoderLayer:
        return GraphEncoderLayer(AstroGraphVAEConfig(**{**config.to_dict(), "intermediate_size": size}), 0)

    states, pairs = layer_inputs(encoder, batch)
    astro = equal_size(make_layer, num_parameters(gps))
    nodes = torch.randn(len(whole["batch"]), config.hidden_size)
    edges = torch.randn(len(whole["edge_types"]), config.hidden_size, requires_grad=True)
    layers = {
        "gps": layer_step(gps, nodes, whole["edge_index"], whole["batch"], edge_attr=edges),
        "astro": layer_step(astro, states, pairs),
    }
    return {
        "molecules": len(records),
        "tokens_of_a_molecule": dict(zip(("coarse", "nodes"), pairs.sizes, strict=True)),
        "parameters": {
            "step": {"gps": num_parameters(stack), "astro": num_parameters(encoder)},
            "layer": {"gps": num_parameters(gps), "astro": num_parameters(astro)},
        },
        "intermediate_size": encoder.config.intermediate_size,
        "step": step,
        "layer": compare(layers, rounds, "gps"),
    }


def make_batches(records: list[GraphRecord], most: int) -> list[list[GraphRecord]]:
    """Batches of at most `most` nodes with their padding; graphs of as many nodes are ordered by motifs and edges."""
    sizes = [10_000 * record.size + 100 * len(record.motif_types) + len(record.edge_types) for record in records]
    return [[records[row] for row in batch] for batch in size_batches(sizes, 10_000 * most, seed=0)]


def padding_shares(batches: list[list[GraphRecord]]) -> dict[str, float]:
    """Share of the places that hold nothing: of nodes, and of tokens of all kinds."""
    counts = [[(1, len(g.motif_types), g.size, len(g.edge_types)) for g in batch] for batch in batches]
    held = torch.tensor([[sum(kind) for kind in zip(*rows, strict=True)] for rows in counts]).sum(0)
    places = torch.tensor([[len(rows) * max(kind) for kind in zip(*rows, strict=True)] for rows in counts]).sum(0)
    return {"nodes": 1 - (held[2] / places[2]).item(), "tokens": 1 - (held.sum() / places.sum()).item()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument("--smiles", type=Path, help="molecules in the place of those as small as QM9's, one a line")
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    config = AstroGraphVAEConfig.from_preset("small", hidden_size=parsed.hidden_size, max_nodes=40)
    cases: dict[str, Any] = {}
    for case, (*_, most) in CASES.items():
        records = read_molecules(case, parsed.smiles, config)
        batches = make_batches(records, most)
        load = os.getloadavg()
        found = cases[case] = run_batch(batches[len(batches) // 2], config, parsed.rounds)
        found["padding_shares_of_all_batches"] = padding_shares(batches)
        found["load_average_before_and_after"] = (load[0], os.getloadavg()[0])
        result = {
            "status": "finished",
            "torch_geometric": torch_geometric.__version__,
            "dtype": "float32",
            "threads": 1,
            "config": config.to_diff_dict(),
            "cases": cases,
        }
        path = write_benchmark("compare_with_gps_cpu", result)
        speed = {kind: found[kind]["speed_up_median_of_rounds"] for kind in ("step", "layer")}
        shown = {kind: {name: round(value, 2) for name, value in speeds.items()} for kind, speeds in speed.items()}
        print(
            f"{case}: {shown}, padding {found['padding_shares_of_all_batches']['tokens']:.3f} -> {path.name}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
