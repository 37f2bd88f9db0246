"""Small random graphs, molecules and networks alike, with odd sizes, and what can be done to them."""

import networkx
import torch

from modeling_astrobio.configuration_astro_graph_vae import AstroGraphVAEConfig


__all__ = ["batch_of", "permuted", "random_bonds", "random_graph", "six_ring", "to_networkx"]

Graph = dict[str, torch.Tensor]


def random_bonds(nodes: int, extra: int, generator: torch.Generator) -> list[tuple[int, int]]:
    """Edges of a connected graph: a random tree and `extra` more."""
    found = {(int(torch.randint(0, node, (), generator=generator)), node) for node in range(1, nodes)}
    while len(found) < min(nodes - 1 + extra, nodes * (nodes - 1) // 2):
        first, second = sorted(torch.randperm(nodes, generator=generator)[:2].tolist())
        found.add((first, second))
    return sorted(found)


def random_graph(
    nodes: int, motifs: int = 2, seed: int = 0, network: bool = False, bonds: list[tuple[int, int]] | None = None
) -> Graph:
    """Tensors of one graph without padding; a network has directed edges with features, and one pair with two."""
    generator = torch.Generator().manual_seed(seed)
    config = AstroGraphVAEConfig()
    edges = random_bonds(nodes, 2, generator) if bonds is None else bonds
    if network:
        edges = [edge if place % 2 else edge[::-1] for place, edge in enumerate(edges)] + edges[:1]
    count = len(edges)
    types = torch.randint(4, 6, (count,), generator=generator) if network else torch.arange(count) % 3 + 1
    if network:
        types[-1] = 9 - types[0]  # both a substrate and a product
    kinds = torch.randint(1, config.compound_type, (nodes,), generator=generator)
    if network:
        kinds = torch.randint(config.compound_type, config.reaction_type + 1, (nodes,), generator=generator)
    features = torch.randn(count, 1, generator=generator, dtype=torch.float64) * network
    members = torch.rand(motifs, nodes, generator=generator) < 0.4
    members[torch.arange(motifs), torch.arange(motifs) % nodes] = True
    return {
        "node_types": kinds,
        "node_features": torch.randn(nodes, config.num_node_features, generator=generator, dtype=torch.float64),
        "edge_index": torch.tensor(edges, dtype=torch.long).view(-1, 2).t(),
        "edge_types": types,
        "edge_features": features,
        "motif_types": torch.randint(1, config.num_motif_types, (motifs,), generator=generator),
        "motif_nodes": members,
    }


def six_ring(seed: int = 0) -> Graph:
    """Six alike atoms with alike bonds, whose Laplacian has eigenspaces of two dimensions."""
    graph = random_graph(6, motifs=1, seed=seed, bonds=[(place, (place + 1) % 6) for place in range(6)])
    alike = {"node_types": graph["node_types"][:1], "edge_types": graph["edge_types"][:1]}
    graph.update({name: value.expand(6) for name, value in alike.items()})
    graph["node_features"] = graph["node_features"][:1].expand(6, -1)
    graph["motif_nodes"] = torch.ones(1, 6, dtype=torch.bool)
    return graph


def permuted(graph: Graph, nodes: torch.Tensor, edges: torch.Tensor, motifs: torch.Tensor) -> Graph:
    """The same graph with node `nodes[i]` at place i, and so on; every second edge names its bond's ends in turn."""
    place = torch.argsort(nodes)
    index = place[graph["edge_index"]][:, edges]
    types = graph["edge_types"][edges]
    turned = (torch.arange(len(edges)) % 2 == 0) & (types <= 3)
    return {
        "node_types": graph["node_types"][nodes],
        "node_features": graph["node_features"][nodes],
        "edge_index": torch.where(turned, index.flip(0), index),
        "edge_types": types,
        "edge_features": graph["edge_features"][edges],
        "motif_types": graph["motif_types"][motifs],
        "motif_nodes": graph["motif_nodes"][motifs][:, nodes],
    }


def batch_of(graphs: list[Graph], dtype: torch.dtype = torch.float64, padding: int = 0) -> Graph:
    """A batch, padded to the largest sizes and by `padding` nodes, edges and motifs more."""
    sizes = [{"N": len(g["node_types"]), "E": len(g["edge_types"]), "M": len(g["motif_types"])} for g in graphs]
    most = {name: max(size[name] for size in sizes) + padding for name in "NEM"}
    axes = {
        "node_types": "N",
        "node_features": "NF",
        "edge_index": "2E",
        "edge_types": "E",
        "edge_features": "EF",
        "motif_types": "M",
        "motif_nodes": "MN",
    }
    batch = {}
    for name, shape in axes.items():
        first = graphs[0][name]
        full = [most.get(axis, first.shape[place]) for place, axis in enumerate(shape)]
        values = first.new_zeros(len(graphs), *full)
        for row, graph in zip(values, graphs, strict=True):
            row[tuple(slice(size) for size in graph[name].shape)] = graph[name]
        batch[name] = values.to(dtype) if values.is_floating_point() else values
    return batch


def to_networkx(graph: Graph) -> networkx.Graph:
    made = networkx.Graph()
    made.add_nodes_from(range(len(graph["node_types"])))
    made.add_edges_from(graph["edge_index"].t().tolist())
    return made
