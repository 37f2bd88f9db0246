"""Molecules that a benchmark reads from a list of SMILES, as graphs."""

import gzip
import hashlib
import random
from pathlib import Path
from typing import Any, NamedTuple

from modeling_astrobio.configuration_astro_graph_vae import AstroGraphVAEConfig
from modeling_astrobio.graph_record import GraphError, GraphRecord
from modeling_astrobio.molecule_tensors import molecule_record
from modeling_astrobio.training.graph_metrics.molecule_set import canonical_smiles


__all__ = ["Molecules", "read_molecules"]


class Molecules(NamedTuple):
    """Canonical SMILES without stereo, their graphs, and where they come from."""

    smiles: list[str]
    graphs: list[GraphRecord]
    source: dict[str, Any]


def read_molecules(path: Path, count: int, config: AstroGraphVAEConfig, seed: int) -> Molecules:
    """Read molecules that differ in more than stereo, in random order.

    Args:
        path: Text with a SMILES in the first field of each line; `.gz` is compressed.
        count: How many.
        config: Of the model that reads the graphs; molecules it cannot read are left out and counted.
        seed: Of the order.

    Raises:
        SystemExit: If there are not so many.
    """
    body = path.read_bytes()
    lines = (gzip.decompress(body) if path.suffix == ".gz" else body).decode().splitlines()
    given = [line.split()[0] for line in lines if line.strip()]
    random.Random(seed).shuffle(given)
    graphs: dict[str, GraphRecord] = {}
    alike = refused = 0
    for text in given:
        smiles = canonical_smiles(text)
        if smiles in graphs:
            alike += 1
            continue
        try:
            graphs[smiles or ""] = molecule_record(smiles or text, config.atom_types, config.max_nodes)
        except GraphError:
            refused += 1
        if len(graphs) == count:
            break
    if len(graphs) < count:
        raise SystemExit(f"{path.name} must have {count} molecules that the model can read; it has {len(graphs)}")
    source = {
        "file": path.name,
        "sha256": hashlib.sha256(body).hexdigest(),
        "molecules": count,
        "left_out_as_stereoisomers": alike,
        "left_out_as_unreadable": refused,
    }
    return Molecules(list(graphs), list(graphs.values()), source)
