"""Processor of AstroGraphVAE: molecules and metabolic networks in, tensors out, and back."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from os import PathLike
from types import SimpleNamespace
from typing import Any

import torch
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import ProcessorMixin

from .graph_features import DEFAULT_ATOM_TYPES
from .graph_record import GraphError, GraphRecord, collate_graphs
from .molecule_tensors import molecule_of, molecule_record, require_rdkit


try:
    from rdkit import Chem
except ImportError:
    Chem = None

__all__ = ["AstroGraphVAEProcessor"]

_FIELDS = tuple(field.name for field in fields(GraphRecord))


class AstroGraphVAEProcessor(ProcessorMixin):
    """Read graphs for an AstroGraphVAE, and write what it draws.

    A graph is a SMILES, an RDKit molecule, a PyTorch Geometric `Data` (of `from_smiles`, with an attribute `smiles`,
    or of `to_data`), or a `GraphRecord`; several are a sequence of these, or a `Batch`. However a molecule is written,
    its tensors are the same: stereo, isotopes and atom maps are left out.

    Args:
        atom_types: Those of the model's config.
        max_nodes: Most atoms of a molecule, that of the model's config.
    """

    model_input_names = list(_FIELDS)
    # Of node_types, by which trainers count what they have seen.
    pad_token_id = 0
    # Trainers look for the special tokens that a processor's tokenizer has; graphs have none.
    tokenizer = SimpleNamespace(bos_token_id=None, eos_token_id=None, pad_token_id=None)

    def __init__(
        self, atom_types: Sequence[Sequence[int]] = DEFAULT_ATOM_TYPES, max_nodes: int = 40, **kwargs: Any
    ) -> None:
        self.atom_types = [list(kind) for kind in atom_types]
        self.max_nodes = max_nodes
        super().__init__(**kwargs)

    def __call__(self, graphs: Any, return_tensors: str = "pt") -> BatchFeature:
        """Return a batch of graphs.

        Args:
            graphs: A graph, or a sequence of them.
            return_tensors: "pt".

        Returns:
            The arguments of `AstroGraphVAEModel.forward`.

        Raises:
            ValueError: If an item is no graph that can be read; the message names each such item. `read` returns the
                others.
        """
        if return_tensors != "pt":
            raise ValueError(f"return_tensors must be 'pt'; got {return_tensors!r}.")
        records, problems = self.read(graphs)
        if problems:
            shown = "; ".join(f"item {place}: {reason}" for place, reason in list(problems.items())[:5])
            more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
            raise ValueError(f"graphs must all be readable; {shown}{more}. Use processor.read to get the others.")
        return self.pad(records)

    def read(self, graphs: Any) -> tuple[list[GraphRecord], dict[int, str]]:
        """Read graphs, each on its own.

        Args:
            graphs: A graph, or a sequence of them.

        Returns:
            The graphs that could be read, in order, and why each other one could not, by its place.
        """
        if _is_geometric(graphs) and hasattr(graphs, "to_data_list"):
            several = graphs.to_data_list()
        else:
            several = graphs if isinstance(graphs, Sequence) and not isinstance(graphs, str) else [graphs]
        records, problems = [], {}
        for place, graph in enumerate(several):
            try:
                records.append(self.record(graph))
            except GraphError as error:
                problems[place] = str(error)
        return records, problems

    def record(self, graph: Any) -> GraphRecord:
        """Return the arrays of one graph.

        Raises:
            GraphError: If it cannot be read.
        """
        if isinstance(graph, GraphRecord):
            return graph
        if _is_geometric(graph):
            if "node_types" in graph:
                absent = [name for name in _FIELDS if name not in graph]
                if absent:
                    raise GraphError(f"a Data with node_types must have all of {_FIELDS}; it has no {absent}")
                return GraphRecord(**{name: torch.as_tensor(graph[name]).cpu().numpy() for name in _FIELDS})
            graph = graph.smiles if "smiles" in graph else _smiles_of(graph)
        if _is_network(graph):
            # Imported where it is used: cobra takes seconds.
            from .metabolic_files import read_network
            from .metabolic_tensors import network_record

            return network_record(read_network(graph), self.atom_types)
        if isinstance(graph, str) or (Chem is not None and isinstance(graph, Chem.Mol)):
            return molecule_record(graph, self.atom_types, self.max_nodes)
        raise GraphError(
            "a graph must be a SMILES, an RDKit molecule, a PyTorch Geometric Data, a cobra model or the path of one; "
            f"got {type(graph).__name__}"
        )

    def pad(self, records: Sequence[GraphRecord]) -> BatchFeature:
        """Put graphs that were read into a batch.

        Raises:
            ValueError: If there is none.
        """
        if not records:
            raise ValueError("graphs must hold at least one graph; got none.")
        return BatchFeature(collate_graphs(records))

    def to_mols(
        self, node_types: torch.Tensor, edge_index: torch.Tensor, edge_types: torch.Tensor, **others: Any
    ) -> list["Chem.Mol | None"]:
        """Return the molecules of a batch; None for one that RDKit does not accept.

        Args:
            node_types: Shape (B, N).
            edge_index: Shape (B, 2, E).
            edge_types: Shape (B, E).
            **others: Further fields of a batch, which are not needed.
        """
        arrays = (node_types.tolist(), edge_index.tolist(), edge_types.tolist())
        return [molecule_of(*graph, self.atom_types) for graph in zip(*arrays, strict=True)]

    def batch_decode(self, *args: Any, **kwargs: Any) -> list[str | None]:
        """Return the canonical SMILES of a batch, None for what is no molecule; arguments as of `to_mols`."""
        mols = self.to_mols(*args, **kwargs)
        return [None if mol is None else Chem.MolToSmiles(mol) for mol in mols]

    def decode(self, *args: Any, **kwargs: Any) -> str | None:
        """Return the canonical SMILES of a batch of one graph."""
        (smiles,) = self.batch_decode(*args, **kwargs)
        return smiles

    def to_data(self, batch: Mapping[str, torch.Tensor]) -> list[Any]:
        """Return a PyTorch Geometric `Data` of each graph of a batch, with the same fields, without padding.

        Raises:
            ImportError: If PyTorch Geometric is absent.
        """
        make_data = _geometric("data").Data
        found = []
        for row in range(len(batch["node_types"])):
            nodes, edges, motifs = (
                int((batch[name][row] > 0).sum()) for name in ("node_types", "edge_types", "motif_types")
            )
            sizes = {"node": nodes, "edge": edges, "motif": motifs}
            graph = {name: batch[name][row][..., : sizes[name.split("_")[0]]] for name in _FIELDS if "types" in name}
            found.append(
                make_data(
                    **graph,
                    node_features=batch["node_features"][row][:nodes],
                    edge_index=batch["edge_index"][row][:, :edges],
                    edge_features=batch["edge_features"][row][:edges],
                    motif_nodes=batch["motif_nodes"][row][:motifs, :nodes],
                    num_nodes=nodes,
                )
            )
        return found


def _is_geometric(graph: Any) -> bool:
    # A batch, and a class of a user's, are of no module of it, but derive from one that is.
    return any(base.__module__.startswith("torch_geometric.data") for base in type(graph).__mro__)


def _is_network(graph: Any) -> bool:
    if isinstance(graph, str):
        return graph.lower().removesuffix(".gz").endswith((".xml", ".sbml", ".json"))
    return isinstance(graph, PathLike) or type(graph).__module__.startswith("cobra.")


def _geometric(module: str) -> Any:
    # Imported where it is used, and by name: it takes seconds, and is no requirement of the others.
    try:
        return importlib.import_module(f"torch_geometric.{module}")
    except ImportError as error:
        raise ImportError(
            "graphs of PyTorch Geometric need it; install it with: pip install torch_geometric"
        ) from error


def _smiles_of(graph: Any) -> str:
    require_rdkit()
    try:
        return _geometric("utils").to_smiles(graph)
    # It indexes its own tables by whatever stands in x and edge_attr.
    except Exception as error:
        raise GraphError(
            "a PyTorch Geometric Data must have smiles, or x and edge_attr as from_smiles makes them; "
            f"{type(error).__name__}: {error}"
        ) from error
