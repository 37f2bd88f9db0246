"""Tiny AstroGraphVAEs and the molecules they read."""

import itertools

import torch

from modeling_astrobio import AstroGraphVAEConfig, AstroGraphVAEModel, AstroGraphVAEProcessor


# Of one to eleven atoms: rings alone, fused, bridged and spiro, charges, radicals, triple bonds, a bare atom.
SMILES = (
    "CCO",
    "C",
    "c1ccccc1",
    "C#N",
    "[NH3+]CC(=O)[O-]",
    "C1CC1C(=O)OC",
    "c1ccc2[nH]ccc2c1",
    "C[CH2]",
    "O=S(=O)(O)C(F)(F)Cl",
    "C1CC2CC1O2",
    "C1CC12CNC2",
    "BrC=CI",
    "OB(O)C[SiH3]",
    "CP(=O)(O)OC#C",
)
GRAPH = ("node_types", "edge_index", "edge_types")


def tiny_config(**overrides) -> AstroGraphVAEConfig:
    """Return the preset "tiny" with the fields given."""
    return AstroGraphVAEConfig.from_preset("tiny", **overrides)


def randomised(module: torch.nn.Module, seed: int = 0, scale: float = 0.3) -> torch.nn.Module:
    """Give every parameter seeded values of order `scale`, the weights of norms around 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            values = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * scale
            parameter.copy_(values + (parameter.dim() == 1 and "norm" in name and name.endswith("weight")))
    return module


def tiny_model(dtype: torch.dtype = torch.float32, attention: str = "sdpa", **overrides) -> AstroGraphVAEModel:
    """Return a model with random weights, in evaluation."""
    config = tiny_config(**overrides)
    config._attn_implementation = attention
    return randomised(AstroGraphVAEModel(config)).to(dtype).eval()


def processor_of(config: AstroGraphVAEConfig) -> AstroGraphVAEProcessor:
    """Return the processor of a model."""
    return AstroGraphVAEProcessor(config.atom_types, config.max_nodes)


def molecule_batch(smiles=SMILES, dtype: torch.dtype = torch.float32, **overrides) -> dict[str, torch.Tensor]:
    """Return the tensors of molecules, real numbers in `dtype`."""
    batch = processor_of(tiny_config(**overrides))(list(smiles))
    return {name: value.to(dtype) if value.is_floating_point() else value for name, value in batch.items()}


def every_graph(valences: list[int], max_nodes: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return all molecules of so few atoms, each in every order in which an atom has a bond to an earlier one.

    Args:
        valences: Of each atom type.
        max_nodes: Most atoms.

    Returns:
        Atom types from 0, and bond orders of the pairs of places 1-0, 2-0, 2-1 and so on.
    """
    found = []
    for size in range(1, max_nodes + 1):
        pairs = [(late, early) for late in range(size) for early in range(late)]
        for kinds in itertools.product(range(len(valences)), repeat=size):
            for orders in itertools.product(range(4), repeat=len(pairs)):
                used, joined = [0] * size, [True] + [False] * (size - 1)
                for (late, early), order in zip(pairs, orders, strict=True):
                    used[late] += order
                    used[early] += order
                    joined[late] |= order > 0
                if all(joined) and all(have <= valences[kind] for have, kind in zip(used, kinds, strict=True)):
                    found.append((kinds, orders))
    return found


def as_batch(graphs: list[tuple[tuple[int, ...], tuple[int, ...]]], max_nodes: int) -> dict[str, torch.Tensor]:
    """Return atom types and bond orders, as of `every_graph`, as tensors."""
    pairs = [(late, early) for late in range(max_nodes) for early in range(late)]
    kinds = torch.tensor([[kind + 1 for kind in kinds] + [0] * (max_nodes - len(kinds)) for kinds, _ in graphs])
    orders = torch.tensor([list(orders) + [0] * (len(pairs) - len(orders)) for _, orders in graphs], dtype=torch.long)
    ends = torch.tensor(pairs, dtype=torch.long).view(-1, 2).T.expand(len(graphs), -1, -1)
    return {"node_types": kinds, "edge_index": ends, "edge_types": orders}


def keys_of(graphs: dict[str, torch.Tensor]) -> list[tuple]:
    """Return the atoms and the sorted bonds of each graph, from the tensors of a batch."""
    found = []
    for kinds, ends, orders in zip(*(graphs[name].tolist() for name in GRAPH), strict=True):
        bonds = [(late, early, order) for late, early, order in zip(*ends, orders, strict=True) if order]
        found.append((tuple(kind for kind in kinds if kind), tuple(sorted(bonds))))
    return found
