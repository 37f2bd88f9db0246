"""Decoder of molecules that draws all atoms and bonds at one time, each on its own: an ablation.

Shape suffixes: B molecules, N atoms, K latent tokens, D width, A atom types.
"""

import torch
from torch import nn
from transformers.utils import is_tracing

from .configuration_astro_graph_vae import AstroGraphVAEConfig
from .molecule_decoder import DecodedMolecules, MoleculeDecoderLayer, checked_most_atoms, draw_choices
from .molecule_grammar import BOND_ORDERS, are_atoms_and_bonds


__all__ = ["OneShotMoleculeDecoder"]


class OneShotMoleculeDecoder(nn.Module):
    """Score and draw atoms and bonds independently of one another, given the latent tokens.

    Nothing holds valences or connectedness, so that samples may be no molecules.

    Args:
        config: Sizes and atom types; `constrain_decoding` must be false.

    Raises:
        ValueError: If the config asks for the constraint.
    """

    def __init__(self, config: AstroGraphVAEConfig):
        super().__init__()
        if config.constrain_decoding:
            raise ValueError(
                "constrain_decoding must be false where decoder_type is one_shot, which draws bonds independently; "
                "got true."
            )
        width = config.hidden_size
        self.num_atom_types, self.max_nodes = len(config.atom_types), config.max_nodes
        self.place_embedding = nn.Embedding(config.max_nodes, width)
        self.layers = nn.ModuleList(
            MoleculeDecoderLayer(config, layer_idx, is_causal=False) for layer_idx in range(config.num_decoder_layers)
        )
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.atom_head = nn.Linear(width, self.num_atom_types + 1)
        self.bond_query = nn.Linear(width, (BOND_ORDERS + 1) * width)
        self.bond_key = nn.Linear(width, width)

    def _logits(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return log-probabilities of atom types, (B, N, A + 1), and of bond orders to others, (B, N, N, 4)."""
        width = tokens.shape[-1]
        places = self.place_embedding.weight.expand(len(tokens), -1, -1)
        states = torch.cat([tokens, places], dim=1)
        for layer in self.layers:
            states = layer(states)
        states = self.norm(states[:, tokens.shape[1] :])
        query = self.bond_query(states).unflatten(-1, (BOND_ORDERS + 1, width))
        bonds = torch.einsum("bnod,bmd->bnmo", query, self.bond_key(states)) / width**0.5
        wide = torch.promote_types(tokens.dtype, torch.float32)
        return self.atom_head(states).to(wide).log_softmax(-1), bonds.to(wide).log_softmax(-1)

    def forward(
        self,
        tokens: torch.Tensor,
        node_types: torch.LongTensor,
        edge_index: torch.LongTensor,
        edge_types: torch.LongTensor,
    ) -> DecodedMolecules:
        """Score molecules; arguments as of `MoleculeDecoder.forward`. The violation is not defined and 0.

        Raises:
            ValueError: If a graph has more than `max_nodes` atoms, or anything but atoms and bonds; the message names
                the first one.
        """
        batch, nodes = node_types.shape
        if nodes > self.max_nodes:
            raise ValueError(f"node_types must have at most max_nodes ({self.max_nodes}) atoms; got {nodes}.")
        is_molecule = are_atoms_and_bonds(node_types, edge_index, edge_types, self.num_atom_types)
        if not is_tracing(node_types) and not is_molecule.all():
            raise ValueError(
                f"graphs must have atoms of config.atom_types and bonds alone; graph "
                f"{int((~is_molecule).long().argmax())} has something else. Pass what the processor gives."
            )
        atoms, bonds = self._logits(tokens)
        kinds = nn.functional.pad(node_types, (0, self.max_nodes - nodes))
        rows = torch.arange(batch, device=node_types.device)[:, None].expand_as(edge_types)
        orders = torch.zeros(batch, self.max_nodes, self.max_nodes, dtype=torch.long, device=node_types.device)
        orders = orders.index_put((rows, edge_index.amax(1), edge_index.amin(1)), edge_types, accumulate=True)
        of_atoms = atoms.gather(-1, kinds[..., None])[..., 0]
        of_bonds = bonds.gather(-1, orders[..., None])[..., 0]
        none = torch.zeros((), dtype=of_atoms.dtype, device=of_atoms.device)
        # Places up to the first without an atom; each pair of atoms that are there, once.
        is_read = (kinds == 0).long().cumsum(-1) - (kinds == 0).long() == 0
        pairs = torch.tril((kinds > 0)[:, :, None] & (kinds > 0)[:, None, :], diagonal=-1)
        log_likelihood = torch.where(is_read, of_atoms, none).sum(-1) + torch.where(pairs, of_bonds, none).sum((1, 2))
        return DecodedMolecules(log_likelihood, torch.zeros_like(log_likelihood))

    @torch.no_grad()
    def sample(
        self,
        tokens: torch.Tensor,
        generator: torch.Generator | None = None,
        temperature: float = 1.0,
        greedy: bool = False,
        max_nodes: int | None = None,
    ) -> dict[str, torch.Tensor]:
        """Draw a graph of each row of latent tokens; arguments and result as of `MoleculeDecoder.sample`.

        Raises:
            ValueError: If `temperature` or `max_nodes` is out of range.
        """
        most = checked_most_atoms(temperature, max_nodes, self.max_nodes)
        atoms, bonds = self._logits(tokens)
        kinds = draw_choices(atoms[:, :most], temperature, greedy, generator)
        # What follows the first place without an atom is not there.
        kinds = torch.where((kinds == 0).long().cumsum(-1) == 0, kinds, 0)
        later, earlier = torch.tril_indices(most, most, offset=-1, device=tokens.device)
        orders = draw_choices(bonds[:, later, earlier], temperature, greedy, generator)
        there = (kinds[:, later] > 0) & (kinds[:, earlier] > 0)
        orders = torch.where(there, orders, 0)
        ends = torch.stack([later, earlier]).expand(len(tokens), -1, -1)
        return {"node_types": kinds, "edge_index": ends, "edge_types": orders}
